"""Hostile input of every kind: a documented error in one sentence or a correct run, and nothing written elsewhere.

Each property is tried on ``CASES["default"]`` inputs, and in the long mode (``COMPANION_FUZZ=long``) on
``CASES["long"]``; both numbers are in tests/conftest.py.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import io
import json
import math
import os
import shutil
import warnings
from pathlib import Path
from unittest import mock

import pandas as pd
import pytest
import yaml
from conftest import A_TRIAL, TRAIN, fuzzed, result_of, some_trial, write_split
from hypothesis import example, given
from hypothesis import strategies as st
from papermill.translators import PythonTranslator

from companion import models, profiles, replay, table, tasks
from companion.cli import main
from companion.errors import CompanionError
from companion.finetune import Outcome
from companion.layers import paper_permutation, parse_layers
from companion.profiles import Profile
from companion.protocols import protocol
from companion.store import SetAside, Store, _checksum
from companion.trial import Trial

LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
TRAVERSAL = ["../../evil", "/etc/passwd", "..", ".", "~", "a/../../b", "C:\\evil",
             "s3://bucket/x", "nul\0byte", "x" * 300, "line\nbreak", "\x1b[31m", "\u202e", "", " ", "💥"]  # fmt: skip
HUGE = [10**30, -(10**30), 2**63, 1e308, math.inf, -math.inf, math.nan, -1, 0, 2.5]
texts = st.one_of(st.sampled_from(TRAVERSAL), st.text(max_size=20))
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(HUGE), texts)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=3))


def documented(call, *arguments, **named):
    """What the call returns, or None after an error of ours in one line; anything else is a failure."""
    try:
        return call(*arguments, **named)
    except CompanionError as error:
        said = str(error)
    assert said.isprintable()
    assert said.endswith(".")
    assert len(said) < 2000
    return None


# --- profiles -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("hostile")


@fuzzed
@given(st.one_of(st.text(), values.map(yaml.safe_dump), st.binary()))
@example(LAUGHS)
@example("progressive: {seeds: &x [0, *x]}")
@example("[" * 5000)
@example("a: " + "{b: " * 5000)
@example("progressive: {seeds: 2026-13-45}")
@example("progressive: {seeds: !!int x}")
@example("progressive: {seeds: !!timestamp x}")
@example(f"progressive: {{seeds: {'9' * 5000}}}")
@example("progressive: !!python/object/apply:os.system ['touch evil']")
@example("? {a: 1}\n: 2")
def test_profiles_of_any_content(folder, content):
    path = folder / "own.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode(errors="surrogatepass"))
    assert isinstance(documented(profiles.load, str(path)), Profile | None)


@fuzzed
@given(texts)
@example("../../../etc/passwd.yaml")
@example("...yaml")
@example("a b\n.yaml")
def test_profiles_of_any_name(name):
    assert isinstance(documented(profiles.load, name), Profile | None)


@pytest.fixture(scope="module")
def settings_of(tiny_bert, tiny_glue) -> dict:
    """A profile's section that plans four trials."""
    shared = {"model": tiny_bert, "data_dir": str(tiny_glue), "tasks": ["cola"], "train_sizes": [16], "seeds": [0, 1]}
    shared |= {"learning_rate": 1e-3, "batch_size": 8, "epochs": 1, "max_length": 64, "published": "tiny"}
    return {**shared, "directions": ["suffix"], "preserved_layers": {"described": [0, 4]}, "executor": "local"}


KEYS = ["model", "data_dir", "tasks", "train_sizes", "seeds", "learning_rate", "batch_size", "epochs", "max_length",
        "published", "directions", "preserved_layers", "executor", "rerun", "store", "profile"]  # fmt: skip


@fuzzed
@given(changes=st.dictionaries(st.sampled_from(KEYS), values, min_size=1, max_size=2))
@example(changes={"tasks": ["../../evil"]})
@example(changes={"model": "../../evil"})
@example(changes={"seeds": [10**30]})
@example(changes={"train_sizes": [True]})
@example(changes={"preserved_layers": {"described": "every"}})
def test_plans_of_any_parameters(changes, settings_of, folder):
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump({"progressive": {**settings_of, **changes}}, allow_unicode=True))
    code, out, err = run(["status", "--profile", str(path), "--store", str(folder / "store")])
    check_ending(code, out, err)


