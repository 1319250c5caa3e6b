"""The command line: every mistake ends in one line on stderr, names what was given, and leaves the store as it was."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pandas as pd
import pytest
import yaml
from conftest import TRAIN, result_of, some_trial

from companion import (
    commands,
    coverage,
    doctor,
    executors,
    experiments,
    finetune,
    generated,
    notebooks,
    paths,
    probe,
    profiles,
    remote,
    table,
    tuning,
)
from companion.cli import main
from companion.errors import StoreUnavailable, TableUnavailable
from companion.finetune import Outcome
from companion.store import Store


@pytest.fixture
def store(tmp_path) -> Path:
    return tmp_path / "store"  # where COMPANION_STORE points as well


@pytest.fixture
def options(tiny_bert, tiny_glue, store):
    """A function that writes the arguments of `companion trial`; None leaves an option out."""

    def write(**changes) -> list[str]:
        given = {"model": tiny_bert, "task": "cola", "train-size": 16, "data-dir": tiny_glue, "store": store}
        given |= {"learning-rate": 1e-3, "batch-size": 8, "epochs": 1, **changes}
        return ["trial", *(f"--{k}={v}" for k, v in given.items() if v is not None)]

    return write


@pytest.fixture
def profile(tmp_path, tiny_bert, tiny_glue) -> Path:
    """A profile file with a grid of eight small trials."""
    shared = {"model": tiny_bert, "data_dir": str(tiny_glue), "tasks": ["cola"], "train_sizes": [16], "seeds": [0, 1]}
    shared |= {"learning_rate": 1e-3, "batch_size": 8, "epochs": 1, "max_length": 64, "published": "tiny"}
    own = {"directions": ["suffix"], "preserved_layers": {"described": [0, 2, 4], "released": [2]}}
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({"about": "small", "shared": shared, "progressive": own}))
    return path


def files(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file()]


def one_sentence(code: int, said, wanted: str) -> None:
    assert code == 1
    assert said.out == ""
    lines = said.err.splitlines()
    assert len(lines) == 1, said.err
    assert lines[0].startswith("companion: ")
    assert lines[0].endswith(".")
    assert wanted in lines[0]


# --- trial ----------------------------------------------------------------------------------------------------------


def test_trial_as_json_twice(options, store, capsys, monkeypatch):
    assert main([*options(reinit="2-3", protocol="released", seed=3), "--json"]) == 0
    first = capsys.readouterr()
    shown = json.loads(first.out)
    assert first.err == ""
    assert {"trial", "id", "metric", "score", "seconds", "provenance", "outcome"} <= shown.keys()
    assert shown["trial"]["reinitialized"] == [2, 3]
    assert shown["trial"]["protocol"] == "released"
    assert shown["trial"]["seed"] == 3
    assert shown["metric"] == "matthews"
    assert [p.stem for p in files(store)] == [shown["id"]]
    monkeypatch.setattr(finetune, "finetune", None)  # the second answer comes from the store
    assert main([*options(reinit="3,2", protocol="released", seed=3), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == shown


def test_trial_run_again_elsewhere_has_the_same_score(options, capsys, tmp_path):
    shown = []
    for folder in ("one", "two"):
        assert main([*options(store=tmp_path / folder, permute=1, epochs=2), "--json"]) == 0
        shown.append(json.loads(capsys.readouterr().out))
    assert shown[0]["id"] == shown[1]["id"]
    assert shown[0]["score"] == shown[1]["score"]
    assert shown[0]["outcome"]["loss_curve"] == shown[1]["outcome"]["loss_curve"]
    assert sorted(shown[0]["trial"]["permutation"]) == [0, 1, 2, 3]


def test_a_trial_in_another_precision_is_another_trial(options, capsys):
    shown = {}
    for precision in ("fp32", "bf16"):
        assert main([*options(precision=precision), "--json"]) == 0
        shown[precision] = json.loads(capsys.readouterr().out)
        assert shown[precision]["trial"]["precision"] == precision
    assert shown["fp32"]["id"] != shown["bf16"]["id"]


def test_trial_in_words(options, store, capsys):
    assert main(options(reinit="0-3")) == 0
    text = capsys.readouterr().out
    assert "on the dev split of cola (all, 16 examples, seed 0" in text
    assert str(store) in text


def test_a_rerun_needs_to_be_told_of_which_trial(options, store, capsys):
    one_sentence(main([*options(), "--rerun"]), capsys.readouterr(), "--rerun compares with a known trial; add --id")
    assert not store.exists()


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        (["--keep-layernorm"], "--keep-layernorm changes nothing without --reinit; add --reinit or leave"),
        (["--random-rate=5", "--probe=1"], "--random-rate changes nothing without --reinit"),
        (["--pooling=mean", "--reinit=1"], "--pooling changes nothing without --probe"),
        (["--control"], "--control changes nothing without --probe"),
        (["--precision=bf16", "--probe=1"], "--precision changes nothing with --probe; leave it out"),
        (["--protocol=released"], "--protocol released changes nothing in this trial; leave it out"),
        (["--probe=1"], "--learning-rate changes nothing for a logistic probe, which takes no steps; leave it out"),
        (["--precision=fp16"], "precision 'fp16' is not possible; give fp32 or bf16."),
        (["--id=abcd"], "--id and --model both say which trial it is; give one of them."),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(value),
)
def test_no_option_of_a_trial_is_passed_over(more, wanted, options, store, capsys):
    one_sentence(main([*options(), *more]), capsys.readouterr(), wanted)
    assert files(store) == []


@pytest.mark.parametrize("option", [["--seed", "0"], ["--control"], ["--random-rate", "1"]])
def test_a_trial_given_by_its_id_is_not_changed(option, capsys):
    one_sentence(main(["trial", "--id", "abcd", *option]), capsys.readouterr(), f"--id and {option[0]} both say")


def test_hyperparameters_not_given_come_from_a_profile(options, capsys):
    assert main([*options(**{"learning-rate": None, "batch-size": None, "epochs": None}), "--json"]) == 0
    trial, paper = json.loads(capsys.readouterr().out)["trial"], profiles.load("paper").experiments["progressive"]
    assert {k: trial[k] for k in ("learning_rate", "batch_size", "epochs")} == {
        k: paper[k] for k in ("learning_rate", "batch_size", "epochs")
    }


@pytest.mark.parametrize("profile", ["pocket-quick", "minilm", "paper"])
def test_a_probe_that_trains_takes_the_epochs_of_its_experiment(profile, options, tiny_bert, capsys, monkeypatch):
    monkeypatch.setattr(commands.trial, "HYPERPARAMETERS_OF", {tiny_bert: profile})
    monkeypatch.setattr(probe, "probe", lambda trials, **_: iter([Outcome(**result_of(trials[0]).outcome)]))
    assert main([*options(epochs=None, probe=2, protocol="released"), "--json"]) == 0
    epochs = json.loads(capsys.readouterr().out)["trial"]["epochs"]
    assert epochs == profiles.load(profile).experiments["probing"]["probe_epochs"]


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"model": "nonesuch"}, "unknown model 'nonesuch'"),
        ({"model": ""}, "''"),
        ({"model": "/nonesuch"}, "unknown model '/nonesuch'"),
        ({"model": "nonesuch/nonesuch"}, "'nonesuch/nonesuch' is not on this machine and the hub could not be reached"),
        ({"model": "bert-base-uncased"}, "'bert-base-uncased' is not on this machine"),
        ({"task": "nonesuch"}, "unknown task 'nonesuch'"),
        ({"task": "rte", "data-dir": None}, "'rte' is not on this machine and the hub could not be reached"),
        ({"task": "rte"}, "the train split of 'rte' is not at"),
        ({"data-dir": "/nonesuch"}, "the train split of 'cola' is not at /nonesuch"),
        ({"train-size": 0}, "train size 0 is not possible"),
        ({"train-size": -5}, "train size -5 is not possible"),
        ({"train-size": 10**9}, f"train size 1000000000 is not possible for 'cola'; choose from 1 to {TRAIN}"),
        ({"learning-rate": 0}, "learning rate 0.0 is not possible"),
        ({"learning-rate": -1e-3}, "learning rate -0.001 is not possible"),
        ({"learning-rate": "nan"}, "learning rate nan is not possible"),
        ({"learning-rate": "inf"}, "learning rate inf is not possible"),
        ({"batch-size": 0}, "batch size 0 is not possible"),
        ({"epochs": -1}, "epochs -1 is not possible"),
        ({"seed": -1}, "seed -1 is not possible"),
        ({"reinit": "99"}, "layer 99 does not exist"),
        ({"reinit": ""}, "'' names no layers"),
        ({"reinit": "a-b"}, "'a-b' names no layers"),
        ({"reinit": "3-1"}, "'3-1' names no layers"),
        ({"reinit": "2-4"}, "layer 4 does not exist"),
        ({"permute": -1}, "permutation seed -1 is not possible"),
        ({"permute": 2**32}, "permutation seed 4294967296 is not possible"),
        ({"protocol": "paper", "reinit": "1"}, "unknown protocol 'paper'"),
        ({"protocol": "paper"}, "unknown protocol 'paper'"),
    ],
    ids=lambda value: " ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_mistakes_in_a_trial(changes, wanted, options, store, capsys):
    one_sentence(main(options(**changes)), capsys.readouterr(), wanted)
    assert files(store) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonesuch"],
        [],
        ["trial", "--model", "m", "--task", "cola", "--train-size", "many"],
        ["trial", "--model", "m", "--task", "cola", "--train-size", "8", "--reinit", "1", "--permute", "1"],
        ["run", "--executor", "slurm"],
        ["run", "-p", "seeds"],
        ["status", "--store", ""],
        ["trial", "--id", "abcd", "--data-dir="],
        ["pretrain-pocket", "--out", ""],
    ],
    ids=" ".join,
)
def test_mistakes_that_argparse_finds(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "error: " in capsys.readouterr().err.splitlines()[-1]


def test_a_trial_that_breaks_ends_in_a_sentence(options, store, capsys, monkeypatch):
    def broken(*_, **__):
        raise MemoryError("no more")

    monkeypatch.setattr(finetune, "finetune", broken)
    one_sentence(main(options()), capsys.readouterr(), "failed with MemoryError: no more; free some memory")
    assert files(store) == []


def test_a_trial_needs_a_description_or_an_id(store, capsys):
    one_sentence(main(["trial"]), capsys.readouterr(), "a trial needs --model; give it, or --id of a known trial.")


@pytest.mark.parametrize("damage", ["no weights", "truncated", "pickle"])
def test_models_that_cannot_be_used(damage, options, tiny_bert, tmp_path, store, capsys):
    folder = shutil.copytree(tiny_bert, tmp_path / "model")
    weights = folder / "model.safetensors"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:5000])
    else:
        weights.rename(tmp_path / "away" if damage == "no weights" else folder / "pytorch_model.bin")
    one_sentence(main(options(model=folder)), capsys.readouterr(), str(folder))
    assert files(store) == []


@pytest.mark.parametrize("damage", ["split", "column", "labels"])
def test_data_that_cannot_be_used(damage, options, tiny_glue, tmp_path, store, capsys):
    folder = shutil.copytree(tiny_glue, tmp_path / "glue")
    path = folder / "cola" / "validation-00000-of-00001.parquet"
    rows = pd.read_parquet(path)
    if damage == "split":
        path.unlink()
    elif damage == "column":
        rows.drop(columns="sentence").to_parquet(path)
    else:
        rows.assign(label=-1).to_parquet(path)
    one_sentence(main(options(**{"data-dir": folder})), capsys.readouterr(), "the validation split of 'cola'")
    assert files(store) == []


def test_a_store_that_cannot_be_written(options, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    one_sentence(main(options(store=tmp_path / "file")), capsys.readouterr(), f"the store {tmp_path / 'file'} cannot")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_store_that_can_only_be_read_shows_what_it_has(options, store, capsys, monkeypatch):
    def read_only(self):
        raise StoreUnavailable("the store cannot be written", "name another")

    assert main([*options(seed=1), "--json"]) == 0
    shown = capsys.readouterr().out
    monkeypatch.setattr(Store, "check_writable", read_only)
    assert main([*options(seed=1), "--json"]) == 0
    assert capsys.readouterr().out == shown
    one_sentence(main(options(seed=2)), capsys.readouterr(), "the store cannot be written; name another.")


def test_a_disk_that_is_full(options, store, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    one_sentence(main(options()), capsys.readouterr(), "No space left on device")
    assert files(store) == []


def test_an_edited_result_is_set_aside_and_the_trial_run_again(options, store, capsys):
    assert main([*options(), "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    (path,) = files(store)
    path.write_text(path.read_text().replace('"metric": "matthews"', '"metric": "accuracy"'))
    assert main([*options(), "--json"]) == 0
    again = capsys.readouterr()
    assert again.err.startswith("warning: result file ")
    assert len(again.err.splitlines()) == 1
    assert json.loads(again.out)["score"] == first["score"]
    assert sorted(p.parent.name for p in files(store)) == sorted([path.parent.name, "set-aside"])


def test_ctrl_c_in_a_trial(options, store, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(finetune, "finetune", interrupted)
    assert main(options()) == 130
    assert capsys.readouterr().err == "companion: interrupted.\n"
    assert files(store) == []


def test_a_run_that_is_told_to_end_says_how_to_go_on(profile, capsys, monkeypatch):
    monkeypatch.setattr(notebooks, "execute", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    assert main(["run", "--profile", str(profile)]) == 130
    assert "the same command goes on from there" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


# --- run, status, results -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["run", "--profile", "nonesuch"], "unknown profile 'nonesuch'"),
        (["run", "--profile", ""], "unknown profile ''"),
        (["run", "--profile", "/nonesuch.yaml"], "unknown profile '/nonesuch.yaml'"),
        (["run", "nonesuch"], "unknown experiment 'nonesuch'"),
        (["run", "-p", "lerning_rate", "1"], "'lerning_rate'"),
        (["run", "-p", "seeds", "[0"], "not readable YAML"),
        (["run", "-p", "preserved_layers", "{released: all, released: '3'}"], "the key 'released' is there twice"),
        (["run", "-p", "rerun", "false"], "-p rerun is not for run, which always runs"),
        (["run", "-p", "seeds", "[0]", "-p", "seeds", "[1]"], "-p seeds is given more than once"),
        (["status", "-p", "store", "elsewhere"], "'store' is not given by -p; use --store"),
        (["run", "-p", "data_dir", "elsewhere"], "'data_dir' is not given by -p; use --data-dir"),
        (["book", "--profile", "nonesuch"], "unknown profile 'nonesuch'"),
        (["status", "--profile", "nonesuch"], "unknown profile 'nonesuch'"),
        (["results", "list", "--profile", "nonesuch"], "unknown profile 'nonesuch'"),
        (["results", "publish", "--profile", "pocket", "-p", "seeds", "[77]"], "-p seeds is not for publish, which"),
        (["tune", "--profile", "nonesuch", "--rates", "1e-4"], "unknown profile 'nonesuch'"),
        (["results", "list", "--sample", "3"], "--sample changes nothing for list; leave it out: it is for verify"),
        (["results", "publish", "--out", "x.csv"], "--out changes nothing for publish; leave it out: it is for export"),
        (["status", "-p", "rerun", "maybe"], "parameter 'rerun' is 'maybe'; give a bool"),
        (["results", "list", "-p", "seeds", "[1:30]"], "seed '1:30' is not possible"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_in_other_commands(arguments, wanted, store, capsys):
    one_sentence(main(arguments), capsys.readouterr(), wanted)
    assert files(store) == []


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("lerning_rate", "1", "'lerning_rate'"),
        ("learning_rate", ".nan", "learning rate nan"),
        ("learning_rate", "-0.001", "learning rate -0.001"),
        ("learning_rate", "fast", "learning rate 'fast'"),
        ("tasks", "cola", "parameter 'tasks' is 'cola'; give a list"),
        ("tasks", "[]", "parameter 'tasks' is []"),
        ("tasks", "[mnli]", "unknown task 'mnli'"),
        ("tasks", "[[cola]]", "unknown task ['cola']"),
        ("train_sizes", "[0]", "train size 0"),
        ("train_sizes", "[16, most]", "train size 'most'"),
        ("train_sizes", "16", "parameter 'train_sizes' is 16"),
        ("seeds", "[-1]", "seed -1"),
        ("seeds", "3", "parameter 'seeds' is 3"),
        ("epochs", "2.5", "epochs 2.5"),
        ("batch_size", "many", "batch size 'many'"),
        ("model", "7", "parameter 'model' is 7"),
        ("data_dir", "7", "'data_dir' is not given by -p; use --data-dir"),
        ("directions", "[up]", "unknown direction 'up'"),
        ("directions", "suffix", "parameter 'directions' is 'suffix'"),
        ("preserved_layers", "[0]", "parameter 'preserved_layers' is [0]"),
        (
            "preserved_layers",
            "{described: [5]}",
            "5 in parameter",
        ),
        ("preserved_layers", "{described: [-1]}", "-1 in parameter"),
        (
            "preserved_layers",
            "{described: [half]}",
            "'half' in parameter",
        ),
        ("preserved_layers", "{described: []}", "parameter 'preserved_layers[described]' is []"),
        ("preserved_layers", "{paper: all}", "unknown protocol 'paper'"),
    ],
)
def test_wrong_parameters(key, value, wanted, profile, store, capsys):
    code = main(["status", "--profile", str(profile), "-p", key, value])
    one_sentence(code, capsys.readouterr(), wanted)
    assert files(store) == []


@pytest.mark.parametrize("address", ["s3://bucket/x", "http://127.0.0.1:9/x"])
@pytest.mark.parametrize("command", [["run"], ["run", "--retry-failed"], ["status"], ["results", "list"], ["book"]])
def test_a_store_out_of_reach_is_named_before_anything_runs(command, address, profile, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(remote, "BUILD", tmp_path / "build")
    monkeypatch.setattr(notebooks, "_execute", None)  # would raise if called
    before = sorted(tmp_path.iterdir())
    wanted = f"the store {address} cannot be reached ("
    command = [*command, "--profile", str(profile)]
    one_sentence(main([*command, "--store", address]), capsys.readouterr(), wanted)
    monkeypatch.setenv("COMPANION_STORE", address)
    one_sentence(main(command), capsys.readouterr(), wanted)
    assert sorted(tmp_path.iterdir()) == before


def test_a_store_at_an_address_is_used_like_a_folder(profile, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(remote, "BUILD", tmp_path / "build")
    far = tmp_path / "far"
    trial = planned(profile)[0]
    remote.RemoteStore(f"file://{far}").put(result_of(trial, seconds=60.0))
    assert [path.name for path in far.rglob("*.json")] == [f"{trial.id}.json"]
    shutil.rmtree(tmp_path / "build")  # another machine
    assert main(["status", "--profile", str(profile), "--store", f"file://{far}"]) == 0
    assert "1 of 8 trials done, 7 missing" in capsys.readouterr().out
    assert main(["trial", "--id", trial.id, "--store", f"file://{far}"]) == 0
    assert trial.id in capsys.readouterr().out


@pytest.mark.parametrize("command", [["run"], ["book"], ["status"], ["results", "list"]], ids=lambda c: c[0])
@pytest.mark.parametrize("lacking", ["model", "directions"])
def test_a_profile_that_says_too_little_is_not_filled_up_from_a_notebook(command, lacking, profile, capsys):
    content = yaml.safe_load(profile.read_text())
    for section in ("shared", "progressive"):
        content[section].pop(lacking, None)
    profile.write_text(yaml.safe_dump(content))
    code = main([*command, "--profile", str(profile)])
    one_sentence(code, capsys.readouterr(), f"parameter '{lacking}' is missing; give it in the profile or with -p")


@pytest.mark.parametrize("name", ["--workers", "--time-limit"])
def test_an_empty_option_is_not_the_default(name, profile, capsys):
    with pytest.raises(SystemExit):
        main(["run", "--profile", str(profile), name, ""])
    assert f"argument {name}: '' says nothing; give a value or leave the option out" in capsys.readouterr().err


def test_numbers_may_be_written_as_in_python(profile, capsys):
    assert main(["status", "--profile", str(profile), "-p", "learning_rate", "2e-5"]) == 0
    assert "0 of 8 trials done, 8 missing, 0 failed" in capsys.readouterr().out


def planned(profile: Path) -> list:
    return experiments.plan("progressive", profiles.load(str(profile)).experiments["progressive"])


def test_status_counts_what_is_done_missing_and_failed(profile, store, capsys):
    trials = planned(profile)
    assert len(trials) == 8
    for trial in trials[:5]:
        Store(store).put(result_of(trial, seconds=60.0))
    Store(store).put_failure(trials[5], "cause")
    assert main(["status", "--profile", str(profile)]) == 0
    shown = capsys.readouterr().out
    assert "progressive (tiny): 5 of 8 trials done, 2 missing, 1 failed; about 3 core-minutes left" in shown


def test_status_counts_published_trials_of_the_profile_drawn_beneath(profile, store, capsys, monkeypatch):
    rows = table.tidy(map(result_of, planned(profile)[:3]), experiment="progressive", profile="other")
    tables = {"other": rows}
    monkeypatch.setattr(table, "published_or_empty", lambda name: tables.get(name, rows[:0]))
    for beneath, count in (("other", 3), ("none", 0)):
        assert main(["status", "--profile", str(profile), "-p", "published", beneath]) == 0
        assert f"; {count} published" in capsys.readouterr().out


def test_a_parameter_goes_to_the_notebooks_that_have_it(capsys, monkeypatch):
    seen = {}
    monkeypatch.setattr(notebooks, "execute", lambda name, given, out, **_: seen.update({name: given}) or out)
    assert main(["run", "-p", "probe_layers", "[0]", "-p", "seeds", "[7]"]) == 0
    assert {name for name, given in seen.items() if given.get("probe_layers") == [0]} == {"probing"}
    assert all(given["seeds"] == [7] for given in seen.values())
    capsys.readouterr()
    for command in ("run", "status", "results list"):
        code = main([*command.split(), "-p", "sead", "[7]"])
        one_sentence(code, capsys.readouterr(), "unknown parameter of notebook 'progressive': 'sead'; choose one of")


def test_a_run_ends_with_the_command_that_builds_its_book(profile, store, capsys, monkeypatch):
    monkeypatch.setattr(notebooks, "execute", lambda name, given, out, **_: out)
    options = ["progressive", "--profile", str(profile), "--store", str(store), "-p", "seeds", "[0, 1]"]
    assert main(["run", "--executor", "local", *options]) == 0
    command = shlex.split(capsys.readouterr().out.splitlines()[-1].partition(": ")[2])
    assert command == ["companion", "book", *options]
    assert main(["run", "probing"]) == 0
    assert capsys.readouterr().out.endswith("with: companion book probing\n")


def test_the_book_has_all_pages_of_whatever_was_run(profile, store, tmp_path, capsys, monkeypatch):
    from companion import book

    built, first = {}, tmp_path / "index.html"
    first.write_text("a page")
    monkeypatch.setattr(book, "build", lambda wanted, repository: built.update(wanted) or first)
    assert main(["book", "--profile", str(profile), "--store", str(store)]) == 0
    assert list(built) == list(experiments.EXPERIMENTS)
    assert built["progressive"]["profile"] == "tiny"
    assert built["probing"] == {"store": str(store)}
    assert main(["book", "permutation", "-p", "permutations", "[4]"]) == 0
    assert built["permutation"]["permutations"] == [4]
    assert built["progressive"] == {}
    capsys.readouterr()
    one_sentence(main(["book", "nonesuch"]), capsys.readouterr(), "unknown experiment 'nonesuch'")


def test_status_tells_causes_and_a_run_may_try_given_up_trials_again(profile, store, capsys, monkeypatch):
    bad = planned(profile)[0]
    for _ in range(3):
        Store(store).put_failure(bad, "a cause")
    assert main(["status", "--profile", str(profile)]) == 0
    assert f"\n  trial {bad.id} failed 3 times: a cause\n" in capsys.readouterr().out
    seen = {}
    monkeypatch.setattr(notebooks, "execute", lambda name, given, out, **environment: seen.update(environment) or out)
    assert main(["run", "--profile", str(profile), "--time-limit", "0.5", "--workers", "2"]) == 0
    assert Store(store).attempts(bad) == 3
    assert seen == {"COMPANION_TIME_LIMIT": "0.5", "COMPANION_WORKERS": "2"}
    assert main(["run", "--profile", str(profile), "--retry-failed"]) == 0
    assert capsys.readouterr().out.splitlines()[-3] == "1 failed trials will be tried again"
    assert Store(store).attempts(bad) == 0


def test_status_of_a_store_that_is_a_file_says_nothing_is_done(profile, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["status", "--profile", str(profile), "--store", str(tmp_path / "file")]) == 0
    said = capsys.readouterr()
    assert "0 of 8 trials done" in said.out
    assert said.err == ""


def test_results_are_listed_and_exported(profile, store, tmp_path, capsys):
    for seed, trial in enumerate(planned(profile)):
        Store(store).put(result_of(trial, seed / 10))
    assert main(["results", "list", "--profile", str(profile)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 9
    for name in ("rows.csv", "rows.parquet"):
        assert main(["results", "export", "--out", str(tmp_path / name), "--profile", str(profile)]) == 0
    capsys.readouterr()
    one, other = pd.read_csv(tmp_path / "rows.csv"), pd.read_parquet(tmp_path / "rows.parquet")
    assert one["score"].tolist() == other["score"].tolist() == [seed / 10 for seed in range(8)]


def test_publishing_adds_rows_and_counts_what_is_missing(profile, store, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(commands.results, "RESULTS", tmp_path / "results")
    first, *others = planned(profile)
    for trials, stored in (([first], 1), (others[:2], 3)):
        for trial in trials:
            Store(store).put(result_of(trial, 0.5))
        assert main(["results", "publish", "--profile", str(profile)]) == 0
        assert len(table.published("tiny", tmp_path / "results")) == stored
        (row,) = coverage.read(tmp_path / "results").to_dict("records")
        assert (row["experiment"], row["planned"], row["published"]) == ("progressive", 8, stored)
    assert "3 rows: " in capsys.readouterr().out
    profile.write_text(profile.read_text().replace("- 2\n    - 4\n", "- 4\n"))
    assert main(["results", "publish", "--profile", str(profile)]) == 0
    said = capsys.readouterr()
    assert "2 rows: " in said.out
    assert said.err.startswith("warning: 1 of 3 published rows of profile 'tiny' are dropped: its grid no longer has")


def test_a_key_that_no_notebook_has_is_an_error_of_every_command(profile, store, capsys):
    profile.write_text(profile.read_text().replace("shared:", "shared:\n  batchsize: 8"))
    for line in (["status"], ["results", "list"], ["results", "publish"], ["results", "verify"]):
        one_sentence(main([*line, "--profile", str(profile)]), capsys.readouterr(), "'batchsize'; choose one of")


@pytest.mark.parametrize("other", ["model: pocket-bert", "precision: bf16"])
def test_a_profile_of_two_models_or_precisions_is_not_published(other, profile, store, tmp_path, monkeypatch, capsys):
    """Also where this store has trials of the one alone: another may have published those of the other."""
    monkeypatch.setattr(commands.results, "RESULTS", tmp_path / "results")
    for trial in planned(profile)[:2]:
        Store(store).put(result_of(trial, 0.5))
    both = tmp_path / "two.yaml"
    both.write_text(f"{profile.read_text()}single_layer: {{{other}, which: [0], protocols: [described]}}\n")
    said = f"whose scores no page may mix; write one profile for each {other.partition(':')[0]}"
    one_sentence(main(["results", "publish", "--profile", str(both)]), capsys.readouterr(), said)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("name", ["tiny.parquet", "coverage.csv"])
def test_what_is_damaged_is_not_published_over(name, profile, store, tmp_path, monkeypatch, capsys):
    results = tmp_path / "results"
    monkeypatch.setattr(commands.results, "RESULTS", results)
    first, second, *_ = planned(profile)
    Store(store).put(result_of(first, 0.5))
    assert main(["results", "publish", "--profile", str(profile)]) == 0
    (results / name).write_bytes((results / name).read_bytes()[:30])
    before = {path: path.read_bytes() for path in results.iterdir()}
    Store(store).put(result_of(second, 0.5))
    capsys.readouterr()
    one_sentence(main(["results", "publish", "--profile", str(profile)]), capsys.readouterr(), "restore it")
    assert {path: path.read_bytes() for path in results.iterdir()} == before


def test_two_may_publish_at_once(tmp_path):
    """Each adds its row to what it read; without waiting for each other, all would have read nothing."""
    trials = [some_trial(seed=seed) for seed in range(8)]
    every = {("progressive", trial.id) for trial in trials}

    def publish(trial):
        row = table.tidy([result_of(trial)], experiment="progressive", profile="p")
        with table.alone(tmp_path):
            table.publish(table.with_published(row, "p", every, tmp_path), "p", tmp_path)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(publish, trials))
    assert sorted(table.published("p", tmp_path)["seed"]) == [*range(8)]


@pytest.mark.parametrize(
    ("out", "said"), [("github://a.csv", "github://a.csv cannot be written ("), ("none://a.csv", "none://a.csv cannot")]
)
def test_an_export_to_an_address_that_cannot_be_reached(out, said, profile, store, capsys):
    Store(store).put(result_of(planned(profile)[0]))
    one_sentence(main(["results", "export", "--profile", str(profile), "--out", out]), capsys.readouterr(), said)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_an_export_to_an_address(suffix, profile, store, tmp_path):
    Store(store).put(result_of(planned(profile)[0], 0.25))
    out = f"memory://export/rows.{suffix}"
    assert main(["results", "export", "--profile", str(profile), "--out", out]) == 0
    with fsspec.open(out, "rb") as file:
        rows = pd.read_csv(file) if suffix == "csv" else pd.read_parquet(file)
    assert rows["score"].tolist() == [0.25]


@pytest.mark.parametrize(
    ("redirected", "code", "said"),
    [("| true", 0, ""), ("| head -n 1 > /dev/null", 0, ""), ("> /dev/full", 1, "no space left")],
)
def test_output_that_nobody_reads_or_has_no_room(redirected, code, said):
    if "full" in redirected and not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    for buffered in ("", "1"):
        line = f"set -o pipefail; {sys.executable} -m companion claims --profile pocket {redirected}"
        environment = {**os.environ, "PYTHONUNBUFFERED": buffered}
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=environment)
        assert done.returncode == code, done.stderr
        assert len(done.stderr.splitlines()) == bool(said)
        assert said in done.stderr


@pytest.mark.parametrize("out", ["rows.xlsx", "/nonesuch/rows.csv", "/nonesuch/rows.parquet", None])
def test_export_to_impossible_places(out, profile, store, capsys):
    Store(store).put(result_of(planned(profile)[0]))
    code = main(["results", "export", "--profile", str(profile), *(["--out", out] if out else [])])
    one_sentence(code, capsys.readouterr(), str(out))


@pytest.mark.parametrize(("name", "method"), [("rows.csv", "to_csv"), ("rows.parquet", "to_parquet")])
def test_an_export_that_is_interrupted_leaves_the_last_one(name, method, profile, store, tmp_path, capsys, monkeypatch):
    def interrupted(self, path, **_):
        Path(path).write_text("half")
        raise KeyboardInterrupt

    Store(store).put(result_of(planned(profile)[0]))
    folder = tmp_path / "exports"
    folder.mkdir()
    (folder / name).write_text("the last one")
    monkeypatch.setattr(pd.DataFrame, method, interrupted)
    assert main(["results", "export", "--profile", str(profile), "--out", str(folder / name)]) == 130
    assert {path.name: path.read_text() for path in files(folder)} == {name: "the last one"}


def test_results_of_an_empty_store(profile, store, capsys):
    code = main(["results", "list", "--profile", str(profile)])
    one_sentence(code, capsys.readouterr(), f"no trial of profile 'tiny' is stored in {store}; run it first")


def test_doctor_says_what_is_missing_and_what_to_do(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["doctor", "--store", str(tmp_path / "file")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("MISS  store: ") and "cannot be written" in line for line in lines)
    assert any(line.startswith("ok    pocket tasks: data ") for line in lines)
    assert any(line.startswith("-     GLUE data: no local folder given; set --data-dir") for line in lines)


def test_cores_are_those_that_may_be_used(monkeypatch, capsys):
    """As in a container or a batch job, which may use fewer than the machine has."""
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {5, 6, 7}, raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for faster, told in {False: "CPU, 3 cores\n", True: "CPU, 3 cores, large matrices by oneDNN\n"}.items():
        monkeypatch.setattr("companion.linear.onednn_is_faster", lambda faster=faster: faster)
        main(["doctor"])
        assert f"ok    device: {told}" in capsys.readouterr().out
    asked = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, workers, **_):
            asked.append(workers)
            super().__init__(1)

    assert executors.slots(None) == [None] * 3
    monkeypatch.setattr(notebooks, "ThreadPoolExecutor", Pool)
    notebooks.execute_all({}, Path("nowhere"))
    assert asked == [3]


def test_a_folder_of_the_home_is_found_where_no_shell_expands_it(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert paths.store_place("~/x") == paths.data_folder("~/x") == tmp_path / "x"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("~nobody-of-this-name/x", "cannot be used (Could not determine home directory.)"),
        ("a\udcff", "is not the name of a file or folder; give a path as text"),
        ("s3://ada:secret@bucket", "data folder 's3://…' is an address and not a folder"),
    ],
)
def test_places_that_no_notebook_could_use(given, said, capsys):
    code = main(["trial", "--model", "pocket-bert", "--task", "cola", "--train-size", "16", "--data-dir", given])
    told = capsys.readouterr()
    one_sentence(code, told, said)
    assert "secret" not in told.err


@pytest.mark.parametrize(
    "content", ["", "a,b\n1,2\n", "model,task,metric,train_size,seed,learning_rate,score\n" + 7 * "x,"]
)
def test_a_damaged_table_of_a_tuning_ends_in_a_sentence(content, tmp_path, monkeypatch):
    (tmp_path / "tuning-x.csv").write_text(content)
    monkeypatch.setattr(generated, "RESULTS", tmp_path)
    with pytest.raises(TableUnavailable, match="tuning-x.csv is not the table it should be; restore it, or tune again"):
        generated.tuning()


def test_doctor_reads_the_data_folder(tiny_glue, capsys):
    main(["doctor", "--data-dir", str(tiny_glue)])
    assert f"ok    GLUE data: cola {TRAIN} + " in capsys.readouterr().out


def test_the_browser_of_a_snap_is_not_taken(tmp_path, monkeypatch):
    for name in ("snap", "google-chrome"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "chromium").symlink_to(tmp_path / "snap")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("companion.doctor.BROWSERS", ("chromium", "google-chrome"))
    assert doctor.browser() == str(tmp_path / "google-chrome")
    (tmp_path / "google-chrome").unlink()
    assert doctor.browser() is None


def test_doctor_goes_on_after_a_data_folder_that_is_an_address(tmp_path, capsys):
    assert main(["doctor", "--store", str(tmp_path / "store"), "--data-dir", "s3://glue"]) == 0
    said = capsys.readouterr().out
    assert "-     GLUE data: data folder 's3://glue' is an address and not a folder; give a folder" in said
    assert "ok    store: 0 trials in " in said


VERIFY = ["results", "verify", "--sample", "1", "-p", "published", "one"]


@pytest.mark.parametrize("command", [["tune", "--rates", "1e-3"], VERIFY], ids=["tune", "verify"])
def test_a_number_of_workers_that_no_machine_has_room_for(command, profile, publications, capsys):
    number = "1" + "0" * 20
    code = main([*command, "--profile", str(profile), "--workers", number])
    one_sentence(code, capsys.readouterr(), f"{number} workers are not possible; give a whole number from 1 to 9999")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tune", "--rates", "1", "-p", "seeds", "[0]"], "-p seeds is not for tune, which has its own; leave it out"),
        (["tune", "--rates", "1", "-p", "learning_rate", "1"], "-p learning_rate is not for tune"),
        (["tune", "--rates", "1", "--store", "x"], "--store changes nothing for tune"),
        (["results", "verify", "-p", "tasks", "[cola]"], "-p tasks is not for verify, which draws from all that is"),
        (["results", "verify", "--store", "x"], "--store changes nothing for verify"),
        (["run", "--gpu-share", "0.5"], "--gpu-share changes nothing with --executor processes; leave it out, or use"),
        (
            ["run", "--workers", "2", "--executor", "local"],
            "with --executor local; leave it out, or use --executor proc",
        ),
        (["tune", "--rates", "1", "-p", "executor", "local"], "-p executor changes nothing for tune; leave it out"),
        (["run", "--time-limit", "2", "-p", "executor", "local"], "--time-limit changes nothing with --executor local"),
    ],
)
def test_options_that_would_change_nothing(arguments, said, profile, capsys):
    code = main([*arguments, "--profile", str(profile)])
    one_sentence(code, capsys.readouterr(), said)


def test_a_profile_without_what_is_tuned(tmp_path, capsys):
    path = tmp_path / "pr.yaml"
    path.write_text("about: small\nprobing: {seeds: [0]}\n")
    code = main(["tune", "--profile", str(path), "--rates", "1e-3"])
    one_sentence(code, capsys.readouterr(), "profile 'pr' has no section 'progressive', which is what is tuned; add it")


def test_tuning_that_cannot_be_kept_is_shown_all_the_same(profile, tmp_path, capsys, monkeypatch):
    scored = [{"task": "cola", "train_size": 16, "learning_rate": rate, "score": rate} for rate in (0.25, 0.5)]
    monkeypatch.setattr(tuning, "scores", lambda *_, **__: pd.DataFrame(scored))
    tune = ["tune", "--profile", str(profile), "--rates", "0.25", "0.5"]
    monkeypatch.setattr(commands.upkeep, "RESULTS", tmp_path / "results")
    assert main(tune) == 0
    assert len(pd.read_csv(tmp_path / "results" / "tuning-tiny.csv")) == 2
    (tmp_path / "results" / "tuning-tiny.csv").unlink()
    assert main([*tune, "-p", "epochs", "1"]) == 0  # this is no tuning of the profile
    assert not list((tmp_path / "results").iterdir())
    capsys.readouterr()
    monkeypatch.setattr(commands.upkeep, "RESULTS", profile)  # a file and no folder
    code, said = main(tune), capsys.readouterr()
    assert "0.25" in said.out
    one_sentence(code, said._replace(out=""), f"the table of scores cannot be written to {profile} (File exists); make")


# --- claims ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def publications(monkeypatch) -> dict[str, pd.DataFrame]:
    """What is published, by profile: two profiles with three seeds of two trials each."""
    tables = {}
    for name in ("one", "two"):
        results = [result_of(some_trial(reinitialized=which, seed=seed), 0.9 - 0.1 * len(which))
                   for which in ((), (0, 1, 2, 3)) for seed in range(3)]  # fmt: skip
        tables[name] = table.tidy(results, experiment="progressive", profile=name)
    monkeypatch.setattr(table, "published_profiles", lambda: sorted(tables))
    monkeypatch.setattr(table, "published", lambda profile: tables[profile])
    return tables


def test_claims_as_json(publications, capsys):
    assert main(["claims", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [(v["profile"], v["id"]) for v in shown] == [(p, f"C{i}") for p in ("one", "two") for i in range(1, 9)]
    for verdict in shown:
        wanted = {"id", "verdict", "profile", "statement", "statistic", "interval", "n", "trial_ids", "reason"}
        assert wanted <= verdict.keys()
        assert verdict["verdict"] == "undecided"
        assert set(verdict["trial_ids"]) <= set(publications["one"]["trial_id"])
    assert "one train size only (16)" in shown[2]["reason"]


def test_claims_in_words_of_chosen_profiles(publications, capsys):
    assert main(["claims", "--profile", "two", "--profile", "one"]) == 0
    blocks = capsys.readouterr().out.split("\n\n")
    assert [block.split(":")[0] for block in blocks] == [f"C{i} ({p})" for p in ("two", "one") for i in range(1, 9)]
    assert "found     no trials of probing and progressive by the described protocol with the setup" in blocks[0]


def test_claims_of_what_is_not_published(monkeypatch, capsys):
    code = main(["claims", "--profile", "nonesuch"])
    one_sentence(code, capsys.readouterr(), "there is no published table for profile 'nonesuch'")
    monkeypatch.setattr(table, "published_profiles", list)
    one_sentence(main(["claims"]), capsys.readouterr(), "no table is published; run a profile and use")


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [("seed", 7, "describes trial"), ("kind", "intact", "says kind 'intact' of a trial with 'all'"),
     ("preserved_layers", 3, "says preserved_layers 3 of a trial with 0")],
)  # fmt: skip
def test_no_claim_is_judged_on_rows_that_are_not_what_they_say(column, value, said, publications, monkeypatch, capsys):
    rows = publications["one"]
    listed_again = rows.tail(1).assign(experiment="localized", **{column: value})  # the row before it is sound
    monkeypatch.setitem(publications, "one", pd.concat([rows, listed_again], ignore_index=True))
    one_sentence(main(["claims", "--profile", "one"]), capsys.readouterr(), said)
    with pytest.raises(TableUnavailable, match=said):
        generated.scorecard()


@pytest.mark.parametrize("argv", [["trial", "--model=--"], ["claims", "--profile=--"], ["status", "--store=--"]])
def test_two_dashes_are_no_value(argv, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(argv)
    assert f"argument {argv[1][:-3]}: '--' is no value" in capsys.readouterr().err


# --- as a program ---------------------------------------------------------------------------------------------------


def companion(*arguments: str, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "companion", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **options)


def test_a_mistake_through_the_real_command():
    done = companion("trial", "--model", "nonesuch", "--task", "cola", "--train-size", "8")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("companion: unknown model 'nonesuch'; ")
    assert len(done.stderr.splitlines()) == 1


def test_help_and_version_are_quick_to_import():
    """They import no torch: a mistyped option should not take seconds."""
    code = "import sys, companion.cli as c\ntry: c.main(['run', '--help'])\nexcept SystemExit: pass\n"
    code += "assert not {'torch', 'pandas', 'transformers'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "--profile" in done.stdout


def test_version():
    import companion as package

    assert companion("--version").stdout == f"companion {package.__version__}\n"
