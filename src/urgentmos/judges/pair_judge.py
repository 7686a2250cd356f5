"""A network that compares clips: windows of both at the same relative place, both orders of a pair averaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from urgentmos.audio.description import AudioInfo
from urgentmos.audio.samples import AudioInput
from urgentmos.audio.windows import OpenedAudio, matched, names_of, repeated
from urgentmos.clips.clip import Clip
from urgentmos.clips.journal import Journal, Outcome
from urgentmos.errors import AudioError, MeasureError, UsageError, naming
from urgentmos.judges.backend import halving
from urgentmos.judges.base import Run, on_its_own
from urgentmos.judges.clip_scorer import ClipScorer
from urgentmos.judges.outcomes import info_of
from urgentmos.ranking.comparison import Comparison, by_side, comparison, failed_comparison

PAIRS_AT_ONCE = 256  # judged in one step
PAIR_VALUES = ("p_a", "p_tie", "p_b", "cmos")  # of a pair in a journal
PAIR_BANDS = ("bandwidth_a", "bandwidth_b")


class PairJudge(ClipScorer):
    """A trained network, as far as it scores and compares clips."""

    def compare(self, a: AudioInput, b: AudioInput, *, sample_rate: int | None = None) -> Comparison:
        self._must_compare()
        judged, infos = self._judge_two(self._reader.open(a, sample_rate), self._reader.open(b, sample_rate))
        warnings, bandwidths = by_side(*(info.warnings for info in infos)), [info.bandwidth for info in infos]
        return on_its_own(comparison(names_of(a)[1], names_of(b)[1], judged, warnings, bandwidths), self)

    def compare_clips(self, pairs: Sequence[tuple[Clip, Clip]], run: Run = Run()) -> Iterator[Comparison]:
        self._must_compare()
        stage = f"{self._pair_stage} compared"
        files = [(a.audio_path, b.audio_path) for a, b in pairs]
        with Journal.open(run.journal) as log:
            outcomes = [log.get(stage, both) for both in files]
            todo = [path for both, outcome in zip(files, outcomes, strict=True) if outcome is None for path in both]
            decoded = self._reader.ahead(todo, todo)
            for done, (both, outcome) in enumerate(zip(files, outcomes, strict=True), start=1):
                if outcome is None:
                    outcome = self._compared(next(decoded)[1], next(decoded)[1])
                    log.append(stage, both, outcome)
                if run.progress:
                    run.progress(self.name, done, len(pairs))
                judged = np.array([outcome.values.get(name, np.nan) for name in PAIR_VALUES])
                if outcome.error is None:
                    yield comparison(*both, judged, outcome.warnings, [outcome.values.get(name) for name in PAIR_BANDS])
                else:
                    yield failed_comparison(*both, outcome.error, outcome.warnings)

    def _compared(self, left: OpenedAudio, right: OpenedAudio) -> Outcome:
        try:
            judged, infos = self._judge_two(left, right)
        except (AudioError, MeasureError) as e:
            sides = [info_of(heard, []).warnings if heard.whole else () for heard in (left, right)]
            return Outcome(error=str(e), warnings=list(by_side(*sides)))
        values = dict(zip(PAIR_VALUES, map(float, judged), strict=True))
        values |= dict(zip(PAIR_BANDS, (info.bandwidth for info in infos), strict=True))
        return Outcome(values, warnings=list(by_side(*(info.warnings for info in infos))))

    def _judge_two(self, left: OpenedAudio, right: OpenedAudio) -> tuple[np.ndarray, list[AudioInfo]]:
        """(4,) the mean over windows at the same relative place, and what is known of both recordings.

        Two windows are in memory at a time. AudioError names the file at fault.
        """
        if errors := [naming(heard.name, heard.error) for heard in (left, right) if heard.error]:
            raise AudioError("; ".join(dict.fromkeys(errors)))
        most = max(left.n_windows, right.n_windows)
        infos: tuple[list[AudioInfo], list[AudioInfo]] = ([], [])
        sides = []
        for heard, seen in zip((left, right), infos, strict=True):
            n = matched(heard, most)
            sides.append(repeated(self._features(heard, n, seen), n, most))
        judged = np.mean([self._judge_features(x, y) for x, y in zip(*sides, strict=False)], axis=0)
        if not np.isfinite(judged).all():
            raise MeasureError(f"{self.name}'s answer to this pair is not a finite number. Use another model")
        return np.asarray(judged), [info_of(heard, seen) for heard, seen in zip((left, right), infos, strict=True)]

    def _features(self, heard: OpenedAudio, count: int, infos: list[AudioInfo]) -> Iterator[Any]:
        """Features window by window; `infos` receives what is known of each."""
        for piece in self._reader.pieces(heard, count):
            infos.append(piece.info)
            yield halving(self._backend.encode, [piece.wave])[0]

    def _judge_features(self, x: Any, y: Any) -> np.ndarray:
        """(4,) of which the other order is the mirror to the last bit: each order is computed as if alone."""
        if not self.symmetric:
            return np.asarray(self._judge([x, y], [(0, 1)])[0])
        if self._backend.batch_invariant:
            there, back = self._judge([x, y], [(0, 1), (1, 0)])
        else:
            there, back = self._judge([x, y], [(0, 1)])[0], self._judge([y, x], [(0, 1)])[0]
        return np.asarray((there + _mirrored(back)) / 2)

    def _both_orders(self, features: Sequence[Any], pairs: Sequence[tuple[int, int]]) -> np.ndarray:
        """(P, 4) for unordered pairs: the mean of both orders, or the given order of the raw network."""
        if not self.symmetric:
            return self._judge(features, pairs)
        both = self._judge(features, [order for i, j in pairs for order in ((i, j), (j, i))])
        return np.asarray((both[0::2] + _mirrored(both[1::2])) / 2)

    def _judge(self, features: Sequence[Any], pairs: Sequence[tuple[int, int]]) -> np.ndarray:
        chunks = [pairs[k : k + PAIRS_AT_ONCE] for k in range(0, len(pairs), PAIRS_AT_ONCE)]
        judged = [row for chunk in chunks for row in halving(lambda some: list(self._backend.judge(features, some)), chunk)]
        return np.array(judged).reshape(-1, 4)

    def _must_compare(self) -> None:
        if not self.compares:
            raise UsageError(f"{self.name} does not judge pairs. Compare its scores, or choose another model with -m.")

    @property
    def _pair_stage(self) -> str:
        return f"{self.name} {self.version} {'both orders' if self.symmetric else 'one order'}"


def _mirrored(judged: np.ndarray) -> np.ndarray:
    """(..., 4) p_a, p_tie, p_b, CMOS as seen from the other side."""
    return np.asarray(judged[..., [2, 1, 0, 3]] * np.array([1, 1, 1, -1]))