@fuzzed
@given(values)
def test_a_parameter_is_never_code(value):
    """papermill writes parameters into a notebook as Python: whatever they hold, they stay values."""
    code = PythonTranslator.translate(value)
    for name in ("float('nan')", "float('inf')", "float('-inf')"):
        code = code.replace(name, "0.0")
    ast.literal_eval(code)


# --- trials, interventions ------------------------------------------------------------------------------------------

FIELDS = [f.name for f in dataclasses.fields(Trial)]


@fuzzed
@given(st.one_of(values, st.dictionaries(st.sampled_from(FIELDS), values, max_size=3).map(lambda d: {**A_TRIAL, **d})))
@example({**A_TRIAL, "layers": 10**12, "permutation": [0]})
@example({**A_TRIAL, "reinitialized": [[1]]})
@example({**A_TRIAL, "probe_layer": True})
@example({**A_TRIAL, "keep_layernorm": "yes"})
def test_trials_of_any_fields(fields):
    trial = documented(Trial.from_dict, fields)
    if trial is not None:
        assert Trial.from_dict(json.loads(json.dumps(dataclasses.asdict(trial)))) == trial
        assert len(trial.id) == 16


@fuzzed
@given(st.one_of(texts, st.from_regex(r"[0-9,\- ]{1,30}", fullmatch=True)))
@example("0-99999999999999999999")
@example("9" * 5000)
@example("٣-٤")
def test_layers_of_any_text(text):
    layers = documented(parse_layers, text)
    assert layers is None or all(0 <= i < 10_000 for i in layers)


@fuzzed
@given(st.one_of(texts, st.from_regex(r"(described|released|x)(\+[a-z_]{0,12}=?[a-z0-9.]{0,9}){0,3}", fullmatch=True)))
def test_protocols_of_any_text(name):
    documented(protocol, name)


@fuzzed
@given(st.integers(0, 2**32 - 1), st.integers(1, 64))
def test_permutations_order_all_layers(seed, layers):
    assert sorted(paper_permutation(seed, layers)) == list(range(layers))


# --- result files ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def content(folder) -> dict:
    store = Store(folder / "whole")
    store.put(result_of(some_trial()))
    return json.loads(store.path(some_trial().id).read_text())


def changed(content: dict, where: list[str], value: object) -> dict:
    """A deep copy with one value replaced."""
    copy = json.loads(json.dumps(content))
    place = copy
    for key in where[:-1]:
        place = place[key]
    place[where[-1]] = value
    return copy


PLACES = [[key] for key in ("format", "id", "trial", "outcome", "provenance")]
PLACES += [["trial", name] for name in FIELDS] + [["outcome", f.name] for f in dataclasses.fields(Outcome)]


@fuzzed
@given(where=st.sampled_from(PLACES), value=values, signed=st.booleans())
@example(where=["outcome", "score"], value=math.nan, signed=True)
@example(where=["outcome", "score"], value="1.0", signed=True)
@example(where=["outcome", "score"], value=10**400, signed=True)
@example(where=["outcome"], value=None, signed=True)
@example(where=["trial", "layers"], value=10**12, signed=True)
def test_results_changed_by_hand(where, value, signed, content, folder):
    """Even with a checksum that fits: what is trusted can be tabulated, and is the trial the file is named after."""
    new = changed(content, where, value)
    if signed:
        del new["checksum"]
        new["checksum"] = _checksum(new)
    check_file(folder, json.dumps(new).encode())


@fuzzed
@given(cut=st.integers(0, 3000), flips=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=3))
def test_results_damaged_by_a_disk(cut, flips, content, folder):
    damaged = bytearray(json.dumps(content, indent=1, sort_keys=True).encode())[: cut or None]
    for place, byte in flips:
        if place < len(damaged):
            damaged[place] = byte
    check_file(folder, bytes(damaged))


