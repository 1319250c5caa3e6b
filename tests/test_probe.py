"""Probes of a frozen encoder: against independent computations, and what may not matter to them; sweeps of probes."""

from __future__ import annotations

import copy
import dataclasses
import math
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import bert_config, result_of, save_model
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss, matthews_corrcoef
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from test_finetune import generator, padded
from threadpoolctl import threadpool_limits
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer

from companion import models, probe, sweep, tasks
from companion.errors import Interrupted, InvalidValue
from companion.store import Store

COLUMNS = {"cola": ["sentence"], "sst2": ["sentence"], "qnli": ["question", "sentence"]}
SCORES = {"cola": matthews_corrcoef, "sst2": accuracy_score, "qnli": accuracy_score}
DEPTH = 4  # layers of the tiny models
PLAIN_HEAD = "released+probe_dropout=false+probe_reload=false"


@pytest.fixture(autouse=True)
def one_thread():
    """Also for the sums of sklearn's solver, which several threads slow down on rows as few as these."""
    with threadpool_limits(1):
        yield


def saved(factory, name: str, **changes) -> str:
    return save_model(factory.mktemp("models") / name, bert_config(**changes))


@pytest.fixture(scope="module")
def lively(tmp_path_factory) -> str:
    """Its initializer is wide, so that its layers tell texts apart."""
    return saved(tmp_path_factory, "lively", initializer_range=0.2)


@pytest.fixture(scope="module")
def with_dropout(tmp_path_factory) -> str:
    return saved(tmp_path_factory, "dropout", hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory) -> str:
    """Only its attention drops out."""
    return saved(tmp_path_factory, "noisy", initializer_range=0.2, attention_probs_dropout_prob=0.5)


def split(folder, task: str, name: str) -> pd.DataFrame:
    return pd.read_parquet(folder / task / f"{name}-00000-of-00001.parquet")


def chosen(folder, trial) -> pd.DataFrame:
    """The training subset of a trial."""
    train = split(folder, trial.task, "train")
    return train.iloc[torch.randperm(len(train), generator=generator(trial.seed, "subset"))[: trial.train_size]]


def changed(folder, target, **splits):
    """A copy of the data folder with cola's splits passed through the functions given by name; its fingerprint."""
    shutil.copytree(folder, target)
    for name, change in splits.items():
        change(split(folder, "cola", name)).to_parquet(target / "cola" / f"{name}-00000-of-00001.parquet", index=False)
    return target, tasks.load("cola", target).fingerprint


def run(trials, folder) -> list[dict]:
    """Outcomes, without what a clock or a process's memory says."""
    varying = ("seconds", "examples_per_second", "peak_memory_mb")
    outcomes = [dataclasses.asdict(outcome) for outcome in probe.probe(trials, data_dir=folder)]
    return [{k: v for k, v in outcome.items() if k not in varying} for outcome in outcomes]


# --- logistic regression on hidden states ---------------------------------------------------------------------------


@torch.no_grad()
def states(trial, rows: pd.DataFrame) -> np.ndarray:
    """Hidden states of texts padded to 64 tokens, as transformers computes them."""
    tokenizer = AutoTokenizer.from_pretrained(trial.model)
    network = AutoModel.from_pretrained(trial.model).eval()
    inputs = padded(tokenizer, [list(rows[column]) for column in COLUMNS[trial.task]])
    hidden = network(**inputs, output_hidden_states=True).hidden_states[trial.probe_layer]
    mask = inputs["attention_mask"][..., None]
    return (hidden[:, 0] if trial.pooling == "first" else (hidden * mask).sum(1) / mask.sum(1)).numpy()


def regression(rows, labels, strength):
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=300)).fit(rows, labels)


