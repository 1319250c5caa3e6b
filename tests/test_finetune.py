"""One fine-tuning trial against an independent loop, its repeatability, and a loss that is not finite."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import math

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import DEV, TRAIN, bert_config, result_of, save_model
from safetensors.torch import load_file, save_file
from sklearn.metrics import matthews_corrcoef
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer

from companion import finetune, linear, models, provenance, tasks
from companion.errors import InvalidValue
from companion.finetune import Classifier, Texts
from companion.seeds import stream


def generator(seed: int, name: str) -> torch.Generator:
    """A stream of a seed, from its description: the first 8 bytes of SHA-256 of "seed/name", halved."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") // 2)


def padded(tokenizer, columns: list[list[str]], length: int = 64) -> dict[str, torch.Tensor]:
    return dict(tokenizer(*columns, padding="max_length", truncation=True, max_length=length, return_tensors="pt"))


def plain_loop(trial, folder, texts: list[str], change=None, factors=None) -> tuple[list[float], np.ndarray]:
    """Losses and dev predictions of a trial without dropout, everything done the long way round: all texts padded to
    64 tokens, the whole embedding table, PyTorch's plain AdamW. ``factors`` multiplies the learning rate of each layer
    (by number) and of all else ("others")."""
    network = AutoModel.from_pretrained(trial.model)
    if change:
        change(network)
    tokenizer = AutoTokenizer.from_pretrained(trial.model)
    train, dev = (
        pd.read_parquet(folder / trial.task / f"{split}-00000-of-00001.parquet") for split in ("train", "validation")
    )
    chosen = train.iloc[torch.randperm(len(train), generator=generator(trial.seed, "subset"))[: trial.train_size]]
    head = torch.nn.Linear(network.config.hidden_size, 2)
    with torch.no_grad():
        head.weight.normal_(0, network.config.initializer_range, generator=generator(trial.seed, "head"))
        head.bias.zero_()
    parameters = [*network.parameters(), *head.parameters()]
    groups = [{"params": list(network.encoder.layer[i].parameters()), "factor": f} for i, f in (factors or {}).items()
              if i != "others"]  # fmt: skip
    apart = {id(p) for group in groups for p in group["params"]}
    others = [p for p in parameters if id(p) not in apart]
    groups.append({"params": others, "factor": (factors or {"others": 1})["others"]})
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, foreach=False)
    order, losses = generator(trial.seed, "order"), []
    steps = math.ceil(len(chosen) / trial.batch_size) * trial.epochs
    for _ in range(trial.epochs):
        for rows in torch.randperm(len(chosen), generator=order).split(trial.batch_size):
            for group in optimizer.param_groups:
                group["lr"] = trial.learning_rate * group["factor"] * (1 - len(losses) / steps)
            batch = chosen.iloc[rows.tolist()]
            logits = head(network(**padded(tokenizer, [list(batch[t]) for t in texts])).pooler_output)
            loss = F.cross_entropy(logits, torch.tensor(batch["label"].to_numpy()))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            losses.append(loss.item())
    with torch.no_grad():
        logits = head(network.eval()(**padded(tokenizer, [list(dev[t]) for t in texts])).pooler_output)
    return losses, logits.argmax(-1).numpy()


def agree(trial, folder, texts, change=None, factors=None):
    outcome = finetune.finetune(trial, data_dir=folder)
    losses, predictions = plain_loop(trial, folder, texts, change, factors)
    labels = pd.read_parquet(folder / trial.task / "validation-00000-of-00001.parquet")["label"]
    score = (predictions == labels).mean() if outcome.metric == "accuracy" else matthews_corrcoef(labels, predictions)
    assert outcome.loss_curve == pytest.approx(losses, abs=2e-4)
    assert outcome.steps == len(losses)
    assert outcome.score == pytest.approx(score)
    assert outcome.majority_share == max(predictions.mean(), 1 - predictions.mean())
    assert outcome.majority_share < 1
    return losses


@pytest.fixture(scope="module")
def lively(tmp_path_factory) -> str:
    """Its initializer is wide, so that the classifier's start already tells texts apart."""
    return save_model(tmp_path_factory.mktemp("models") / "lively", bert_config(initializer_range=0.2))


