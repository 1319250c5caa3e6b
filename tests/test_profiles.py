"""Profiles: those that ship, those of one's own, and what is wrong with the rest."""

from __future__ import annotations

import pytest
import yaml

from companion import notebooks, profiles
from companion.errors import InvalidValue, UnknownName
from companion.experiments import EXPERIMENTS, plan
from companion.protocols import PROTOCOLS


@pytest.mark.parametrize("name", profiles.names())
def test_shipped_profiles_fit_their_notebooks(name):
    profile = profiles.load(name)
    assert profile.name == name
    assert profile.about.endswith(".")
    for experiment, parameters in profile.experiments.items():
        notebooks.check_parameters(experiment, parameters)
        # every parameter is given, so that a profile does not follow another one's defaults by accident
        missing = set(notebooks.parameters(experiment)) - set(parameters)
        assert missing == {"precision", "data_dir", "store", "rerun", "executor"}
        assert {*parameters.get("preserved_layers", ()), *parameters.get("protocols", ())} <= set(PROTOCOLS)


def test_the_quick_rerun_repeats_trials_of_the_full_profile():
    """Its pages say whether scores agree with the published ones, so each of its trials must be one of those."""
    quick, full = profiles.load("pocket-quick").experiments, profiles.load("pocket").experiments
    assert set(quick) == set(full) == set(EXPERIMENTS)
    for name in EXPERIMENTS:
        assert set(plan(name, quick[name])) <= set(plan(name, full[name])), name


def test_the_papers_own_settings():
    paper = profiles.load("paper").experiments["progressive"]
    assert paper["model"] == "bert-base-uncased"
    assert (paper["learning_rate"], paper["batch_size"], paper["epochs"], paper["max_length"]) == (2e-5, 8, 3, 128)
    assert paper["preserved_layers"] == {"described": "all", "released": "all"}
    seeds = {name: len(section["seeds"]) for name, section in profiles.load("paper").experiments.items()}
    assert (seeds["localized"], seeds["small_data"], seeds["progressive"]) == (10, 50, 3)


def write(tmp_path, content, name="own.yaml"):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return str(path)


def test_a_profile_of_ones_own(tmp_path):
    content = {"about": " mine ", "shared": {"seeds": [0], "epochs": 1}, "progressive": {"epochs": 2}}
    profile = profiles.load(write(tmp_path, content))
    assert (profile.name, profile.about) == ("own", "mine")
    assert profile.experiments == {"progressive": {"published": "own", "seeds": [0], "epochs": 2, "profile": "own"}}


@pytest.mark.parametrize(
    ("content", "error", "said"),
    [
        ("{", InvalidValue, "is not readable YAML"),
        ("progressive: {seeds: [0}", InvalidValue, r"is not readable YAML \(expected .*, line 1\); correct the file"),
        ("shared: {}\nshared: {}", InvalidValue, "the key 'shared' is there twice, line 2"),
        (
            "shared: {}\nprogressive:\n  seeds: [0]\n  epochs: 1\n  'seeds': [1]",
            InvalidValue,
            "'seeds' is there twice, line 5",
        ),
        ("progressive: {preserved_layers: {described: all, described: 1}}", InvalidValue, "'described' is there twice"),
        ("progressive: {tasks: [{1: a, 0x1: b}]}", InvalidValue, "the key 1 is there twice"),
        ("progressive: {<<: {seeds: [0], seeds: [1]}}", InvalidValue, "is not readable YAML"),
        ("- 1\n", InvalidValue, "is not a mapping"),
        ("", InvalidValue, "is not a mapping"),
        ({"shared": {"seeds": [0]}}, InvalidValue, f"has no experiment; add a section: {', '.join(EXPERIMENTS)}"),
        ({"progressive": [1]}, InvalidValue, "section 'progressive' of profile .* is not a mapping"),
        ({"progressive": {1: 2}}, InvalidValue, "section 'progressive' of profile .* is not a mapping"),
        ({"progresive": {}}, UnknownName, "'progresive'; choose one of: about, shared, progressive"),
    ],
)
def test_profiles_that_are_wrong(tmp_path, content, error, said):
    with pytest.raises(error, match=said):
        profiles.load(write(tmp_path, content))


@pytest.mark.parametrize("name", ["pocket.yaml", "minilm.yml", "coverage.yaml", "tuning-minilm.yaml"])
def test_no_profile_takes_the_name_of_anothers_results(name, tmp_path):
    with pytest.raises(InvalidValue, match=f"profile .*{name}' has a name that is taken; rename the file: results/"):
        profiles.load(write(tmp_path, {"progressive": {"seeds": [0]}}, name))


def test_a_shipped_profile_may_be_given_by_its_path(monkeypatch):
    monkeypatch.chdir(profiles.PROFILES)
    assert profiles.load("pocket.yaml") == profiles.load(f"{profiles.PROFILES}/pocket.yaml") == profiles.load("pocket")


def test_a_profile_says_nothing_of_the_store(tmp_path):
    path = write(tmp_path, {"shared": {"store": "elsewhere"}, "progressive": {"seeds": [0]}})
    with pytest.raises(InvalidValue, match="'store' is not given by profile .*own.yaml'; use --store."):
        profiles.load(path)


def test_profiles_that_are_not_there(tmp_path):
    with pytest.raises(UnknownName, match="unknown profile 'nonesuch'; choose one of: minilm"):
        profiles.load("nonesuch")
    with pytest.raises(UnknownName, match="unknown profile"):
        profiles.load(str(tmp_path / "own.yaml"))
    with pytest.raises(InvalidValue, match="is not readable YAML"):
        path = tmp_path / "bytes.yml"
        path.write_bytes(b"\xff\xfe")
        profiles.load(str(path))


@pytest.mark.parametrize(
    ("text", "value"),
    [("2e-5", 2e-5), ("2.0e-5", 2e-5), ("-1E3", -1000.0), ("12", 12), ("[1e-4, 3]", [1e-4, 3]), ("2e5x", "2e5x"),
     ("true", True), ("suffix", "suffix"), ("{described: all}", {"described": "all"}),
     ("{'1': a, 1: b}", {"1": "a", 1: "b"})],
)  # fmt: skip
def test_values_are_read_as_one_would_write_them(text, value):
    read = profiles.read_yaml(text)
    assert read == value
    assert type(read) is type(value)


def test_numbers_are_read_as_python_writes_them():
    read = profiles.read_yaml("[1, -2, 0, 010, 1:30, 1_000, 2e-5, 3.0e-4, .5, 1., 0x10]")
    assert read == [1, -2, 0, "010", "1:30", "1_000", 2e-5, 3e-4, 0.5, 1.0, 16]


def test_a_profile_has_a_name_that_a_published_table_can_have(tmp_path):
    with pytest.raises(InvalidValue, match="has a name that files cannot have; use letters, .*, a hundred at most"):
        profiles.load(write(tmp_path, {"progressive": {"seeds": [0]}}, f"{'n' * 101}.yaml"))
    assert profiles.load(write(tmp_path, {"progressive": {"seeds": [0]}}, f"{'n' * 100}.yaml")).name == "n" * 100
