"""Sources: a prediction is never a label, whatever its file and whatever its model is called; no value loses its source."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from urgentmos.api import human_mos, rank_clips
from urgentmos.clips.clip import Clip, from_record, to_record
from urgentmos.clips.inputs import read_clips
from urgentmos.clips.provenance import (
    OTHERS,
    label_of,
    labels_or_predictions,
    source_of,
    sources_of,
    taken_places,
    values_of,
    with_labels,
    with_values,
    without,
)
from urgentmos.clips.sources import LISTENERS, UNKNOWN, kind_of, measured_by, phrase_of, predicted_by
from urgentmos.clips.tables import write_records
from urgentmos.errors import UsageError
from urgentmos.judges.base import Score
from urgentmos.judges.metric import Measured
from urgentmos.labellers import LABELLERS, Settings
from urgentmos.metrics import METRICS

POCKET = predicted_by("pocket", "c19abcda1728")
# Names that models of others could have: those of listeners, of labellers, of kinds.
AWKWARD = ["pocket", "listeners", "human", "pesq", "dnsmos", "measured", "measured by pesq", "predicted", "unknown", "a b (c)"]
NAMES = st.sampled_from(AWKWARD) | st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).map(
    str.strip
)
VERSIONS = st.sampled_from(["", "c19abcda1728", "1.0", "0.0.4 (urgentmos 0.1.0)"])


# ---- kinds


@given(NAMES.filter(bool), VERSIONS, st.sampled_from(list(METRICS)))
@example("listeners", "", "mos_overall")
@example("measured by pesq", "0.0.4", "pesq")
def test_a_models_predictions_are_predicted_whatever_it_is_called(name: str, version: str, metric: str) -> None:
    assert kind_of(predicted_by(name, version), metric) == "predicted"


@pytest.mark.parametrize("row", LABELLERS, ids=lambda row: row.name)
def test_a_labellers_values_are_measured(row: Any) -> None:
    for metric in row.metrics:
        assert kind_of(measured_by(row.name, "urgentmos 0.1.0, x 0.0.4"), metric) == "measured"
        assert kind_of(f"{row.name} 0.0.4 (urgentmos 0.1.0)", metric) == "measured"


@pytest.mark.parametrize(
    ("source", "metric", "kind"),
    [
        (None, "mos_overall", "human"),
        (None, "pesq", "unknown"),
        ("unknown", "mos_overall", "unknown"),  # said to be unknown is not said to be of listeners
        ("listeners", "mos_overall", "human"),
        ("Listeners (P.808, 2024)", "mos_overall", "human"),
        ("listeners c19abcda1728", "mos_overall", "predicted"),
        ("listeners (8 clips) and predicted by x (4 clips)", "mos_overall", "predicted"),
        ("pocket c19abcda1728", "pesq", "predicted"),  # the form of the contract
        ("pesq c19abcda1728", "pesq", "predicted"),  # a hash is no version of a package
        ("pesq 0.0.4", "pesq", "measured"),
        ("pesq 0.0.4", "mos_overall", "predicted"),  # pesq measures no MOS
        ("measured: with the ITU's program", "pesq", "measured"),
        ("measured c19abcda1728", "pesq", "predicted"),
    ],
)
def test_kinds(source: str | None, metric: str, kind: str) -> None:
    assert kind_of(source, metric) == kind


def test_many_sources_are_one_phrase() -> None:
    assert phrase_of([LISTENERS, LISTENERS]) == "listeners"
    assert phrase_of(["pocket 1", LISTENERS, LISTENERS]) == "listeners (2 clips) and predicted by pocket 1 (1 clip)"
    assert phrase_of(f"m {i}" for i in range(9)).endswith("and 5 more sources")


# ---- rows of files, new and old

SOURCES = {
    "human": LISTENERS,
    "measured": measured_by("pesq", "urgentmos 0.1.0, pesq 0.0.4"),
    "predicted": POCKET,
    "foreign": predicted_by("listeners", "1.0"),
    "bare": "pocket c19abcda1728",
    "unknown": UNKNOWN,
}
FORMS = [*SOURCES, "absent", "old score", "old label", "old label of old score"]
TRUTH = {
    "human": "human",
    "measured": "measured",
    "predicted": "predicted",
    "foreign": "predicted",
    "bare": "predicted",
    "unknown": "unknown",
    "absent": "absent",
    "old score": "predicted",
    "old label": "measured",
    "old label of old score": "measured",
}
OLD_LABELLERS = {"pesq": "urgentmos 0.0.9, pesq 0.0.4"}


def row_of(form: str, metric: str, value: float, system: str, content: str) -> dict[str, Any]:
    """A row whose value of `metric` is of a form, as a file of today, of a user, or of an older version holds it."""
    row: dict[str, Any] = {
        "uid": f"{system}:{content}",
        "audio_path": f"{system}/{content}.wav",
        "system_id": system,
        "reference_id": content,
        "metrics": {metric: value},
        "meta": {},
    }
    if form in SOURCES:
        row["sources"] = {metric: SOURCES[form]}
    if form == "old score":
        row |= {"model": "pocket", "error": None, "warnings": [], "meta": {"version": "0123456789ab"}}
    if form == "old label":
        row |= {"error": None, "warnings": [], "meta": {"labellers": OLD_LABELLERS}}
    if form == "old label of old score":
        row["meta"] = {"labellers": OLD_LABELLERS, "model": "pocket", "version": "0123456789ab"}
    return row


def true_kind(form: str, metric: str) -> str:
    if form == "absent":
        return "human" if metric == "mos_overall" else "unknown"
    if metric == "mos_overall" and form.startswith("old label"):  # no labeller measures it
        return "predicted" if "score" in form else "human"
    return TRUTH[form]


@pytest.mark.parametrize("metric", ["pesq", "mos_overall"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
def test_the_kind_of_a_value_is_the_same_from_every_file(suffix: str, form: str, metric: str, tmp_path: Path) -> None:
    rows = [row_of(form, metric, 2.5, "a", "u"), row_of("absent", "estoi", 0.5, "b", "u")]
    write_records(rows, tmp_path / f"rows{suffix}")
    clip, other = read_clips([tmp_path / f"rows{suffix}"])
    assert kind_of(source_of(clip, metric), metric) == true_kind(form, metric)
    assert other.sources == {}
    # written by today's version and read again
    write_records(
        [to_record(c, tmp_path, {"model": "other", "error": None, "warnings": []}) for c in (clip, other)],
        tmp_path / f"again{suffix}",
    )
    again = read_clips([tmp_path / f"again{suffix}"])
    assert [sources_of(c) for c in again] == [sources_of(clip), sources_of(other)]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.dictionaries(
            st.sampled_from(["pesq", "mos_overall", "estoi", "my_own"]),
            st.tuples(st.floats(1, 5), st.sampled_from(["", *SOURCES.values(), "12", "null", "1e3", " x", 'a "b", c', "é"])),
            max_size=4,
        ),
        min_size=1,
        max_size=4,
    ),
    suffix=st.sampled_from([".jsonl", ".json", ".csv", ".tsv", ".parquet"]),
)
def test_sources_round_trip_through_every_format(rows: list[dict[str, tuple[float, str]]], suffix: str, tmp_path: Path) -> None:
    clips = [
        Clip(
            f"u{i}",
            str(tmp_path / f"{i}.wav"),
            metrics={name: value for name, (value, _) in row.items()},
            sources={name: source for name, (_, source) in row.items() if source},
        )
        for i, row in enumerate(rows)
    ]
    write_records([to_record(clip, tmp_path) for clip in clips], tmp_path / f"m{suffix}")
    assert [sources_of(clip) for clip in read_clips([tmp_path / f"m{suffix}"])] == [sources_of(clip) for clip in clips]


def test_what_older_versions_wrote() -> None:
    row = row_of("old score", "mos_overall", 3.0, "a", "u")
    assert from_record(row).sources == {"mos_overall": "predicted by pocket 0123456789ab"}
    measured = {**row, "model": "dnsmos_ovrl", "metrics": {"dnsmos_ovrl": 2.0}, "meta": {"labellers": {"dnsmos": "x 1.0"}}}
    assert from_record(measured).sources == {"dnsmos_ovrl": "measured by dnsmos (x 1.0)"}
    copied = {**row, "model": "mos_overall", "meta": {}}  # score -m mos_overall took listeners' values
    assert source_of(from_record(copied), "mos_overall") == LISTENERS
    named_like_a_metric = {**row, "model": "pesq", "metrics": {"pesq": 2.0, "mos_overall": 3.0}}
    assert kind_of(source_of(from_record(named_like_a_metric), "pesq"), "pesq") == "predicted"


def test_a_metric_that_the_model_in_the_package_does_not_offer_is_not_its_prediction() -> None:
    version = json.loads((Path(str(__import__("urgentmos").__path__[0])) / "weights/pocket/config.json").read_text())["version"]
    row = {"audio_path": "a.wav", "metrics": {"pesq": 2.0, "sigmos_ovrl": 3.0}, "model": "pocket", "meta": {"version": version}}
    assert from_record(row).sources == {"pesq": f"predicted by pocket {version}"}


def test_a_users_own_column_called_sources_stays() -> None:
    for own in ("librispeech", {"speaker": "vctk"}, ["a"], 3):
        clip = from_record({"audio_path": "a.wav", "sources": own, "pesq": 2.0})
        assert clip.meta == {"sources": own} and clip.sources == {}
        assert from_record(to_record(clip, None)) == clip


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"sources": {"pesq": 3}}, "the source of pesq is 3, not text"),
        ({"sources": {"pesq": "a 1"}, "sources.pesq": "b 1"}, "two sources for pesq: a 1 and b 1"),
    ],
)
def test_a_source_without_a_meaning_is_refused(row: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        from_record({"audio_path": "a.wav", "metrics": {"pesq": 2.0}, **row})


def test_a_released_mos_has_its_source_under_either_name() -> None:
    assert from_record({"audio_path": "a", "mos": 3.0, "sources": {"mos": "x 1"}}).sources == {"mos_overall": "x 1"}


# ---- rankings

CELLS = st.lists(st.sampled_from(FORMS), min_size=12, max_size=12)


def grid(forms: list[str], metric: str) -> list[Clip]:
    """3 systems on 4 contents; predicted values are all 4.5, which no label is."""
    clips = []
    for i, form in enumerate(forms):
        system, content = "abc"[i // 4], f"u{i % 4}"
        value = 4.5 if true_kind(form, metric) == "predicted" else 1.0 + (i % 7) / 4
        clips.append(from_record(row_of(form, metric, value, system, content), "/nowhere"))
    return clips


@settings(max_examples=60)
@given(CELLS)
def test_no_ranking_by_a_measured_metric_rests_on_a_prediction(forms: list[str]) -> None:
    clips = grid(forms, "pesq")
    judge = Measured("pesq", Settings())
    try:
        found = judge.evidence(clips, "mos")
    except UsageError as e:
        assert "predicted by" in str(e) and all(true_kind(form, "pesq") == "predicted" for form in forms)
        return
    for form, score in zip(forms, found.rows, strict=True):
        if true_kind(form, "pesq") == "predicted":  # it can only be measured, and there is no such file
            assert score.metrics["pesq"] is None and score.error
        else:
            assert score.metrics["pesq"] != 4.5 and kind_of(score.sources["pesq"], "pesq") != "predicted"
    n = sum(true_kind(form, "pesq") == "predicted" for form in forms)
    assert any(f"the pesq of {n} of 12 clips" in warning for warning in found.warnings) == bool(n)
    assert not np.any(found.scores == 4.5)


@settings(max_examples=60)
@given(CELLS)
def test_no_ranking_by_listeners_and_no_mean_of_theirs_rests_on_anything_else(forms: list[str]) -> None:
    clips = grid(forms, "mos_overall")
    heard = [true_kind(form, "mos_overall") == "human" for form in forms]
    try:
        found = Measured("mos_overall").evidence(clips, "mos")
    except UsageError:
        assert not any(heard)
    else:
        values = [score.metrics["mos_overall"] for score in found.rows]
        assert values == [clip.metrics["mos_overall"] if own else None for clip, own in zip(clips, heard, strict=True)]
    mean = human_mos(clips, ["a", "b", "c"])
    if all(any(heard[4 * k : 4 * k + 4]) for k in range(3)):
        own = [
            [c.metrics["mos_overall"] for c, h in zip(clips[4 * k : 4 * k + 4], heard[4 * k : 4 * k + 4], strict=True) if h]
            for k in range(3)
        ]
        assert mean is not None and list(mean) == [np.mean(values) for values in own]
    else:
        assert mean is None


class Oracle(Measured):
    """A model that predicts, without any network."""

    def __init__(self) -> None:
        self.name, self.version, self.ranks_by, self.metrics = "oracle", "1", "mos_overall", ("mos_overall",)

    @property
    def source(self) -> str:
        return predicted_by(self.name, self.version)

    def score_clips(self, clips: Any, run: Any = None, *, reuse: bool = False) -> Any:
        for i, clip in enumerate(clips):
            yield Score(with_values(clip, {"mos_overall": 1.0 + i / 10}, {"mos_overall": self.source}), self.name)

    def evidence(self, clips: Any, scoring: Any, run: Any = None) -> Any:
        from urgentmos.judges.base import Evidence, score_table

        scores = list(self.score_clips(clips))
        return Evidence(*score_table(scores, self.ranks_by), None, scores)


@settings(max_examples=40)
@given(CELLS)
def test_no_correlation_with_listeners_unless_they_heard_every_system(forms: list[str]) -> None:
    ranking, _ = rank_clips(grid(forms, "mos_overall"), Oracle(), "mos", samples=2)
    heard = [true_kind(form, "mos_overall") == "human" for form in forms]
    everyone = all(any(heard[4 * k : 4 * k + 4]) for k in range(3))
    assert (ranking.correlation is not None) == everyone
    assert ranking.sources == {"score": "predicted by oracle 1"} | ({"mos": "listeners"} if everyone else {})
    assert all((s.mos is not None) == everyone for s in ranking.systems)


# ---- values that take the places of others


@given(CELLS)
def test_a_score_takes_no_label_away(forms: list[str]) -> None:
    clips = grid(forms, "mos_overall")
    scored = [score.clip for score in Oracle().score_clips(clips)]
    again = [score.clip for score in Oracle().score_clips(scored)]
    assert again == scored
    for before, after in zip(clips, scored, strict=True):
        assert label_of(after, "mos_overall") == label_of(before, "mos_overall")
        assert with_labels(after).metrics == before.metrics or kind_of(source_of(before, "mos_overall")) != "human"
    assert list(human_mos(scored, "abc") if human_mos(scored, "abc") is not None else []) == list(
        human_mos(clips, "abc") if human_mos(clips, "abc") is not None else []
    )


def test_what_displaces_and_what_comes_back() -> None:
    clip = Clip("u", "a.wav", metrics={"mos_overall": 3.0, "pesq": 2.0, "estoi": 0.5})
    scored = with_values(clip, {"mos_overall": 3.5, "pesq": None}, dict.fromkeys(["mos_overall", "pesq"], POCKET))
    assert scored.metrics == {"mos_overall": 3.5, "pesq": None, "estoi": 0.5} and scored.sources == {"mos_overall": POCKET}
    assert scored.meta == {OTHERS: {"mos_overall": {"listeners": 3.0}, "pesq": {"unknown": 2.0}}}
    assert taken_places([clip], [scored]) == [
        "mos_overall of 1 clip (listeners): kept in meta.other_values, as new values take their place",
        "pesq of 1 clip (from an unknown source): kept in meta.other_values, as new values take their place",
    ]
    assert [value.source for value in values_of(scored, "mos_overall")] == [POCKET, LISTENERS]
    back = without(scored, ["mos_overall", "pesq"])
    assert (back.metrics, back.meta) == ({"mos_overall": 3.0, "pesq": 2.0, "estoi": 0.5}, {})
    later = with_values(scored, {"mos_overall": 3.6}, {"mos_overall": predicted_by("other", "2")})
    assert later.meta[OTHERS]["mos_overall"] == {"listeners": 3.0}
    assert taken_places([scored], [later]) == [f"mos_overall of 1 clip ({POCKET}): new values take their place"]


def test_a_score_of_some_metrics_leaves_the_labels_of_the_others() -> None:
    clip = Clip("u", "a.wav", metrics={"mos_overall": 3.0, "estoi": 0.5}, meta={"version": "c19abcda1728"})
    values = {"mos_overall": 3.5, "pesq": 2.5}
    score = Score(with_values(clip, values, dict.fromkeys(values, POCKET)), "pocket")
    assert score.sources == {"mos_overall": POCKET, "pesq": POCKET, "estoi": UNKNOWN}
    only = score.only(["pesq"])
    assert only.metrics == {"pesq": 2.5, "mos_overall": 3.0, "estoi": 0.5} and only.sources["mos_overall"] == LISTENERS
    failed = Score(with_values(clip, dict.fromkeys(values), dict.fromkeys(values, POCKET)), "pocket", "it is empty")
    assert failed.only(["pesq"]).metrics == {"pesq": None, "mos_overall": 3.0, "estoi": 0.5}


def test_a_meta_of_another_form_does_no_harm() -> None:
    for own in ("mine", {"pesq": 3}, {"pesq": {"x": "y"}}):
        clip = Clip("u", "a.wav", metrics={"pesq": 2.0}, meta={OTHERS: own})
        assert label_of(clip, "pesq") is not None and without(clip, []).meta == {OTHERS: own}
        moved = with_values(clip, {"pesq": 2.5}, {"pesq": POCKET})
        assert moved.meta == {f"row.{OTHERS}": own, OTHERS: {"pesq": {"unknown": 2.0}}}


def test_labels_and_predictions_are_never_mixed() -> None:
    human = Clip("h", "h.wav", metrics={"mos_overall": 3.0})
    predicted = Clip("p", "p.wav", metrics={"mos_overall": 4.5}, sources={"mos_overall": POCKET})
    kept = replace(predicted, meta={OTHERS: {"mos_overall": {"listeners": 2.0}}})
    mixed, n = labels_or_predictions([human, predicted, kept], "mos_overall")
    assert [clip.metrics["mos_overall"] for clip in mixed] == [3.0, None, 2.0] and n == 1
    alone, n = labels_or_predictions([predicted], "mos_overall")
    assert alone == [predicted] and n == 1


def test_a_source_in_a_table_is_text_whatever_it_looks_like(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("audio_path,pesq,sources.pesq\na.wav,2.0,1.10\nb.wav,2.0,null\nc.wav,2.0,\n")
    assert [clip.sources for clip in read_clips([tmp_path / "m.csv"])] == [{"pesq": "1.10"}, {"pesq": "null"}, {}]