def test_intact_trial_agrees_with_the_plain_loop(lively, plan_trial, tiny_glue):
    # 36 examples: the last batch of each epoch is a short one
    trial = plan_trial(model=lively, train_size=36, epochs=4, seed=2)
    losses = agree(trial, tiny_glue, ["sentence"])
    assert len(losses) == 20
    assert losses[-1] < losses[0]


def test_pair_task_agrees_with_the_plain_loop(lively, plan_trial, tiny_glue):
    agree(plan_trial(model=lively, task="qnli", train_size=40, epochs=4), tiny_glue, ["question", "sentence"])


def test_reinitialized_and_permuted_trial_agrees_with_the_plain_loop(lively, plan_trial, tiny_glue):
    """The released protocol on position 1 of a permuted stack, its values taken from the named stream."""

    def change(network):
        network.encoder.layer = torch.nn.ModuleList(network.encoder.layer[i] for i in (2, 0, 3, 1))
        drawn, sigma = generator(7, "reinitialize"), network.config.initializer_range
        with torch.no_grad():
            for name, parameter in network.encoder.layer[1].named_parameters():
                if "LayerNorm" in name:
                    parameter.fill_(float(name.endswith("weight")))
                elif name.endswith("weight"):
                    bound = 2 * sigma**2
                    torch.nn.init.trunc_normal_(parameter, std=sigma, a=-bound, b=bound, generator=drawn)

    order, size = (2, 0, 3, 1), {"train_size": 40, "epochs": 4}
    trial = plan_trial(model=lively, reinitialized=(1,), permutation=order, protocol="released", seed=7, **size)
    agree(trial, tiny_glue, ["sentence"], change)


@pytest.mark.skipif(not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="this PyTorch is without oneDNN")
def test_a_trial_by_onednn_agrees_with_the_plain_loop(lively, plan_trial, tiny_glue, monkeypatch):
    monkeypatch.setattr(linear, "ENOUGH", 0)
    monkeypatch.setattr(linear, "onednn_is_faster", lambda: True)
    agree(plan_trial(model=lively, train_size=36, epochs=4, seed=2), tiny_glue, ["sentence"])


# --- precision -------------------------------------------------------------------------------------------------------


def test_bf16_rounds_matrix_products_and_nothing_that_is_kept(lively, plan_trial, tiny_glue, monkeypatch):
    seen, really = set(), finetune.pooled

    def watched(network, batch):
        vectors = really(network, batch)
        weights = {parameter.dtype for parameter in network.parameters()}
        seen.add((torch.is_grad_enabled(), vectors.dtype, *weights))
        return vectors

    monkeypatch.setattr(finetune, "pooled", watched)
    trial = plan_trial(model=lively, train_size=40, epochs=4, precision="bf16")
    found = finetune.finetune(trial, data_dir=tiny_glue)
    assert seen == {(training, torch.bfloat16, torch.float32) for training in (True, False)}
    seen.clear()
    single = finetune.finetune(dataclasses.replace(trial, precision="fp32"), data_dir=tiny_glue)
    assert seen == {(training, torch.float32, torch.float32) for training in (True, False)}
    assert found.loss_curve != single.loss_curve
    # Weights that are rounded once and then reused would stay where they were: the loss falls by more than this.
    assert found.loss_curve == pytest.approx(single.loss_curve, abs=0.05)
    assert single.loss_curve[0] - single.loss_curve[-1] > 0.2


def test_pocket_bert_learns_an_easy_task_in_bf16(plan_trial):
    trial = plan_trial(model="pocket-bert", task="pocket-sst2", train_size=100, epochs=4, precision="bf16")
    assert finetune.finetune(dataclasses.replace(trial, learning_rate=3e-4, batch_size=16)).score > 0.9


# --- another learning rate for redrawn layers -----------------------------------------------------------------------


def redraw(*layers: int, seed: int = 0):
    """A change of a network: the described protocol's new weights of these layers, from their own named streams."""

    def change(network):
        sigma = network.config.initializer_range
        for index in layers:
            drawn = generator(seed, f"reinitialize/{index}")
            for name, parameter in network.encoder.layer[index].named_parameters():
                with torch.no_grad():
                    parameter.fill_(float("LayerNorm" in name and name.endswith("weight")))
                if "LayerNorm" not in name and name.endswith("weight"):
                    torch.nn.init.trunc_normal_(parameter, std=sigma, a=-2 * sigma, b=2 * sigma, generator=drawn)

    return change


