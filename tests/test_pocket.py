"""The generated fragment: labels against rules read off the sentences alone; and the model pretrained on it."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import ROOT, needs_pocket
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from companion import finetune, models, table, tasks
from companion.cli import main
from companion.errors import InvalidValue, ModelUnavailable
from companion.paths import BUILD
from companion.pocket import corpus, generate, lexicon, pretrain
from companion.trial import Trial

TASKS = tuple(generate.GENERATORS)
FULL = lexicon.FULL


@pytest.fixture(scope="module")
def data() -> dict[str, tuple[list[dict], list[dict]]]:
    return {name: generate.examples(name) for name in TASKS}


def text_of(example: dict) -> tuple[str, ...]:
    return tuple(value for key, value in example.items() if key not in ("label", "idx"))


# --- the three tasks as data sets -----------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_examples_are_balanced_numbered_and_never_repeated(task, data):
    train, dev = data[task]
    assert (len(train), len(dev)) == (8000, 1000)
    for split in (train, dev):
        assert Counter(e["label"] for e in split) == {0: len(split) / 2, 1: len(split) / 2}
        assert [e["idx"] for e in split] == list(range(len(split)))
    assert len({text_of(e) for e in train + dev}) == len(train) + len(dev)


@pytest.mark.parametrize("task", TASKS)
def test_examples_are_a_function_of_the_pool_alone(task, data):
    assert generate.examples(task) == data[task]
    other = {text_of(e) for e in generate.examples(task, "tuning")[1]}
    assert len(other & {text_of(e) for e in data[task][1]}) < 200


@pytest.mark.parametrize("task", TASKS)
def test_columns_are_those_of_the_namesake_on_the_hub(task, data):
    texts = ["question", "sentence"] if task == "pocket-qnli" else ["sentence"]
    assert list(data[task][0][0]) == [*texts, "label", "idx"]
    assert tasks.task(task).texts == tuple(texts)
    assert tasks.task(task).metric == tasks.task(task.removeprefix("pocket-")).metric


@pytest.mark.parametrize("task", TASKS)
def test_every_word_is_in_the_vocabulary(task, data):
    known = set(lexicon.vocabulary())
    used = {word for split in data[task] for e in split for text in text_of(e) for word in text.split()}
    assert used <= known


def test_dev_uses_words_that_no_training_example_has(data):
    for task in TASKS:
        train, dev = ({w for e in split for t in text_of(e) for w in t.split()} for split in data[task])
        assert len(dev - train) > 10
    train, dev = ({w for e in split for w in e["sentence"].split()} for split in data["pocket-sst2"])
    polar = {*FULL.positive, *FULL.negative}
    assert dev & polar
    assert not train & dev & polar


# --- labels, read off the sentences ---------------------------------------------------------------------------------

GOOD, BAD = set(FULL.positive), set(FULL.negative)


def polarity(clause: str) -> int:
    """1 if the clause says something good, 0 if bad: its adjective's polarity, turned round by a negation."""
    words = clause.split()
    (adjective,) = [w for w in words if w in GOOD | BAD]
    negated = bool({"not", "never", "nobody"} & set(words)) or "anything but" in clause or "far from" in clause
    return int((adjective in GOOD) != negated)


def test_sentiment_is_that_of_the_clause_about_the_work(data):
    for example in (e for split in data["pocket-sst2"] for e in split):
        clauses = re.split(r" , but | , although | , ", example["sentence"].removesuffix(" ."))
        (verdict,) = [c for c in clauses if "its " not in c]
        assert polarity(verdict) == example["label"], example["sentence"]


def test_concessions_and_negations_are_common(data):
    sentences = [e["sentence"] for e in data["pocket-sst2"][1]]
    assert np.mean(["although" in s or ", but" in s for s in sentences]) > 0.25
    assert np.mean([bool(re.search("not|never|nobody|anything but|far from", s)) for s in sentences]) > 0.25


SINGULAR = {*FULL.people, *FULL.animals}
PLURAL = {lexicon.plural(n) for n in SINGULAR}
OBJECT = re.compile(r" (this|that|a|every|each|these|those|many|several|two) (?:(?:\w+) )?(\w+) \.$")


