"""LPS, the Levenshtein phoneme similarity: how much the phones of the clip match those of the reference signal.

Pirklbauer et al. 2023, "Evaluation Metrics for Generative Speech Enhancement Methods: Issues and Perspectives"; as the
URGENT challenges run it: a CTC phone recogniser (facebook/wav2vec2-lv-60-espeak-cv-ft) on both signals, spaces removed,
1 - distance / length of the reference transcript. The distance counts Unicode characters, so that a phone written with
two of them (a long vowel, an affricate) counts twice; that is the published practice, and we keep it.

The library's tokenizer wants a phonemizer and espeak even to decode. Decoding needs only the vocabulary, which is why the
decoder here is our own.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from urgentmos.errors import MeasureError, UsageError, need
from urgentmos.labellers import Measure, ReferenceCache, Settings, Signals, hub

RATE = 16_000
VARIANCE_FLOOR = 1e-7  # of the recogniser's own feature extractor


@dataclass(frozen=True)
class Alphabet:
    """The phonemes behind the recogniser's output numbers."""

    tokens: dict[int, str]
    blank: str = "<pad>"
    unknown: str = "<unk>"  # stands for a number without a token
    delimiter: str | None = None  # token between words

    def transcript(self, ids: Iterable[int]) -> str:
        """Greedy CTC decoding of one number per frame: repeats merged, blanks and word delimiters dropped, spaces removed.

        Other special tokens (<s>, </s>, <unk>) stay in the string, because the library's `batch_decode` as the challenge
        calls it keeps them; a trained recogniser does not emit them.
        """
        merged = (token for token, _ in groupby(self.tokens.get(i, self.unknown) for i in ids))
        return "".join(t for t in merged if t not in (self.blank, self.delimiter)).replace(" ", "")


def load(settings: Settings) -> Measure:
    """`measure` with the phone recogniser named by `settings.weights["lps"]`, a wav2vec 2.0 CTC folder with its vocab.json.

    The waveform goes in at 16 kHz (soxr HQ), alone, at zero mean and unit variance. `measure` returns {"lps": -inf..1}: 0
    if nothing is recognised in the clip, below 0 if much is inserted. MeasureError if nothing is recognised in the
    reference signal, or if it is missing, silent, unequal in length or too short.
    """
    need("rapidfuzz", "label")
    recogniser = need("transformers", "models").Wav2Vec2ForCTC
    folder = hub.pretrained_folder("lps", settings)
    model = hub.pretrained(recogniser, "lps", folder, settings.device)
    alphabet, normalise = read_alphabet(folder), _wants_normalised(folder)
    shortest = hub.receptive_field(model.config.conv_kernel, model.config.conv_stride)

    def transcript(wave: np.ndarray) -> str:
        return alphabet.transcript(recognise(model, normalised(wave) if normalise else wave))

    of_reference = ReferenceCache(transcript)

    def measure(signals: Signals) -> dict[str, float]:
        reference, wave = signals.pair(RATE)
        hub.check_length(len(wave), shortest, RATE)
        return {"lps": hub.finite(similarity(of_reference(reference), transcript(wave)))}

    return measure


def similarity(reference: str, clip: str) -> float:
    """1 - edit distance / length of `reference`, in Unicode characters; -inf..1. MeasureError if `reference` is empty."""
    from rapidfuzz.distance import Levenshtein

    if not reference:
        raise MeasureError("no phone was recognised in the reference signal. Give a reference signal that holds speech")
    return 1 - Levenshtein.distance(reference, clip) / len(reference)


def normalised(wave: np.ndarray) -> np.ndarray:
    """(T,) at zero mean and unit variance; silence stays silence."""
    exact = wave.astype(np.float64)
    with np.errstate(invalid="ignore"):  # infinity becomes NaN here, and an error with a reason in `recognise`
        out: np.ndarray = ((exact - exact.mean()) / np.sqrt(exact.var() + VARIANCE_FLOOR)).astype(np.float32)
    return out


def recognise(model: Any, wave: np.ndarray) -> list[int]:
    """(T,) at 16 kHz -> the likeliest output number of each of F frames, 50 a second."""
    import torch

    with torch.inference_mode():
        batch = torch.tensor(wave, dtype=torch.float32, device=model.device)[None]
        logits = model(batch).logits[0]  # (F, tokens)
        if not bool(torch.isfinite(logits).all()):
            raise MeasureError("the phone recogniser's answer is not finite. Check the clip for NaN and infinity")
        ids: list[int] = logits.argmax(dim=-1).tolist()
        return ids


def read_alphabet(folder: Path) -> Alphabet:
    """The alphabet of a CTC model's folder: vocab.json, and the names of its special tokens if other than usual."""
    vocabulary = hub.read_json(folder / "vocab.json")
    if not all(isinstance(i, int) for i in vocabulary.values()):
        raise UsageError(f"{folder / 'vocab.json'} should map each token to a number. Name a model with one vocabulary.")
    special = {**_optional(folder / "special_tokens_map.json"), **_optional(folder / "tokenizer_config.json")}
    # Of the library's two tokenizers for CTC, only the one for letters has a delimiter unless told otherwise.
    usual_delimiter = "|" if special.get("tokenizer_class") == "Wav2Vec2CTCTokenizer" else None
    return Alphabet(
        {i: token for token, i in vocabulary.items()},
        blank=_token(special.get("pad_token")) or "<pad>",
        unknown=_token(special.get("unk_token")) or "<unk>",
        delimiter=_token(special.get("word_delimiter_token", usual_delimiter)),
    )


def _wants_normalised(folder: Path) -> bool:
    return bool(_optional(folder / "preprocessor_config.json").get("do_normalize", True))


def _optional(path: Path) -> dict[str, Any]:
    return hub.read_json(path) if path.exists() else {}


def _token(value: str | dict[str, Any] | None) -> str | None:
    """A special token is written as a string or as an object with its `content`."""
    return str(value["content"]) if isinstance(value, dict) else value