def ready(trial) -> Classifier:
    """The trial's classifier before its first step."""
    base = models.load(trial.model)
    network = copy.deepcopy(base.network)
    finetune.intervene(network, trial, base.sigma)
    return Classifier(network, stream(trial.seed, "head"), base.sigma)


def factors_by_name(trial) -> dict[str, list[float]]:
    """Each parameter's learning rates over the trial's own: one for each group that the parameter is in."""
    classifier = ready(trial)
    found = {name: [] for name, _ in classifier.named_parameters()}
    name_of = {id(parameter): name for name, parameter in classifier.named_parameters()}
    for group in finetune.parameter_groups(classifier, trial):
        for parameter in group["params"]:
            found[name_of[id(parameter)]].append(group["lr"] / trial.learning_rate)
    return found


def by_layer(found: dict[str, list[float]]) -> dict[str, list[float]]:
    """The rates that all parameters of a layer share, those of all others under "others"."""
    places = {name: name.split(".")[3] if ".layer." in name else "others" for name in found}
    shared = {place: [rates for name, rates in found.items() if places[name] == place] for place in places.values()}
    assert all(each == rates[0] for rates in shared.values() for each in rates)
    return {place: [pytest.approx(rate) for rate in rates[0]] for place, rates in shared.items()}


def test_redrawn_layers_alone_learn_at_another_rate(plan_trial):
    found = factors_by_name(plan_trial(reinitialized=(1, 3), random_rate=5.0))
    assert by_layer(found) == {"0": [1], "1": [5], "2": [1], "3": [5], "others": [1]}
    assert {name.split(".")[1] for name in found} >= {"embeddings", "encoder", "pooler", "weight", "bias"}


def test_rates_follow_positions_of_a_permuted_stack(plan_trial):
    trial = plan_trial(reinitialized=(1,), permutation=(3, 2, 1, 0), random_rate=0.5)
    assert by_layer(factors_by_name(trial)) == {"0": [1], "1": [0.5], "2": [1], "3": [1], "others": [1]}


@pytest.mark.parametrize(
    ("protocol", "rates"),
    [
        ("released", {"0": [2.5], "1": [2.5], "2": [5], "3": [], "others": [2.5]}),
        ("described+others_rate=2.5", {"0": [2.5], "1": [2.5], "2": [5], "3": [5], "others": [2.5]}),
        ("described+last_layer_learns=false", {"0": [1], "1": [1], "2": [5], "3": [], "others": [1]}),
    ],
)
def test_the_scripts_rates_are_fields_of_the_protocol(protocol, rates, plan_trial):
    trial = plan_trial(reinitialized=(2, 3), random_rate=5.0, protocol=protocol)
    assert by_layer(factors_by_name(trial)) == rates


@pytest.mark.parametrize("protocol", ["described", "released"])
def test_one_rate_is_one_group_of_everything(protocol, plan_trial):
    trial = plan_trial(reinitialized=(2, 3), protocol=protocol)
    assert set(map(tuple, factors_by_name(trial).values())) == {(1.0,)}


@pytest.mark.parametrize("redrawn", [(2, 3), (3,)], ids=str)
def test_the_released_last_layer_never_moves_at_another_rate(redrawn, lively, plan_trial, tiny_glue):
    trial = plan_trial(model=lively, reinitialized=redrawn, random_rate=5.0, protocol="released", epochs=2)
    classifier, (_, base, train, _) = ready(trial), finetune.prepare(trial, tiny_glue)
    before = {name: weight.clone() for name, weight in classifier.state_dict().items()}
    finetune.train_epochs(classifier, train, trial, base.tokenizer.pad_token_id)
    moved = {name for name, weight in classifier.state_dict().items() if not torch.equal(weight, before[name])}
    assert not [name for name in moved if ".layer.3." in name]
    assert moved >= {f"encoder.encoder.layer.{i}.output.dense.weight" for i in range(3)}
    assert moved >= {"head.weight", "encoder.pooler.dense.weight", "encoder.embeddings.word_embeddings.weight"}


