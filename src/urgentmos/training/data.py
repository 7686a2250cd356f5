"""Data for training: clips with labels and native pairs from what is on disk, their split, and a batch of them as arrays.

Which clips and pairs make a batch is decided in plans.py.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from urgentmos.audio.samples import load as load_audio
from urgentmos.audio.samples import probe, resample
from urgentmos.clips.clip import Clip
from urgentmos.clips.provenance import predicted_labels, sources_of, with_labels
from urgentmos.clips.records import number
from urgentmos.clips.sources import LISTENERS, kind_of, phrase_of, readable, stated_sources
from urgentmos.errors import AudioError, UsageError
from urgentmos.metrics import direction
from urgentmos.training.augment import Augment

VERDICTS = {"a": 0, "b": 1, "tie": 2}  # as nets.losses
NO_VERDICT = -100


class Pair(NamedTuple):
    """Two clips by their places in the data, and what is known of them."""

    a: int
    b: int
    cmos: float  # NaN: not known
    verdict: int  # as VERDICTS; NO_VERDICT: to be made of the CMOS, or not known
    native: bool = False  # judged as a pair, not derived from two scores
    source: str = LISTENERS  # of a native pair's label


@dataclass(frozen=True)
class Data:
    """All clips and native pairs of one side of a run."""

    clips: Sequence[Clip]  # each with a duration in seconds
    pairs: Sequence[Pair] = field(default_factory=list)  # that listeners judged directly

    def label(self, metric: str) -> np.ndarray:
        """(B,) float64 of all clips, NaN where missing."""
        values = (clip.metrics.get(metric) for clip in self.clips)
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)

    def label_sources(self) -> dict[str, dict[str, int]]:
        """Metric -> {source: clips with a label from it}; under "pairs" the native ones."""
        counts: dict[str, dict[str, int]] = {}
        labels = [(name, readable(source, name)) for clip in self.clips for name, source in sources_of(clip).items()]
        for name, source in [*labels, *(("pairs", readable(pair.source)) for pair in self.pairs)]:
            own = counts.setdefault(name, {})
            own[source] = own.get(source, 0) + 1
        return counts

    def labelled(self) -> dict[str, int]:
        """metric -> how many clips have it, for those that any has."""
        counts: dict[str, int] = {}
        for clip in self.clips:
            for metric, value in clip.metrics.items():
                if value is not None and math.isfinite(value):
                    counts[metric] = counts.get(metric, 0) + 1
        return counts


class Plan(NamedTuple):
    """One batch: places of its clips in the data, each once, and its pairs."""

    clips: list[int]
    pairs: list[Pair]  # a and b are places in the data, too


# ---- what is on disk


def read_data(inputs: Sequence[str], pair_files: Sequence[str], say: Callable[[str], None], judge: str = "mos_overall") -> Data:
    """Clips of manifests, folders and URGENT-PK data sets, and pairs with the clips that they name.

    Clips that cannot be opened are left out, and so are labels outside the range of their metric, which `say` tells.
    UsageError if nothing is left.
    """
    from urgentmos.clips.inputs import read_clips
    from urgentmos.clips.label_range import left_out

    clips, outside = left_out([with_labels(clip) for clip in read_clips(list(inputs))]) if inputs else ([], [])
    for sentence in outside:
        say(f"Warning: {sentence}")
    places: dict[str, int] = {}
    for place, clip in enumerate(clips):
        places.setdefault(str(Path(clip.audio_path).resolve()), place)
    pairs = []
    for file in pair_files:
        rows = list(_pair_rows(Path(file)))
        _check_gaps(file, rows, judge)
        for row, (a, b) in rows:
            ends = []
            for clip in (a, b):
                key = str(Path(clip.audio_path).resolve())
                if key not in places:
                    places[key] = len(clips)
                    clips.append(clip)
                ends.append(places[key])
            source = stated_sources(row, {judge: 0.0}, row).get(judge, LISTENERS)
            pairs.append(Pair(ends[0], ends[1], *_pair_label(row, judge), native=True, source=source))
    for sentence in _predictions(clips, pairs, judge):
        say(f"Warning: {sentence}")
    return _with_durations(clips, pairs, say)


def _predictions(clips: Sequence[Clip], pairs: Sequence[Pair], judge: str) -> Iterator[str]:
    """Sentences about labels that are predictions: the model will be taught by another model."""
    groups: dict[tuple[int, str], list[str]] = {}
    for name, sources in predicted_labels(clips).items():
        groups.setdefault((len(sources), phrase_of(sources, name)), []).append(name)
    for (n, source), names in groups.items():
        yield f"{', '.join(names)} of {n} of {len(clips)} clips is {source}, not a label: a model is taught by a model"
    predicted = [pair.source for pair in pairs if kind_of(pair.source, judge) == "predicted"]
    if predicted:
        source = phrase_of(predicted, judge).replace(" clip", " pair")
        yield f"{len(predicted)} of {len(pairs)} pairs are {source}, not judged by listeners: a model is taught by a model"


def _pair_rows(path: Path) -> Iterator[tuple[Mapping[str, Any], tuple[Clip, Clip]]]:
    from urgentmos.clips.inputs import read_records

    for count, row in enumerate(read_records(path), start=1):
        paths = row.get("audio_paths")
        if not isinstance(paths, list) or len(paths) != 2 or not all(isinstance(p, str) and p for p in paths):
            raise UsageError(f"{path}: row {count} has no audio_paths with two files. Write pairs with `urgentmos pairs`.")
        uids, durations = row.get("uids") or paths, row.get("durations") or (None, None)
        pair_clips = (Clip(str(u), str(path.parent / p), duration=d) for u, p, d in zip(uids, paths, durations, strict=True))
        a, b = pair_clips
        if a.audio_path == b.audio_path:
            raise UsageError(f"{path}: row {count} pairs {a.audio_path} with itself. Remove the row.")
        yield {**row, "__row__": f"{path}: row {count}"}, (a, b)


def _check_gaps(file: str, rows: Sequence[tuple[Mapping[str, Any], tuple[Clip, Clip]]], judge: str) -> None:
    """UsageError if a CMOS cannot be the difference of two labels."""
    from urgentmos.clips.label_range import gap_limits, outside

    gaps = [(" / ".join(clip.uid for clip in ends), number((row.get("metrics") or {}).get(judge))) for row, ends in rows]
    if wrong := outside(f"the CMOS of {judge}", gaps, gap_limits(judge)):
        raise UsageError(f"{file}: {wrong.sentence().replace(' and are left out', '')}")


def _pair_label(row: Mapping[str, Any], judge: str) -> tuple[float, int]:
    """(CMOS, larger meaning that a sounds better, or NaN; verdict or NO_VERDICT)."""
    from urgentmos.clips.pairs import verdict_of
    from urgentmos.clips.verdicts import NAMES

    try:
        code = verdict_of(row)
        value = number((row.get("metrics") or {}).get(judge))
    except ValueError as e:
        raise UsageError(f"{row['__row__']}: {e}. Correct it there.") from e
    verdict = NO_VERDICT if math.isnan(code) else VERDICTS[NAMES[code]]
    return (math.nan if value is None else direction(judge) * value, verdict)


def _with_durations(clips: Sequence[Clip], pairs: Sequence[Pair], say: Callable[[str], None]) -> Data:
    kept: list[Clip] = []
    moved: dict[int, int] = {}
    lost: list[str] = []
    for place, clip in enumerate(clips):
        try:
            if clip.duration is None or not Path(clip.audio_path).is_file():
                n_samples, rate, _ = probe(clip.audio_path)
                clip = replace(clip, duration=n_samples / rate)
            if not clip.duration:
                raise AudioError(f"{clip.audio_path} holds no samples")
        except AudioError as e:
            lost.append(str(e))
            continue
        moved[place] = len(kept)
        kept.append(clip)
    if lost:
        say(f"Warning: {len(lost)} of {len(clips)} clips cannot be heard and are left out. The first: {lost[0]}.")
    if not kept:
        raise UsageError("there are no clips to train on. Give manifests with data=FILE,...")
    still = [p._replace(a=moved[p.a], b=moved[p.b]) for p in pairs if p.a in moved and p.b in moved]
    return Data(kept, still)


def is_held_out(content: str, share: float) -> bool:
    """Whether a content is for validation: a function of its name alone, the same on every machine."""
    from urgentmos.clips.pairs import split_of

    return split_of(content, (("train", 1 - share), ("valid", share))) == "valid" if share else False


def content_of(clip: Clip) -> str:
    """The key of clips that must stay on one side of a split."""
    return clip.reference_id or clip.uid


def split(data: Data, share: float) -> tuple[Data, Data]:
    """(for training, for validation) by content; a native pair across both sides is left out."""
    held = [is_held_out(content_of(clip), share) for clip in data.clips]
    if data.pairs and not any(clip.reference_id for clip in data.clips):
        held = _held_with_partner(data, held)
    sides = []
    for side in (False, True):
        places = [i for i, h in enumerate(held) if h is side]
        new = {old: k for k, old in enumerate(places)}
        pairs = [p._replace(a=new[p.a], b=new[p.b]) for p in data.pairs if p.a in new and p.b in new]
        sides.append(Data([data.clips[i] for i in places], pairs))
    return sides[0], sides[1]


def _held_with_partner(data: Data, held: Sequence[bool]) -> list[bool]:
    """Clips that pairs connect share one side: that of the first of them."""
    side = list(held)
    for group in connected(range(len(held)), data.pairs):
        for place in group:
            side[place] = held[min(group)]
    return side


def connected(clips: Sequence[int], pairs: Iterable[Pair]) -> list[list[int]]:
    """Clips in groups that pairs hold together."""
    root = {i: i for i in clips}

    def find(i: int) -> int:
        while root[i] != i:
            root[i] = root[root[i]]
            i = root[i]
        return i

    for pair in pairs:
        a, b = sorted((find(pair.a), find(pair.b)))
        root[b] = a
    groups: dict[int, list[int]] = {}
    for i in clips:
        groups.setdefault(find(i), []).append(i)
    # the largest first, so that the loads come out even
    return sorted(groups.values(), key=lambda group: (-len(group), group[0]))


# ---- audio


class Reader:
    """Plan -> arrays: the dataset of a DataLoader whose items are whole batches.

    Items: index, wave (B, T), n_samples (B,), labels {metric: (B,)}, first and second (P,) places in the batch, cmos (P,),
    verdict (P,), and `states` from a cache of features. A clip that cannot be decoded becomes silence without labels.
    """

    def __init__(
        self,
        data: Data,
        metrics: Sequence[str],
        rate: int,
        min_samples: int,
        max_seconds: float,
        judge: str,
        *,
        load: Callable[[Clip], list[np.ndarray]] | None = None,
        audio: bool = True,
        memory_gb: float = 0.0,
        augment: Augment | None = None,
    ) -> None:
        self.data, self.metrics, self.rate, self.min_samples, self.judge = data, tuple(metrics), rate, min_samples, judge
        self.max_samples = max(int(max_seconds * rate), min_samples)
        self.load, self.audio = load, audio
        self.augment = augment or Augment()
        self._told = False
        self._kept: dict[str, np.ndarray] = {}
        self._room = int(memory_gb * 1e9)

    def __len__(self) -> int:
        return len(self.data.clips)

    def __getitem__(self, item: tuple[int, Plan]) -> dict[str, Any]:
        index, plan = item
        empty = not plan.clips
        clips = [self.data.clips[i] for i in (plan.clips or [0])]
        place = {clip: k for k, clip in enumerate(plan.clips)}
        heard = [self._heard(clip) for clip in clips]
        good = np.array([wave is not None for wave, _ in heard]) & (not empty)
        waves = [np.zeros(self.min_samples, np.float32) if wave is None else wave for wave, _ in heard]
        waves = self.augment(waves, [content_of(clip) for clip in clips], index, self.min_samples)
        n_samples = np.array([len(wave) for wave in waves], dtype=np.int64)
        padded = np.zeros((len(waves), int(n_samples.max())), dtype=np.float32)
        for row, wave in zip(padded, waves, strict=True):
            row[: len(wave)] = wave
        labels = {name: np.where(good, _values(clips, name), np.nan).astype(np.float32) for name in self.metrics}
        pairs = [pair for pair in plan.pairs if good[place[pair.a]] and good[place[pair.b]]]
        return {
            "index": index,
            "wave": padded,
            "n_samples": n_samples,
            "labels": labels,
            "judge": np.where(good, _values(clips, self.judge), np.nan).astype(np.float32),
            "first": np.array([place[pair.a] for pair in pairs], dtype=np.int64),
            "second": np.array([place[pair.b] for pair in pairs], dtype=np.int64),
            "cmos": np.array([pair.cmos for pair in pairs], dtype=np.float32),
            "verdict": np.array([pair.verdict for pair in pairs], dtype=np.int64),
            "clips": np.array(plan.clips, dtype=np.int64),
            "states": [states for _, states in heard] if self.load is not None else None,
        }

    def _heard(self, clip: Clip) -> tuple[np.ndarray | None, list[np.ndarray] | None]:
        """(samples, cached features); None for what cannot be had."""
        try:
            states = self.load(clip) if self.load is not None else None
            wave = self.wave(clip) if self.audio else np.zeros(self.min_samples, np.float32)
            return wave, states
        except (AudioError, OSError, RuntimeError) as e:
            if not self._told:
                warnings.warn(f"a clip is passed over, as others may be: {e}", stacklevel=2)
            self._told = True
            return None, None

    def wave(self, clip: Clip) -> np.ndarray:
        """(T,) float32 at the rate of the net, its beginning if it is too long. AudioError if it cannot be used."""
        kept = self._kept.get(clip.audio_path)
        if kept is not None:
            return kept
        audio = load_audio(clip.audio_path)
        samples = audio.wave[: math.ceil(self.max_samples * audio.rate / self.rate)]
        wave = resample(samples, audio.rate, self.rate)[: self.max_samples]
        if len(wave) < self.min_samples:
            raise AudioError(f"{clip.audio_path} has {len(wave)} samples and the net needs {self.min_samples}")
        wave = np.ascontiguousarray(wave)
        if wave.nbytes <= self._room:
            self._kept[clip.audio_path] = wave
            self._room -= wave.nbytes
        return wave


def _values(clips: Iterable[Clip], metric: str) -> np.ndarray:
    values = [clip.metrics.get(metric) for clip in clips]
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
