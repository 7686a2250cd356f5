"""A clip without speech never wins: scores, pairs, the gate, and what an evaluation says of it."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import urgentmos
from urgentmos.cli import main
from urgentmos.common.clip_warnings import is_silent
from urgentmos.ranking.comparison import by_side, comparison
from urgentmos.ranking.gate import EXIT_WORSE, gate

RATE = 16_000
SILENT = {
    "zero": lambda n, rng: np.zeros(n),
    "constant": lambda n, rng: np.full(n, 0.3),
    "near": lambda n, rng: 3e-5 * rng.standard_normal(n),
    "drift": lambda n, rng: 0.2 + 2e-5 * rng.standard_normal(n),
    "click": lambda n, rng: np.r_[np.zeros(n // 2), 0.7 * np.ones(20), np.zeros(n - n // 2 - 20)],
}


@pytest.fixture(scope="module")
def model(tiny_model: Path):
    return urgentmos.load(tiny_model)


@given(st.sampled_from(sorted(SILENT)), st.floats(0.3, 3.0), st.integers(0, 99))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_clip_without_speech_has_the_worst_opinion_and_loses(model, make_voice, kind: str, seconds: float, seed: int) -> None:
    silent = SILENT[kind](int(seconds * RATE), np.random.default_rng(seed)).astype(np.float32)
    speech = make_voice(seed, seconds)
    score = model.score(silent, sample_rate=RATE)
    assert is_silent(score.warnings) and score.metrics["mos_overall"] == 1.0 == score.metrics["utmos"]
    spoken = model.score(speech, sample_rate=RATE)
    assert not is_silent(spoken.warnings) and spoken.metrics["mos_overall"] >= 1.0
    there, back = model.compare(speech, silent, sample_rate=RATE), model.compare(silent, speech, sample_rate=RATE)
    assert (there.verdict, back.verdict) == ("a", "b") and there.p_a == back.p_b == 1.0 and there.cmos == -back.cmos >= 0.5
    assert model.compare(silent, silent, sample_rate=RATE).verdict == "tie"


def test_the_timeline_of_a_clip_without_speech_is_none(model, make_voice) -> None:
    assert model.timeline(np.zeros(RATE, np.float32), sample_rate=RATE) is None
    assert model.timeline(make_voice(0, 1.0), sample_rate=RATE) is not None


def pair(cmos: float, a: tuple[str, ...] = (), b: tuple[str, ...] = ()):
    return comparison("old", "new", np.array([cmos > 0, cmos == 0, cmos < 0, cmos], float), by_side(a, b))


def test_a_build_that_is_silent_where_the_old_one_spoke_fails_on_a_single_content() -> None:
    muted = ("silence: the level is digital zero",)
    verdict = gate([pair(-0.2), pair(-1.0, b=muted)])
    assert (verdict.n_silent, verdict.exit_status, verdict.warning()) == (1, EXIT_WORSE, None)
    assert verdict.sentence().startswith("B is worse than A: it is silent on 1 content where A holds speech;")
    assert verdict.to_dict()["worse"] and "not shown" not in verdict.sentence()
    for rows in ([pair(-0.2), pair(0.0, a=muted, b=muted)], [pair(-0.2), pair(1.0, a=muted)]):  # A was silent, too
        assert gate(rows).n_silent == 0 and gate(rows).exit_status == 0


def test_an_evaluation_says_what_the_predicted_clips_warn_of(tmp_path: Path) -> None:
    rows = [{"uid": f"u{i}", "system_id": "s", "metrics": {"mos_overall": 1 + i}} for i in range(4)]
    warned = [{**row, "warnings": ["silence: the level is digital zero"] if i < 2 else []} for i, row in enumerate(rows)]
    for name, some in (("preds", warned), ("refs", rows)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    args = [
        "evaluate",
        str(tmp_path / "preds.jsonl"),
        str(tmp_path / "refs.jsonl"),
        "--samples",
        "0",
        "-o",
        str(tmp_path / "e.json"),
    ]
    result = CliRunner().invoke(main, args)
    assert "s: 2 of 4 clips are digital silence" in json.loads((tmp_path / "e.json").read_text())["warnings"]
    assert "Warning: s: 2 of 4 clips are digital silence\n" in result.stderr


def test_a_whistle_that_the_model_does_not_hear_is_said_by_side(tmp_path: Path, make_voice, tiny_model: Path) -> None:
    rate = 48_000
    for name, whistle in (("old", 0.0), ("new", 0.1)):
        (tmp_path / name).mkdir()
        for i in range(2):
            voice = np.interp(np.arange(rate) / rate, np.arange(RATE) / RATE, make_voice(i, 1.0))
            tone = whistle * np.sin(2 * np.pi * 10_000 * np.arange(rate) / rate)
            clean = np.fft.irfft(np.where(np.arange(rate // 2 + 1) < 7_000, np.fft.rfft(voice), 0), rate)
            soundfile.write(tmp_path / name / f"u{i}.wav", clean + tone, rate, subtype="FLOAT")
    old, new = str(tmp_path / "old"), str(tmp_path / "new")
    result = CliRunner().invoke(
        main, ["compare", old, new, "-m", str(tiny_model), "--fail-if-worse", "-o", str(tmp_path / "g.json")]
    )
    said = f"{old}: 0 of 2, {new}: 2 of 2 clips hold sound above 8 kHz, which tiny does not hear"
    assert any(w.startswith(said) for w in json.loads((tmp_path / "g.json").read_text())["warnings"])
    assert f"Warning: {said}" in result.stderr


def test_a_measured_metric_judges_silence_as_the_worst_and_label_keeps_what_it_measures(tmp_path: Path, make_voice) -> None:
    pytest.importorskip("speechmos")
    from urgentmos.clips.sources import NO_SPEECH
    from urgentmos.labellers.loop import label

    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE), RATE)
    judge = urgentmos.load("plcmos")  # which likes silence better than noise
    score = judge.score(tmp_path / "silent.wav")
    assert score.metrics["plcmos"] == 1.0 and score.sources["plcmos"] == NO_SPEECH
    (labelled,) = label([urgentmos.Clip("silent", str(tmp_path / "silent.wav"))], ["plcmos"])
    assert labelled.clip.metrics["plcmos"] > 1.5 and labelled.clip.sources["plcmos"].startswith("measured by plcmos")
    assert judge.compare(make_voice(0, 1.0), np.zeros(RATE), sample_rate=RATE).verdict == "a"