def test_two_rates_agree_with_the_plain_loop(lively, plan_trial, tiny_glue):
    rates = {"random_rate": 5.0, "learning_rate": 3e-4}
    trial = plan_trial(model=lively, reinitialized=(1, 3), train_size=36, epochs=4, **rates)
    losses = agree(trial, tiny_glue, ["sentence"], redraw(1, 3), {1: 5, 3: 5, "others": 1})
    same_rate, _ = plain_loop(trial, tiny_glue, ["sentence"], redraw(1, 3))
    assert losses != pytest.approx(same_rate, abs=5e-3)


def test_the_gradient_of_a_layer_that_never_moves_counts_once_in_clipping(lively, plan_trial, tiny_glue):
    name = "described+others_rate=2.5+last_layer_learns=false"
    trial = plan_trial(model=lively, reinitialized=(2,), random_rate=5.0, protocol=name, train_size=36, epochs=4)
    agree(trial, tiny_glue, ["sentence"], redraw(2), {2: 5, 3: 0, "others": 2.5})


# --- repeatability --------------------------------------------------------------------------------------------------

WHAT_REPEATS = ("score", "loss_curve", "majority_share", "diverged", "steps", "failure")


@pytest.fixture(scope="module")
def with_dropout(tmp_path_factory) -> str:
    config = bert_config(hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)
    return save_model(tmp_path_factory.mktemp("models") / "dropout", config)


def test_rerun_is_bit_identical_with_dropout(with_dropout, plan_trial, tiny_glue):
    trial = plan_trial(model=with_dropout, epochs=3, reinitialized=(3,))
    one = finetune.finetune(trial, data_dir=tiny_glue)
    torch.rand(7)  # what else was drawn in the process must not matter
    other = finetune.finetune(trial, data_dir=tiny_glue)
    for name in WHAT_REPEATS:
        assert getattr(one, name) == getattr(other, name)


def test_a_trial_leaves_the_loaded_model_as_it_was(with_dropout, plan_trial, tiny_glue):
    before = {k: v.clone() for k, v in models.load(with_dropout).network.state_dict().items()}
    finetune.finetune(plan_trial(model=with_dropout, permutation=(3, 2, 1, 0)), data_dir=tiny_glue)
    after = models.load(with_dropout).network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_seeds_differ(with_dropout, plan_trial, tiny_glue):
    curves = {finetune.finetune(plan_trial(model=with_dropout, seed=s), data_dir=tiny_glue).loss_curve for s in (0, 1)}
    assert len(curves) == 2


# --- what is left out because it cannot matter ---------------------------------------------------------------------


def some_texts(folder: str) -> tuple[models.Encoder, Texts]:
    base, data = models.load(folder), tasks.load("pocket-cola")
    return base, finetune.tokenize(base, data.task, data.dev.select(range(40)), 64)


def test_keeping_used_embeddings_changes_no_output(tiny_bert):
    base, texts = some_texts(tiny_bert)
    small, (fewer,) = finetune.copy_with_used_embeddings(base.network, base.tokenizer.pad_token_id, texts)
    rows = np.arange(40)
    outputs = []
    for network, split in ((base.network, texts), (small, fewer)):
        batch, _ = finetune.collate(split, rows, base.tokenizer.pad_token_id, torch.device("cpu"))
        with torch.no_grad():
            outputs.append(network(**batch.padded()).last_hidden_state)
    assert torch.equal(*outputs)
    assert len(small.get_input_embeddings().weight) < len(base.network.get_input_embeddings().weight)


def test_padding_rows_keep_their_number(tiny_bert):
    """Also where the network's padding row is not the tokenizer's."""
    base, texts = some_texts(tiny_bert)
    network = copy.deepcopy(base.network)
    network.get_input_embeddings().padding_idx = 3
    small, (fewer,) = finetune.copy_with_used_embeddings(network, 1, texts)
    table = small.get_input_embeddings()
    assert table.padding_idx == 3
    assert torch.equal(table.weight[:4], base.network.get_input_embeddings().weight[:4])
    assert fewer.inputs["input_ids"].max() == len(table.weight) - 1