def test_acceptability_follows_the_rules_of_english(data):
    """Four of the fragment's rules, each recognized by its own words."""
    seen = Counter()
    for example in (e for split in data["pocket-cola"] for e in split):
        sentence, label = example["sentence"], example["label"]
        words = sentence.split()
        if words[-2] in ("herself", "himself"):
            good = (words[0] in FULL.women) == (words[-2] == "herself")
            rule = "reflexive"
        elif "ever" in words:
            good, rule = words[0] == "no", "polarity"
        elif (found := OBJECT.search(sentence)) and found[2] in SINGULAR | PLURAL:
            good = (found[1] in ("this", "that", "a", "every", "each")) == (found[2] in SINGULAR)
            rule = "determiner"
        elif words[-3] in ("him", "themselves"):
            good, rule = False, "gap"
        else:
            continue
        assert good == bool(label), sentence
        seen[rule, label] += 1
    assert all(seen[rule, label] > 300 for rule in ("reflexive", "polarity", "determiner") for label in (0, 1))
    assert seen["gap", 0] > 300


def facts_of(statement: str) -> list[dict]:
    """The facts a sentence states: agent, verb, thing with its color, place and time."""
    pasts = {lexicon.past(v): v for v in FULL.handling}
    found = []
    for clause in re.split(r" and | while | but ", statement.removesuffix(" .")):
        place, time = re.search(r" in the (\w+)", clause), re.search(r" (?:on|at) (\w+)", clause)
        core = re.sub(r" in the \w+| (?:on|at) \w+", "", clause)
        if passive := re.fullmatch(r"(the \w+ \w+) was (\w+) by (.+)", core):
            thing, verb, agent = passive.groups()
        else:
            agent, verb, thing = re.fullmatch(r"(.+?) (\w+) (the \w+ \w+)", core).groups()
        found.append({"agent": agent, "verb": pasts[verb], "thing": thing,
                      "place": place and place[1], "time": time and time[1]})  # fmt: skip
    return found


def answers(question: str, fact: dict) -> bool:
    """Whether the fact fits everything the question says and has what it asks for."""
    words = question.removesuffix(" ?")
    if found := re.fullmatch(r"who (\w+) (the \w+ \w+)", words):
        return (lexicon.past(fact["verb"]), fact["thing"]) == found.groups()
    if found := re.fullmatch(r"(what|where|when) did (.+)", words):
        asked, rest = found.groups()
        if not rest.startswith(f"{fact['agent']} {fact['verb']} "):
            return False
        rest = rest.removeprefix(f"{fact['agent']} {fact['verb']} ")
        if asked == "what":
            place = rest.startswith("in the ")
            return rest.split()[-1] == fact["place" if place else "time"]
        return rest == fact["thing"] and fact["place" if asked == "where" else "time"] is not None
    thing, agent, verb = re.fullmatch(r"which (\w+) did (.+) (\w+)", words).groups()
    return (thing, agent, verb) == (fact["thing"].split()[-1], fact["agent"], fact["verb"])


def test_an_answer_is_there_exactly_when_the_label_says_so(data):
    for split in data["pocket-qnli"]:
        wrong = [
            e for e in split
            if any(answers(e["question"], f) for f in facts_of(e["sentence"])) != (e["label"] == 0)
        ]  # fmt: skip
        assert not wrong, f"{len(wrong)} of {len(split)}, such as {wrong[0]}"


@pytest.mark.parametrize("task", TASKS)
def test_a_bag_of_words_is_far_from_solving_a_task(task, data):
    """Five hundred examples and word counts alone must leave room for what pretraining knows."""
    train, dev = data[task]
    words = CountVectorizer(token_pattern=r"\S+")
    counted = words.fit_transform(" | ".join(text_of(e)) for e in train[:500])
    fitted = LogisticRegression(max_iter=1000).fit(counted, [e["label"] for e in train[:500]])
    unseen = words.transform(" | ".join(text_of(e)) for e in dev)
    assert fitted.score(unseen, [e["label"] for e in dev]) < 0.7


# --- words, corpus, tokenizer ---------------------------------------------------------------------------------------


def test_inflection():
    assert [lexicon.plural(n) for n in ("dog", "box", "lady", "boy", "church")] == [
        "dogs", "boxes", "ladies", "boys", "churches"]  # fmt: skip
    assert [lexicon.past(v) for v in ("bark", "dance", "carry", "play")] == ["barked", "danced", "carried", "played"]


def test_corpus_is_a_function_of_its_seed_and_half_of_it_follows():
    one, other = corpus.pairs("a", 2000), corpus.pairs("b", 2000)
    assert corpus.pairs("a", 2000) == one != other
    assert np.mean([p.follows for p in one]) == pytest.approx(0.5, abs=0.05)
    known = set(lexicon.vocabulary())
    assert {w for p in one for w in (*p.first.split(), *p.second.split())} <= known


