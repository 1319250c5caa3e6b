"""The baseline against a plain loop, the count of arithmetic by hand, results kept row by row, and the page's parts."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import bert_config, save_model
from safetensors.torch import load_file, save_file
from test_finetune import plain_loop

from benchmarks import __main__ as bench
from benchmarks import as_released, child, flops, grid, plan, record, with_trainer
from companion import finetune, generated, models, provenance, speed, tasks

# --- the baseline ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lively(tmp_path_factory) -> str:
    return save_model(tmp_path_factory.mktemp("models") / "lively", bert_config(initializer_range=0.2))


@pytest.mark.parametrize(("task", "texts"), [("cola", ["sentence"]), ("qnli", ["question", "sentence"])])
def test_baseline_is_the_plain_padded_loop(lively, plan_trial, tiny_glue, task, texts):
    trial = plan_trial(model=lively, task=task, train_size=20, epochs=2, seed=3)
    done = as_released.finetune(trial, tiny_glue)
    losses, _ = plain_loop(trial, tiny_glue, texts)
    assert done.losses == pytest.approx(losses, abs=2e-4)
    assert list(done.phases) == ["data and tokens", "new weights", "training", "save and load", "evaluation"]


def test_baseline_and_this_code_come_to_the_same(lively, plan_trial, tiny_glue):
    trial = plan_trial(model=lively, train_size=24, epochs=2)
    done, ours = as_released.finetune(trial, tiny_glue), finetune.finetune(trial, data_dir=tiny_glue)
    assert done.losses == pytest.approx(ours.loss_curve, abs=2e-4)
    assert done.score == pytest.approx(ours.score)


def test_a_child_forgets_the_data_that_were_read():
    before = tasks.load("pocket-cola")
    child._forget_data()
    assert tasks.load("pocket-cola") is not before


def test_the_trainer_learns_an_easy_task(plan_trial):
    """Its predictions come back in another order than the data's, and must be scored with labels in that order."""
    trial = plan_trial(model="pocket-bert", task="pocket-sst2", train_size=100, reinitialized=(), epochs=4)
    easy = dataclasses.replace(trial, learning_rate=3e-4, batch_size=16)
    assert with_trainer.finetune(easy, None).score > 0.9


def test_baseline_draws_tiny_weights_and_keeps_biases(lively, plan_trial):
    trial = plan_trial(model=lively, reinitialized=(1, 3), protocol="released")
    before, network = as_released.load(lively).bert.encoder.layer, as_released.load(lively)
    as_released.redraw(network, trial)
    after = network.bert.encoder.layer
    for index in range(4):
        old, new = before[index].output, after[index].output
        assert torch.equal(old.dense.bias, new.dense.bias)
        assert torch.equal(old.dense.weight, new.dense.weight) == (index not in (1, 3))
        assert bool((new.LayerNorm.weight == 1).all()) == (index in (1, 3))
    assert float(after[1].output.dense.weight.detach().abs().max()) <= 2 * 0.2 * 0.2


def test_probe_steps_train_the_classifier_alone_on_the_first_layers(lively, plan_trial, tiny_glue, monkeypatch):
    loaded = []
    really = as_released.load
    monkeypatch.setattr(as_released, "load", lambda folder: loaded.append(really(folder)) or loaded[-1])
    assert as_released.probe_steps(plan_trial(model=lively, train_size=16), 2, 3, tiny_glue) > 0
    after, before = loaded[0].state_dict(), really(lively).state_dict()
    assert len(loaded[0].bert.encoder.layer) == 2
    body = [name for name in after if name.startswith("bert.")]
    assert body
    assert all(torch.equal(after[name], before[name]) for name in body)
    assert loaded[0].classifier.bias.any()  # that of a new classifier is zero


def test_everything_is_padded_to_128_or_to_the_models_positions(lively, plan_trial):
    network = as_released.load(lively)
    assert as_released.padded_length(plan_trial(model=lively), network) == 64
    network.config.max_position_embeddings = 512
    assert as_released.padded_length(plan_trial(model=lively), network) == 128


# --- arithmetic ------------------------------------------------------------------------------------------------------


