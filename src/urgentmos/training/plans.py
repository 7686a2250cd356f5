"""Batches for training, planned by duration and by content: which clips, and which pairs among them.

A plan is a pure function of the seed and the epoch, so a run that was killed goes on with the very batch that came next,
and every process of a distributed run knows the whole plan and takes its share. Within a batch each clip stands once,
however many pairs it is in.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from urgentmos.clips.clip import Clip
from urgentmos.errors import UsageError
from urgentmos.metrics import direction
from urgentmos.training.data import NO_VERDICT, Data, Pair, Plan, connected

Deal = Literal["contents", "clips", "pairs"]
POOL = 50  # batches' worth of groups that are sorted by duration together: little padding, and still another order each epoch


# ---- plans of UrgentMOS


@dataclass(frozen=True)
class Planner:
    """Batches of about `seconds` padded seconds, contents together, derived pairs within."""

    data: Data
    judge: str
    scope: str  # reference, corpus or any; "" for no derived pairs
    seconds: float
    homologous: int
    pairs_per_clip: float
    seed: int
    max_seconds: float
    shuffled: bool = True  # False: the same whole contents each time, for validation

    def epoch(self, number: int) -> list[Plan]:
        """The batches of epoch `number`."""
        rng = np.random.default_rng([self.seed, number, 1])
        groups = self._groups(rng)
        if self.shuffled:
            groups = [groups[i] for i in rng.permutation(len(groups))]
        length = np.array([self._length(max(group, key=self._length)) for group in groups])
        in_pool = self._groups_in_pool(groups)
        batches: list[list[int]] = []
        for start in range(0, len(groups), in_pool):
            order = sorted(range(start, min(start + in_pool, len(groups))), key=lambda i: (-length[i], i))
            batches += self._packed([groups[i] for i in order])
        if self.shuffled:
            batches = [batches[i] for i in rng.permutation(len(batches))]
        by_pair = self._native()
        return [self._plan(batch, by_pair, [self.seed, number, k]) for k, batch in enumerate(batches)]

    def _length(self, place: int) -> float:
        return min(self.data.clips[place].duration or 0.0, self.max_seconds)

    def _groups(self, rng: np.random.Generator) -> list[list[int]]:
        """Clips that travel together: of one content (scope reference), of one native pair, or alone."""
        size = self.homologous if self.shuffled else max(self.homologous, 64)
        groups: list[list[int]] = []
        contents: dict[tuple[str | None, str], list[int]] = {}
        paired = {place for pair in self.data.pairs for place in (pair.a, pair.b)}
        for place, clip in enumerate(self.data.clips):
            if self.scope == "reference" and clip.reference_id is not None:
                contents.setdefault((clip.corpus, clip.reference_id), []).append(place)
            elif place not in paired:
                groups.append([place])
        for places in contents.values():
            shuffled = [places[i] for i in rng.permutation(len(places))] if self.shuffled else places
            parts = math.ceil(len(shuffled) / size)
            groups += [list(part) for part in np.array_split(shuffled, parts)]
        together = {place: k for k, group in enumerate(groups) for place in group}
        groups += [[a, b] for a, b, *_ in self.data.pairs if together.get(a, -1) != together.get(b, -2)]
        return [part for group in groups for part in self._cut(group)]

    def _cut(self, group: Sequence[int]) -> Iterator[list[int]]:
        """A group that is longer than a batch, in parts of two clips or more."""
        longest = max(self._length(i) for i in group)
        size = max(2, int(self.seconds // longest))
        for start in range(0, len(group), size):
            yield [int(i) for i in group[start : start + size]]

    def _groups_in_pool(self, groups: Sequence[Sequence[int]]) -> int:
        seconds = sum(self._length(i) for group in groups for i in group)
        return max(1, round(POOL * self.seconds * len(groups) / max(seconds, 1e-9)))

    def _packed(self, groups: Sequence[list[int]]) -> Iterator[list[int]]:
        """Groups one after the other, as many as fit into the padded budget; each clip once in a batch."""
        batch: dict[int, None] = {}
        longest = 0.0
        for group in groups:
            new = [i for i in group if i not in batch]
            reach = max([longest, *(self._length(i) for i in new)])
            if batch and reach * (len(batch) + len(new)) > self.seconds * (1 + 1e-9):
                yield list(batch)
                batch, new = {}, list(group)
                reach = max(self._length(i) for i in new)
            batch.update(dict.fromkeys(new))
            longest = reach
        if batch:
            yield list(batch)

    def _native(self) -> dict[int, list[Pair]]:
        by_content: dict[int, list[Pair]] = {}
        for pair in self.data.pairs:
            by_content.setdefault(pair.a, []).append(pair)
        return by_content

    def _plan(self, batch: list[int], native: Mapping[int, list[Pair]], seed: list[int]) -> Plan:
        inside = set(batch)
        pairs = [pair for place in batch for pair in native.get(place, ()) if pair.b in inside]
        as_labelled = {(pair.a, pair.b) for pair in pairs} | {(pair.b, pair.a) for pair in pairs}
        derived = [pair for pair in self._derived(batch) if (pair.a, pair.b) not in as_labelled]
        most = round(self.pairs_per_clip * len(batch))
        if len(derived) > most:
            chosen = np.random.default_rng([*seed, 2]).choice(len(derived), most, replace=False)
            derived = [derived[i] for i in sorted(chosen)]
        return Plan(batch, pairs + derived)

    def _derived(self, batch: Sequence[int]) -> Iterator[Pair]:
        """All unordered pairs of the scope whose clips both have the judging metric."""
        if not self.scope:
            return
        sign = direction(self.judge)
        numbered = [(i, self.data.clips[i], self.data.clips[i].metrics.get(self.judge)) for i in batch]
        labelled = [(i, clip, value) for i, clip, value in numbered if value is not None and math.isfinite(value)]
        for k, (i, a, value_a) in enumerate(labelled):
            for j, b, value_b in labelled[k + 1 :]:
                if belong(a, b, self.scope):
                    yield Pair(i, j, sign * (value_a - value_b), NO_VERDICT)


def belong(a: Clip, b: Clip, scope: str) -> bool:
    """Whether two clips make a pair of this scope; reference: one content (of one corpus), two systems."""
    if scope == "any":
        return True
    if a.corpus != b.corpus:
        return False
    if scope == "corpus":
        return True
    if a.reference_id is None or a.reference_id != b.reference_id:
        return False
    return a.system_id is None or a.system_id != b.system_id


# ---- plans of URGENT-PK


@dataclass(frozen=True)
class PairPlanner:
    """Batches of `pairs` ordered pairs of homologous clips, those within `delta` left out; both orders of each."""

    data: Data
    judge: str
    delta: float
    pairs: int
    seed: int
    max_seconds: float
    symmetric: bool = True
    shuffled: bool = True

    def all_pairs(self) -> list[Pair]:
        """Every pair that passes the cleaning (URGENT-PK section III-B): strictly more than delta apart."""
        contents: dict[tuple[str | None, str | None], list[int]] = {}
        for place, clip in enumerate(self.data.clips):
            contents.setdefault((clip.corpus, clip.reference_id), []).append(place)
        all_of_them = []
        for places in contents.values():
            for k, i in enumerate(places):
                for j in places[k + 1 :]:
                    a, b = self.data.clips[i], self.data.clips[j]
                    first, second = a.metrics.get(self.judge), b.metrics.get(self.judge)
                    if first is None or second is None or not belong(a, b, "reference"):
                        continue
                    if abs(first - second) > self.delta + 1e-9:  # 3.3 - 3.0 is not exactly 0.3
                        all_of_them.append(Pair(i, j, first - second, NO_VERDICT))
                        if self.symmetric:
                            all_of_them.append(Pair(j, i, second - first, NO_VERDICT))
        return all_of_them

    def epoch(self, number: int) -> list[Plan]:
        """The batches of epoch `number`, lengths alike within each."""
        pairs = self.all_pairs()
        rng = np.random.default_rng([self.seed, number, 3])
        order = list(rng.permutation(len(pairs))) if self.shuffled else list(range(len(pairs)))
        pool = POOL * self.pairs
        batches: list[list[Pair]] = []
        for start in range(0, len(order), pool):
            part = sorted(order[start : start + pool], key=lambda i: self._seconds(pairs[i]))
            batches += [[pairs[i] for i in part[k : k + self.pairs]] for k in range(0, len(part), self.pairs)]
        if self.shuffled:
            batches = [batches[i] for i in rng.permutation(len(batches))]
        return [Plan(list(dict.fromkeys(i for pair in batch for i in (pair.a, pair.b))), batch) for batch in batches]

    def _seconds(self, pair: Pair) -> float:
        return min(self.data.clips[pair.a].duration or 0.0, self.data.clips[pair.b].duration or 0.0, self.max_seconds)


# ---- shares and order


def share(plan: Plan, rank: int, world: int, deal: Deal = "contents") -> Plan:
    """The share of process `rank` of `world` in a batch; it may be empty.

    contents: clips that pairs connect stay together, so that no pair is torn apart. clips: only those of native pairs do;
    derived pairs across two processes are left out, since under the scopes corpus and any they connect everything. pairs:
    dealt one by one, with their clips.
    """
    if world == 1:
        return plan
    if deal == "pairs":
        pairs = plan.pairs[rank::world]
        return Plan(list(dict.fromkeys(i for pair in pairs for i in (pair.a, pair.b))), pairs)
    groups = connected(plan.clips, [pair for pair in plan.pairs if pair.native or deal == "contents"])
    loads = [0] * world
    mine: list[int] = []
    for group in groups:
        to = loads.index(min(loads))
        loads[to] += len(group)
        if to == rank:
            mine += group
    inside = set(mine)
    return Plan(mine, [pair for pair in plan.pairs if pair.a in inside and pair.b in inside])


@dataclass(frozen=True)
class Stream:
    """The batches of all epochs, one after the other, from batch number `start` on: a sampler for a DataLoader."""

    planner: Any  # has epoch(number) -> list[Plan]
    start: int = 0
    rank: int = 0
    world: int = 1
    deal: Deal = "contents"

    def __iter__(self) -> Iterator[tuple[int, Plan]]:
        place = 0
        for epoch in range(10**9):
            plans = self.planner.epoch(epoch)
            if not plans:
                raise UsageError("there is nothing to train on: no batch could be made of the data.")
            for plan in plans:
                if place >= self.start:
                    yield place, share(plan, self.rank, self.world, self.deal)
                place += 1


def count_batches(planner: Any, epochs: int) -> int:
    """Batches in the first `epochs` epochs."""
    return sum(len(planner.epoch(epoch)) for epoch in range(epochs))
