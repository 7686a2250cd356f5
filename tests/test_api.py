"""Judges: any way to name a recording gives the same score, as many scores as clips, and no exception for a bad file."""

import random
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

import urgentmos
from urgentmos.api import human_mos, load, rank, rank_clips
from urgentmos.clips.clip import Clip
from urgentmos.errors import UsageError
from urgentmos.judges.base import Score, score_table
from urgentmos.judges.metric import Measured
from urgentmos.labellers import MEASURABLE, Measure, Settings
from urgentmos.metrics import METRICS

RATE = 16_000


@pytest.fixture
def pair(tmp_path: Path, make_voice, add_noise) -> tuple[Path, Path]:
    """(noisy file, clean file), float32 wav."""
    voice = make_voice(1, 0.6)
    for name, samples in (("noisy", add_noise(voice, 10)), ("clean", voice)):
        soundfile.write(tmp_path / f"{name}.wav", samples, RATE, subtype="FLOAT")
    return tmp_path / "noisy.wav", tmp_path / "clean.wav"


def samples_of(path: Path) -> np.ndarray:
    return soundfile.read(path, dtype="float32")[0]


# ---- the package


@pytest.mark.parametrize("name", urgentmos.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(urgentmos, name) is not None and name in dir(urgentmos)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'guess'"):
        urgentmos.guess  # noqa: B018
    assert urgentmos.METRICS is METRICS and urgentmos.Clip is Clip


# ---- load


def test_an_unknown_model_is_answered_with_the_names_that_exist() -> None:
    with pytest.raises(UsageError, match="unknown model 'pocketknife'") as e:
        load("pocketknife")
    assert all(name in str(e.value) for name in ("mos_overall", *MEASURABLE))


def test_a_released_name_is_ours() -> None:
    assert load("mos").name == "mos_overall"


def test_a_model_without_its_weights_says_how_to_get_them() -> None:
    with pytest.raises(UsageError, match=r"nisqa needs weights that no package carries\. Pass --weights nisqa=FILE"):
        load("nisqa_mos")


def test_the_version_names_the_packages() -> None:
    assert "numpy" in load("lsd").version


# ---- score


def test_a_path_and_its_samples_score_alike(pair: tuple[Path, Path]) -> None:
    model, (noisy, clean) = load("lsd"), pair
    by_path = model.score(noisy, reference=clean)
    by_text = model.score(str(noisy), reference=str(clean))
    by_samples = model.score(samples_of(noisy), sample_rate=RATE, reference=samples_of(clean))
    assert by_path.error is None and by_path.metrics["lsd"] is not None and by_path.metrics["lsd"] > 0
    assert by_path.metrics == by_text.metrics == by_samples.metrics
    assert (by_path.uid, by_path.model, by_path.clip.duration) == ("noisy", "lsd", 0.6)


@pytest.mark.parametrize("axis", [0, 1])
def test_channels_are_averaged_whichever_axis_they_are(axis: int, pair: tuple[Path, Path]) -> None:
    model, wave, clean = load("lsd"), samples_of(pair[0]), samples_of(pair[1])
    both = np.stack([wave, wave], axis=axis)
    mono = model.score(wave, sample_rate=RATE, reference=clean).metrics["lsd"]
    assert model.score(both, sample_rate=RATE, reference=clean).metrics["lsd"] == pytest.approx(mono, rel=1e-5)


def test_integers_are_scaled(pair: tuple[Path, Path]) -> None:
    model, wave, clean = load("sdr"), samples_of(pair[0]), samples_of(pair[1])
    whole = (wave * 32767).astype(np.int16)
    expected = model.score(wave, sample_rate=RATE, reference=clean).metrics["sdr"]
    assert model.score(whole, sample_rate=RATE, reference=clean).metrics["sdr"] == pytest.approx(expected, abs=0.05)


def test_samples_without_a_rate_are_refused() -> None:
    with pytest.raises(UsageError, match="sample_rate=None is not a whole number of Hz"):
        load("lsd").score(np.zeros(RATE))


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("missing.wav", "does not exist"),
        (np.full(RATE, np.nan), "not finite"),
        (np.zeros(0), "no samples"),
        (np.zeros(160), "0.01 s is shorter than the 0.05 s that LSD needs"),
    ],
    ids=["missing", "nan", "empty", "short"],
)
def test_what_cannot_be_heard_is_an_error_not_an_exception(source: str | np.ndarray, reason: str) -> None:
    found = load("lsd").score(source, sample_rate=RATE, reference=np.ones(160))
    assert found.metrics == {"lsd": None} and reason in (found.error or "")