def test_arithmetic_of_one_layer_by_hand():
    """Width 2, feed-forward 3, one text of 5 tokens: only the last layer, of which one token is read."""
    keys_and_values = 2 * 5 * (2 * 2 + 2 * 2)
    query_and_output = 2 * (2 * 2 + 2 * 2)
    feed_forward = 2 * (2 * 3 + 3 * 2)
    attention = 2 * 5 * 2 + 2 * 5 * 2
    pooler, classifier = 2 * 2 * 2, 2 * 2 * 2
    expected = keys_and_values + query_and_output + feed_forward + attention + pooler + classifier
    assert flops.forward(flops.Shape(1, 2, 3), [5]) == expected == 176


def test_a_further_layer_computes_every_token():
    more = flops.forward(flops.Shape(2, 2, 3), [5]) - flops.forward(flops.Shape(1, 2, 3), [5])
    assert more == 5 * (4 * 2 * 2 * 2 + 2 * 2 * 3 * 2) + 2 * (2 * 5 * 5 * 2) == 480


def test_training_counts_three_times():
    shape = flops.Shape(2, 4, 8)
    assert flops.trial(shape, [3, 4], [5], 2) == 6 * flops.forward(shape, [3, 4]) + flops.forward(shape, [5])


# --- results ---------------------------------------------------------------------------------------------------------


def run(variant: str, cpu: float, **more) -> dict:
    return {"variant": variant, "cpu_seconds": cpu, "wall_seconds": 2 * cpu} | more


def test_medians_are_by_variant_and_leave_out_what_is_no_number():
    runs = [
        run("a", 1.0, score=0.5, phases={"x": 1}),
        run("b", 9.0),
        run("a", 2.0, score=0.7),
        run("a", 6.0, score=0.6),
    ]
    assert record.medians(runs) == {
        "a": {"cpu_seconds": 2.0, "wall_seconds": 4.0, "score": 0.6, "repeats": 3},
        "b": {"cpu_seconds": 9.0, "wall_seconds": 18.0, "repeats": 1},
    }


def test_rows_are_merged_one_by_one(tmp_path):
    path = tmp_path / "results" / "speed.json"
    for name, cpu in (("b", 1.0), ("a", 2.0), ("b", 3.0)):
        record.write(path, name, record.row({"job": "j"}, [run("v", cpu)], quick=False))
    rows = record.read(path)
    assert list(rows) == ["a", "b"]
    assert rows["b"]["medians"]["v"]["cpu_seconds"] == 3.0
    assert [p.name for p in path.parent.iterdir()] == ["speed.json"]


def test_rows_say_where_they_were_measured_and_not_on_whose_machine():
    row = record.row({}, [run("v", 1.0)], quick=True)
    assert set(row) == {"runs", "medians", "quick", "date", "machine", "versions", "git_commit"}
    assert set(row["machine"]) == {"processor", "cores"}


def test_only_rows_of_this_code_and_thoroughness_are_kept():
    plan = {"job": "finetune", "arguments": {"train_size": 500}}
    row = record.row(plan, [run("v", 1.0)], quick=False)
    assert record.is_current(row, plan, quick=False)
    assert not record.is_current(row, plan, quick=True)
    assert not record.is_current(row, {**plan, "arguments": {"train_size": 16}}, quick=False)
    assert not record.is_current({**row, "git_commit": "other"}, plan, quick=False)
    assert not record.is_current(record.skipped(plan, "no data", False), plan, quick=False)
    assert not record.is_current(None, plan, quick=False)
    elsewhere = record.row(plan, [run("v", 1.0, device="NVIDIA H200")], quick=False)
    assert record.is_current(elsewhere, plan, quick=False) == (provenance.device_name() == "NVIDIA H200")


def test_an_interrupted_run_goes_on_and_variants_take_turns(tmp_path, monkeypatch):
    row = plan.Row("r", "finetune", {}, (speed.OURS, speed.RELEASED))
    ran = []

    def pretend(row, variant, data_dir):
        ran.append(variant)
        return run(variant, 1.0)

    monkeypatch.setattr(bench, "in_fresh_process", pretend)
    options = bench._options(["--out", str(tmp_path / "s.json")])
    bench.measure(row, options, None)
    assert ran == [speed.OURS, speed.RELEASED, speed.OURS, speed.OURS]
    bench.measure(row, options, None)
    assert len(ran) == 4


