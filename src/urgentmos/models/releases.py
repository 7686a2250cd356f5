"""Released models, one row each; plain data, so that `urgentmos models` needs no torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Release:
    """One released model. Facts are from the authors' pages; None or an empty text where those do not state it."""

    name: str
    format: str  # of urgentmos.models.official.FORMATS
    repo: str  # on the hub, or on GitHub
    file: str
    licence: str
    metrics: tuple[str, ...]
    trained_on: str
    parameters: int  # millions, of all weights in the file
    needs: tuple[str, ...] = ()  # further files of the repo
    revision: str | None = None  # commit; None where no commit has been checked: the newest is fetched

    @property
    def on_hub(self) -> bool:
        """Whether the name alone is enough to fetch it; files on GitHub are fetched by hand."""
        return "GitHub" not in self.repo

    @property
    def size(self) -> str:
        """Roughly, as float32 without the state of the optimiser."""
        return f"about {self.parameters * 4} MB"


_NATURAL = ("mos_overall", "scoreq", "utmos", "nisqa_mos", "distill_mos")
_SIGMOS = tuple(f"sigmos_{name}" for name in ("ovrl", "col", "disc", "loud", "reverb", "sig", "noise"))
_INTRUSIVE = ("lps", "spksim", "sbert", "mcd", "sdr", "pesq", "pesqc2", "lsd", "estoi")
_MOS_CORPORA = "corpora of Table 2 of the UrgentMOS paper"
_UNIVERSA = "URGENT 2026 Track 2 training data"


def _urgentmos(scope: str, pairs: str) -> Release:
    return Release(
        name=f"urgent-mos-f1c1m5d{scope}",
        format="urgentmos",
        repo=f"urgent-challenge/urgent-mos-f1c1m5d{scope}",
        file="model.pt",
        licence="MIT",
        metrics=_NATURAL,
        trained_on=f"{_MOS_CORPORA}; pairs {pairs}",
        parameters=130,
    )


def _urgentpk(front: str, file: str, parameters: int, needs: tuple[str, ...] = ()) -> Release:
    return Release(
        name=f"urgent-pk-{front}",
        format="urgentpk",
        repo="Twinkzzzzz/URGENT-PK",
        file=file,
        licence="Apache-2.0 (code)",
        metrics=(),
        trained_on="URGENT 2024 listening test",
        parameters=parameters,
        needs=needs,
    )


_ROWS = (
    _urgentmos("corpus", "within a corpus"),
    _urgentmos("ref", "of the same content"),
    Release(
        name="universa-ext_wavlm-base_5metric",
        format="universa",
        repo="vvwangvv/universa-ext_wavlm-base_5metric",
        file="model.pt",
        licence="",
        metrics=_NATURAL,
        trained_on=_UNIVERSA,
        parameters=128,
        needs=("config.yaml",),
    ),
    _urgentpk("mel", "mel_resnet34_urgent24.ckpt", 6),
    _urgentpk("utmos-fixed", "utmos_fix_resnet34_urgent24.ckpt", 110),
    _urgentpk("utmos-tuned", "utmos_ft_resnet34_urgent24.ckpt", 110),
    Release(
        name="utmos22-strong",
        format="utmos",
        repo="tarepan/SpeechMOS (GitHub release v1.2.0)",
        file="utmos22_strong_step7459_v1.pt",
        licence="MIT",
        metrics=("utmos",),
        trained_on="BVCC (VoiceMOS Challenge 2022, main track)",
        parameters=103,
    ),
)
RELEASES: dict[str, Release] = {row.name: row for row in _ROWS}