@fuzzed
@given(st.one_of(st.binary(), values.map(lambda value: json.dumps(value).encode())))
@example(b"[" * 200_000)
@example(b'{"checksum": 1, "trial": {}}')
@example(b"\xef\xbb\xbf{}")
def test_foreign_files(folder, foreign):
    check_file(folder, foreign)


def check_file(folder: Path, raw: bytes) -> None:
    """A store with such a file under a trial's name: set aside with a warning, or the trial's result."""
    shutil.rmtree(folder / "store", ignore_errors=True)
    store, trial = Store(folder / "store"), some_trial()
    store.path(trial.id).parent.mkdir(parents=True)
    store.path(trial.id).write_bytes(raw)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        found = store.get(trial)
    if found is None:
        assert [w.category for w in warned] == [SetAside]
        assert next((store.folder / "set-aside").iterdir()).read_bytes() == raw
    else:
        assert found.trial == trial
        assert len(table.tidy([found], experiment="progressive", profile="p")) == 1


@fuzzed
@given(values)
@example({"cause": "x\x1b[2J\ny", "attempts": 1e999})
@example({"cause": ["x"], "attempts": "3"})
def test_notes_of_failure_of_any_content(folder, noted):
    store = Store(folder / "failures")
    store.put_failure(some_trial(), "cause")
    path = store.folder / "failed" / f"{some_trial().id}.json"
    path.write_text(json.dumps(noted))
    known = store.failure(some_trial())
    assert known is None or (known["cause"].isprintable() and isinstance(known["attempts"], int))
    store.put_failure(some_trial(), "again")
    store.put(result_of(some_trial()))
    assert not path.exists()


@pytest.mark.parametrize("name", ["shard", "failed", "set-aside"])
def test_a_link_out_of_the_store_is_not_followed(name, tmp_path):
    outside, store, trial = tmp_path / "outside", Store(tmp_path / "store"), some_trial()
    outside.mkdir()
    (outside / f"{trial.id}.json").write_text("mine")
    store.folder.mkdir()
    (store.folder / (trial.id[:2] if name == "shard" else name)).symlink_to(outside)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name != "shard":
            store.path(trial.id).parent.mkdir()
            store.path(trial.id).write_text("{")
        assert store.get(trial) is None
        for write in (lambda: store.put(result_of(trial)), lambda: store.put_failure(trial, "x")):
            documented(write)
    assert [p.name for p in outside.iterdir()] == [f"{trial.id}.json"]
    assert (outside / f"{trial.id}.json").read_text() == "mine"


def test_what_is_no_file_is_never_read(tmp_path):
    store = Store(tmp_path / "store")
    pipe, device, loop = (store.path(some_trial(seed=s).id) for s in range(3))
    for path in (pipe, device, loop):
        path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(pipe)
    device.symlink_to("/dev/zero")
    loop.symlink_to(loop)
    with pytest.warns(SetAside):
        assert list(store) == []


# --- data and models ------------------------------------------------------------------------------------------------

words = st.one_of(st.text(max_size=30), st.sampled_from(["", "\0", "💥" * 100, "a" * 20_000, "\u202e", "[SEP] [CLS]"]))
cells = st.one_of(st.none(), words, st.integers(-(2**63), 2**63 - 1), st.floats(), st.booleans(), st.binary(max_size=9))
columns = st.one_of(st.lists(words, min_size=4, max_size=4), cells.map(lambda c: [c] * 4), st.just([["x"]] * 4))
labels = st.one_of(st.just([0, 1, 1, 0]), columns, st.just([0.0, 1.0, 1.0, 0.0]), st.just([True, False] * 2))