def test_a_row_without_data_is_skipped_with_its_reason_and_never_overwrites(tmp_path):
    row, options = plan.Row("r", "finetune", {}, glue=True), bench._options(["--out", str(tmp_path / "s.json")])
    bench.measure(row, options, None)
    assert "GLUE" in record.read(options.out)["r"]["skipped"]
    record.write(options.out, "r", record.row({}, [run("v", 1.0)], quick=False))
    bench.measure(row, options, None)
    assert "runs" in record.read(options.out)["r"]


def test_a_row_whose_run_fails_says_so_and_keeps_what_was_measured(tmp_path, monkeypatch, capsys):
    def fail(row, variant, data_dir):
        raise subprocess.CalledProcessError(1, "child", stderr="out of memory")

    monkeypatch.setattr(bench, "in_fresh_process", fail)
    out = tmp_path / "s.json"
    for kept in (record.skipped({}, "no GPU here", False), record.row({}, [run("v", 1.0)], quick=False)):
        record.write(out, "machine", kept)
        assert bench.main(["--only", "machine", "--out", str(out)]) == 1
        assert "out of memory" in capsys.readouterr().err
        assert record.read(out)["machine"].get("skipped") == ("its run failed" if "skipped" in kept else None)


def test_every_aim_is_about_a_planned_row():
    assert {aim.row for aim in speed.aims()} <= {row.name for row in plan.rows(quick=False)}


def test_an_unknown_row_is_named():
    with pytest.raises(SystemExit, match="no row begins with 'nonsense'"):
        bench.main(["--only", "nonsense"])


# --- the page --------------------------------------------------------------------------------------------------------

TRIAL = "trial/minilm-l6/cola"


@pytest.fixture
def rows() -> speed.Rows:
    costs = {"steps": 189, "score": 0.1, "useful_flops": 4e11, "imports_mb": 500.0, "peak_mb": 1100.0}
    runs = [run(speed.OURS, 10.0, **costs), run(speed.RELEASED, 200.0, **costs, phases={"training": 150, "rest": 50})]
    found = {TRIAL: record.row({"job": "finetune"}, runs, quick=False)}
    found["machine"] = record.row({}, [run(speed.OURS, 1.0, float32_gflops=80.0, bfloat16_gflops=160.0)], quick=False)
    found["gpu/grid"] = record.skipped({}, "no GPU here", quick=False)
    points = [{"factor": "width", "value": v, "cpu_seconds": v / 10, "wall_seconds": v / 9} for v in (64, 128)]
    plan_of_growth = {"arguments": {"middle": {"width": 64}}}
    found["growth"] = record.row(plan_of_growth, [run(speed.OURS, 1.0, points=points)], quick=False)
    return found


def test_ratios_rates_and_memory_come_from_medians(rows):
    assert speed.ratio(rows, TRIAL, speed.RELEASED, speed.OURS) == 20.0
    assert speed.ratio(rows, TRIAL, speed.TRAINER, speed.OURS) is None
    assert speed.useful_rate(rows, TRIAL, speed.OURS) == pytest.approx(40.0)
    assert speed.share_of_machine(rows, TRIAL, speed.OURS) == pytest.approx(0.5)
    assert speed.memory(rows, TRIAL) == 600.0
    rows["machine"]["machine"] = {"processor": "another"}
    assert speed.share_of_machine(rows, TRIAL, speed.OURS) is None


def test_aims_say_what_is_reached_and_what_was_not_measured(rows):
    table = speed.aims_table(rows).set_index("what")
    assert len(table) == len(speed.aims())
    first = table.loc["minilm-l6, CoLA: CPU seconds of the procedure as released, to ours"]
    assert tuple(first) == ("20.0×", "at least 15.0×", "✓")
    assert (
        table.loc["the paper's fine-tuning grid on one GPU, projected (the aim is for an H200)", "measured"]
        == "not measured: no GPU here"
    )
    book = table.loc["building the book from stored results"]
    assert tuple(book) == ("not measured", "at most 60\u00a0s", "")


@pytest.mark.parametrize(
    ("more", "value", "measured"),
    [(True, 1.96, "just under 2.0"), (True, 2.0, "2.0"), (False, 2.04, "just over 2.0"), (False, 2.1, "2.1")],
)
def test_a_miss_that_rounds_to_the_threshold_says_so(more, value, measured):
    aim = speed.Aim("it", "row", lambda rows, name: value, "{:.1f}", 2, more)
    assert speed._measured(aim, value) == measured