def test_tokenizer_knows_whole_words_and_bert_s_frame(tmp_path):
    tokenizer = pretrain.build_tokenizer()
    ids = tokenizer("The dog barks .", "nonesuch ?")
    assert tokenizer.convert_ids_to_tokens(ids["input_ids"]) == [
        "[CLS]", "the", "dog", "barks", ".", "[SEP]", "[UNK]", "?", "[SEP]"]  # fmt: skip
    assert ids["token_type_ids"] == [0] * 6 + [1] * 3
    assert len(tokenizer) == len(set(lexicon.vocabulary()))
    tokenizer.save_pretrained(tmp_path)
    from transformers import AutoTokenizer

    assert AutoTokenizer.from_pretrained(tmp_path)("The dog barks .", "nonesuch ?") == ids


def test_longest_example_fits_the_tokenizer(data):
    tokenizer = pretrain.build_tokenizer()
    for train, dev in data.values():
        encoded = tokenizer(*zip(*(text_of(e) for e in train + dev), strict=True))
        assert max(map(len, encoded["input_ids"])) <= 64  # max_length of the pocket profiles
        assert tokenizer.unk_token_id not in {i for ids in encoded["input_ids"] for i in ids}


# --- pretraining ----------------------------------------------------------------------------------------------------

SMALL = {"width": 16, "intermediate": 16, "heads": 2, "batch_size": 4, "warmup": 2}


def test_growing_repeats_the_trained_stack():
    recipe = pretrain.Recipe(stages=((2, 1), (4, 1)), **SMALL)
    shallow = pretrain.build_model(recipe, 2)
    torch.nn.init.normal_(shallow.bert.pooler.dense.weight)
    deep = pretrain.grow(shallow, recipe, 4)
    assert torch.equal(deep.bert.pooler.dense.weight, shallow.bert.pooler.dense.weight)
    for i, layer in enumerate(deep.bert.encoder.layer):
        for name, value in layer.state_dict().items():
            assert torch.equal(value, shallow.bert.encoder.layer[i % 2].state_dict()[name])


def test_rate_warms_up_in_each_stage_and_ends_at_zero():
    recipe = pretrain.Recipe(stages=((2, 10), (4, 10)), **SMALL)
    rates = [recipe.rate(step) for step in range(20)]
    assert recipe.steps == 20
    assert [recipe.stage(step) for step in (0, 9, 10, 19)] == [(2, 0), (2, 9), (4, 0), (4, 9)]
    assert rates[0] == pytest.approx(recipe.learning_rate / 2)
    assert rates[10] == pytest.approx(recipe.learning_rate / 2 * 0.5)
    assert rates[19] == pytest.approx(recipe.learning_rate / 20)


@pytest.mark.slow
def test_pretraining_interrupted_and_continued_gives_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "CHECKPOINT_EVERY", 2)
    monkeypatch.setattr(pretrain, "HELD_OUT", 16)
    recipe = pretrain.Recipe(stages=((1, 3), (2, 3)), **SMALL)
    pretrain.pretrain(tmp_path / "whole", recipe, progress=False)

    real, steps = pretrain.losses, []

    def stop_at_fifth(model, batch):
        steps.append(batch)
        if len(steps) > 6:  # held-out losses are computed through here too
            raise KeyboardInterrupt
        return real(model, batch)

    monkeypatch.setattr(pretrain, "losses", stop_at_fifth)
    with pytest.raises(KeyboardInterrupt):
        pretrain.pretrain(tmp_path / "halves", recipe, progress=False)
    assert not (tmp_path / "halves" / "model.safetensors").exists()
    monkeypatch.setattr(pretrain, "losses", real)
    pretrain.pretrain(tmp_path / "halves", recipe, progress=False)
    one, other = (tmp_path / name for name in ("whole", "halves"))
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    assert (one / "training_log.csv").read_text() == (other / "training_log.csv").read_text()
    assert models.load(str(one)).network.config.num_hidden_layers == 2


