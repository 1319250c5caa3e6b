"""Coverage: the trials of a grid that are published and missing, and the README's account of them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from companion import coverage, table
from companion.comparisons import CONDITION
from companion.errors import TableUnavailable

ROOT = Path(__file__).resolve().parents[1]


def published() -> pd.DataFrame:
    setting = {**dict.fromkeys(CONDITION, 0), "task": "sst2", "train_size": 500, "kind": "suffix", "probe_layer": None}
    setting |= {"seconds": 1800.0, "device": "cpu", "processor": "Some CPU"}
    rows = [{**setting, "trial_id": f"t{seed}", "experiment": "progressive", "seed": seed} for seed in range(3)]
    rows.append({**rows[0], "task": "cola", "train_size": 5000, "trial_id": "t9"})
    return pd.DataFrame([*rows, {**rows[0], "experiment": "localized"}])


def test_the_summary_names_what_is_missing_by_profile():
    plans = {"progressive": [f"t{n}" for n in range(3)], "single_layer": ["x", "y"]}
    whole = coverage.count("minilm", plans, published())
    assert coverage.summary(whole).splitlines()[2:] == ["| `minilm` | 1 of 2 | single layer (2 of 2) |"]
    assert "| none |" in coverage.summary(whole.head(1))
    assert coverage.summary(whole.head(0)) == "Nothing has been published yet.\n"


def test_planned_published_and_missing_are_counted_by_experiment():
    plans = {"progressive": ["t0", "t1", "t2", "t3", "t9"], "localized": ["t0"], "probing": ["p0", "p1"]}
    found = coverage.count("minilm", plans, published()).set_index("experiment")
    assert found.loc["progressive", ["planned", "published", "core_hours"]].tolist() == [5, 4, 2.0]
    assert found.loc["progressive", ["tasks", "train_sizes", "seeds"]].tolist() == [
        "sst2, cola",
        "500, 5,000",
        "1 to 3",
    ]
    assert found.loc["progressive", "run_on"] == "cpu, Some CPU"
    assert found.loc["probing", ["planned", "published", "seeds"]].tolist() == [2, 0, ""]


def test_seeds_are_those_of_each_condition_and_not_of_the_intact_model():
    rows = published().query("experiment == 'progressive'").assign(protocol=["described", "described", "released", "x"])
    intact = rows.assign(kind="intact", trial_id=["i0", "i1", "i2", "i3"], seed=[0, 1, 2, 3], protocol="described")
    found = coverage.count("minilm", {"progressive": ["t0"]}, pd.concat([rows, intact], ignore_index=True))
    assert found["seeds"].tolist() == ["1 to 2"]


def test_the_readme_is_rewritten_between_its_marks_and_other_profiles_stay(tmp_path):
    (tmp_path / "README.md").write_text(f"before\n{coverage.BEGIN}\nold\n{coverage.END}\nafter\n")
    first = coverage.count("minilm", {"progressive": ["t0", "t1", "t2", "t3", "t9"]}, published())
    second = coverage.count("pocket", {"progressive": ["x"], "probing": ["y"]}, published().head(0))
    for rows in (first, second, first):
        coverage.record(rows, tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("before\n")
    assert text.endswith(f"{coverage.END}\nafter\n")
    assert "old" not in text
    assert "| minilm | progressive | 4 of 5 | 1 |" in text
    assert "| pocket | probing | 0 of 1 | 1 | – |" in text
    assert coverage.read(tmp_path)["profile"].tolist() == ["minilm", "pocket", "pocket"]
    assert text.count("| minilm |") == 1


@pytest.mark.parametrize(("owner", "method"), [(pd.DataFrame, "to_csv"), (Path, "write_text")])
def test_an_account_that_cannot_be_written_leaves_both_files_as_they_were(owner, method, tmp_path, monkeypatch):
    (tmp_path / "README.md").write_text(f"{coverage.BEGIN}\n{coverage.END}\n")
    coverage.record(coverage.count("minilm", {"progressive": ["t0"]}, published()), tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(before) == 2

    def full(*given, **_):
        next(each for each in given if isinstance(each, Path)).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(owner, method, full)
    with pytest.raises(TableUnavailable, match=r"account .* cannot be written to .* \(No space left on device\); make"):
        coverage.record(coverage.count("pocket", {"progressive": ["x"]}, published().head(0)), tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_damaged_file_is_one_sentence(tmp_path):
    (tmp_path / "coverage.csv").write_text("profile\nminilm\n")
    with pytest.raises(TableUnavailable, match=r"coverage.csv is not the table it should be; restore it"):
        coverage.read(tmp_path)
    assert coverage.told(coverage.read(tmp_path / "nothing")) == "Nothing has been published yet.\n"


def test_the_committed_account_is_that_of_the_committed_tables():
    whole = coverage.read()
    assert set(whole["profile"]) == set(table.published_profiles())
    for profile, rows in whole.groupby("profile"):
        counts = table.published(profile)["experiment"].value_counts()
        assert counts.to_dict() == {r["experiment"]: r["published"] for _, r in rows.iterrows() if r["published"]}
        assert (rows["published"] <= rows["planned"]).all()
    assert coverage.told(whole) in (ROOT / "results" / "README.md").read_text(encoding="utf-8")
