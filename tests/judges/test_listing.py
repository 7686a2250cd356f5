"""The list of models: everything that can follow -m, once, with what is missing here."""

import json
from dataclasses import replace

import pytest

from urgentmos import labellers
from urgentmos.common.packaged import PACKAGED
from urgentmos.judges import listing as model_list
from urgentmos.judges.listing import known_models
from urgentmos.labellers import LABELLERS, MEASURABLE
from urgentmos.models.releases import RELEASES

KEYS = ["model", "kind", "ready", "repo", "file", "revision", "licence", "size", "metrics", "trained_on"]


def rows() -> dict[str, dict]:
    return {row["model"]: row for row in known_models()}


def test_each_release_and_each_measured_metric_is_there_once() -> None:
    names = [row["model"] for row in known_models()]
    assert names == [*PACKAGED, *RELEASES, *MEASURABLE] and "pocket" in PACKAGED


def test_all_rows_have_the_same_keys_and_are_plain_data() -> None:
    for row in known_models():
        assert list(row) == KEYS
        assert all(value is None or (isinstance(value, str) and value) for value in row.values()), row
    json.dumps(known_models(), allow_nan=False)


def test_a_release_says_where_it_is_and_under_which_licence() -> None:
    for name, release in RELEASES.items():
        row = rows()[name]
        assert (row["repo"], row["file"], row["size"]) == (release.repo, release.file, release.size)
        assert row["licence"] and row["trained_on"] == release.trained_on
        assert row["ready"] == ("download" if release.on_hub else "get the file")


def test_a_licence_that_the_authors_do_not_state_is_not_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    name = next(iter(RELEASES))
    monkeypatch.setitem(RELEASES, name, replace(RELEASES[name], licence=""))
    assert rows()[name]["licence"] == "not stated"


def test_ready_tells_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    lsd, utmos = (next(row for row in LABELLERS if row.name == name) for name in ("lsd", "utmos"))
    absent = replace(lsd, name="absent", metrics=("pesq",), packages=("no-such-package", "numpy"))
    monkeypatch.setattr(model_list, "LABELLERS", (lsd, replace(utmos, packages=()), absent))
    found = {row["model"]: row["ready"] for row in known_models() if row["kind"].startswith("measured")}
    assert found == {"lsd": "yes", "utmos": "--weights utmos=...", "pesq": "install no-such-package"}


def test_a_metric_that_needs_a_reference_signal_says_so() -> None:
    assert "reference" in rows()["pesq"]["kind"] and "reference" not in rows()["dnsmos_ovrl"]["kind"]
    assert rows()["sbert"]["repo"] == labellers.labeller_of("sbert").hub
