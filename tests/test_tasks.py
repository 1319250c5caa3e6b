"""Tasks: data read or generated, subsets, metrics, and the sentences for data that does not fit."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import re
import shutil
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import DEV, REAL_GLUE, TRAIN, needs_glue, write_split
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score

from companion import tasks
from companion.errors import DataUnavailable, InvalidValue, UnknownName


def test_a_local_folder_is_read_as_it_is(tiny_glue):
    data = tasks.load("qnli", tiny_glue)
    assert (len(data.train), len(data.dev)) == (TRAIN, DEV)
    frame = pd.read_parquet(tiny_glue / "qnli" / "train-00000-of-00001.parquet")
    assert list(data.train["question"]) == frame["question"].tolist()
    assert list(data.train["label"]) == frame["label"].tolist()


def test_generated_tasks_need_no_folder():
    data = tasks.load("pocket-sst2")
    assert data.task.generated
    assert len(data.train) >= 2500
    assert tasks.load("pocket-sst2").fingerprint == data.fingerprint


def test_fingerprint_follows_every_text_and_label(tiny_glue, tmp_path):
    def changed(split, change):
        folder = shutil.copytree(tiny_glue, tmp_path / f"{split}-{len(list(tmp_path.iterdir()))}")
        rows = pd.read_parquet(folder / "cola" / f"{split}-00000-of-00001.parquet")
        write_split(folder, "cola", split, change(rows).to_dict("records"))
        return tasks.load("cola", folder).fingerprint

    def relabel(rows):
        rows.loc[3, "label"] = 1 - rows.loc[3, "label"]
        return rows

    def reword(rows):
        rows.loc[3, "sentence"] += " ."
        return rows

    original = tasks.load("cola", tiny_glue).fingerprint
    assert changed("train", lambda rows: rows) == original
    others = [changed(s, c) for s in ("train", "validation") for c in (relabel, reword, lambda rows: rows[::-1])]
    assert len({original, *others}) == 7


# --- subsets --------------------------------------------------------------------------------------------------------


@given(size=st.integers(1, TRAIN), seed=st.integers(0, 50))
def test_a_smaller_subset_is_the_start_of_a_larger_one(tiny_glue, size, seed):
    data = tasks.load("cola", tiny_glue)
    chosen, whole = tasks.subset(data, size, seed), tasks.subset(data, TRAIN, seed)
    assert chosen.tolist() == whole[:size].tolist()
    assert sorted(whole) == list(range(TRAIN))


def test_seeds_choose_different_examples(tiny_glue):
    data = tasks.load("cola", tiny_glue)
    assert len({tuple(tasks.subset(data, 10, seed)) for seed in range(20)}) == 20


@pytest.mark.parametrize("size", [0, -5, TRAIN + 1, 10**9])
def test_sizes_the_data_cannot_give(tiny_glue, size):
    with pytest.raises(InvalidValue, match=f"train size {size} is not possible for 'cola'; choose from 1 to {TRAIN}"):
        tasks.subset(tasks.load("cola", tiny_glue), size, 0)


# --- labels of words, for control probes ----------------------------------------------------------------------------


def hand_made(tmp_path, train: list[str], dev: list[str]) -> tasks.TaskData:
    for split, sentences in (("train", train), ("validation", dev)):
        rows = [{"sentence": sentence, "label": i % 2} for i, sentence in enumerate(sentences)]
        write_split(tmp_path, "cola", split, rows)
    return tasks.load("cola", tmp_path)


def coin(seed: int, word: str) -> bytes:
    return hashlib.sha256(f"{seed}/control/{word}".encode()).digest()


def last_words(data, rows) -> list[str]:
    return [re.findall(r"\w+", text)[-1].lower() for text in rows[data.task.texts[-1]]]


def test_control_labels_by_hand(tmp_path):
    words = ["sun", "rain", "cat", "dog"]
    for seed, order in ((0, ["sun", "rain", "cat", "dog"]), (1, ["rain", "dog", "cat", "sun"])):
        assert sorted(words, key=lambda word, seed=seed: coin(seed, word)) == order
    train = ["I like rain", "No rain.", "Rain !", "The cat", "a big dog .", "the sun"]
    data = hand_made(tmp_path, train, ["A CAT!", "sun", "the rain , I like ,", "the snow", "my snow ?"])
    # seed 0: sun → 0 (1 text to 0), rain → 1 (1 to 3), cat → 0 (2 to 3), dog → 0 (3 to 3)
    assert tasks.control_labels(data, data.train, 0).tolist() == [1, 1, 1, 0, 0, 0]
    # seed 1: rain → 0 (3 texts to 0), then the others → 1
    assert tasks.control_labels(data, data.train, 1).tolist() == [0, 0, 0, 1, 1, 1]
    snow = [coin(seed, "snow")[0] % 2 for seed in range(2)]
    like = coin(0, "like")[0] % 2
    assert tasks.control_labels(data, data.dev, 0).tolist() == [0, 0, like, snow[0], snow[0]]
    assert tasks.control_labels(data, data.dev, 1).tolist()[-2:] == [snow[1], snow[1]]


def test_texts_without_a_word_share_a_control_label(tmp_path):
    data = hand_made(tmp_path, ["...", "?", "a cat"], ["!", "a cat"])
    dots, question, cat = tasks.control_labels(data, data.train, 0)
    assert dots == question != cat
    assert tasks.control_labels(data, data.dev, 0).tolist() == [dots, cat]


@pytest.mark.parametrize("task", ["pocket-cola", "pocket-sst2", "pocket-qnli"])
def test_control_labels_follow_last_words_alone_and_are_about_balanced(task):
    data = tasks.load(task)
    given = defaultdict(set)
    for rows in (data.train, data.dev):
        for word, label in zip(last_words(data, rows), tasks.control_labels(data, rows, 3), strict=True):
            given[word].add(int(label))
    assert all(len(labels) == 1 for labels in given.values())
    assert set.union(*given.values()) == {0, 1}
    labels = tasks.control_labels(data, data.train, 3)
    assert abs(labels.sum() * 2 - len(labels)) <= max(Counter(last_words(data, data.train)).values())
    assert abs(labels.mean() - 0.5) < 0.05
    assert abs(np.corrcoef(labels, data.train["label"])[0, 1]) < 0.2


def test_control_labels_of_a_row_do_not_depend_on_the_rows_beside_it(tiny_glue):
    data = tasks.load("qnli", tiny_glue)
    together = tasks.control_labels(data, data.dev, 0)
    alone = [tasks.control_labels(data, data.dev.select([i]), 0)[0] for i in range(len(data.dev))]
    assert together.tolist() == alone
    assert together.dtype == np.int64


def test_other_seeds_give_other_control_labels():
    data = tasks.load("pocket-cola")
    labels = {seed: tuple(tasks.control_labels(data, data.train, seed)) for seed in range(5)}
    assert len(set(labels.values())) == 5
    again = dataclasses.replace(data)  # another object of the same content
    assert tuple(tasks.control_labels(again, again.train, 4)) == labels[4]


def test_words_that_training_lacks_get_both_control_labels(tmp_path):
    data = hand_made(tmp_path, ["a cat", "a dog"], [f"word{i}" for i in range(200)])
    labels = tasks.control_labels(data, data.dev, 0)
    assert 70 < labels.sum() < 130
    assert labels.tolist() == [coin(0, f"word{i}")[0] % 2 for i in range(200)]


# --- metrics --------------------------------------------------------------------------------------------------------


def test_matthews_correlation_by_hand():
    # 3 true positives, 2 true negatives, 1 false positive, 2 false negatives
    labels = np.array([1, 1, 1, 1, 1, 0, 0, 0])
    guesses = np.array([1, 1, 1, 0, 0, 0, 0, 1])
    by_hand = (3 * 2 - 1 * 2) / math.sqrt((3 + 1) * (3 + 2) * (2 + 1) * (2 + 2))
    assert tasks.score("matthews", labels, guesses) == pytest.approx(by_hand)
    assert tasks.score("accuracy", labels, guesses) == 5 / 8


@pytest.mark.parametrize("guess", [0, 1])
def test_one_class_alone_scores_zero_matthews(guess):
    assert tasks.score("matthews", np.array([0, 1, 1]), np.full(3, guess)) == 0.0


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1))
def test_scores_are_plain_numbers_within_range(pairs):
    labels, guesses = map(np.array, zip(*pairs, strict=True))
    matthews, accuracy = (tasks.score(m, labels, guesses) for m in ("matthews", "accuracy"))
    assert type(matthews) is type(accuracy) is float
    assert -1 <= matthews <= 1
    assert accuracy == accuracy_score(labels, guesses)


# --- data that does not fit -----------------------------------------------------------------------------------------


def test_unknown_task():
    with pytest.raises(UnknownName, match="unknown task 'mnli'; choose one of: pocket-cola, pocket-sst2"):
        tasks.load("mnli")


def test_no_hub_within_reach():
    with pytest.raises(
        DataUnavailable, match="GLUE task 'rte' is not on this machine and the hub could not be reached"
    ):
        tasks.load("rte")


ROW = {"question": "who ?", "sentence": "the dog .", "label": 0, "idx": 0}
GOOD = [ROW, {**ROW, "label": 1}]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"sentence": "x", "label": 0}], "the train split of 'qnli' has no column 'question' .it has sentence, label"),
        ([{"question": "x", "sentence": "y"}], "has no column 'label'"),
        ([{**ROW, "label": -1}], r"has labels \[-1\] instead of 0 and 1"),
        ([*GOOD, {**ROW, "label": 2}], r"has labels \[0, 1, 2\] instead of 0 and 1"),
        ([{**ROW, "label": "0"}], "instead of 0 and 1"),
        ([*GOOD, {**ROW, "question": None}], "has empty texts"),
        ([*GOOD, {**ROW, "sentence": None}], "has empty texts"),
    ],
)
def test_splits_that_do_not_fit(rows, said, tmp_path):
    write_split(tmp_path, "qnli", "train", rows)
    write_split(tmp_path, "qnli", "validation", GOOD)
    with pytest.raises(DataUnavailable, match=said):
        tasks.load("qnli", tmp_path)


def test_a_split_without_rows(tmp_path):
    path = write_split(tmp_path, "cola", "train", GOOD)
    pd.read_parquet(path)[:0].to_parquet(path)
    write_split(tmp_path, "cola", "validation", GOOD)
    with pytest.raises(DataUnavailable, match="the train split of 'cola' has labels"):
        tasks.load("cola", tmp_path)


@pytest.mark.parametrize("missing", ["train", "validation"])
def test_a_missing_split(tmp_path, missing):
    for split in {"train", "validation"} - {missing}:
        write_split(tmp_path, "cola", split, GOOD)
    with pytest.raises(
        DataUnavailable, match=f"the {missing} split of 'cola' is not at .*; give the folder that holds"
    ):
        tasks.load("cola", tmp_path)


def test_a_damaged_file(tmp_path):
    for split in ("train", "validation"):
        path = write_split(tmp_path, "cola", split, GOOD)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataUnavailable, match="validation-.* is not a readable Parquet file"):
        tasks.load("cola", tmp_path)


def test_data_that_change_on_disk_are_read_anew(tmp_path):
    for split in ("train", "validation"):
        write_split(tmp_path, "cola", split, GOOD)
    before = tasks.load("cola", tmp_path)
    assert tasks.load("cola", tmp_path) is before
    write_split(tmp_path, "cola", "validation", [*GOOD, *GOOD])
    assert len(tasks.load("cola", tmp_path).dev) == 2 * len(before.dev)


def test_a_folder_that_may_not_be_looked_into(tmp_path, monkeypatch):
    def refuse(self, **_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", refuse)
    monkeypatch.setattr(os, "stat", refuse)
    with pytest.raises(DataUnavailable, match="the train split of 'cola' is not at .*; give the folder that holds"):
        tasks.load("cola", tmp_path)


# --- data for choosing hyperparameters -----------------------------------------------------------------------------


def test_generated_tuning_pool_is_another_draw():
    published, tuning = tasks.load("pocket-cola"), tasks.load("pocket-cola", None, tasks.TUNING)
    assert tuning.fingerprint != published.fingerprint
    overlap = set(tuning.dev["sentence"]) & {*published.dev["sentence"], *published.train["sentence"]}
    assert len(overlap) < 0.2 * len(tuning.dev)  # short sentences recur


def test_a_task_too_small_to_tune_on_is_named(tiny_glue):
    with pytest.raises(DataUnavailable, match="'cola' has too few .* of its 48, 0 are .*; tune on a larger"):
        tasks.load("cola", tiny_glue, tasks.TUNING)


@needs_glue
def test_glue_tuning_pool_shares_no_row_with_published_small_trials():
    whole, tuning = tasks.load("cola", REAL_GLUE), tasks.load("cola", REAL_GLUE, tasks.TUNING)
    used = {whole.train["idx"][int(i)] for seed in range(10) for i in tasks.subset(whole, 500, seed)}
    mine = {*tuning.train["idx"], *tuning.dev["idx"]}
    assert not used & mine
    assert used | mine == set(whole.train["idx"])
    assert len(tuning.dev) == 1000
    assert not set(tuning.train["idx"]) & set(tuning.dev["idx"])