def best_strength(rows, labels, seed: int) -> float:
    """The C with the smallest log loss on the first fifth of the rows in the order of the stream "probe"."""
    order = torch.randperm(len(rows), generator=generator(seed, "probe")).numpy()
    held, kept = order[: len(rows) // 5], order[len(rows) // 5 :]
    losses = {
        c: log_loss(labels[held], regression(rows[kept], labels[kept], c).predict_proba(rows[held]), labels=[0, 1])
        for c in (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
    }
    return min(losses, key=losses.get)


def agrees_with_sklearn(trial, outcome: dict, folder, train_labels, dev_labels) -> None:
    train, dev = states(trial, chosen(folder, trial)), states(trial, split(folder, trial.task, "validation"))
    strength = best_strength(train, train_labels, trial.seed)
    fitted = regression(train, train_labels, strength)
    predictions = fitted.predict(dev)
    assert outcome["regularization"] == strength
    assert outcome["loss_curve"] == pytest.approx([log_loss(train_labels, fitted.predict_proba(train))], abs=1e-3)
    assert outcome["score"] == pytest.approx(SCORES[trial.task](dev_labels, predictions))
    assert outcome["majority_share"] == max(predictions.mean(), 1 - predictions.mean())


@pytest.mark.parametrize("pooling", ["first", "mean"])
@pytest.mark.parametrize("task", ["cola", "qnli"])
def test_scores_of_every_layer_are_those_of_sklearn_on_padded_texts(task, pooling, lively, plan_trial, tiny_glue):
    trials = [
        plan_trial(model=lively, task=task, train_size=41, seed=9, pooling=pooling, probe_layer=k)
        for k in range(DEPTH + 1)
    ]
    outcomes = run(trials, tiny_glue)
    labels = chosen(tiny_glue, trials[0])["label"].to_numpy(), split(tiny_glue, task, "validation")["label"].to_numpy()
    for trial, outcome in zip(trials, outcomes, strict=True):
        agrees_with_sklearn(trial, outcome, tiny_glue, *labels)
    assert len({outcome["loss_curve"] for outcome in outcomes}) == DEPTH + 1
    assert len({outcome["regularization"] for outcome in outcomes}) > 1
    assert outcomes[0]["metric"] == ("matthews" if task == "cola" else "accuracy")


def test_a_model_that_gives_nan_cannot_be_probed(lively):
    base = models.load(lively)
    texts = probe.Texts({"input_ids": np.array([1, 2, 3])}, np.array([3]), np.array([0]))
    broken = copy.deepcopy(base.network)
    with torch.no_grad():
        next(iter(broken.parameters())).fill_(float("nan"))
    with pytest.raises(InvalidValue, match="not all finite"):
        probe.features(dataclasses.replace(base, network=broken), texts)


def test_a_control_probe_learns_the_labels_of_last_words(lively, plan_trial, tiny_glue):
    real, control = (
        plan_trial(model=lively, train_size=40, seed=1, probe_layer=2, pooling="mean", control=c) for c in (False, True)
    )
    plain, random = run([real, control], tiny_glue)
    data = tasks.load("cola", tiny_glue)
    rows = data.train.select(tasks.subset(data, 40, 1))
    labels = [tasks.control_labels(data, part, 1) for part in (rows, data.dev)]
    agrees_with_sklearn(control, random, tiny_glue, *labels)
    assert plain["loss_curve"] != random["loss_curve"]


def test_first_tokens_of_the_embeddings_say_nothing_but_how_frequent_a_label_is(tiny_bert, plan_trial, tiny_glue):
    trial = plan_trial(train_size=40, probe_layer=0)
    (outcome,) = run([trial], tiny_glue)
    share = chosen(tiny_glue, trial)["label"].mean()
    assert outcome["loss_curve"] == pytest.approx(
        [-share * math.log(share) - (1 - share) * math.log(1 - share)], abs=1e-3
    )
    assert outcome["majority_share"] == 1.0
    assert outcome["diverged"]


def test_regularization_is_chosen_without_the_dev_split_and_without_unused_examples(
    lively, plan_trial, tiny_glue, tmp_path
):
    def of(folder, data):
        trials = [
            plan_trial(model=lively, train_size=20, probe_layer=k, pooling="mean", data=data) for k in range(DEPTH + 1)
        ]
        return trials[0], run(trials, folder)

    def relabel(rows):
        return rows.assign(label=1 - rows["label"])

    def relabel_unused(rows):
        unused = ~rows.index.isin(chosen(tiny_glue, first).index)
        return rows.assign(label=rows["label"].where(~unused, 1 - rows["label"]))

    first, before = of(tiny_glue, tasks.load("cola", tiny_glue).fingerprint)
    _, after = of(*changed(tiny_glue, tmp_path / "other", train=relabel_unused, validation=relabel))
    for name in ("regularization", "loss_curve", "majority_share"):
        assert [outcome[name] for outcome in before] == [outcome[name] for outcome in after]
    assert [o["score"] for o in before] == pytest.approx([-o["score"] for o in after])
    _, reworded = of(*changed(tiny_glue, tmp_path / "reworded", validation=lambda rows: rows[:7]))
    assert [o["regularization"] for o in reworded] == [o["regularization"] for o in before]


def test_training_examples_of_one_class_predict_that_class(plan_trial, tiny_glue, tmp_path):
    folder, data = changed(tiny_glue, tmp_path / "ones", train=lambda rows: rows.assign(label=1))
    (outcome,) = run([plan_trial(probe_layer=2, data=data)], folder)
    assert outcome["majority_share"] == 1.0
    assert outcome["score"] == 0.0
    assert outcome["loss_curve"] == pytest.approx([0.0], abs=1e-9)
    assert outcome["failure"] == ""


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_handful_of_examples_is_enough_to_run(size, plan_trial, tiny_glue):
    (outcome,) = run([plan_trial(probe_layer=2, train_size=size)], tiny_glue)
    assert math.isfinite(outcome["loss_curve"][0])
    assert outcome["regularization"] == 1.0 or size > 1


def test_one_class_among_the_rows_that_are_kept_and_another_held_out():
    drawn = torch.randperm(5, generator=generator(0, "probe"))
    labels = np.zeros(5, dtype=int)
    labels[int(drawn[0])] = 1  # the one row held out
    assert probe.choose_strength(np.eye(5), labels, 0) == 1e-4


# --- a trained head -------------------------------------------------------------------------------------------------


def redraw(network, layers, seed: int) -> None:
    """N(0, σ²), zero biases, LayerNorm at 1 and 0, from the named streams of a reloaded probe."""
    reload = generator(seed, "reload").initial_seed()
    for index in layers:
        drawn = generator(reload, f"reinitialize/{index}")
        for name, parameter in network.encoder.layer[index].named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif "LayerNorm" in name:
                parameter.fill_(1.0)
            else:
                parameter.normal_(0, network.config.initializer_range, generator=drawn)


@torch.no_grad()
def pooled(trial, rows: pd.DataFrame, *, full_depth: bool = False) -> torch.Tensor:
    """What the pretrained pooler says of the first ``probe_layer`` layers, or of them below freshly random ones."""
    network = AutoModel.from_pretrained(trial.model).eval()
    if full_depth:
        redraw(network, range(trial.probe_layer, DEPTH), trial.seed)
    else:
        network.encoder.layer = network.encoder.layer[: trial.probe_layer]
    tokenizer = AutoTokenizer.from_pretrained(trial.model)
    return network(**padded(tokenizer, [list(rows[column]) for column in COLUMNS[trial.task]])).pooler_output


def plain_head(trial, folder, dropout: float = 0.0):
    """A linear classifier on fixed vectors, trained the long way round; losses, norms of gradients, the classifier."""
    rows = chosen(folder, trial)
    vectors, labels = pooled(trial, rows), torch.tensor(rows["label"].to_numpy())
    head = torch.nn.Linear(vectors.shape[1], 2)
    with torch.no_grad():
        sigma = AutoModel.from_pretrained(trial.model).config.initializer_range
        head.weight.normal_(0, sigma, generator=generator(trial.seed, "head"))
        head.bias.zero_()
    optimizer = torch.optim.AdamW(head.parameters(), betas=(0.9, 0.999), eps=1e-8, weight_decay=0, foreach=False)
    order, losses, norms = generator(trial.seed, "order"), [], []
    steps = math.ceil(len(rows) / trial.batch_size) * trial.epochs
    torch.manual_seed(generator(trial.seed, "dropout").initial_seed())
    for _ in range(trial.epochs):
        for batch in torch.randperm(len(rows), generator=order).split(trial.batch_size):
            optimizer.param_groups[0]["lr"] = trial.learning_rate * (1 - len(losses) / steps)
            loss = F.cross_entropy(head(F.dropout(vectors[batch], dropout)), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            norms.append(float(torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)))
            optimizer.step()
            losses.append(loss.item())
    return losses, norms, head


@torch.no_grad()
def head_agrees(outcome: dict, trial, folder, head, vectors) -> None:
    predictions = head(vectors).argmax(-1).numpy()
    labels = split(folder, trial.task, "validation")["label"]
    assert outcome["score"] == pytest.approx(SCORES[trial.task](labels, predictions))
    assert outcome["majority_share"] == max(predictions.mean(), 1 - predictions.mean())


@pytest.mark.parametrize("task", ["sst2", "qnli"])
def test_heads_of_every_layer_agree_with_a_plain_loop(task, lively, plan_trial, tiny_glue):
    size = {"task": task, "train_size": 36, "epochs": 4, "learning_rate": 0.05, "seed": 2}  # the last batch is short
    trials = [plan_trial(model=lively, protocol=PLAIN_HEAD, probe_layer=k, **size) for k in range(DEPTH + 1)]
    largest = []
    for trial, outcome in zip(trials, run(trials, tiny_glue), strict=True):
        losses, norms, head = plain_head(trial, tiny_glue)
        assert outcome["steps"] == len(losses) == 20
        assert outcome["loss_curve"] == pytest.approx(losses, abs=2e-4)
        assert outcome["regularization"] is None
        head_agrees(outcome, trial, tiny_glue, head, pooled(trial, split(tiny_glue, task, "validation")))
        largest.append(max(norms))
    assert max(largest) > 1.2  # gradients were clipped


def test_reloaded_heads_are_scored_below_freshly_random_layers(lively, plan_trial, tiny_glue):
    size = {"task": "sst2", "train_size": 40, "epochs": 4, "learning_rate": 0.05}
    kept, reloaded = (
        [plan_trial(model=lively, protocol=name, probe_layer=k, **size) for k in range(DEPTH + 1)]
        for name in (PLAIN_HEAD, "released+probe_dropout=false")
    )
    plain, scored = run(kept, tiny_glue), run(reloaded, tiny_glue)
    dev = split(tiny_glue, "sst2", "validation")
    for trial, outcome in zip(reloaded, scored, strict=True):
        _, _, head = plain_head(trial, tiny_glue)
        head_agrees(outcome, trial, tiny_glue, head, pooled(trial, dev, full_depth=True))
    assert [o["loss_curve"] for o in plain] == [o["loss_curve"] for o in scored]
    assert plain[DEPTH] == scored[DEPTH]
    assert [o["score"] for o in plain] != [o["score"] for o in scored]


@pytest.fixture
def scored(monkeypatch) -> list[tuple]:
    """The network and the classifier that each score is computed with."""
    real, found = probe._predict, []

    def spy(network, head, *rest):
        found.append((copy.deepcopy(network.state_dict()), head.head))
        return real(network, head, *rest)

    monkeypatch.setattr(probe, "_predict", spy)
    return found


def test_training_a_head_leaves_every_other_weight_as_it_was(with_dropout, plan_trial, tiny_glue, scored, on_cpu):
    before = {k: v.clone() for k, v in models.load(with_dropout).network.state_dict().items()}
    trial = plan_trial(model=with_dropout, probe_layer=2, protocol="released+probe_reload=false", epochs=2)
    run([trial], tiny_glue)
    ((trained, head),) = scored
    assert not torch.equal(head.weight, torch.empty(2, 32).normal_(0, 0.02, generator=generator(0, "head")))
    for weights in (trained, models.load(with_dropout).network.state_dict()):
        assert weights.keys() == before.keys()
        assert all(torch.equal(before[name], weights[name]) for name in before)


@pytest.mark.parametrize("reload", [False, True])
def test_heads_trained_with_dropout_are_scored_without(reload, noisy, plan_trial, tiny_glue, scored, on_cpu):
    protocol = "released" if reload else "released+probe_reload=false"
    size = {"task": "sst2", "train_size": 40, "epochs": 4, "learning_rate": 0.05}
    trial = plan_trial(model=noisy, probe_layer=3, protocol=protocol, **size)
    (outcome,) = run([trial], tiny_glue)
    dev = split(tiny_glue, "sst2", "validation")
    head_agrees(outcome, trial, tiny_glue, scored[0][1], pooled(trial, dev, full_depth=reload))


def test_dropout_of_the_frozen_layers_is_a_field_of_the_protocol(noisy, lively, plan_trial, tiny_glue):
    def losses(model, **fields):
        name = "released" + "".join(f"+{field}={value}" for field, value in fields.items())
        trial = plan_trial(model=model, probe_layer=3, protocol=name, epochs=2, learning_rate=0.01)
        return trial, run([trial], tiny_glue)[0]["loss_curve"]

    trial, calm = losses(noisy, probe_dropout="false")
    assert calm == pytest.approx(plain_head(trial, tiny_glue)[0], abs=2e-4)
    assert losses(noisy)[1] != pytest.approx(calm, abs=2e-3)
    assert losses(lively)[1] == losses(lively, probe_dropout="false")[1]


def test_dropout_before_the_classifier_stays_where_frozen_layers_have_none(with_dropout, plan_trial, tiny_glue, on_cpu):
    trial = plan_trial(model=with_dropout, probe_layer=2, protocol=PLAIN_HEAD, epochs=3, learning_rate=0.05)
    (outcome,) = run([trial], tiny_glue)
    with torch.random.fork_rng():
        assert outcome["loss_curve"] == pytest.approx(plain_head(trial, tiny_glue, dropout=0.1)[0], abs=2e-4)


def test_a_trained_head_has_no_control_task(plan_trial, tiny_glue):
    trial = plan_trial(probe_layer=2, protocol="released", control=True)
    with pytest.raises(InvalidValue, match="protocol 'released' has no control task; leave out the control"):
        run([trial], tiny_glue)


# --- what may not matter --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["described", "released", "described+probe=head"])
def test_an_outcome_does_not_depend_on_the_other_probes_of_its_group(protocol, with_dropout, plan_trial, tiny_glue):
    trials = [
        plan_trial(model=with_dropout, probe_layer=k, protocol=protocol, epochs=2, learning_rate=0.05)
        for k in range(DEPTH + 1)
    ]
    if protocol == "described":
        trials += [dataclasses.replace(t, **c) for t in trials for c in ({"pooling": "mean"}, {"control": True})]
    together = run(trials, tiny_glue)
    assert [run([trial], tiny_glue)[0] for trial in trials] == together
    torch.rand(7)  # nor on what else was drawn in the process
    assert run(trials[::-1], tiny_glue) == together[::-1]
    assert len({outcome["loss_curve"] for outcome in together[: DEPTH + 1]}) == DEPTH + 1


def test_seeds_differ(tiny_bert, plan_trial, tiny_glue):
    for protocol in ("described", "released"):
        trials = [plan_trial(probe_layer=3, protocol=protocol, seed=seed) for seed in range(2)]
        one, other = (run([trial], tiny_glue)[0] for trial in trials)
        assert one["loss_curve"] != other["loss_curve"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"seed": 1}),
        ({}, {"train_size": 8}),
        ({}, {"task": "sst2"}),
        ({}, {"max_length": 32}),
        ({}, {"protocol": "released"}),
        ({"protocol": "released"}, {"protocol": "released", "epochs": 2}),
        ({"protocol": "released"}, {"protocol": PLAIN_HEAD}),
    ],
)
def test_probes_of_several_groups_are_not_run_together(one, other, plan_trial, tiny_glue):
    trials = [plan_trial(probe_layer=2, **changes) for changes in (one, other)]
    with pytest.raises(InvalidValue, match="these probes do not share .*; run them in groups"):
        probe.probe(trials, data_dir=tiny_glue)