def test_an_intrusive_metric_without_a_reference_signal_says_so(pair: tuple[Path, Path]) -> None:
    found = load("lsd").score(pair[0])
    assert found.metrics == {"lsd": None} and "no reference signal" in (found.error or "")


def test_silence_is_scored_with_a_warning(make_voice) -> None:
    found = load("lsd").score(np.zeros(RATE), sample_rate=RATE, reference=make_voice(1, 1.0))
    assert found.metrics["lsd"] is not None and found.warnings == ["silence: the level is digital zero"]


def test_scoring_leaves_no_trace(pair: tuple[Path, Path]) -> None:
    before = (list(warnings.filters), random.getstate(), np.random.get_state()[1].tolist(), np.geterr())  # type: ignore[index]
    load("estoi").score(pair[0], reference=pair[1])
    after = (list(warnings.filters), random.getstate(), np.random.get_state()[1].tolist(), np.geterr())  # type: ignore[index]
    assert before == after


def test_a_second_recording_does_not_load_the_model_again(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from urgentmos.labellers import lsd

    original, loaded = lsd.load, []

    def counting(settings: Settings) -> Measure:
        loaded.append(settings)
        return original(settings)

    model = load("lsd")
    monkeypatch.setattr(lsd, "load", counting)
    first, second = (model.score(pair[0], reference=pair[1]) for _ in range(2))
    assert len(loaded) == 1 and first == second


def test_as_many_scores_as_clips_in_their_order(pair: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_text("no")
    clips = [
        Clip(str(i), str(path), reference_path=str(pair[1])) for i, path in enumerate([*pair, tmp_path / "broken.wav"] * 3)
    ]
    scores = list(load("lsd").score_clips(clips))
    assert [score.uid for score in scores] == [clip.uid for clip in clips]
    assert [score.error is None for score in scores] == [True, True, False] * 3
    assert all(score.metrics.keys() == {"lsd"} for score in scores)


def test_files_and_folders_are_scored_together(pair: tuple[Path, Path], tmp_path: Path) -> None:
    scores = load("lsd").score_all([tmp_path, pair[1]])
    assert len(scores) == 3 and all("no reference signal" in (score.error or "") for score in scores)


# ---- from scores to a table


def score_of(system: str, content: str, value: float | None, metric: str = "lsd") -> Score:
    clip = Clip(f"{system}:{content}", f"{system}/{content}.wav", system, content, metrics={metric: value})
    return Score(clip, metric, None if value is not None else "no value")


@given(
    values=st.dictionaries(
        st.tuples(st.sampled_from("ABCD"), st.sampled_from("uvwxyz")), st.none() | st.floats(-5, 5, width=32), min_size=1
    ),
    order=st.randoms(use_true_random=False),
)
def test_each_value_is_found_at_its_system_and_content(
    values: dict[tuple[str, str], float | None], order: random.Random
) -> None:
    scores = [score_of(system, content, value) for (system, content), value in values.items()]
    order.shuffle(scores)
    systems, contents, table = score_table(scores, "lsd")
    assert sorted(systems) == sorted({s for s, _ in values}) and sorted(contents) == sorted({c for _, c in values})
    for i, system in enumerate(systems):
        for j, content in enumerate(contents):
            value = values.get((system, content))
            assert np.isnan(table[i, j]) if value is None else table[i, j] == value


@pytest.mark.parametrize("missing", ["system_id", "reference_id"])
def test_a_clip_without_its_ids_is_named(missing: str) -> None:
    clip = replace(score_of("A", "u", 1.0).clip, **{missing: None})
    with pytest.raises(UsageError, match="A:u has no system_id or no reference_id"):
        rank([clip], "lsd")


def test_a_content_twice_is_named() -> None:
    with pytest.raises(UsageError, match=r"system A has two clips of u\. Keep one of them"):
        rank([score_of("A", "u", 1.0).clip, score_of("A", "u", 2.0).clip], "lsd")


def test_human_mos_is_the_mean_of_what_each_system_has_or_nothing() -> None:
    clips = [score_of("A", "u", 4.0, "mos_overall").clip, score_of("A", "v", 2.0, "mos_overall").clip]
    clips += [score_of("B", "u", 1.0, "mos_overall").clip, score_of("B", "v", None, "mos_overall").clip]
    assert human_mos(clips, ["A", "B"]).tolist() == [3.0, 1.0]  # type: ignore[union-attr]
    assert human_mos(clips[:2], ["A", "B"]) is None


# ---- rank


def clips_of(values: dict[str, list[float | None]], metric: str = "lsd") -> list[Clip]:
    return [
        score_of(system, f"u{j}", value, metric).clip for system, series in values.items() for j, value in enumerate(series)
    ]


VALUES: dict[str, list[float | None]] = {"A": [1.0, 2.0, 1.5, 1.0], "B": [2.0, 3.0, 1.4, 2.0], "C": [4.0, 5.0, 4.0, 4.5]}


@pytest.mark.parametrize("metric", ["lsd", "pesq"])
def test_the_direction_comes_from_the_table_of_metrics(metric: str) -> None:
    found = rank(clips_of(VALUES, metric), metric)
    best = "A" if METRICS[metric].better == "lower" else "C"
    assert found.systems[0].system_id == best and found.model == metric


def test_a_value_at_hand_is_not_measured() -> None:
    found, scores = rank_clips(clips_of(VALUES), load("lsd"), "mos")  # the files do not exist
    assert [score.error for score in scores] == [None] * 12
    assert [row.score for row in found.systems] == [pytest.approx(np.mean(VALUES[s])) for s in "ABC"]  # type: ignore[arg-type]


def test_without_any_value_there_is_no_ranking_but_the_first_reason() -> None:
    clips = [replace(clip, reference_path="clean.wav") for clip in clips_of({"A": [None], "B": [None]})]
    with pytest.raises(UsageError, match=r"none of the 2 clips could be judged by lsd\. The first: A/u0.wav does not exist"):
        rank(clips, "lsd")


def test_a_metric_that_needs_reference_signals_refuses_before_the_work() -> None:
    with pytest.raises(UsageError, match=r"lsd needs reference signals and no clip has one\. Give --reference-dir"):
        rank(clips_of({"A": [None], "B": [None]}), "lsd")


def test_a_missing_value_takes_its_content_out_and_is_told() -> None:
    found = rank(clips_of({"A": [1.0, 2.0, 3.0], "B": [2.0, None, 4.0]}, "mos_overall"), "mos_overall")
    assert found.n_contents == 2 and any("1 content of 3 left out" in said for said in found.warnings)


def test_correlations_need_listeners_who_are_not_the_judge() -> None:
    clips = clips_of(VALUES)
    heard = [
        replace(clip, metrics={**clip.metrics, "mos_overall": {"A": 4.5, "B": 3.0, "C": 1.5}[clip.uid[0]]}) for clip in clips
    ]
    assert rank(clips, "lsd").correlation is None and rank(heard, "mos_overall").correlation is None
    correlation = rank(heard, "lsd").correlation
    assert correlation is not None and correlation["krcc"] == pytest.approx(1), "low distance, high MOS: agreement"


def test_a_folder_and_its_clips_rank_alike(tmp_path: Path, make_voice, add_noise) -> None:
    for content in "ab":
        voice = make_voice(ord(content), 0.6)
        for system, snr in (("clean", 60), ("bad", 5), ("worse", -5)):
            path = tmp_path / "systems" / system / f"{content}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, add_noise(voice, snr), RATE, subtype="FLOAT")
        soundfile.write(tmp_path / f"{content}.wav", voice, RATE, subtype="FLOAT")
    from urgentmos.clips.inputs import read_systems

    by_path = rank(tmp_path / "systems", "lsd", reference_dir=tmp_path)
    by_clips = rank(read_systems(tmp_path / "systems"), Measured("lsd"), reference_dir=tmp_path)
    assert by_path == by_clips and [row.system_id for row in by_path.systems] == ["clean", "bad", "worse"]
