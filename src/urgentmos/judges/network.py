"""Networks as judges: each clip is encoded once, and all systems are compared content by content; for any architecture."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from urgentmos.audio.samples import Audio
from urgentmos.audio.windows import OpenedAudio, matched
from urgentmos.clips.clip import Clip
from urgentmos.clips.journal import Journal, Outcome
from urgentmos.errors import AudioError, UsageError
from urgentmos.judges.backend import OpinionBackend, halving
from urgentmos.judges.base import Evidence, Run, Score, check_cells, score_table
from urgentmos.judges.contents import Content, by_content, remember, remembered, span
from urgentmos.judges.outcomes import checked, failed_outcome, mean_values, outcome_of
from urgentmos.judges.pair_judge import PairJudge

if TYPE_CHECKING:
    from urgentmos.ranking.names import Scoring

BOTH = ((0, 1), (1, 0))  # orders of a pair


class Network(PairJudge):
    """A trained network. `symmetric` averages both orders of a pair; without it the raw network answers."""

    def evidence(self, clips: Sequence[Clip], scoring: Scoring, run: Run = Run()) -> Evidence:
        """Pairs where the network judges them; scores alone under "mos", or where it does not."""
        if self.compares and scoring != "mos":
            return self.judge_contents(clips, run)
        return super().evidence(clips, scoring, run)

    def judge_contents(self, clips: Sequence[Clip], run: Run = Run()) -> Evidence:
        """All pairs of systems on each content. Each clip is encoded once; one content is in memory at a time."""
        self._must_compare()
        check_cells(clips)
        groups = by_content(clips)
        judged = dict(self._contents(groups, run, self._pair_stage, self._judge_content))
        rows = self._rows(clips, groups, judged)
        systems, contents, table = score_table(rows, self.ranks_by)
        place = {name: i for i, name in enumerate(systems)}
        pairs = np.full((len(systems), len(systems), len(contents)), np.nan)
        for u, content in enumerate(contents):
            row = [place[str(clip.system_id)] for clip in groups[content]]
            for (k, m), win in judged[content].wins.items():
                pairs[row[k], row[m], u], pairs[row[m], row[k], u] = win, 1 - win
        return Evidence(systems, contents, table, pairs, rows, self._warnings(judged))

    def noisy_evidence(self, clips: Sequence[Clip], noisy_system: str, run: Run = Run()) -> Evidence:
        """A clip s beside the unprocessed input n: the mean of s's opinion scores in (s, n) and in (n, s)."""
        if not isinstance(self._backend, OpinionBackend):
            return super().noisy_evidence(clips, noisy_system, run)
        check_cells(clips)
        if noisy_system not in {clip.system_id for clip in clips}:
            named = ", ".join(sorted({str(clip.system_id) for clip in clips}))
            raise UsageError(f"there is no system {noisy_system!r}. Name the unprocessed one with --noisy-system: {named}.")
        groups = by_content(clips)

        def beside_noisy(group: Sequence[Clip], heard: Sequence[OpenedAudio]) -> Content:
            return self._score_beside_noisy(
                next((k for k, clip in enumerate(group) if clip.system_id == noisy_system), None), group, heard
            )

        stage = f"{self.name} {self.version} beside {noisy_system}"
        judged = dict(self._contents(groups, run, stage, beside_noisy))
        rows = self._rows(clips, groups, judged)
        return Evidence(*score_table(rows, self.ranks_by), None, rows, self._warnings(judged))

    def _contents(
        self,
        groups: Mapping[str, list[Clip]],
        run: Run,
        stage: str,
        work: Callable[[Sequence[Clip], Sequence[OpenedAudio]], Content],
    ) -> Iterator[tuple[str, Content]]:
        """Content by content, decoded ahead; those that the journal knows are not judged again."""
        with Journal.open(run.journal) as log:
            earlier = {content: remembered(log, stage, group) for content, group in groups.items()}
            todo = [clip.audio_path for content, group in groups.items() if earlier[content] is None for clip in group]
            decoded = self._reader.ahead(todo, todo)
            for done, (content, group) in enumerate(groups.items(), start=1):
                judged = earlier[content]
                if judged is None:
                    judged = work(group, [next(decoded)[1] for _ in group])
                    remember(log, stage, group, judged)
                if run.progress:
                    run.progress(self.name, done, len(groups))
                yield content, judged

    def _judge_content(self, group: Sequence[Clip], heard: Sequence[OpenedAudio]) -> Content:
        outcomes, features = self._encoded(heard)
        index = list(combinations([k for k, own in enumerate(features) if own], 2))
        if not index:
            return Content(outcomes, {})
        most = max(len(own) for own in features)
        at = [[own[w * len(own) // most] if own else None for own in features] for w in range(most)]
        judged = np.mean([self._both_orders(window, index) for window in at], axis=0)
        return Content(outcomes, {pair: float(row[0] + row[1] / 2) for pair, row in zip(index, judged, strict=True)})

    def _score_beside_noisy(self, noisy: int | None, group: Sequence[Clip], heard: Sequence[OpenedAudio]) -> Content:
        assert isinstance(self._backend, OpinionBackend)
        outcomes, features = self._encoded(heard)
        for k, own in enumerate(features):
            if not own:
                continue
            if noisy is None or not features[noisy]:
                why = f"the unprocessed system has no usable clip of {group[k].reference_id}. Add it, or remove the content"
                outcomes[k] = replace(outcomes[k], values={}, error=why)
                continue
            most = max(len(own), len(features[noisy]))
            opinions = [
                self._backend.opinions([own[w * len(own) // most], features[noisy][w * len(features[noisy]) // most]], BOTH)
                for w in range(most)
            ]
            mos = float(np.mean([(orders[0, 0] + orders[1, 1]) / 2 for orders in opinions]))
            outcomes[k] = checked(replace(outcomes[k], values={self.ranks_by: mos}))
        return Content(outcomes, {})

    def _encoded(self, group: Sequence[OpenedAudio]) -> tuple[list[Outcome], list[list[Any]]]:
        """Outcomes and features of one content's clips: a list of windows each, as many for all; none if unusable."""
        most = max((heard.n_windows for heard in group if heard.error is None), default=1)
        cut = [self._cut(heard, most) for heard in group]
        flat = [(k, piece) for k, pieces in enumerate(cut) if not isinstance(pieces, str) for piece in pieces]
        features: list[list[Any]] = [[] for _ in group]
        encoded: dict[int, Any] = {}
        for batch in self._batches([piece for _, piece in flat]):
            encoded |= dict(zip(batch, halving(self._backend.encode, [flat[i][1].wave for i in batch]), strict=True))
        for i, (k, _) in enumerate(flat):
            features[k].append(encoded[i])
        outcomes = [
            self._outcome_in_content(heard, pieces, own) for heard, pieces, own in zip(group, cut, features, strict=True)
        ]
        return outcomes, [[] if outcome.error else own for outcome, own in zip(outcomes, features, strict=True)]

    def _cut(self, heard: OpenedAudio, most: int) -> list[Audio] | str:
        """The windows of a clip whose longest homologue has `most`, or why there are none."""
        try:
            return heard.error or list(self._reader.pieces(heard, matched(heard, most)))
        except AudioError as e:
            return str(e)

    def _outcome_in_content(self, heard: OpenedAudio, pieces: list[Audio] | str, features: Sequence[Any]) -> Outcome:
        if isinstance(pieces, str):
            return failed_outcome(replace(heard, error=pieces))
        infos = [piece.info for piece in pieces]
        if not self._backend.metrics_with_encoding:
            return outcome_of(heard, infos, {})
        if len(pieces) != heard.n_windows:  # its scores must not depend on the lengths of other clips
            return self._outcome(heard)
        scores = [{name: values[name] for name in self.metrics} for values in self._backend.absolute(features)]
        return outcome_of(heard, infos, mean_values(scores, [len(piece.wave) for piece in pieces]))

    def _rows(self, clips: Sequence[Clip], groups: Mapping[str, list[Clip]], contents: Mapping[str, Content]) -> list[Score]:
        """One per clip, in the order in which they came."""
        cells = {
            (clip.system_id, content): outcome
            for content, group in groups.items()
            for clip, outcome in zip(group, contents[content].outcomes, strict=True)
        }
        return [self._score_from(clip, cells[clip.system_id, str(clip.reference_id)]) for clip in clips]

    def _warnings(self, contents: Mapping[str, Content]) -> tuple[str, ...]:
        """Warnings about the contents' clips and verdicts."""
        sentences = []
        spans = {content: span([o for o in judged.outcomes if o.error is None]) for content, judged in contents.items()}
        most = self._backend.max_length_difference
        uneven = [content for content, (low, high) in spans.items() if high - low > most]
        if uneven:
            low, high = spans[uneven[0]]
            sentences.append(
                f"the clips of {len(uneven)} of {len(contents)} contents differ in length by more than {most:g} s "
                f"(the first: {uneven[0]}, {low:.2f} s to {high:.2f} s); what only the longer ones hold is not judged. "
                "Align and trim them"
            )
        lost = [content for content, judged in contents.items() if any(math.isnan(win) for win in judged.wins.values())]
        if lost:
            sentences.append(
                f"{self.name}'s answer to a pair is not a finite number on {len(lost)} contents (the first: {lost[0]}). "
                "Use another model"
            )
        return tuple(sentences)
