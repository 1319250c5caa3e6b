"""The generated fragment, its tasks, the pretraining run, and the weights that ship with the repository."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
from random import Random

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, BertForPreTraining

from companion.paths import MODELS
from companion.pocket import corpus, generate, grammar, pretrain
from companion.pocket.lexicon import FULL, SPECIAL, for_dev, for_training, past, plural, third_person, vocabulary

SHIPPED = MODELS / "pocket-bert"
TASKS = list(generate.GENERATORS)


def texts(example: dict) -> list[str]:
    return [value for value in example.values() if isinstance(value, str)]


@pytest.mark.parametrize(
    ("function", "word", "form"),
    [
        (plural, "dog", "dogs"),
        (plural, "box", "boxes"),
        (plural, "watch", "watches"),
        (third_person, "carry", "carries"),
        (third_person, "play", "plays"),
        (past, "admire", "admired"),
        (past, "carry", "carried"),
        (past, "bark", "barked"),
    ],
)
def test_inflection(function, word, form):
    assert function(word) == form


@pytest.mark.parametrize("task", TASKS)
def test_examples_are_balanced_distinct_and_reproducible(task):
    train, dev = generate.examples(task)
    assert (len(train), len(dev)) == (8000, 1000)
    assert sum(e["label"] for e in train) == 4000
    assert sum(e["label"] for e in dev) == 500
    assert len({tuple(texts(e)) for e in train + dev}) == 9000
    assert (train, dev) == generate.examples(task)
    assert train != generate.examples(task, "tuning")[0]


@pytest.mark.parametrize("task", TASKS)
def test_every_word_is_in_the_vocabulary_and_every_text_fits(task):
    known = set(vocabulary())
    for example in [e for split in generate.examples(task) for e in split]:
        words = " ".join(texts(example)).split()
        assert known.issuperset(words)
        assert len(words) + len(texts(example)) + 1 <= 64  # what the pocket profiles allow


def test_dev_reviews_are_about_adjectives_no_training_review_has():
    train, dev = generate.examples("pocket-sst2")
    polar = set(FULL.positive) | set(FULL.negative)
    seen = {w for e in train for w in e["sentence"].split()} & polar
    asked = {w for e in dev for w in e["sentence"].split()} & polar
    assert asked
    assert seen.isdisjoint(asked)
    assert set(for_training().positive) | set(for_dev().positive) == set(FULL.positive)


def test_half_of_the_simple_verdicts_would_mislead_a_count_of_adjectives():
    """Negation turns a good share of single-clause reviews around: an adjective's polarity is not the label."""
    turned = [
        any(w in FULL.negative for w in words) == bool(e["label"])
        for e in generate.examples("pocket-sst2")[0]
        if "," not in (words := e["sentence"].split())
    ]
    assert 0.35 < sum(turned) / len(turned) < 0.45


def test_ever_needs_no_on_the_subject_itself():
    sentences = [(e["sentence"].split(), e["label"]) for e in generate.examples("pocket-cola")[0]]
    polarity = [(words, label) for words, label in sentences if "ever" in words]
    assert len(polarity) > 500
    assert all((words[0] == "no") == bool(label) for words, label in polarity)


def test_determiners_agree_exactly_in_acceptable_sentences():
    """In sentences whose object has a number-marked determiner, checked by the object's last letters alone."""
    singular, plurals = set(grammar.SINGULAR_DETERMINERS), set(grammar.PLURAL_DETERMINERS)
    many = {plural(w) for w in (*FULL.people, *FULL.animals)}
    checked = 0
    for example in generate.examples("pocket-cola")[1]:
        words = example["sentence"].split()
        marked = [w for w in words if w in (singular - {"that"}) | plurals]
        if marked:
            checked += 1
            assert ((marked[-1] in plurals) == (words[-2] in many)) == bool(example["label"])
    assert checked > 50


def test_an_answered_question_finds_its_answer_and_its_clues_in_the_sentence():
    for example in generate.examples("pocket-qnli")[0][:2000]:
        if example["label"] == 0:
            question, sentence = example["question"].split(), example["sentence"].split()
            if question[0] == "where":
                assert "in" in sentence
            if question[0] == "when":
                assert {"on", "at"} & set(sentence)
            clues = [w for w in question if w in FULL.colours or w in FULL.things or w in FULL.women or w in FULL.men]
            assert set(clues) <= set(sentence)