@fuzzed
@given(sentence=columns, label=labels)
@example(sentence=["a"] * 4, label=[0, 1, 2**40, 0])
@example(sentence=["\0", "💥", "\u202e", "a" * 20_000], label=[0, 1, 1, 0])
@example(sentence=[math.nan] * 4, label=[0, 1, 1, 0])
def test_data_of_any_values(sentence, label, folder):
    rows = pd.DataFrame({"sentence": sentence, "label": label}).to_dict("records")
    for split in ("train", "validation"):
        write_split(folder / "data", "cola", split, rows)
    tasks._load.cache_clear()
    data = documented(tasks.load, "cola", folder / "data")
    if data is not None:
        assert data.train["sentence"][:] == sentence
        assert set(data.train["label"][:]) <= {0, 1}


@fuzzed
@given(st.binary(max_size=200), st.integers(0, 2000))
def test_data_files_of_any_bytes(folder, tiny_glue, raw, cut):
    path = write_split(folder / "bytes", "cola", "validation", [{"sentence": "a", "label": 0}])
    whole = (tiny_glue / "cola" / "train-00000-of-00001.parquet").read_bytes()
    path.with_name("train-00000-of-00001.parquet").write_bytes(whole[:cut] + raw + whole[cut + len(raw) :])
    tasks._load.cache_clear()
    documented(tasks.load, "cola", folder / "bytes")


def test_what_a_file_says_beside_its_rows_is_not_read(tmp_path):
    frame = pd.DataFrame({"sentence": ["a", "b"], "label": [0, 1]})
    for split in ("train", "validation"):
        path = write_split(tmp_path / "label=7", "cola", split, [])
        frame.to_parquet(path, index=False)
        import pyarrow.parquet as pq

        rows = pq.read_table(path).replace_schema_metadata({"huggingface": "{", "pandas": "{"})
        pq.write_table(rows, path)
    assert len(tasks.load("cola", tmp_path / "label=7").train) == 2


@fuzzed
@given(st.one_of(values, st.dictionaries(st.sampled_from(["model_type", "num_hidden_layers", "auto_map", "hidden_size",
    "architectures", "vocab_size"]), values).map(lambda d: {"model_type": "bert", **d})))  # fmt: skip
@example({"model_type": "bert", "num_hidden_layers": "12"})
@example({"model_type": "bert", "num_hidden_layers": -3})
@example({"model_type": "x", "auto_map": {"AutoConfig": "evil.Config"}})
def test_model_configurations_of_any_content(folder, config):
    place = folder / "model"
    place.mkdir(exist_ok=True)
    (place / "evil.py").write_text("raise SystemExit('code of a model was run')")
    (place / "config.json").write_text(json.dumps(config))
    count = documented(models.depth, str(place))
    assert count is None or (type(count) is int and count > 0)


# --- command lines --------------------------------------------------------------------------------------------------


def run(argv: list[str]) -> tuple[int, str, str]:
    """Exit code and what the command line said."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
        try:
            code = main(argv)
        except SystemExit as end:  # argparse: a usage error, or help
            code = end.code
    return code, out.getvalue(), err.getvalue()


def check_ending(code: int, out: str, err: str) -> None:
    """Success; or one sentence; or argparse's usage and one line."""
    said = [line for line in err.splitlines() if not line.startswith("warning: ")]
    assert "Traceback" not in out + err
    if code == 1 and not out:
        assert len(said) == 1, err
        assert said[0].startswith("companion: ")
    elif code == 2:
        assert said[-1].startswith(("companion", " ")), err
    else:
        assert code in (0, 1), err
        assert not said, err


def pieces(*given: object) -> st.SearchStrategy[str]:
    return st.one_of(st.sampled_from([str(value) for value in given]), texts, st.sampled_from(list(map(str, HUGE))))


