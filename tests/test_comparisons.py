"""The book's comparisons on tables small enough to check by hand."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from conftest import result_of, some_trial

from companion import comparisons, table, worth
from companion.errors import UnknownName

SUFFIX, ALL = (2, 3), (0, 1, 2, 3)


def rows(*cells: tuple, **changes) -> pd.DataFrame:
    """A tidy table of (reinitialized, protocol, seed, score)."""
    results = [
        result_of(some_trial(reinitialized=which, protocol=protocol, seed=seed, **changes), score)
        for which, protocol, seed, score in cells
    ]
    return table.tidy(results, experiment="progressive", profile="p")


INTACT = [((), "described", seed, score) for seed, score in enumerate((0.9, 0.8, 0.7))]


def test_benefit_is_intact_minus_all_redrawn_of_the_same_seed():
    random = [(ALL, "described", seed, score) for seed, score in enumerate((0.5, 0.5, 0.3))]
    released = [(ALL, "released", seed, 0.0) for seed in range(3)]
    suffix = [(SUFFIX, "described", seed, 0.0) for seed in range(3)]
    found = comparisons.benefit(rows(*INTACT, *random, *released, *suffix))
    assert len(found) == 1
    assert found.loc[0, ["task", "train_size", "n"]].tolist() == ["cola", 16, 3]
    assert found.loc[0, "mean"] == pytest.approx((0.4 + 0.3 + 0.4) / 3)
    assert found.loc[0, "low"] < found.loc[0, "mean"] < found.loc[0, "high"]


OTHER = [{"precision": "bf16"}, {"learning_rate": 1e-5}, {"epochs": 9}, {"data": "other"}, {"weights": "other"}]


def test_probes_trained_by_steps_are_told_apart_too():
    probe = {"probe_layer": 2, "protocol": "released", "pooling": "first"}
    mine, more = (table.tidy([result_of(some_trial(**probe, epochs=epochs))], experiment="probing", profile=name)
                  for name, epochs in (("p", 10), ("q", 40)))  # fmt: skip
    named = comparisons.named_apart(pd.concat([mine, more], ignore_index=True))["model"]
    assert named.tolist() == [f"{some_trial().model} (p)", f"{some_trial().model} (q)"]


@pytest.mark.parametrize("changes", OTHER, ids=str)
def test_models_are_named_apart_where_profiles_fine_tune_them_differently(changes):
    random = [(ALL, "described", seed, 0.5) for seed in range(3)]
    worse = [(*cell[:3], cell[3] - 0.2) for cell in INTACT]
    first, more = rows(*INTACT, *random), rows(*worse, *random).assign(profile="q")
    other, model = rows(*worse, *random, **changes).assign(profile="q"), some_trial().model
    longer = rows(*INTACT, epochs=2 * some_trial().epochs)  # a control of the same profile
    for alike in ([first], [first, longer], [first, more]):
        assert comparisons.named_apart(pd.concat(alike))["model"].unique().tolist() == [model]
    found = worth.worth(comparisons.named_apart(pd.concat([first, other], ignore_index=True)))
    together = found[found["kept"] == 0].set_index("model")["worth"].to_dict()
    assert together == pytest.approx({f"{model} (p)": 0.3, f"{model} (q)": 0.1})


def test_benefit_is_by_setting_and_only_where_both_were_run():
    random = [(ALL, "described", seed, 0.5) for seed in range(3)]
    small, large = rows(*INTACT, *random), rows(*INTACT, *random[:2], train_size=99)
    alone = rows(*INTACT, task="sst2")
    found = comparisons.benefit(pd.concat([small, large, alone]))
    assert found[["task", "train_size", "n"]].to_numpy().tolist() == [["cola", 16, 3], ["cola", 99, 2]]
    assert found["low"].isna().tolist() == [False, True]


def test_benefit_of_nothing_has_its_columns():
    found = comparisons.benefit(rows(*INTACT))
    assert found.empty
    assert found.columns.tolist() == [*comparisons.SETUP, "n", "mean", "low", "high"]


def test_growth_is_the_difference_of_worths_by_seed():
    random = [(ALL, "described", seed, score) for seed, score in enumerate((0.5, 0.5, 0.3))]
    small, large = rows(*INTACT, *[(*r[:3], 0.6) for r in random]), rows(*INTACT, *random, train_size=99)
    longer = rows(*INTACT, *[(*r[:3], 0.0) for r in random], epochs=9)  # at one size alone
    found = comparisons.growth(pd.concat([small, large, longer]))
    assert found[["task", "small", "large", "n"]].to_numpy().tolist() == [["cola", 16, 99, 3]]
    assert found.loc[0, "mean"] == pytest.approx(((0.4 - 0.3) + (0.3 - 0.2) + (0.4 - 0.1)) / 3)
    assert comparisons.growth(small).empty


def test_a_longer_training_is_not_paired_with_a_short_one():
    random = [(ALL, "described", seed, 0.5) for seed in range(3)]
    found = comparisons.benefit(pd.concat([rows(*INTACT), rows(*random, epochs=9)]))
    assert found.empty
    both = pd.concat([rows(*INTACT, *random), rows(*INTACT, *random, epochs=9)])
    assert comparisons.benefit(both)["n"].tolist() == [3, 3]
    released = [(ALL, "released", seed, 0.4) for seed in range(3)]
    found = comparisons.protocol_difference(pd.concat([both, rows(*released)]))
    assert found[["epochs", "n"]].to_numpy().tolist() == [[both["epochs"].min(), 3]]


def test_trials_with_both_controls_are_of_neither():
    usual = rows(*cells(SUFFIX, "described", 0.5, 0.6, 0.7))
    both = rows(*cells(SUFFIX, "described", 0.9, 0.9, 0.9), keep_layernorm=True, random_rate=5.0)
    kept = rows(*cells(SUFFIX, "described", 0.6, 0.7, 0.8), keep_layernorm=True)
    table = pd.concat([usual, both, kept])
    assert comparisons.control_difference(table, "random_rate").empty
    found = comparisons.control_difference(table, "keep_layernorm")
    assert found["keep_layernorm"].tolist() == [True]
    assert found["mean"].tolist() == pytest.approx([0.1])


def test_protocols_are_compared_at_each_number_of_preserved_layers():
    cells = [(which, protocol, seed, base + 0.1 * seed + (0.2 if protocol == "described" else 0.0))
             for which, base in ((SUFFIX, 0.5), (ALL, 0.1)) for protocol in ("described", "released")
             for seed in range(3)]  # fmt: skip
    prefix = [((0, 1), "described", seed, 1.0) for seed in range(3)]
    found = comparisons.protocol_difference(rows(*INTACT, *cells, *prefix))
    assert found["preserved_layers"].tolist() == [0, 2]
    assert found["n"].tolist() == [3, 3]
    assert found["mean"].tolist() == pytest.approx([0.2, 0.2])


def test_a_control_is_compared_with_the_same_layers_without_it():
    usual = cells(SUFFIX, "described", 0.5, 0.6, 0.7)
    faster = rows(*cells(SUFFIX, "described", 0.6, 0.7, 0.8), random_rate=5.0)
    fastest = rows(*cells(SUFFIX, "described", 0.3, 0.4, 0.5), random_rate=9.0)
    found = comparisons.control_difference(pd.concat([rows(*INTACT, *usual), faster, fastest]), "random_rate")
    assert found[["random_rate", "preserved_layers", "n"]].to_numpy().tolist() == [[5.0, 2, 3], [9.0, 2, 3]]
    assert found["mean"].tolist() == pytest.approx([0.1, -0.2])
    kept = rows(*cells(SUFFIX, "described", 0.9, 0.9, 0.9), keep_layernorm=True)
    found = comparisons.control_difference(pd.concat([rows(*usual), kept]), "keep_layernorm")
    assert found["mean"].tolist() == pytest.approx([0.3])
    assert comparisons.control_difference(rows(*usual), "keep_layernorm").empty


# --- this run and the published trials ------------------------------------------------------------------------------


def test_equal_trials_are_compared_score_by_score():
    mine = rows(*INTACT)
    theirs = rows(*INTACT[:2], ((), "described", 2, 0.75), ((), "described", 3, 0.1))
    found = comparisons.agreement(mine, theirs)
    assert (found.same_trials, found.equal, found.conditions) == (3, 2, 0)
    assert found.largest == pytest.approx(0.05)


def test_other_weights_are_compared_in_the_mean():
    theirs = rows(*INTACT)
    close = rows(*(((), "described", seed, s + 0.01 * (-1) ** seed) for _, _, seed, s in INTACT), weights="x")
    apart = rows(*(((), "described", seed, s - 0.5 - 0.001 * seed) for _, _, seed, s in INTACT), weights="x")
    for mine, differs in ((close, 0), (apart, 1)):
        found = comparisons.agreement(mine, theirs)
        assert (found.same_trials, found.conditions, found.apart) == (0, 1, differs)
        assert math.isnan(found.largest)


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 2e-3},
        {"batch_size": 4},
        {"epochs": 2},
        {"max_length": 64},
        {"precision": "bf16"},
        {"train_size": 17},
        {"task": "sst2"},
    ],
)  # fmt: skip
def test_other_hyperparameters_are_not_compared(change):
    found = comparisons.agreement(rows(*INTACT, **change), rows(*INTACT))
    assert (found.same_trials, found.conditions) == (0, 0)


def test_other_seeds_cannot_be_compared():
    mine = rows(*(((), "described", seed + 10, score) for _, _, seed, score in INTACT))
    found = comparisons.agreement(mine, rows(*INTACT))
    assert (found.same_trials, found.conditions) == (0, 0)


# --- the table on disk ----------------------------------------------------------------------------------------------


def test_a_published_table_comes_back_with_its_types(tmp_path):
    whole = rows(*INTACT, (SUFFIX, "released", 0, 0.25))
    paths = table.publish(whole.sample(frac=1, random_state=0), "p", tmp_path)
    assert [p.name for p in paths] == ["p.parquet", "p.csv"]
    again = table.published("p", tmp_path)
    assert again.dtypes.astype(str).to_dict() == whole.dtypes.astype(str).to_dict()
    assert sorted(again["trial_id"]) == sorted(whole["trial_id"])
    twin = pd.read_csv(paths[1], dtype={"reinitialized": str})
    assert twin["score"].tolist() == again["score"].tolist()
    assert twin["trial_id"].tolist() == again["trial_id"].tolist()
    assert not list(tmp_path.glob("*.tmp"))


def test_publishing_the_same_rows_in_another_order_writes_the_same_files(tmp_path):
    whole = rows(*INTACT, (SUFFIX, "released", 0, 0.25))
    first = [p.read_bytes() for p in table.publish(whole, "p", tmp_path)]
    assert [p.read_bytes() for p in table.publish(whole[::-1], "p", tmp_path)] == first


def test_missing_and_damaged_tables_end_in_a_sentence(tmp_path):
    with pytest.raises(table.TableUnavailable, match="there is no published table for profile 'p'"):
        table.published("p", tmp_path)
    assert table.published_or_empty("p", tmp_path).empty
    (tmp_path / "p.parquet").write_bytes(b"PAR1")
    with pytest.raises(table.TableUnavailable, match="not a readable Parquet file"):
        table.published("p", tmp_path)
    rows(*INTACT).drop(columns="score").to_parquet(tmp_path / "p.parquet")
    with pytest.raises(table.TableUnavailable, match="has no column 'score'"):
        table.published("p", tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": "x"}, "values of another type"),
        ({"seed": [None, 1, 2]}, "values of another type"),
        ({"probe_layer": 1.5}, "values of another type"),
        ({"seed": [0.5, 1.5, 2.5]}, "has in column 'seed' values of another type"),
        ({"seed": [True, False, False]}, "has in column 'seed' values of another type"),
        ({"diverged": "False"}, "has in column 'diverged' values of another type"),
        ({"diverged": None}, "has in column 'diverged' values of another type"),
        ({"trial_id": [{"a": 1}, {"a": 2}, {"a": 3}]}, "has in column 'trial_id' values of another type"),
        ({"profile": "q"}, "rows of profile 'q'"),
        ({"experiment": None}, "rows without 'experiment'"),
        ({"metric": "f1"}, "an unknown metric"),
        ({"score": float("nan")}, "scores that are not from -1 to 1"),
        ({"score": float("inf")}, "scores that are not from -1 to 1"),
        ({"trial_id": "a"}, "a trial twice"),
        ({"trial_id": "a", "experiment": ["x", "y", "z"]}, "a trial with two scores"),
        (
            {"trial_id": "a", "experiment": ["x", "y", "z"], "score": 0.5, "diverged": [True, False, False]},
            "a trial with two scores",
        ),
    ],
)
def test_tables_of_impossible_rows_end_in_a_sentence(change, said, tmp_path):
    whole = rows(*INTACT)
    assert whole["score"].nunique() > 1
    changed = {name: ([*v, *whole[name][len(v) :]] if isinstance(v, list) else v) for name, v in change.items()}
    whole.assign(**changed).to_parquet(tmp_path / "p.parquet")
    with pytest.raises(table.TableUnavailable, match=f"{said}; restore it from the repository"):
        table.published("p", tmp_path)


def test_a_table_that_cannot_be_written_leaves_the_other_as_it_was(tmp_path, monkeypatch):
    paths = table.publish(rows(*INTACT), "p", tmp_path)
    before = [p.read_bytes() for p in paths]

    def full(path, **_):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", lambda self, path, **_: full(path))
    with pytest.raises(table.TableUnavailable, match="cannot be written to .*No space left on device.*; make it"):
        table.publish(rows(*INTACT[:2]), "p", tmp_path)
    assert [p.read_bytes() for p in paths] == before
    assert sorted(tmp_path.iterdir()) == sorted(paths)


# --- effects of every intervention ----------------------------------------------------------------------------------


def cells(which: tuple, protocol: str, *scores: float) -> list[tuple]:
    return [(which, protocol, seed, score) for seed, score in enumerate(scores)]


def test_effects_are_paired_with_the_intact_model_of_the_same_setup():
    short = rows(*INTACT, *cells(SUFFIX, "described", 0.8, 0.6, 0.7), *cells(SUFFIX, "released", 0.4, 0.3, 0.2))
    longer = rows(*cells(SUFFIX, "described", 0.1, 0.1, 0.1), epochs=9)  # has no intact model of as many epochs
    found = comparisons.effects(pd.concat([short, longer]))
    assert found[["protocol", "reinitialized", "epochs", "n"]].to_numpy().tolist() == [
        ["described", "2-3", 1, 3],
        ["released", "2-3", 1, 3],
    ]
    assert found["mean"].tolist() == pytest.approx([-0.1, -0.5])
    assert found["low"].iloc[0] < -0.1 < found["high"].iloc[0]


def test_effects_against_embeddings_only_are_by_protocol():
    alls = cells(ALL, "described", 0.5, 0.4, 0.3) + cells(ALL, "released", 0.2, 0.1, 0.0)
    suffixes = cells(SUFFIX, "described", 0.8, 0.6, 0.7) + cells(SUFFIX, "released", 0.4, 0.3, 0.2)
    found = comparisons.effects(rows(*INTACT, *alls, *suffixes), "all")
    assert found[["kind", "protocol"]].to_numpy().tolist() == [
        ["intact", "described"],
        ["suffix", "described"],
        ["suffix", "released"],
    ]
    assert found["mean"].tolist() == pytest.approx([0.4, 0.3, 0.2])


def test_effects_tell_controls_and_permutations_apart():
    controls = [{"keep_layernorm": True}, {"random_rate": 5.0}, {"keep_layernorm": True, "random_rate": 5.0}]
    tables = [rows(*INTACT), rows(*cells(ALL, "described", 0.5, 0.5, 0.5))]
    tables += [rows(*cells(ALL, "described", 0.6, 0.6, 0.6), **control) for control in controls]
    tables += [
        rows(*cells((), "described", 0.7, 0.7, 0.7), permutation=order) for order in ((3, 2, 1, 0), (1, 0, 2, 3))
    ]
    whole = pd.concat([*tables, rows(*cells((), "described", 0.1, 0.1, 0.1), probe_layer=2)])
    found = comparisons.effects(whole, "all")
    assert found["kind"].tolist() == ["all"] * 3 + ["intact"] + ["permuted"] * 2
    assert found["mean"].tolist() == pytest.approx([0.1, 0.1, 0.1, 0.3, 0.2, 0.2])
    assert len(comparisons.effects(whole)) == 6


def test_a_trial_of_several_experiments_counts_once():
    once = rows(*INTACT, *cells(ALL, "described", 0.5, 0.5, 0.3))
    twice = pd.concat([once, once.assign(experiment="data_scaling")])
    for compare in (comparisons.effects, comparisons.benefit, comparisons.protocol_difference):
        pd.testing.assert_frame_equal(compare(twice), compare(once))


def test_benefit_is_of_plain_trials():
    control = rows(*cells(ALL, "described", 0.9, 0.9, 0.9), keep_layernorm=True)
    faster = rows(*cells(ALL, "described", 0.9, 0.9, 0.9), random_rate=5.0)
    plain = rows(*INTACT, *cells(ALL, "described", 0.5, 0.5, 0.3))
    pd.testing.assert_frame_equal(comparisons.benefit(pd.concat([plain, control, faster])), comparisons.benefit(plain))


def test_effects_of_nothing_have_their_columns():
    found = comparisons.effects(rows(*INTACT))
    assert found.empty
    assert found.columns.tolist() == [*comparisons.SETUP, *comparisons.INTERVENTION, "n", "mean", "low", "high"]


def test_effects_against_an_unknown_reference():
    with pytest.raises(UnknownName, match="unknown reference 'suffix'; choose one of: intact, all."):
        comparisons.effects(rows(*INTACT), "suffix")


# --- correlations between tasks -------------------------------------------------------------------------------------

ORDERS = [(1, 0, 2, 3), (0, 2, 1, 3), (0, 1, 3, 2), (3, 1, 2, 0), (3, 2, 1, 0)]


def permuted(task: str, *scores: float, size: int = 16, orders=ORDERS) -> pd.DataFrame:
    """Trials of experiment permutation: two seeds whose mean is the score, an order each."""
    results = [
        result_of(some_trial(task=task, permutation=order, seed=seed, train_size=size), score + 0.05 * (1 - 2 * seed))
        for order, score in zip(orders, scores, strict=True)
        for seed in (0, 1)
    ]
    return table.tidy(results, experiment="permutation", profile="p")


def test_tasks_are_correlated_over_permutations_of_seed_means():
    tables = [permuted("cola", 0.1, 0.2, 0.3, 0.4, 0.5), permuted("sst2", 0.6, 0.5, 0.7, 0.8, 0.99)]
    found = comparisons.task_correlations(pd.concat([*tables, permuted("qnli", 0.5, 0.4, 0.3, 0.2, 0.1)]))
    pairs = found[["first_task", "second_task"]].to_numpy().tolist()
    assert pairs == [["cola", "qnli"], ["cola", "sst2"], ["qnli", "sst2"]]
    assert found["spearman"].tolist() == pytest.approx([-1.0, 0.9, -0.9])  # ranks 2 1 3 4 5: 1 - 6·2/120
    assert found["n"].tolist() == [5, 5, 5]
    assert found["seeds"].tolist() == [2, 2, 2]
    assert found["spearman_low"].isna().tolist() == [True, False, False]
    assert found.loc[1, "pearson_low"] < found.loc[1, "pearson"] < found.loc[1, "pearson_high"]


def test_only_permutations_of_both_tasks_count_and_train_sizes_are_apart():
    small = [permuted("cola", 0.1, 0.2, 0.3, 0.4, 0.5), permuted("sst2", 0.1, 0.3, 0.2, orders=ORDERS[:3])]
    large = [permuted(task, 0.1, 0.2, size=99, orders=ORDERS[:2]) for task in ("cola", "sst2")]
    found = comparisons.task_correlations(pd.concat(small + large))
    assert found[["train_size", "n"]].to_numpy().tolist() == [[16, 3], [99, 2]]
    assert found["spearman"].tolist() == pytest.approx([0.5, 1.0])
    assert found["pearson_low"].isna().all()


def test_tasks_without_a_common_permutation_have_no_correlation():
    apart = [permuted("cola", 0.1, 0.2, orders=ORDERS[:2]), permuted("sst2", 0.1, 0.3, orders=ORDERS[2:4])]
    found = comparisons.task_correlations(pd.concat(apart))
    assert found[["n", "seeds"]].to_numpy().tolist() == [[0, 0]]
    assert found["pearson"].isna().all()


def test_one_task_or_no_permutation_is_no_pair():
    for alone in (permuted("cola", 0.1, 0.2, orders=ORDERS[:2]), rows(*INTACT)):
        found = comparisons.task_correlations(alone)
        assert found.empty
        assert found.columns.tolist()[-3:] == ["spearman", "spearman_low", "spearman_high"]


# --- diverged trials ------------------------------------------------------------------------------------------------


def test_share_of_diverged_trials_by_hand():
    one = rows(*INTACT, *cells(ALL, "described", 0.5, 0.5, 0.5, 0.5))
    one["diverged"] = [False, False, False, True, True, True, False]
    found = comparisons.diverged_share(pd.concat([one, one.assign(experiment="data_scaling")]), ["kind"])
    assert found.columns.tolist() == ["kind", "n", "diverged", "share", "low", "high"]
    assert found[["kind", "n", "diverged", "share"]].to_numpy().tolist() == [["all", 4, 3, 0.75], ["intact", 3, 0, 0.0]]
    # Wilson: (p + z²/2n ± z√(p(1-p)/n + z²/4n²)) / (1 + z²/n)
    z, n, p = 1.959964, 4, 0.75
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    ends = [(p + z**2 / (2 * n) + sign * half) / (1 + z**2 / n) for sign in (-1, 1)]
    assert found.loc[0, ["low", "high"]].tolist() == pytest.approx(ends, abs=1e-6)
    by_experiment = comparisons.diverged_share(pd.concat([one, one.assign(experiment="x")]), ["experiment"])
    assert by_experiment["n"].tolist() == [7, 7]


def test_share_of_no_trials_has_its_columns():
    found = comparisons.diverged_share(rows(*INTACT).head(0), ["task", "kind"])
    assert found.empty
    assert found.columns.tolist() == ["task", "kind", "n", "diverged", "share", "low", "high"]


@pytest.mark.parametrize("change", [{"weights": "x"}, {"data": "x"}, {"learning_rate": 2e-3}, {"batch_size": 4},
                                    {"epochs": 2}, {"max_length": 64}, {"precision": "bf16"}], ids=str)  # fmt: skip
def test_trials_of_another_setup_are_not_paired(change):
    apart = pd.concat([rows(*INTACT), rows(*cells(ALL, "described", 0.5, 0.5, 0.3), **change)])
    assert comparisons.benefit(apart).empty
    assert comparisons.effects(apart).empty


@pytest.mark.parametrize(
    ("protocol", "change"),
    [("released", {}), ("described", {"keep_layernorm": True}), ("described", {"random_rate": 5.0})],
)
def test_growth_is_of_plain_described_trials(protocol, change):
    redrawn = cells(ALL, "described", 0.5, 0.5, 0.3)
    plain = pd.concat([rows(*INTACT, *redrawn, train_size=size) for size in (16, 99)])
    others = rows(*cells(ALL, protocol, 0.9, 0.9, 0.9), train_size=99, **change)
    pd.testing.assert_frame_equal(comparisons.growth(pd.concat([plain, others])), comparisons.growth(plain))


@pytest.mark.parametrize("control", [{"keep_layernorm": True}, {"random_rate": 5.0}], ids=str)
def test_protocols_are_compared_without_controls(control):
    plain = rows(*cells(SUFFIX, "described", 0.5, 0.6, 0.7), *cells(SUFFIX, "released", 0.4, 0.4, 0.4))
    both = pd.concat([plain, rows(*cells(SUFFIX, "described", 0.9, 0.9, 0.9), **control)])
    pd.testing.assert_frame_equal(comparisons.protocol_difference(both), comparisons.protocol_difference(plain))


def test_tasks_are_correlated_by_means_of_seeds_not_by_medians():
    """A third seed turns the order of the means around, and leaves that of the medians."""
    cola, sst2 = (permuted(task, 0.1, 0.2, 0.3, orders=ORDERS[:3]) for task in ("cola", "sst2"))
    third = cola[cola["seed"] == 1].assign(seed=2, score=[0.9, 0.5, 0.1], trial_id=lambda r: "x" + r["trial_id"])
    found = comparisons.task_correlations(pd.concat([cola, third, sst2]))
    assert found["spearman"].tolist() == pytest.approx([-1.0])


def test_means_are_apart_on_either_side():
    lower = rows(*(((), "described", seed, s - 0.5 - 0.001 * seed) for _, _, seed, s in INTACT), weights="x")
    assert comparisons.agreement(lower, rows(*INTACT)).apart == 1
    assert comparisons.agreement(rows(*INTACT), lower).apart == 1


def test_scores_are_equal_to_the_last_bit_or_not_at_all():
    mine, theirs = (rows(((), "described", 0, score)) for score in (0.9, math.nextafter(0.9, 1.0)))
    found = comparisons.agreement(mine, theirs)
    assert (found.same_trials, found.equal) == (1, 0)