def test_predictions_do_not_depend_on_the_batch(tiny_bert, monkeypatch):
    base, texts = some_texts(tiny_bert)
    classifier = Classifier(copy.deepcopy(base.network), stream(0, "head"), 5.0).eval()
    pad = base.tokenizer.pad_token_id
    with torch.no_grad():  # in the middle of its range, so that both classes occur
        logits = classifier(finetune.collate(texts, np.arange(len(texts)), pad, torch.device("cpu"))[0])
        classifier.head.bias.sub_(logits.mean(0))
    together = finetune.predict(classifier, texts, pad)
    assert 0.2 < together.mean() < 0.8
    monkeypatch.setattr(finetune, "EVALUATION_TOKENS", 1)
    assert np.array_equal(finetune.predict(classifier, texts, pad), together)


def test_a_batch_holds_the_asked_texts_end_to_end():
    ids, types = np.array([2, 7, 3, 2, 3, 2, 7, 8, 9, 3]), np.array([0, 0, 1, 0, 1, 0, 0, 0, 0, 0])
    texts = Texts({"input_ids": ids, "token_type_ids": types}, np.array([3, 2, 5]), np.array([1, 0, 1]))
    batch, labels = finetune.collate(texts, np.array([1, 0]), 5, torch.device("cpu"))
    assert batch.inputs["input_ids"].tolist() == [2, 3, 2, 7, 3]
    assert batch.inputs["token_type_ids"].tolist() == [0, 1, 0, 0, 1]
    assert batch.lengths.tolist() == [2, 3]
    assert labels.tolist() == [0, 1]


def test_batches_by_length_hold_every_text_once():
    lengths = np.array([5, 2, 9, 2, 5, 5])
    batches = finetune.by_length(lengths, 10)
    assert [lengths[batch].tolist() for batch in batches] == [[2, 2, 5], [5, 5], [9]]
    assert sorted(np.concatenate(batches)) == list(range(6))


def test_texts_are_cut_to_the_shortest_of_all_limits(tiny_bert):
    base = models.load(tiny_bert)
    data = tasks.load("pocket-qnli")
    for asked, longest in ((8, 8), (500, min(64, base.tokenizer.model_max_length))):
        texts = finetune.tokenize(base, data.task, data.dev.select(range(20)), asked)
        assert texts.lengths.max() <= longest
    assert set(texts.inputs) == {"input_ids", "token_type_ids"}
    assert set(texts.inputs["token_type_ids"]) == {0, 1}


def test_texts_are_those_that_the_tokenizer_gives_one_by_one(tiny_bert, monkeypatch):
    base, data = models.load(tiny_bert), tasks.load("pocket-qnli")
    rows = data.dev.select(range(7))
    monkeypatch.setattr(finetune, "TOKENIZED_AT_ONCE", 3)
    texts = finetune.tokenize(base, data.task, rows, 64)
    for i, row in enumerate(rows):
        alone = base.tokenizer(row["question"], row["sentence"])
        for name, values in texts.inputs.items():
            assert values[texts.places(np.array([i]))].tolist() == alone[name]
    assert texts.labels.tolist() == rows["label"][:]


# --- a loss that is not finite --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def poisoned(tiny_bert, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("models") / "poisoned"
    models.load(tiny_bert).tokenizer.save_pretrained(folder)
    models.load(tiny_bert).network.save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.1.output.dense.weight"][0, 0] = math.inf
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


def test_loss_that_is_not_finite_is_recorded_as_diverged(poisoned, plan_trial, tiny_glue, tmp_path):
    from companion import table
    from companion.store import Store
    from companion.sweep import run_trial

    trial, store = plan_trial(model=poisoned, epochs=2), Store(tmp_path / "store")
    run_trial(trial, store, data_dir=tiny_glue)
    outcome = store.get(trial).outcome
    assert outcome["diverged"] is True
    assert outcome["failure"] == "the loss was not finite at step 1"
    assert outcome["loss_curve"] == [None]
    assert outcome["score"] == 0.0
    row = table.tidy([store.get(trial)], experiment="progressive", profile="p").iloc[0]
    assert row["diverged"]
    assert math.isnan(row["final_loss"])


def test_redrawing_the_poisoned_layer_mends_the_trial(poisoned, plan_trial, tiny_glue):
    outcome = finetune.finetune(plan_trial(model=poisoned, reinitialized=(1,)), data_dir=tiny_glue)
    assert outcome.failure == ""
    assert all(math.isfinite(loss) for loss in outcome.loss_curve)


def test_predicting_one_class_alone_counts_as_diverged(tiny_bert, plan_trial, tiny_glue):
    outcome = finetune.finetune(plan_trial(learning_rate=1e-9), data_dir=tiny_glue)
    assert outcome.majority_share == 1.0
    assert outcome.diverged
    assert outcome.failure == ""