OPTIONS = {
    "trial": {"--model": pieces("pocket-bert", "TINY"), "--task": pieces("cola", "rte"), "--train-size": pieces(16),
              "--reinit": pieces("0-1", "3"), "--permute": pieces(1), "--probe": pieces(2), "--seed": pieces(1),
              "--protocol": pieces("released"), "--learning-rate": pieces(1e-3), "--batch-size": pieces(8),
              "--epochs": pieces(1), "--id": pieces("abcd"), "--pooling": pieces("mean"), "--random-rate": pieces(5)},
    "run": {"--profile": pieces("PROFILE", "pocket-quick"), "--executor": pieces("local", "ray"),
            "--time-limit": pieces(1), "--gpu-share": pieces(0.5)},
    "status": {"--profile": pieces("PROFILE")},
    "results": {"--profile": pieces("PROFILE"), "--out": pieces("/nowhere/x.csv", "nonesuch://x.csv"),
                "--sample": pieces(2), "--draw": pieces(1)},
    "claims": {"--profile": pieces("nonesuch")},
}  # fmt: skip
FLAGS = {"trial": ["--json", "--rerun", "--control", "--keep-layernorm"], "run": ["--retry-failed"],
         "results": ["list", "export", "publish", "verify"], "claims": ["--json"], "status": []}  # fmt: skip


@st.composite
def command_lines(draw) -> list[str]:
    """A command with options, some of them with values that fit."""
    command = draw(st.sampled_from(sorted(OPTIONS)))
    argv = [command, *draw(st.lists(st.sampled_from([*FLAGS[command], "--nonesuch"]), max_size=2))]
    chosen = draw(st.dictionaries(st.sampled_from(sorted(OPTIONS[command])), st.none(), max_size=6))
    if command == "trial" and draw(st.booleans()):
        argv += ["--model=TINY", "--task=cola", "--train-size=16"]
    argv += [f"{option}={draw(OPTIONS[command][option])}" for option in chosen]
    if command in ("run", "status", "results") and draw(st.booleans()):
        argv += ["-p", draw(st.one_of(st.sampled_from(KEYS), texts)), draw(st.one_of(texts, values.map(json.dumps)))]
    return argv


@fuzzed
@given(command_lines())
def test_command_lines(folder, tiny_bert, tiny_glue, settings_of, monkeypatch, argv):
    """Commands with nothing behind them that takes long: trials, notebooks and judging are stubs."""
    place = folder / "commands"
    (place / "work").mkdir(parents=True, exist_ok=True)
    (place / "tiny.yaml").write_text(yaml.safe_dump({"progressive": settings_of}))
    monkeypatch.chdir(place / "work")
    monkeypatch.setenv("COMPANION_STORE", str(place / "store"))
    monkeypatch.setenv("COMPANION_DATA_DIR", str(tiny_glue))
    argv = [word.replace("TINY", tiny_bert).replace("PROFILE", str(place / "tiny.yaml")) for word in argv]
    outcome = Outcome(**result_of(some_trial()).outcome)
    stubs = {
        "companion.finetune.finetune": lambda trial, **_: outcome,
        "companion.probe.probe": lambda trials, **_: iter([outcome] * len(trials)),
        "companion.notebooks.execute": lambda name, given, out, **_: out,
        "companion.claims.judge": lambda table: [],
        "companion.table.publish": lambda table, profile: [],
        "companion.replay.rerun": lambda known, **_: [replay.Comparison(each, None, False, "x") for each in known],
    }
    with contextlib.ExitStack() as stack:
        for name, stub in stubs.items():
            stack.enter_context(mock.patch(name, stub))
        check_ending(*run(argv))
    written = {p.relative_to(place).parts[0] for p in place.rglob("*") if p.is_file()}
    assert written <= {"tiny.yaml", "store"}, "something was written outside the store"


@fuzzed
@given(texts)
@example("../../../etc")
def test_names_lead_nowhere_else(name):
    """Names that become paths: published tables and ids."""
    assert documented(table.published, name) is None
    documented(replay.find, name, Store(Path("/nonesuch")))
    assert table.published_or_empty(name).empty


@pytest.mark.parametrize("name", ["nul\0byte", "x" * 5000, "s3://bucket/results"])
@pytest.mark.parametrize("option", ["--store", "--data-dir"])
def test_folders_that_cannot_be(option, name, tiny_bert):
    argv = ["trial", "--model", tiny_bert, "--task", "cola", "--train-size", str(TRAIN), option, name]
    code, out, err = run(argv)
    assert (code, out) == (1, "")
    check_ending(code, out, err)
