"""Layer stacks: what is drawn is what the trial says, in words too, for both themes and for phones."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter

import pytest

from companion import diagrams, stacks
from companion.layers import paper_permutation
from tests.conftest import needs_pocket, some_trial

SVG = "{http://www.w3.org/2000/svg}"


def drawn(figure: str) -> ET.Element:
    return ET.fromstring(figure).find(f"{SVG}svg")


def boxes(figure: str) -> Counter:
    """How many boxes have each fill, the legend left out (its boxes are less high)."""
    rects = [r for r in drawn(figure).findall(f"{SVG}rect") if float(r.get("height")) == diagrams.BOX]
    return Counter(r.get("fill") for r in rects)


def test_states_follow_the_trial_from_the_bottom_up():
    assert diagrams.states(some_trial(reinitialized=(2, 3))) == [
        ("pretrained", 1),
        ("pretrained", 2),
        ("random", 3),
        ("random", 4),
    ]
    assert diagrams.states(some_trial(permutation=(2, 0, 3, 1))) == [("pretrained", n) for n in (3, 1, 4, 2)]
    assert [state for state, _ in diagrams.states(some_trial(probe_layer=1))] == ["frozen", *["unused"] * 3]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "every layer pretrained"),
        ({"reinitialized": (0, 1, 2, 3)}, "every layer random"),
        ({"reinitialized": (1,)}, "layer 2 random"),
        ({"reinitialized": (0, 2, 3)}, "layers 1,3 to 4 random"),
        ({"permutation": (2, 0, 3, 1)}, "order from the bottom 3 1 4 2"),
        ({"probe_layer": 0}, "a probe reads the embeddings"),
        ({"probe_layer": 3}, "a probe reads layer 3"),
    ],
)
def test_alt_text_counts_layers_from_one(changes, words):
    assert diagrams.in_words(some_trial(**changes)) == words


def test_a_box_per_layer_filled_where_it_is_pretrained():
    columns = {"4": some_trial(), "1": some_trial(reinitialized=(1, 2, 3))}
    figure = diagrams.stacks(columns, name="test", x_title="layers kept", caption="A caption & more.")
    assert boxes(figure) == {diagrams.PRETRAINED: 5, "none": 3}
    assert "\n\n" not in figure  # a blank line would end HTML in Markdown
    svg = drawn(figure)
    assert "4: every layer pretrained; 1: layers 2 to 4 random" in svg.get("aria-label")
    assert ET.fromstring(figure).findtext(f"{SVG}figcaption") is None
    assert ET.fromstring(figure).findtext("figcaption") == "A caption & more."


def test_text_takes_the_color_of_the_page():
    texts = drawn(diagrams.stacks({"0": some_trial()}, name="n", x_title="x", caption="c")).findall(f"{SVG}text")
    assert {text.get("fill") for text in texts} == {"currentColor"}


def test_permuted_layers_show_their_numbers():
    figure = diagrams.stacks({"1": some_trial(permutation=(2, 0, 3, 1))}, name="n", x_title="x", caption="c")
    white = [t.text for t in drawn(figure).findall(f"{SVG}text") if t.get("fill") == "#ffffff"]
    assert white == ["3", "1", "4", "2"]


@needs_pocket
@pytest.mark.slow
def test_pages_show_the_trials_of_the_published_grid():
    progressive = stacks.planned("progressive")
    kept = {12 - len(trial.reinitialized) for trial in progressive}
    both = stacks.stacks_progressive().split("\n\n")
    assert len(both) == 2
    assert boxes(both[0])[diagrams.PRETRAINED] == sum(kept)
    assert "0: every layer random; 2: layers 3 to 12 random" in both[0]
    assert "2: layers 1 to 10 random" in both[1]
    order = " ".join(str(i + 1) for i in paper_permutation(1, 12))
    assert f"1: order from the bottom {order}" in stacks.stacks_permutation()
    assert "4: layers 4 to 6 random" in stacks.stacks_localized()
    assert "4: layers 1 to 3,7 to 12 random" in stacks.stacks_localized()
    assert "12: layer 12 random" in stacks.stacks_single()
    assert "12: a probe reads layer 12" in stacks.stacks_probing()
    for name in ("intact", "suffix", "prefix", "block", "inverse", "single", "permuted"):
        assert f"{name}: " in stacks.stacks_overview()


@needs_pocket
@pytest.mark.slow
def test_anatomy_names_every_part():
    label = drawn(stacks.anatomy()).get("aria-label")
    assert "[CLS]" in label
    for part in ("embeddings", "layers 1 to 12", "128 numbers", "pooler", "classifier", "attention", "feed-forward"):
        assert part in label


@needs_pocket
@pytest.mark.slow
def test_what_reinitialization_touches_is_found_by_doing_it():
    rows = {line.split("|")[1].strip(): line for line in stacks.layer_parameters().splitlines()[2:]}
    assert rows["`output.dense.weight`"].endswith("| redrawn | redrawn | redrawn |")
    assert rows["`output.dense.bias`"].endswith("| set to 0 | kept | set to 0 |")
    assert rows["`output.LayerNorm.weight`"].endswith("| set to 1 | set to 1 | kept |")


@needs_pocket
@pytest.mark.slow
def test_tiny_weights_move_a_layer_least():
    rows = [line.split("|")[1:-1] for line in stacks.initializers().splitlines()[2:]]
    moved = {name.strip(): float(share.strip(" %")) for name, _, _, share in rows}
    assert min(moved, key=moved.get) == "released"