@pytest.mark.parametrize("protocol", ["described", "released"])
def test_a_probe_of_other_weights_or_data_is_not_run(protocol, plan_trial, tiny_glue):
    for stale, sentence in (("weights", "the weights of .*"), ("data", "the data of 'cola' are .*")):
        with pytest.raises(InvalidValue, match=f"{sentence} plan the trial again"):
            run([plan_trial(probe_layer=2, protocol=protocol, **{stale: "0" * 16})], tiny_glue)


# --- sweeps ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def sweep_over(store, tiny_glue):
    def go(trials):
        return sweep.run(trials, store, data_dir=tiny_glue, executor="local", progress=False)

    return go


@pytest.fixture
def asked(monkeypatch) -> list[list]:
    """The groups that are run, in order."""
    real, groups = probe.probe, []

    def spy(trials, **options):
        groups.append(list(trials))
        return real(trials, **options)

    monkeypatch.setattr(probe, "probe", spy)
    return groups


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("protocol", ["described", "released", PLAIN_HEAD])
def test_on_a_gpu_networks_and_heads_run_there_and_say_nearly_the_same(
    protocol, lively, plan_trial, tiny_glue, monkeypatch
):
    trials = [plan_trial(model=lively, probe_layer=k, protocol=protocol) for k in range(DEPTH + 1)]
    torch.cuda.reset_peak_memory_stats()
    probe._dev_features.cache_clear()
    there = run(trials, tiny_glue)
    assert torch.cuda.max_memory_allocated() > 0
    assert next(models.load(lively).network.parameters()).device.type == "cpu"  # the loaded one stays
    probe._dev_features.cache_clear()
    monkeypatch.setattr(probe, "device", lambda: torch.device("cpu"))
    for one, other in zip(there, run(trials, tiny_glue), strict=True):
        assert one["loss_curve"] == pytest.approx(other["loss_curve"], abs=1e-2)