# --- bookkeeping ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [[0.0, math.inf], [1.0, math.nan], [-math.inf, 1.0]])
def test_a_logit_that_is_not_finite_counts_as_class_0(bias, tiny_bert):
    base, texts = some_texts(tiny_bert)
    classifier = Classifier(copy.deepcopy(base.network), generator(0, "head"), 0.02)
    with torch.no_grad():
        classifier.head.bias.copy_(torch.tensor(bias))
    assert not finetune.predict(classifier, texts, base.tokenizer.pad_token_id).any()


def test_loss_curve_is_the_mean_of_twenty_stretches():
    assert finetune._summary([1.0, 2.0, 3.0]) == (1.0, 2.0, 3.0)
    curve = finetune._summary([float(i) for i in range(40)])
    assert curve == tuple(2 * i + 0.5 for i in range(20))
    assert finetune._summary([1.0, math.nan]) == (1.0, None)


def test_outcome_of_a_trial_is_plausible(plan_trial, tiny_glue):
    outcome = finetune.finetune(plan_trial(train_size=TRAIN, task="sst2"), data_dir=tiny_glue)
    assert outcome.metric == "accuracy"
    assert outcome.score * DEV == pytest.approx(round(outcome.score * DEV))
    assert outcome.steps == 6
    assert outcome.seconds > 0
    assert outcome.examples_per_second > 0
    assert outcome.peak_memory_mb > (50 if finetune.device().type == "cpu" else 1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_trial_on_a_gpu_says_nearly_what_it_says_on_a_processor(lively, plan_trial, tiny_glue, monkeypatch):
    trial = plan_trial(model=lively, train_size=24, epochs=2, reinitialized=(2, 3))
    torch.cuda.reset_peak_memory_stats()
    there = finetune.finetune(trial, data_dir=tiny_glue)
    assert torch.cuda.max_memory_allocated() > 0
    monkeypatch.setattr(finetune, "device", lambda: torch.device("cpu"))
    here = finetune.finetune(trial, data_dir=tiny_glue)
    assert there.loss_curve == pytest.approx(here.loss_curve, abs=1e-2)


@pytest.mark.parametrize("change", [{}, {"probe_layer": 2, "protocol": "released"}], ids=["fine-tuning", "probe"])
def test_examples_per_second_count_the_examples_of_a_smaller_last_batch(change, plan_trial, tiny_glue):
    from companion import probe

    trial = plan_trial(train_size=9, batch_size=8, epochs=2, **change)
    run = probe.probe([trial], data_dir=tiny_glue) if change else [finetune.finetune(trial, data_dir=tiny_glue)]
    (outcome,) = run
    assert outcome.steps == 4
    assert outcome.examples_per_second * outcome.seconds == pytest.approx(2 * 9, rel=0.1)
    assert [finetune.examples_in(steps, trial) for steps in range(5)] == [0, 8, 9, 17, 18]


def test_peak_memory_is_in_megabytes_on_every_system(monkeypatch):
    here = provenance.peak_resident_mb()
    assert 50 < here < 50_000
    monkeypatch.setattr("sys.platform", "darwin")  # which counts in bytes
    assert provenance.peak_resident_mb() == pytest.approx(here / 1024, rel=0.1)


def test_a_trial_of_other_weights_or_data_is_not_run(plan_trial, tiny_glue):
    with pytest.raises(InvalidValue, match="the weights of .* plan the trial again"):
        finetune.finetune(plan_trial(weights="0" * 16), data_dir=tiny_glue)
    with pytest.raises(InvalidValue, match="the data of 'cola' are .* plan the trial again"):
        finetune.finetune(plan_trial(data="0" * 16), data_dir=tiny_glue)


def test_more_examples_than_there_are_is_an_error(plan_trial, tiny_glue):
    with pytest.raises(
        InvalidValue, match=f"train size {TRAIN + 1} is not possible for 'cola'; choose from 1 to {TRAIN}"
    ):
        finetune.finetune(plan_trial(train_size=TRAIN + 1), data_dir=tiny_glue)


def test_results_can_be_tabulated(plan_trial):
    from companion import table

    trials = [
        plan_trial(),
        plan_trial(reinitialized=(1, 2, 3), protocol="released"),
        plan_trial(permutation=(3, 2, 1, 0)),
    ]
    rows = table.tidy(map(result_of, trials), experiment="progressive", profile="p")
    assert list(rows.columns) == list(table.COLUMNS)
    assert rows["kind"].tolist() == ["intact", "suffix", "permuted"]
    assert rows["reinitialized"].tolist() == ["", "1-3", ""]
    assert rows["permutation"].tolist() == ["", "", "3,2,1,0"]
    assert rows["preserved_layers"].tolist() == [4, 1, 4]
    assert rows["protocol"].tolist() == ["described", "released", "described"]
    assert rows["final_loss"].tolist() == [0.5] * 3
    assert len(table.tidy([], experiment="e", profile="p")) == 0


# --- dropout ---------------------------------------------------------------------------------------------------------


def test_dropout_is_on_in_every_step_and_off_in_the_evaluation(with_dropout, plan_trial, tiny_glue, monkeypatch):
    real, training = Classifier.forward, []

    def spy(classifier, batch):
        training.append({module.training for module in classifier.modules()})
        return real(classifier, batch)

    monkeypatch.setattr(Classifier, "forward", spy)
    steps = finetune.finetune(plan_trial(model=with_dropout, epochs=2), data_dir=tiny_glue).steps
    assert training == [{True}] * steps + [{False}] * (len(training) - steps)
    assert len(training) > steps == 4


def test_the_classifier_reads_a_pooled_token_with_dropout(tiny_bert, with_dropout):
    base, texts = some_texts(tiny_bert)
    assert Classifier(models.load(with_dropout).network, stream(0, "head"), 1.0).dropout.p == 0.1
    classifier = Classifier(copy.deepcopy(base.network), stream(0, "head"), 1.0)
    classifier.dropout.p = 1.0  # nothing passes, so that the bias alone is left, which starts at zero
    batch, _ = finetune.collate(texts, np.arange(4), base.tokenizer.pad_token_id, torch.device("cpu"))
    with torch.no_grad():
        assert not classifier.train()(batch).any()
        assert classifier.eval()(batch).all()


@pytest.mark.parametrize("seed", [0, 3])
def test_dropout_draws_from_the_trials_own_stream(seed, plan_trial):
    with finetune.own_dropout(plan_trial(seed=seed)):
        assert torch.equal(torch.rand(5), torch.rand(5, generator=generator(seed, "dropout")))


# --- what a trial says reaches the network ---------------------------------------------------------------------------


def test_norms_of_redrawn_layers_are_kept_where_the_trial_says_so(plan_trial):
    trial = plan_trial(reinitialized=(1,), keep_layernorm=True)
    before, after = models.load(trial.model).network.state_dict(), ready(trial).encoder.state_dict()
    redrawn = [name for name in before if ".layer.1." in name]
    kept = [name for name in redrawn if torch.equal(before[name], after[name])]
    assert kept == [name for name in redrawn if "LayerNorm" in name]
    assert len(kept) == 4


def test_both_splits_are_cut_to_the_trials_length(plan_trial, tiny_glue):
    _, _, *splits = finetune.prepare(plan_trial(max_length=5), tiny_glue)
    assert [split.lengths.max() for split in splits] == [5, 5]


@pytest.mark.parametrize(("task", "own"), [("cola", 2), ("qnli", 3)])
def test_a_length_without_room_for_a_word_is_an_error(task, own, plan_trial, tiny_glue):
    with pytest.raises(InvalidValue, match=f"max length {own} leaves no room for a word; give more than {own}"):
        finetune.prepare(plan_trial(task=task, max_length=own), tiny_glue)
    finetune.prepare(plan_trial(task=task, max_length=own + 1), tiny_glue)


def test_a_loss_that_is_not_finite_is_divergence_whatever_is_predicted():
    task, classes = tasks.task("cola"), np.array([0, 1, 1, 0])
    found = finetune.outcome(task, classes, classes, [0.7, math.inf], 16, 1.0)
    assert (found.diverged, found.majority_share, found.score) == (True, 0.5, 1.0)
    assert found.failure == "the loss was not finite at step 2"
    assert not finetune.outcome(task, classes, classes, [0.7, 0.6], 16, 1.0).diverged
