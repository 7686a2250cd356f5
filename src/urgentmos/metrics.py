"""The table of metrics. The one place for range, direction, category and shortest input.

The first fifteen rows are Table 1 of the UrgentMOS paper, in its order. `low, high` are what the tools return in
practice; `paper_low, paper_high` are the bounds of Table 1 where the table has the metric.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import Literal

from urgentmos.common.untrusted import shown
from urgentmos.errors import UsageError

Category = Literal["noise_distortion", "naturalness", "intelligibility", "speaker", "spectral"]


@dataclass(frozen=True)
class Metric:
    """One row of the table."""

    name: str
    title: str
    category: Category
    low: float  # smallest value seen in practice (-inf: none)
    high: float
    source: str  # who defines it, and which code the URGENT challenges run
    paper_low: float = -inf
    paper_high: float = inf
    better: Literal["higher", "lower"] = "higher"
    needs_reference: bool = False  # a clean reference signal of equal rate and length
    rate: int | None = 16_000  # Hz at which it is measured; None: the file's own
    min_seconds: float = 0.1  # shortest clip with a meaning
    unit: str = ""
    table1: bool = False
    labeller: str = ""  # that measures it, where it has another name than the metric
    stands_in_for: str | None = None  # an offline relative; never reported under the other's name

    def range(self, profile: Literal["practice", "paper"] = "practice") -> tuple[float, float]:
        """(low, high) as practised, or as Table 1 of the paper bounds it."""
        return (self.low, self.high) if profile == "practice" else (self.paper_low, self.paper_high)

    def clip(self, value: float, profile: Literal["practice", "paper"] = "practice") -> float:
        """`value` moved into the range; label preparation counts how often this bites."""
        low, high = self.range(profile)
        return min(max(value, low), high)

    @property
    def worst(self) -> float | None:
        """The worst end of the scale in practice, else that of Table 1; None if neither bounds it."""
        ends = [self.range(profile)[self.better == "lower"] for profile in ("practice", "paper")]
        return next((end for end in ends if isfinite(end)), None)


def _mos(name: str, title: str, source: str, low: float = 1.0, high: float = 5.0, **more: object) -> Metric:
    """A naturalness predictor on the 1..5 opinion scale. Linear heads are not clamped, so practice may exceed it."""
    return Metric(name, title, "naturalness", low, high, source, 1.0, 5.0, **more)  # type: ignore[arg-type]


def _sigmos(name: str, title: str) -> Metric:
    source = "Ristea et al. 2024 (SIGMOS, P.804), one ONNX model at 48 kHz"
    return Metric(
        f"sigmos_{name}", f"SIGMOS {title}", "noise_distortion", 1.0, 5.0, source, 1.0, 5.0, rate=48_000, labeller="sigmos"
    )


# fmt: off
_ROWS = (
    Metric("pesq", "PESQ", "noise_distortion", 0.999, 4.6439,
           "ITU-T P.862.1 (8 kHz) and P.862.2 (16 kHz and above); pesq 0.0.4, without Corrigendum 2",
           1.0, 4.5, needs_reference=True, min_seconds=0.25, table1=True),
    Metric("pesqc2", "PESQ (Cor. 2)", "noise_distortion", 0.999, 4.6439,
           "ITU-T P.862 Corrigendum 2 (03/2018); pesqc2 0.0.4 (Torcoli et al. 2025)",
           1.0, 4.5, needs_reference=True, min_seconds=0.25, table1=True),
    Metric("dnsmos_ovrl", "DNSMOS OVRL", "noise_distortion", 1.0, 5.0,
           "Reddy et al. 2022, P.835; sig_bak_ovr.onnx, 9.01 s windows, polynomial map",
           1.0, 5.0, table1=True, labeller="dnsmos"),
    Metric("lsd", "LSD", "noise_distortion", 0.0, inf,
           "log-spectral distance, natural log of power, 32 ms frames, after gain projection (URGENT 2024)",
           0.0, better="lower", needs_reference=True, rate=None, min_seconds=0.05, table1=True),
    Metric("sdr", "SDR", "noise_distortion", -50.0, 50.0,
           "BSSEval v3 with a 512-tap distortion filter, clamped to +-50 dB (Vincent et al. 2006)",
           needs_reference=True, rate=None, unit="dB", table1=True),
    _mos("mos_overall", "MOS (human)", "mean of listener ratings, ITU-T P.800 / P.808", table1=True),
    _mos("utmos", "UTMOS", "Saeki et al. 2022, UTMOS22 strong learner (step 7459), unclamped", -inf, inf, table1=True),
    _mos("distill_mos", "Distill-MOS", "Stahl and Gamper 2025; distillmos 0.9.1, 7.68 s crops", table1=True),
    Metric("nisqa_mos", "NISQA MOS", "naturalness", -inf, inf,
           "Mittag et al. 2021, NISQA v2.0 (nisqa.tar), mos_pred, at the file's own rate, unclamped",
           1.0, 5.0, rate=None, min_seconds=0.16, table1=True, labeller="nisqa"),
    _mos("scoreq", "SCOREQ", "Ragano et al. 2024, natural-speech domain, no reference, unclamped", -inf, inf, table1=True),
    Metric("estoi", "ESTOI", "intelligibility", -1.0, 1.0,
           "Jensen and Taal 2016; pystoi, extended", 0.0, 1.0, needs_reference=True, rate=10_000, min_seconds=0.4, table1=True),
    Metric("sbert", "SpeechBERTScore", "intelligibility", -1.0, 1.0,
           "Saeki et al. 2024, precision, HuBERT hidden state 8 (mHuBERT-147 since URGENT 2025)",
           -1.0, 1.0, needs_reference=True, table1=True),
    Metric("lps", "LPS", "intelligibility", -inf, 1.0,
           "Levenshtein phoneme similarity, Pirklbauer et al. 2023; wav2vec2-lv-60-espeak-cv-ft",
           -inf, 1.0, needs_reference=True, table1=True),
    Metric("spksim", "Speaker similarity", "speaker", -1.0, 1.0,
           "cosine of RawNet3 embeddings (espnet/voxcelebs12_rawnet3)", -1.0, 1.0, needs_reference=True, table1=True),
    Metric("mcd", "MCD", "spectral", 0.0, inf,
           "Kubichek 1993; SPTK mel-cepstra with c0, fastdtw radius 1, at the file's own rate (URGENT 2024)",
           0.0, better="lower", needs_reference=True, rate=None, min_seconds=0.128, unit="dB", table1=True),
    Metric("dnsmos_sig", "DNSMOS SIG", "noise_distortion", 1.0, 5.0, "Reddy et al. 2022, P.835", 1.0, 5.0, labeller="dnsmos"),
    Metric("dnsmos_bak", "DNSMOS BAK", "noise_distortion", 1.0, 5.0, "Reddy et al. 2022, P.835", 1.0, 5.0, labeller="dnsmos"),
    Metric("dnsmos_p808", "DNSMOS P.808", "noise_distortion", 1.0, 5.0,
           "Reddy et al. 2021, P.808 (model_v8.onnx)", 1.0, 5.0, labeller="dnsmos"),
    Metric("plcmos", "PLCMOS", "noise_distortion", 1.0, 5.0, "Diener et al. 2023, PLCMOS v2 (speechmos)", 1.0, 5.0),
    _sigmos("ovrl", "overall"),
    _sigmos("sig", "signal"),
    _sigmos("noise", "noisiness"),
    _sigmos("col", "coloration"),
    _sigmos("disc", "discontinuity"),
    _sigmos("loud", "loudness"),
    _sigmos("reverb", "reverberation"),
    Metric("spksim_ge2e", "Speaker similarity (GE2E)", "speaker", -1.0, 1.0,
           "cosine of GE2E embeddings (resemblyzer 0.1.4); the offline stand-in for spksim",
           -1.0, 1.0, needs_reference=True, stands_in_for="spksim", labeller="ge2e"),
    Metric("lps_pocketsphinx", "LPS (PocketSphinx)", "intelligibility", -inf, 1.0,
           "Levenshtein similarity of PocketSphinx en-us phones; the offline stand-in for lps, English only",
           -inf, 1.0, needs_reference=True, stands_in_for="lps", labeller="pocketsphinx"),
)
# fmt: on

METRICS: dict[str, Metric] = {m.name: m for m in _ROWS}
TABLE1: tuple[str, ...] = tuple(m.name for m in _ROWS if m.table1)
CATEGORIES: tuple[Category, ...] = ("noise_distortion", "naturalness", "intelligibility", "speaker", "spectral")
HUMAN: tuple[str, ...] = ("mos_overall",)  # comes from listeners; nothing measures it
ALIASES = {"mos": "mos_overall"}  # the name in released checkpoints and score files


def canonical(name: str) -> str:
    """Our name of a metric; a released `mos` is `mos_overall`. Unknown names pass through unchanged."""
    return ALIASES.get(name, name)


def is_opinion(name: str) -> bool:
    """Whether a metric lives on the opinion scale from 1 to 5."""
    return name in METRICS and METRICS[name].range("paper") == (1.0, 5.0)


def metric(name: str) -> Metric:
    """The row called `name`; UsageError lists the names if there is none."""
    try:
        return METRICS[canonical(name)]
    except KeyError:
        raise UsageError(f"unknown metric {shown(name)}. Known metrics: {', '.join(METRICS)}.") from None


def worst_scores(names: Iterable[str]) -> dict[str, float]:
    """{metric: worst end of its scale} for those whose scale has one: the scores of a clip that holds no speech."""
    ends = {name: METRICS[name].worst for name in names if name in METRICS}
    return {name: end for name, end in ends.items() if end is not None}


def direction(metric: str) -> int:
    """Return +1 if larger values of a metric are better, -1 if smaller ones are; +1 for a metric that is not in the table.

    >>> direction("pesq"), direction("mcd")
    (1, -1)
    """
    return -1 if metric in METRICS and METRICS[metric].better == "lower" else 1


def parse_metrics(text: str, offered: Iterable[str]) -> list[str]:
    """'all' or 'pesq,estoi' -> names in the given order; each must be in `offered`."""
    offers: Sequence[str] = list(offered)
    if text.strip() == "all":
        return list(offers)
    names = [canonical(part.strip()) for part in text.split(",") if part.strip()]
    if not names:
        raise UsageError(f"no metric named. Choose from: all, {', '.join(offers)}.")
    for name in names:
        if name not in offers:
            metric(name)
            raise UsageError(f"{name} is not offered here. Choose from: all, {', '.join(offers)}.")
    return list(dict.fromkeys(names))
