"""The shipped model: small, the same in both runtimes, sane about level, noise, codecs and clean speech."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import urgentmos
from urgentmos.audio.samples import load as load_audio
from urgentmos.common.packaged import DEFAULT_MODEL, PACKAGED
from urgentmos.judges.base import Predictor
from urgentmos.simulation import RATE, chain_step, degradations, simulate

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="module")
def pocket() -> Predictor:
    return urgentmos.load("pocket", allow_download=False)


@pytest.fixture(scope="module")
def clean() -> list[np.ndarray]:
    return [load_audio(path, RATE).wave for path in sorted((EXAMPLES / "clean").glob("*.flac"))]


def opinion(model: Predictor, wave: np.ndarray, rate: int = RATE) -> float:
    score = model.score(wave, sample_rate=rate)
    assert score.error is None
    return float(score.metrics["mos_overall"] or np.nan)


def test_it_is_the_default_and_small() -> None:
    folder = PACKAGED["pocket"]
    assert DEFAULT_MODEL == "pocket"
    assert (folder / "model.safetensors").stat().st_size < 12e6 and (folder / "model.onnx").stat().st_size < 12e6
    safetensors = pytest.importorskip("safetensors")
    with safetensors.safe_open(folder / "model.safetensors", "np") as file:
        assert sum(np.prod(file.get_slice(name).get_shape()) for name in file.keys()) <= 3_000_000  # noqa: SIM118
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    for word in ("pseudo-label", "licence", "Known failures", "Intended use"):
        assert word.lower() in card.lower()


def test_both_runtimes_say_the_same(pocket: Predictor, clean: list[np.ndarray]) -> None:
    pytest.importorskip("torch")
    from urgentmos.judges.loading import torch_backend
    from urgentmos.judges.network import Network

    judge, info, _ = torch_backend(PACKAGED["pocket"], "cpu", allow_download=False)
    heavy = Network(judge, "pocket", "0", tuple(info["metrics"]), ranks_by="mos_overall", symmetric=True)
    noisy = simulate(clean[0], [chain_step("white", 4, 0)])
    for wave in (clean[0], noisy):
        told, other = pocket.score(wave, sample_rate=RATE).metrics, heavy.score(wave, sample_rate=RATE).metrics
        assert told == pytest.approx(other, abs=2e-3)
        assert told["mos_overall"] == pytest.approx(other["mos_overall"], abs=1e-4)
    one = pocket.compare(clean[0], noisy, sample_rate=RATE)
    two = heavy.compare(clean[0], noisy, sample_rate=RATE)
    assert one.cmos == pytest.approx(two.cmos, abs=1e-3)


def test_a_clip_against_itself_is_a_tie_and_pairs_mirror(pocket: Predictor, clean: list[np.ndarray]) -> None:
    noisy = simulate(clean[0], [chain_step("pink", 3, 0)])
    same, there, back = (
        pocket.compare(a, b, sample_rate=RATE) for a, b in ((noisy, noisy), (clean[0], noisy), (noisy, clean[0]))
    )
    assert same.verdict == "tie" and same.cmos == 0
    assert there.cmos == -back.cmos and there.p_a == back.p_b and there.verdict == "a"


def test_level_does_not_matter(pocket: Predictor, clean: list[np.ndarray]) -> None:
    for wave in clean[:3]:
        assert opinion(pocket, 0.1 * wave) == pytest.approx(opinion(pocket, wave), abs=0.02)


@pytest.mark.parametrize("name", ["white", "mnru", "mu_law", "clip", "loss_silence", "opus", "amr"])
def test_stronger_damage_scores_lower_on_average(pocket: Predictor, clean: list[np.ndarray], name: str) -> None:
    row = degradations()[name]
    if row.missing():
        pytest.skip(f"needs {', '.join(row.missing())}")
    means = [
        np.mean([opinion(pocket, simulate(wave, [chain_step(name, step, k)])) for k, wave in enumerate(clean[:6])])
        for step in range(len(row.ladder))
    ]
    assert means[0] - means[-1] > 0.1  # the modes of AMR are close to each other
    assert all(later < earlier + 0.05 for earlier, later in pairwise(means))


def test_clean_speech_beats_what_was_made_of_it(pocket: Predictor) -> None:
    ranking = urgentmos.rank(EXAMPLES / "systems", model=pocket)
    places = {row.system_id: row.rank for row in ranking.systems}
    assert places["noisy"] > np.median(list(places.values()))


def test_scores_come_with_intervals_that_hold_them(pocket: Predictor, clean: list[np.ndarray]) -> None:
    score = pocket.score(clean[0], sample_rate=RATE)
    assert score.intervals is not None and set(score.intervals) == set(pocket.metrics)
    for metric, (low, high) in score.intervals.items():
        assert low <= high, metric
    low, high = score.intervals["mos_overall"]
    assert low <= float(score.metrics["mos_overall"] or 0) <= high