def ending_after(outcomes: int, error: BaseException):
    """A ``probe`` that raises after so many outcomes."""
    real = probe.probe

    def ends(trials, **options):
        for i, outcome in enumerate(real(trials, **options)):
            if i == outcomes:
                raise error
            yield outcome

    return ends


def test_probes_that_share_features_are_one_group_and_fine_tunings_are_alone(plan_trial):
    layers = range(DEPTH + 1)
    first, second = ([plan_trial(probe_layer=k, seed=s) for k in layers] for s in range(2))
    others = [plan_trial(probe_layer=k, pooling="mean", control=c) for k in layers for c in (False, True)]
    heads = [plan_trial(probe_layer=k, protocol="released") for k in layers]
    longer = [plan_trial(probe_layer=1, protocol="released", epochs=40)]
    tuned = [plan_trial(), plan_trial(reinitialized=(3,))]
    mixed = [tuned[0], *first, *heads, *second, tuned[1], *longer, *others]
    assert sweep.groups(mixed) == [[tuned[0]], [*first, *others], heads, second, [tuned[1]], longer]
    assert sweep.groups([]) == []


def test_a_sweep_of_probes_stores_every_trial_and_a_second_one_runs_none(
    sweep_over, store, asked, plan_trial, tiny_glue
):
    probes = [plan_trial(probe_layer=k, protocol=p) for k in (1, 3) for p in ("described", "released")]
    report = sweep_over([*probes, plan_trial(), probes[0]])
    assert (report.ran, report.reused, report.failed) == (5, 0, 0)
    assert asked == [probes[::2], probes[1::2]]
    for trial, outcome in zip(probes[::2], run(probes[::2], tiny_glue), strict=True):
        stored = store.get(trial).outcome
        assert {name: stored[name] for name in outcome} == {**outcome, "loss_curve": list(outcome["loss_curve"])}
    asked.clear()
    again = sweep_over(probes)
    assert (again.ran, again.reused, again.failed) == (0, 4, 0)
    assert asked == []