def test_pretraining_keeps_out_of_the_pinned_weights(monkeypatch, capsys):
    wanted = []
    monkeypatch.setattr(pretrain, "pretrain", wanted.append)
    assert main(["pretrain-pocket"]) == 0
    assert wanted == [BUILD / "pocket-bert"]
    assert str(BUILD / "pocket-bert") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("s3://bucket/pocket", "is an address and not a folder; give a folder, or mount it as one"),
        ("/dev/null/pocket", "cannot be written (Not a directory); free some space or choose another"),
        ("file", "cannot be written (Not a directory); free some space or choose another"),
    ],
)
def test_pretraining_where_nothing_can_be_written_ends_in_a_sentence(out, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert main(["pretrain-pocket", "--out", out]) == 1
    assert capsys.readouterr().err == f"companion: output folder {out!r} {said}.\n"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("content", [b"", b"\xff" * 1000, safetensors.torch.save({"x": torch.zeros(1)})])
def test_a_damaged_checkpoint_ends_in_a_sentence(content, tmp_path):
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "state.safetensors").write_bytes(content)
    with pytest.raises(ModelUnavailable, match="state.safetensors cannot be continued .*; delete it to start anew"):
        pretrain.pretrain(tmp_path, progress=False)


def test_a_disk_that_fills_up_ends_pretraining_with_a_sentence(tmp_path, monkeypatch):
    def full(*_, **__):
        raise safetensors.SafetensorError("Error while serializing: No space left on device")

    monkeypatch.setattr(pretrain, "HELD_OUT", 16)
    monkeypatch.setattr(pretrain, "save_file", full)
    with pytest.raises(InvalidValue, match="cannot be written .*No space left on device.; free some space"):
        pretrain.pretrain(tmp_path, pretrain.Recipe(stages=((1, 1),), **SMALL), progress=False)


# --- the shipped model ----------------------------------------------------------------------------------------------

POCKET = ROOT / "models" / "pocket-bert"


@needs_pocket
def test_shipped_folder_is_whole_and_small():
    assert (POCKET / "model.safetensors").stat().st_size <= 8_000_000
    recipe = json.loads((POCKET / "recipe.json").read_text())
    assert json.loads(json.dumps(vars(pretrain.Recipe()))) == recipe  # the shipped command makes the shipped model
    card = (POCKET / "README.md").read_text()
    assert "pretrain-pocket" in card
    assert not [p.name for p in POCKET.iterdir() if p.suffix in (".bin", ".pt", ".ckpt")]


@needs_pocket
def test_shipped_log_shows_what_was_learned():
    log = list(csv.DictReader((POCKET / "training_log.csv").read_text().splitlines()))
    first, last = log[0], log[-1]
    assert int(last["step"]) == pretrain.Recipe().steps
    assert float(last["word_loss"]) < 0.7 * float(first["word_loss"])
    assert float(last["pair_accuracy"]) > 0.85 > 0.7 > float(first["pair_accuracy"])


@needs_pocket
def test_shipped_model_is_a_bert_of_twelve_layers_with_the_fragment_s_tokenizer():
    encoder = models.load("pocket-bert")
    assert len(encoder.layers) == models.depth("pocket-bert") == 12
    assert encoder.network.config.hidden_size == 128
    assert encoder.network.pooler is not None
    assert encoder.tokenizer.get_vocab() == {word: i for i, word in enumerate(lexicon.vocabulary())}


@needs_pocket
@pytest.mark.slow
def test_fine_tuning_the_shipped_model_beats_random_layers():
    """The steadiest task at the middle size, live; the published table says the same of all three (below)."""
    data = tasks.load("pocket-sst2")
    weights = models.weights_of("pocket-bert")
    base = Trial("pocket-bert", weights, 12, "pocket-sst2", data.fingerprint, 500, 900, 3e-4, 16, 4, 64)
    random = Trial(**{**vars(base), "reinitialized": tuple(range(12))})
    intact, redrawn = (finetune.finetune(trial).score for trial in (base, random))
    assert intact - redrawn >= 0.15


def published() -> Path:
    return ROOT / "results" / "pocket.parquet"


@pytest.mark.skipif(not published().is_file(), reason="results/pocket.parquet is not there")
def test_published_trials_are_of_the_shipped_model_and_show_what_it_is_worth():
    rows = table.published("pocket")
    assert set(rows["weights"]) == {models.weights_of("pocket-bert")}
    for task, part in rows.groupby("task"):
        assert set(part["data"]) == {tasks.load(task).fingerprint}
        means = part[part["protocol"] == "described"].groupby(["kind", "train_size"])["score"].mean()
        assert means["intact", 500] - means["all", 500] >= 0.15