def test_a_gpu_is_judged_by_trials_at_once_and_named(rows):
    runs = [
        run(speed.ONE_AT_A_TIME, 1.0, trial_seconds=9.0, value=0.02, device="NVIDIA H200"),
        run(speed.AT_ONCE, 1.0, trial_seconds=1.0, value=0.18, device="NVIDIA H200"),
        run(speed.AT_ONCE_BF16, 1.0, trial_seconds=0.5, value=0.36, device="NVIDIA H200"),
    ]
    rows["gpu/bert-base"] = record.row({}, runs, quick=False)
    table = speed.aims_table(rows).set_index("what")
    said = "BERT base on a GPU, several trials at once"
    share = ": share of the bf16 matrix rate"
    assert tuple(table.loc[said + ", in fp32" + share]) == ("18\u00a0%", "at least 35\u00a0%", "✗")
    assert tuple(table.loc[said + ", in bf16" + share]) == ("36\u00a0%", "at least 35\u00a0%", "✓")
    assert tuple(table.loc[said + ": wall seconds of one at a time, to those of several"]) == (
        "9.0×",
        "at least 8.0×",
        "✓",
    )
    assert {m.endswith("cores, NVIDIA H200") for m in speed.where_table(rows)["machine"]} == {True, False}


def swept_report(trials, workers, start, each):
    """As child._run: workers that begin one after another within a trial's time, and take the same for every trial."""
    ends = sorted(start + each * (i // workers + 1 + i % workers / workers) for i in range(len(trials)))
    return SimpleNamespace(seconds=ends[-1], ran=len(trials)), ends


@pytest.mark.parametrize(
    ("variant", "workers"), [(speed.ONE_AT_A_TIME, 1), (speed.AT_ONCE, 2), (speed.AT_ONCE_BF16, 2)]
)
def test_a_gpu_row_is_the_time_between_ends_of_trials_against_the_rate_of_products(monkeypatch, variant, workers):
    """A start of 30 s, then 5 s a trial of each worker."""
    swept = []

    def pretend(trials, workers, data_dir):
        swept.append(([trial.seed for trial in trials], workers))
        assert {trial.precision for trial in trials} == {"bf16" if "bf16" in variant else "fp32"}
        return swept_report(trials, workers, start=30.0, each=5.0)

    monkeypatch.setattr(child, "_run", pretend)
    monkeypatch.setattr(child, "device_matrix_rate", lambda: 1e8)
    sizes = {"train_size": 8, "layers": 1, "width": 32, "head": 16, "batch_size": 4, "trials": 4, "workers": 2}
    found = child.gpu(sizes, variant, None)
    assert swept == [(list(range(4 * workers)), workers)]
    assert found["trial_seconds"] == 5.0 / workers
    assert found["value"] == pytest.approx(found["useful_flops"] / (5.0 / workers) / 1e8, rel=1e-3)
    assert found["value"] > 0.01


def test_a_sweep_of_the_benchmarks_runs_its_trials(monkeypatch):
    with tempfile.TemporaryDirectory() as folder:
        trial = child._random_trial(Path(folder), train_size=8, layers=1, width=32, batch_size=4)
        trials = [dataclasses.replace(trial, seed=seed) for seed in range(3)]
        found = child._swept_steadily(trials, 2, None)
        weights = load_file(Path(trial.model) / "model.safetensors")
        weights["embeddings.LayerNorm.weight"][0] = torch.inf
        save_file(weights, Path(trial.model) / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(RuntimeError, match="the loss was not finite at step 1"):
            child._swept([dataclasses.replace(trial, weights=models.weights_of(trial.model))], 1, None)
    assert found["trials"] == 3
    assert found["wall_seconds"] > found["trial_seconds"] > 0


def test_the_rate_of_products_is_that_of_the_clock(monkeypatch):
    ticks = iter([0.0, 2.0])
    monkeypatch.setattr(child.time, "perf_counter", lambda: next(ticks))
    assert child.device_matrix_rate(size=32, products=4) == 4 * 2 * 32**3 / 2.0


def test_hours_of_a_grid_by_hand(plan_trial):
    """CoLA takes 1 s and a hundredth for each example seen, SST-2 half a second however many there are."""
    seconds = {"cola": {100: 2.0, 300: 4.0}, "sst2": {100: 0.5, 300: 0.5}}
    trials = [plan_trial(train_size=900), plan_trial(train_size=50, epochs=2), plan_trial(task="sst2", train_size=5000)]
    assert grid.projected_hours(seconds, trials) == pytest.approx((10.0 + 2.0 + 0.5) / 3600)


def test_a_grid_is_the_fine_tuning_trials_of_all_experiments_each_once(tiny_glue, tiny_bert):
    instead = {"model": tiny_bert, "train_sizes": [16], "seeds": [0], "tasks": ["cola"]}
    trials = grid.planned("minilm", {**instead, "preserved_layers": {"described": [0, 2]}}, tiny_glue)
    assert len({trial.id for trial in trials}) == len(trials)
    assert {(t.task, t.train_size, t.seed, t.model, t.probe_layer) for t in trials} == {
        ("cola", 16, 0, tiny_bert, None)
    }
    assert {trial.reinitialized for trial in trials} >= {(), (0,), (2, 3), (0, 1, 2, 3)}
    assert {trial.protocol for trial in trials} == {"described"}
    assert {trial.epochs for trial in trials} == {3}  # initialization, not the paper's, has more


def test_the_papers_grid_is_as_large_as_its_figures_say(tmp_path):
    """One seed, task and size of every figure and appendix, counted by hand."""
    model = child._random_model(tmp_path, layers=12, width=16, head=8)
    small = {
        "model": model,
        "tasks": ["pocket-sst2"],
        "seeds": [0],
        "train_sizes": [16],
        "preserved_layers": {"described": "all"},
    }
    trials = grid.planned("paper", {**small, "random_rates": [1, 5]}, None)
    curve, blocks, single, permuted = 13, 10 + 10, 12, 10
    faster, norms = 12, 12
    shared = 3  # on the curve already: the last block random, the first alone kept, the last layer random
    assert len(trials) == curve + blocks + single - shared + permuted + faster + norms


def test_a_grid_is_projected_from_trials_at_once_of_each_task(monkeypatch, tiny_glue):
    """A start of 30 s; then a trial of one of two workers takes 10 s and a second for each example it sees."""
    swept = []

    def pretend(trials, workers, data_dir):
        first = trials[0]
        swept.append((first.task, first.train_size, first.reinitialized, len(trials), workers))
        return swept_report(trials, workers, start=30.0, each=10.0 + grid.examples_seen(first))

    monkeypatch.setattr(child, "_run", pretend)
    row = next(row for row in plan.rows(quick=True) if row.name == "gpu/grid")
    small = {"layers": 12, "width": 16, "head": 8, "vocabulary_of": "pocket-bert"}
    found = child.grid({**row.arguments, **small}, speed.OURS, tiny_glue)
    upper = (6, 7, 8, 9, 10, 11)
    assert sorted(swept) == [(task, size, upper, 4, 2) for task in ("cola", "qnli", "sst2") for size in (8, 16)]
    assert found["projected_trials"] > 3 * 50 * 13  # the every-trial figure has 50 seeds of each task
    assert found["value"] == pytest.approx(found["projected_trials"] * (10.0 + 3 * 16) / 2 / 3600, abs=1e-3)


@pytest.mark.parametrize(("gpu", "reason"), [(True, ""), (False, "no GPU here")])
@pytest.mark.parametrize("name", ["gpu/bert-base", "gpu/grid"])
def test_a_gpu_row_is_left_out_only_where_there_is_none(monkeypatch, name, gpu, reason):
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    assert next(row for row in plan.rows(quick=False) if row.name == name).unmeasured == reason


def test_only_the_gpu_rows_see_a_gpu(monkeypatch):
    seen = {}

    def no_process(command, env, **options):
        seen[json.loads(command[-1])["job"]] = env.get("CUDA_VISIBLE_DEVICES")
        return subprocess.CompletedProcess(command, 0, "{}")

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.setattr(bench.subprocess, "run", no_process)
    for row in plan.rows(quick=True):
        bench.in_fresh_process(row, row.variants[0], None)
    assert (seen.pop("gpu"), seen.pop("grid")) == ("3", "3")
    assert set(seen.values()) == {""}


def test_tables_and_charts_show_the_rows(rows):
    trials = speed.trials_table(rows)
    assert trials["procedure"].tolist() == [speed.OURS, speed.RELEASED]
    assert trials["of the matrix rate"].tolist() == ["50\u00a0%", "2\u00a0%"]
    assert speed.phases_table(rows)["training"].tolist() == ["75\u00a0%"]
    for figure in (speed.trials_figure(rows), speed.growth_figure(rows)):
        spec = json.loads(re.search(r"vegalite.v6\+json\">(.*?)</script>", figure)[1].replace("<\\/", "</"))
        assert spec["description"]
        assert "\n\n" not in figure
    assert "80 GFLOP/s a core in fp32 and" in speed.matrix_rate_sentence(rows)


@pytest.mark.parametrize(("usual", "told"), [(40.0, True), (79.0, False), (85.0, False)])
def test_the_usual_rate_is_told_where_it_is_clearly_smaller(rows, usual, told):
    rows["machine"]["medians"][speed.OURS]["float32_usual_gflops"] = usual
    assert ("(40 by PyTorch's usual library)" in speed.matrix_rate_sentence(rows)) == told


def test_scores_in_two_precisions_are_compared_seed_by_seed():
    """Differences of 0.02, 0.01 and 0.03: standard deviation 0.01, and 4.303 is t of two degrees of freedom."""
    runs = [run(speed.OURS, 1.0, scores=[0.5, 0.6, 0.7]), run(speed.OURS_BF16, 1.0, scores=[0.52, 0.61, 0.73])]
    (found,) = speed.precision_table({"precision/m/t": record.row({}, runs, quick=False)}).to_dict("records")
    assert (found["model"], found["task"], found["seeds"]) == ("m", "t", 3)
    assert (found["mean score, fp32"], found["bf16"], found["bf16 − fp32"]) == ("0.600", "0.620", "+0.020")
    assert found["95 % interval"] == f"{0.02 - 4.303 * 0.01 / 3**0.5:+.3f} to {0.02 + 4.303 * 0.01 / 3**0.5:+.3f}"
    assert found["spread over seeds, fp32"] == "0.100"


@pytest.mark.parametrize(("values", "mark"), [((64, 128), "point"), ((64, 128, 256), "line")])
def test_a_line_of_growth_joins_three_values_or_more(rows, values, mark):
    points = [{"factor": "width", "value": v, "cpu_seconds": v / 10, "wall_seconds": v / 9} for v in values]
    growth = record.row({"arguments": {"middle": {}}}, [run(speed.OURS, 1.0, points=points)], quick=False)
    spec = re.search(r"vegalite.v6\+json\">(.*?)</script>", speed.growth_figure({"growth": growth}))[1]
    assert json.loads(spec)["vconcat"][0]["mark"]["type"] == mark


@pytest.mark.parametrize("missing", [None, "machine", TRIAL, "growth", "gpu/grid"])
def test_every_part_of_the_page_is_made_whatever_is_missing(rows, monkeypatch, missing):
    kept = {} if missing is None else {name: row for name, row in rows.items() if name != missing}
    monkeypatch.setattr(speed, "load", lambda: kept)
    parts = {name: part() for name, part in generated.PARTS.items() if name.startswith("speed-")}
    assert len(parts) == 9
    assert all(text.strip() for text in parts.values())
    assert "nan" not in json.dumps(parts)
    assert "aim" in speed.text(kept)


@pytest.mark.slow
def test_quick_mode_measures_every_row(tiny_glue, tmp_path, capsys):
    out = tmp_path / "quick.json"
    assert bench.main(["--quick", "--out", str(out), "--data-dir", str(tiny_glue)]) == 0
    rows = record.read(out)
    assert set(rows) == {row.name for row in plan.rows(quick=True)}
    unmeasured = {row.name for row in plan.rows(quick=True) if row.unmeasured}
    assert {name for name, row in rows.items() if "skipped" in row} == unmeasured
    for name, row in rows.items():
        if name.startswith("trial/"):
            assert len({row["medians"][variant]["steps"] for variant in row["medians"]}) == 1
            assert row["medians"][speed.OURS]["useful_flops"] > 0
    if unmeasured:
        assert "not measured: no GPU here" in capsys.readouterr().out