def test_of_a_group_only_what_is_missing_is_run(sweep_over, store, asked, plan_trial, tiny_glue):
    trials = [plan_trial(probe_layer=k) for k in range(DEPTH + 1)]
    for trial in trials[1:3]:
        store.put(result_of(trial, score=0.123))
    report = sweep_over(trials)
    assert (report.ran, report.reused, report.failed) == (3, 2, 0)
    assert asked == [[trials[0], *trials[3:]]]
    assert [store.get(trial).outcome["score"] for trial in trials[1:3]] == [0.123, 0.123]
    asked.clear()
    assert sweep.run_trial(trials[1], store, data_dir=tiny_glue).outcome["score"] == 0.123
    assert asked == []


def test_a_group_that_breaks_off_keeps_what_it_stored_and_the_rest_is_tried_again_alone(
    sweep_over, store, plan_trial, monkeypatch
):
    trials, other = [plan_trial(probe_layer=k) for k in range(DEPTH + 1)], plan_trial(probe_layer=1, seed=1)
    calls, real = [], probe.probe
    breaking = ending_after(2, RuntimeError("out of luck"))

    def once(group, **options):
        calls.append(list(group))
        return (breaking if len(calls) == 1 else real)(group, **options)

    monkeypatch.setattr(probe, "probe", once)
    report = sweep_over([*trials, other])
    assert (report.ran, report.reused, report.failed) == (6, 0, 0)
    assert calls == [trials, [other], *([trial] for trial in trials[2:])]
    assert all(store.get(trial) and store.failure(trial) is None for trial in (*trials, other))


def test_an_interrupted_group_keeps_what_it_stored_and_notes_no_failure(sweep_over, store, plan_trial, monkeypatch):
    trials = [plan_trial(probe_layer=k) for k in range(DEPTH + 1)]
    monkeypatch.setattr(probe, "probe", ending_after(2, KeyboardInterrupt()))
    with pytest.raises(Interrupted, match="stopped with 2 of 5 trials stored; run the same command again to go on"):
        sweep_over(trials)
    assert [store.get(trial) is not None for trial in trials] == [True, True, False, False, False]
    assert not (store.folder / "failed").exists()


def test_texts_of_both_splits_are_cut_to_the_trials_length(plan_trial, tiny_glue, monkeypatch):
    real, longest = probe.features, []
    monkeypatch.setattr(
        probe, "features", lambda base, texts: longest.append(int(texts.lengths.max())) or real(base, texts)
    )
    probe._dev_features.cache_clear()
    run([plan_trial(probe_layer=2, max_length=5)], tiny_glue)
    assert longest == [5, 5]