def test_corpus_pairs_are_a_function_of_the_seed():
    pairs = corpus.pairs("a", 500)
    assert pairs == corpus.pairs("a", 500)
    assert pairs != corpus.pairs("b", 500)
    assert 0.4 < sum(p.follows for p in pairs) / 500 < 0.6
    assert set(vocabulary()).issuperset(w for p in pairs for w in f"{p.first} {p.second}".split())


def test_negation_and_verdict_words_follow_the_label():
    rng = Random(0)
    for positive in (True, False):
        adjectives = FULL.positive if positive else FULL.negative
        for _ in range(50):
            plain = grammar.review(rng, FULL, positive=positive, negation=0.0)
            verdict = plain if "," not in plain else None
            assert verdict is None or set(verdict.split()) & set(adjectives)
            assert ("good" if positive else "bad") in grammar.summary(rng, positive=positive, work="film")


def test_masking_leaves_special_tokens_and_unmasked_words_alone():
    tokenizer = pretrain.build_tokenizer()
    batch = pretrain._batch(corpus.pairs("x", 64), tokenizer, 0.2, seed=1)
    assert batch.masked.sum() == len(batch.words)
    assert batch.words.min() >= len(SPECIAL)
    clean = pretrain._batch(corpus.pairs("x", 64), tokenizer, 0.0, seed=1).input_ids
    assert torch.equal(batch.input_ids[~batch.masked], clean[~batch.masked])
    share = batch.masked.sum() / (clean >= len(SPECIAL)).sum()
    assert 0.15 < share < 0.25


TINY = pretrain.Recipe(stages=((1, 4), (2, 4)), width=16, intermediate=16, heads=2, batch_size=4, warmup=2)


def test_interrupted_pretraining_continues_to_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "CHECKPOINT_EVERY", 2)
    monkeypatch.setattr(pretrain, "HELD_OUT", 16)
    pretrain.pretrain(tmp_path / "whole", TINY, progress=False)
    real, stop_after = pretrain.losses, iter(range(10_000))

    def interrupted(model, batch):
        if torch.is_grad_enabled() and next(stop_after) == 5:  # in the second stage, after the checkpoint at step 4
            raise KeyboardInterrupt
        return real(model, batch)

    monkeypatch.setattr(pretrain, "losses", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pretrain.pretrain(tmp_path / "cut", TINY, progress=False)
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    monkeypatch.setattr(pretrain, "losses", real)
    pretrain.pretrain(tmp_path / "cut", TINY, progress=False)
    whole, cut = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_growing_repeats_the_trained_stack():
    shallow = pretrain.build_model(TINY, 2)
    deep = pretrain.grow(shallow, TINY, 4)
    for i, layer in enumerate(deep.bert.encoder.layer):
        for name, value in layer.state_dict().items():
            assert torch.equal(value, shallow.bert.encoder.layer[i % 2].state_dict()[name])
    assert torch.equal(deep.bert.embeddings.word_embeddings.weight, shallow.bert.embeddings.word_embeddings.weight)


def test_shipped_folder_is_whole_small_and_of_this_recipe():
    weights = SHIPPED / "model.safetensors"
    assert weights.stat().st_size <= 8_000_000
    assert hashlib.sha256(weights.read_bytes()).hexdigest() in (SHIPPED / "README.md").read_text()
    recipe = json.loads((SHIPPED / "recipe.json").read_text())
    assert recipe == json.loads(json.dumps(dataclasses.asdict(pretrain.Recipe())))
    tokenizer = AutoTokenizer.from_pretrained(SHIPPED)
    assert tokenizer.get_vocab() == {word: i for i, word in enumerate(vocabulary())}
    encoded = tokenizer("the dog barks .", "who barked ?")
    assert tokenizer.decode(encoded.input_ids) == "[CLS] the dog barks . [SEP] who barked ? [SEP]"
    assert encoded.token_type_ids == [0] * 6 + [1] * 4


@pytest.mark.slow
def test_shipped_log_ends_with_what_the_weights_score():
    with open(SHIPPED / "training_log.csv") as file:
        last = list(csv.DictReader(file))[-1]
    assert int(last["step"]) == pretrain.Recipe().steps
    model = BertForPreTraining.from_pretrained(SHIPPED).eval()
    for name, value in pretrain.held_out(model, pretrain.Recipe()).items():
        assert value == pytest.approx(float(last[name]), abs=2e-3)
