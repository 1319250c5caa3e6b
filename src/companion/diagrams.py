"""Layer stacks as pictures, drawn from the trials themselves: what is random, moved or frozen is read off a trial.

A picture is one inline SVG in a ``figure`` element. It takes its text color from the page (light and dark), fits a
phone, and has alt text that says of every column what the picture shows. Torch is not needed: a trial says it all.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from companion.layers import changes_in_words
from companion.theme import PRETRAINED
from companion.trial import Trial

WORDS = {
    "pretrained": "pretrained",
    "random": "random",
    "frozen": "pretrained and frozen",
    "unused": "not used",
}
LEFT, BOX, GAP, LEGEND, FOOT = 52, 15, 3, 24, 34  # pixels of the drawing, which is about as wide as a phone
COLUMNS = {"narrow": 20, "wide": 42}
ZOOM = 1.45  # how much larger than on a phone it may be drawn


def states(trial: Trial) -> list[tuple[str, int]]:
    """For each position from the bottom up: a key of WORDS, and the pretrained layer that stands there (from 1)."""
    order = trial.permutation or tuple(range(trial.layers))
    if trial.probe_layer is not None:
        return [("frozen" if p < trial.probe_layer else "unused", i + 1) for p, i in enumerate(order)]
    return [("random" if p in trial.reinitialized else "pretrained", i + 1) for p, i in enumerate(order)]


def in_words(trial: Trial) -> str:
    """What is done to the layers of a trial, in the numbers of the figures (from 1)."""
    if trial.probe_layer is not None:
        return f"a probe reads layer {trial.probe_layer}" if trial.probe_layer else "a probe reads the embeddings"
    return changes_in_words(trial.reinitialized, trial.permutation, trial.layers)


def stacks(columns: Mapping[str, Trial], *, name: str, x_title: str, caption: str) -> str:
    """A figure with one stack of layers per column, layer 1 at the bottom: label → trial, all of one depth.

    ``name`` is the figure's id. Positions of permuted stacks show the number of the pretrained layer they hold.
    """
    depth = next(iter(columns.values())).layers
    wide = max(map(len, columns)) > 3
    step = COLUMNS["wide" if wide else "narrow"] + GAP
    width = max(LEFT + step * len(columns), 250)
    top = LEGEND
    found = {state for trial in columns.values() for state, _ in states(trial)}
    parts = [_legend([state for state in WORDS if state in found], name)]
    for layer in (1, depth):
        y = top + (depth - layer) * (BOX + GAP) + BOX - 4
        parts.append(_text(LEFT - 5, y, f"layer {layer}", anchor="end"))
    for column, (label, trial) in enumerate(columns.items()):
        x = LEFT + column * step
        for position, (state, number) in enumerate(states(trial)):
            y = top + (depth - 1 - position) * (BOX + GAP)
            parts.append(_box(x, y, step - GAP, state, name))
            if trial.permutation:
                parts.append(_text(x + (step - GAP) / 2, y + BOX - 4, str(number), color="#ffffff", size=10))
        parts.append(_text(x + (step - GAP) / 2, top + depth * (BOX + GAP) + 11, label, size=10 if wide else 11))
    height = top + depth * (BOX + GAP) + (FOOT if x_title else FOOT - 15)
    if x_title:
        parts.append(_text(LEFT + (width - LEFT) / 2, height - 4, x_title))
    said = "; ".join(f"{label}: {in_words(trial)}" for label, trial in columns.items())
    alt = f"Stacks of {depth} layers, layer 1 at the bottom. {x_title + '. ' if x_title else ''}{said}."
    return figure("".join(parts), width, height, name=name, alt=alt, caption=caption)


def figure(drawing: str, width: float, height: float, *, name: str, alt: str, caption: str) -> str:
    """A drawing as an accessible figure; one line, since a blank one would end HTML within Markdown."""
    said = html.escape(alt, quote=True)
    return (
        f'<figure class="companion-figure companion-stack" id="stack-{name}">'
        f'<svg role="img" aria-label="{said}" viewBox="0 0 {width:g} {height:g}" width="{width * ZOOM:.0f}" '
        f'xmlns="http://www.w3.org/2000/svg">{_patterns(name)}{drawing}</svg>'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>\n"
    )


def _patterns(name: str) -> str:
    """Stripes for frozen layers; the id belongs to one figure, as ids of a page must differ."""
    return (
        f'<defs><pattern id="frozen-{name}" width="5" height="5" patternUnits="userSpaceOnUse" '
        f'patternTransform="rotate(45)"><rect width="5" height="5" fill="{PRETRAINED}"/>'
        '<rect width="1.6" height="5" fill="#ffffff"/></pattern></defs>'
    )


def _box(x: float, y: float, width: float, state: str, name: str, height: float = BOX) -> str:
    fill = {"pretrained": PRETRAINED, "frozen": f"url(#frozen-{name})"}.get(state, "none")
    dash = ' stroke-dasharray="2 2"' if state == "unused" else ""
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="{fill}" stroke="{PRETRAINED}"{dash}/>'
    )


def _text(
    x: float, y: float, text: str, *, anchor: str = "middle", color: str = "currentColor", size: float = 11
) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-size="{size:g}" fill="{color}">'
        f"{html.escape(text)}</text>"
    )


def _legend(found: Sequence[str], name: str) -> str:
    parts, x = [], 2.0
    for state in found:
        parts.append(_box(x, 2, 14, state, name, height=11))
        parts.append(_text(x + 19, 11, WORDS[state], anchor="start"))
        x += 34 + 5.6 * len(WORDS[state])
    return "".join(parts)


def anatomy(tokens: Sequence[str], layers: int, width: int, *, name: str) -> str:
    """BERT from the tokens of a text up to the classifier, and beside it what one layer does.

    ``layers`` and ``width`` are the model's; ``tokens`` are what its tokenizer makes of the text, [CLS] first.
    """
    parts = [
        _text(80, 302, "tokens"),
        *_tokens(tokens),
        _labelled(4, 236, "embeddings", "pretrained"),
        *(_labelled(4, y, text, "redrawn") for y, text in ((204, "layer 1"), (178, "layer 2"))),
        _text(80, 170, "⋮", size=14),
        _labelled(4, 134, f"layer {layers}", "redrawn"),
        _arrow(21, 134, 21, 106),
        _text(28, 124, "vector of [CLS]", anchor="start"),
        _labelled(4, 84, "pooler", "pretrained"),
        _arrow(21, 84, 21, 66),
        _labelled(4, 44, "classifier", "new"),
        _arrow(21, 44, 21, 26),
        _text(4, 18, "a score for each label", anchor="start"),
        '<path d="M158 134 L186 60 M158 156 L186 250" stroke="currentColor" stroke-dasharray="3 3" fill="none"/>',
        '<rect x="186" y="60" width="150" height="190" rx="4" fill="none" stroke="currentColor"/>',
        _text(261, 53, "inside a layer"),
        *(
            _labelled(194, y, text, "redrawn", wide=134)
            for y, text in ((218, "attention"), (168, "add, LayerNorm"), (118, "feed-forward"), (68, "add, LayerNorm"))
        ),
        *(_arrow(261, y, 261, y - 28) for y in (218, 168, 118)),
        _key(190, 268, "pretrained", "always pretrained"),
        _key(190, 284, "redrawn", "pretrained or redrawn"),
        _key(190, 300, "new", "new in every trial"),
    ]
    said = (
        f"From the bottom up: the tokens {' '.join(tokens)}; embeddings, pretrained and never redrawn; layers 1 to "
        f"{layers}, each a vector of {width} numbers per token, pretrained or redrawn; the last vector of [CLS]; the "
        "pooler, pretrained and never redrawn; a classifier, new in every trial; a score for each label. Inside a "
        "layer, from the bottom up: attention, add and LayerNorm, feed-forward, add and LayerNorm."
    )
    caption = (
        f"An encoder of {layers} layers, from a sentence to a decision. Every token is a vector of {width} numbers "
        "from the embeddings to the last layer; only that of [CLS] is read by the classifier."
    )
    return figure("".join(parts), 340, 308, name=name, alt=said, caption=caption)


_FILLS = {"pretrained": f'fill="{PRETRAINED}"', "redrawn": 'fill="none"', "new": 'fill="none" stroke-dasharray="4 2"'}


def _labelled(x: float, y: float, text: str, kind: str, wide: float = 152) -> str:
    color = "#ffffff" if kind == "pretrained" else "currentColor"
    box = f'<rect x="{x:g}" y="{y:g}" width="{wide:g}" height="22" rx="3" {_FILLS[kind]} stroke="{PRETRAINED}" />'
    if kind == "new":
        box = box.replace(f'stroke="{PRETRAINED}"', 'stroke="currentColor"')
    return box + _text(x + wide / 2, y + 15, text, color=color)


def _tokens(tokens: Sequence[str]) -> list[str]:
    """A row of tokens as wide as the boxes above it, each as wide as its text asks."""
    shares = [len(token) + 3 for token in tokens]
    starts = [4 + 152 * sum(shares[:i]) / sum(shares) for i in range(len(tokens) + 1)]
    return [_token(x, after - x, t) for x, after, t in zip(starts, starts[1:], tokens, strict=False)]


def _token(x: float, wide: float, token: str) -> str:
    return (
        f'<rect x="{x + 1:g}" y="268" width="{wide - 2:g}" height="20" rx="3" fill="none" stroke="{PRETRAINED}"/>'
        + _text(x + wide / 2, 281, token, size=9)
        + _arrow(x + wide / 2, 268, x + wide / 2, 260)
    )


def _key(x: float, y: float, kind: str, text: str) -> str:
    stroke = "currentColor" if kind == "new" else PRETRAINED
    box = f'<rect x="{x:g}" y="{y - 9:g}" width="14" height="11" {_FILLS[kind]} stroke="{stroke}"/>'
    return box + _text(x + 19, y, text, anchor="start")


def _arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    head = f"M{x2 - 3:g} {y2 + 5:g} L{x2:g} {y2:g} L{x2 + 3:g} {y2 + 5:g}"
    return f'<path d="M{x1:g} {y1:g} L{x2:g} {y2:g} {head}" stroke="currentColor" fill="none"/>'
