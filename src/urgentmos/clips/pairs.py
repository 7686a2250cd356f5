"""Pairs of clips with a comparative label, of which there are always more than one can keep: phrase_of, drawn, streamed.

Section 3.2.2 of the UrgentMOS paper: any two clips, two of one corpus, or two systems on one content. Nothing here makes a
list of the possible pairs. They are numbered, and a number is turned into its pair, so that memory depends on the clips
and on how many pairs are drawn.
"""

import hashlib
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from urgentmos.clips import label_range
from urgentmos.clips.clip import Clip, to_record
from urgentmos.clips.provenance import labels_or_predictions, source_of
from urgentmos.clips.records import SIDES, Record, brief, named
from urgentmos.clips.sources import LISTENERS, UNKNOWN, kind_of, phrase_of
from urgentmos.clips.verdicts import DELTA, NAMES, difference, verdict_code, verdicts
from urgentmos.common.names import name_key
from urgentmos.common.untrusted import shown
from urgentmos.errors import UsageError
from urgentmos.metrics import HUMAN, direction

Scope = Literal["any", "corpus", "reference"]
Take = Literal["sample", "first"]

SCOPES: tuple[Scope, ...] = get_args(Scope)
CAP = 100_000  # pairs of an evaluation set, section 4.1.2 of the UrgentMOS paper
SHARES = (("train", 0.8), ("valid", 0.1), ("test", 0.1))

_VERDICT_KEYS = ("verdict", "preference", "naturalness_label")


# ---- possible pairs, by number


class Possible:
    """All pairs within groups, numbered in the order of the file: groups as they first appear, then a, then b.

    groups (N,): pairs stay within a group; None is in no group. systems (N,): two clips of one system are no pair; without
    it only a clip and itself are none. `ordered`: (a, b) and (b, a) both count; else only that in which a comes first.
    """

    def __init__(self, groups: Sequence[Hashable], systems: Sequence[Hashable] | None = None, *, ordered: bool = True) -> None:
        self._ordered = ordered
        members: dict[Hashable, list[int]] = {}
        for clip, group in enumerate(groups):
            if group is not None:
                members.setdefault(group, []).append(clip)
        self._clips = np.array([clip for own in members.values() for clip in own], dtype=np.int64)
        self._start = np.zeros(len(self._clips), dtype=np.int64)
        self._stop = np.zeros(len(self._clips), dtype=np.int64)
        self._mates: dict[int, list[int]] = {}  # place -> places it makes no pair with, itself among them, in order
        self._lay_out(list(members.values()), systems)
        places = np.arange(len(self._clips))
        spans = self._stop - (self._start if ordered else places + 1)
        barred = [sum(mate >= self._base(p) for mate in self._mates.get(p, [p])) for p in range(len(places))]
        self._before = np.concatenate([[0], np.cumsum(spans - np.array(barred, dtype=np.int64))]).astype(np.int64)

    def _lay_out(self, groups: list[list[int]], systems: Sequence[Hashable] | None) -> None:
        start = 0
        for members in groups:
            stop = start + len(members)
            self._start[start:stop], self._stop[start:stop] = start, stop
            if systems is not None:
                by_system: dict[Hashable, list[int]] = {}
                for place, clip in enumerate(members, start):
                    by_system.setdefault(systems[clip], []).append(place)
                self._mates.update({p: same for same in by_system.values() if len(same) > 1 for p in same})
            start = stop

    def _base(self, place: int) -> int:
        return int(self._start[place]) if self._ordered else place + 1

    def __len__(self) -> int:
        return int(self._before[-1])

    def __getitem__(self, number: int) -> tuple[int, int]:
        """Positions (a, b) in `groups` of pair `number`."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        place = int(np.searchsorted(self._before, number, side="right")) - 1
        base = self._base(place)
        other = base + number - int(self._before[place])
        for mate in self._mates.get(place, [place]):
            if base <= mate <= other:
                other += 1
        return int(self._clips[place]), int(self._clips[other])

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for place in range(len(self._clips)):
            mates = set(self._mates.get(place, [place]))
            a = int(self._clips[place])
            for other in range(self._base(place), int(self._stop[place])):
                if other not in mates:
                    yield a, int(self._clips[other])


def chosen(total: int, limit: int | None, take: Take = "sample", seed: int = 0) -> Iterator[int]:
    """Numbers below `total`, ascending: all, the first `limit`, or a sample in which every set of that size is as likely.

    Holds 8 bytes per number drawn (or per number left out, if these are fewer), for any `total`.
    """
    if limit is None or limit >= total:
        yield from range(total)
    elif take == "first":
        yield from range(limit)
    elif 2 * limit <= total:
        yield from (int(number) for number in _sample(total, limit, seed))
    else:
        start = 0
        for gap in _sample(total, total - limit, seed):
            yield from range(start, int(gap))
            start = int(gap) + 1
        yield from range(start, total)


def _sample(total: int, count: int, seed: int) -> np.ndarray:
    """(count,) int64, ascending, without repeats: draws until so many are distinct, never more than are missing."""
    rng = np.random.default_rng(seed)
    numbers = np.zeros(0, dtype=np.int64)
    while len(numbers) < count:
        numbers = np.union1d(numbers, rng.integers(0, total, count - len(numbers)))
    return numbers


# ---- labelled pairs


class Pair(NamedTuple):
    """Two clips and what is known of them; `cmos` is metric(a) - metric(b), None for a verdict without a number."""

    a: Clip
    b: Clip
    cmos: float | None
    verdict: str
    scope: str
    metric: str


@dataclass(frozen=True)
class Pairs:
    """Derived pairs, made as they are iterated over, any number of times."""

    clips: list[Clip]
    possible: Possible
    scope: Scope
    delta: float
    metric: str
    limit: int | None
    take: Take
    seed: int
    symmetric: bool
    left_out: dict[str, int] = field(default_factory=dict)  # reason -> clips
    outside: tuple[str, ...] = ()  # sentences about labels that are no values of the metric

    @property
    def warnings(self) -> list[str]:
        """Labels that are no values of the metric, and what is odd about where the others come from."""
        sources = [source_of(clip, self.metric) for clip in self.clips]
        kinds = {kind_of(source, self.metric) for source in sources}
        label = f"the {self.metric} of these pairs is {phrase_of(sources, self.metric)}"
        if "predicted" in kinds:
            by = "by listeners" if self.metric in HUMAN else "measured"
            return [*self.outside, f"{label}, not {by}: they hold a model's opinion"]
        return [*self.outside, *([label] if len(set(sources)) > 1 else [])]

    @property
    def n_possible(self) -> int:
        """How many ordered pairs there are."""
        return len(self.possible) * (2 if self.symmetric else 1)

    def __len__(self) -> int:
        wanted = self.n_possible if self.limit is None else min(self.limit, self.n_possible)
        return wanted // 2 * 2 if self.symmetric else wanted

    def __iter__(self) -> Iterator[Pair]:
        limit = self.limit if self.limit is None or not self.symmetric else self.limit // 2
        if limit is None or limit >= len(self.possible):
            pairs: Iterator[tuple[int, int]] = iter(self.possible)
        else:
            pairs = (self.possible[k] for k in chosen(len(self.possible), limit, self.take, self.seed))
        for a, b in pairs:
            yield self._pair(self.clips[a], self.clips[b])
            if self.symmetric:
                yield self._pair(self.clips[b], self.clips[a])

    def _pair(self, a: Clip, b: Clip) -> Pair:
        cmos = float(difference(_value(a, self.metric), _value(b, self.metric)))
        return Pair(a, b, cmos, name_of(_towards_better(cmos, self.metric), self.delta), self.scope, self.metric)


def derive(
    clips: Sequence[Clip],
    scope: Scope = "reference",
    *,
    delta: float = DELTA,
    metric: str = "mos_overall",
    limit: int | None = None,
    take: Take = "sample",
    seed: int = 0,
    symmetric: bool = False,
) -> Pairs:
    """Pairs with labels derived from a metric of single clips, by Eq. 6: |difference| <= delta is a tie.

    All ordered pairs in scope: "any" two clips, two of one "corpus", or two systems on one content of one corpus
    ("reference"). A clip is never paired with itself; clips without a value, or without the ids that the scope needs,
    are counted in `left_out`. `limit` draws that many uniformly (`take="sample"`, reproducible by `seed`), or takes the
    first in file order, as the published evaluation sets do. `symmetric` gives each pair and its mirror image one after
    the other; the limit counts both. The verdict names the better clip, also where a lower metric is better. Labels outside
    the range of their metric are no labels; UsageError if most are.
    """
    labelled = labels_or_predictions(clips, metric)[0]
    usable, warnings = label_range.left_out(labelled, [metric])
    left_out: Counter[str] = Counter()
    kept: list[Clip] = []
    seen: set[str] = set()
    for given, label, clip in zip(clips, labelled, usable, strict=True):
        reason = _hindrance(clip, scope, metric, seen)
        if label.metrics.get(metric) is None and given.metrics.get(metric) is not None:
            reason = f"have a predicted {metric}, which others have as a label,"
        if reason:
            left_out[reason] += 1
        else:
            seen.add(clip.uid)
            kept.append(clip)
    if scope == "any":
        possible = Possible([0] * len(kept), ordered=not symmetric)
    elif scope == "corpus":
        possible = Possible([clip.corpus for clip in kept], ordered=not symmetric)
    else:
        contents = [(clip.corpus, clip.reference_id) for clip in kept]
        possible = Possible(contents, [clip.system_id for clip in kept], ordered=not symmetric)
    return Pairs(kept, possible, scope, delta, metric, limit, take, seed, symmetric, dict(left_out), tuple(warnings))


def _hindrance(clip: Clip, scope: Scope, metric: str, seen: set[str]) -> str | None:
    if clip.metrics.get(metric) is None:
        return f"have no {metric}"
    if clip.uid in seen:
        return "repeat a uid"
    needed = {"any": (), "corpus": ("corpus",), "reference": ("system_id", "reference_id")}[scope]
    return next((f"have no {name}" for name in needed if getattr(clip, name) is None), None)


def _value(clip: Clip, metric: str) -> float:
    value = clip.metrics.get(metric)
    return np.nan if value is None else value


def _towards_better(gap: float, metric: str) -> float:
    return direction(metric) * gap


def name_of(cmos: float, delta: float) -> str:
    """Eq. 6 for one pair: "a", "tie" or "b"."""
    return NAMES[float(verdicts(cmos, delta))]


# ---- native labels


def sides_of(record: Mapping[str, Any]) -> tuple[str, str] | None:
    """The names of both clips of a pair row: `uids`, or columns such as `a` and `b`; None if it is no pair row."""
    uids = record.get("uids") or record.get("audio_paths")
    if isinstance(uids, list | tuple):
        if len(uids) != 2:
            raise ValueError(f"uids holds {len(uids)} names, not two")
        return _side("uids", uids[0]), _side("uids", uids[1])
    for a, b in SIDES:
        first, second = named(record, a), named(record, b)
        if first is not None and second is not None:
            return first, second
    return None


def _side(key: str, name: object) -> str:
    return named({key: name}, key) or ""


def verdict_of(record: Mapping[str, Any]) -> float:
    """The verdict in a row, as its code; NaN if there is none. ValueError if it is none of a, tie, b."""
    for key in _VERDICT_KEYS:
        if record.get(key) not in (None, ""):
            return verdict_code(str(record[key]))
    return np.nan


def native(records: Sequence[Mapping[str, Any]], clips: Sequence[Clip], source: str) -> list[Pair]:
    """Pairs that listeners judged as such, with verdicts and no CMOS: a win is not one point on the scale of MOS.

    A side is the uid or the audio_path of a clip. UsageError names the rows of `source` that have no meaning.
    """
    by_name = {name_key(clip.audio_path): clip for clip in clips} | {name_key(clip.uid): clip for clip in clips}
    pairs, problems = [], []
    for count, record in enumerate(records, 1):
        try:
            pairs.append(_native(record, by_name))
        except ValueError as e:
            problems.append(f"  row {count}: {e}")
    if problems:
        more = [f"  and {len(problems) - 10} more"] if len(problems) > 10 else []
        lines = *problems[:10], *more, "Correct or remove them."
        raise UsageError(f"{source}: {len(problems)} rows are no judged pairs:", *lines)
    return pairs


def _native(record: Mapping[str, Any], by_name: Mapping[str, Clip]) -> Pair:
    sides = sides_of(record)
    if sides is None:
        raise ValueError(f"names no two clips, but {brief(list(record))}. It needs uids, or columns a and b")
    sides = name_key(sides[0]), name_key(sides[1])
    absent = [name for name in sides if name not in by_name]
    if absent:
        raise ValueError(f"{shown(absent[0])} is no uid of the manifest")
    if sides[0] == sides[1]:
        raise ValueError(f"compares {shown(sides[0])} with itself")
    code = verdict_of(record)
    if np.isnan(code):
        raise ValueError("has no verdict (a, tie or b)")
    return Pair(by_name[sides[0]], by_name[sides[1]], None, NAMES[code], "native", "mos_overall")


# ---- rows and splits


class RowMaker:
    """Pair -> its row in a file of the folder `base` (None: paths as they are); each path is worked out once."""

    def __init__(self, base: Any) -> None:
        self._base = base
        self._paths: dict[str, str] = {}

    def __call__(self, pair: Pair) -> Record:
        return {
            "uids": [pair.a.uid, pair.b.uid],
            "audio_paths": [self._path(pair.a), self._path(pair.b)],
            "durations": [pair.a.duration, pair.b.duration],
            "metrics": {} if pair.cmos is None else {pair.metric: pair.cmos},
            "sources": _pair_sources(pair),
            "verdict": pair.verdict,
            "scope": pair.scope,
            "reference_id": pair.a.reference_id if pair.a.reference_id == pair.b.reference_id else None,
            "corpus": pair.a.corpus if pair.a.corpus == pair.b.corpus else None,
        }

    def _path(self, clip: Clip) -> str:
        if clip.audio_path not in self._paths:
            self._paths[clip.audio_path] = str(to_record(clip, self._base)["audio_path"])
        return self._paths[clip.audio_path]


def _pair_sources(pair: Pair) -> dict[str, str]:
    """The source of a pair's CMOS; of both clips where they differ. Native verdicts are the listeners'."""
    if pair.cmos is None:
        return {pair.metric: LISTENERS}
    a, b = (source_of(clip, pair.metric) for clip in (pair.a, pair.b))
    kinds = [kind_of(source, pair.metric) for source in (a, b)]
    if a != b and "predicted" in kinds:  # one prediction makes the difference one
        return {pair.metric: next(source for source, kind in zip((a, b), kinds, strict=True) if kind == "predicted")}
    return {pair.metric: a if a == b else UNKNOWN}


def split_of(content: str, shares: Sequence[tuple[str, float]] = SHARES) -> str:
    """The split of a content: a function of its id alone, so that no sentence is ever on two sides.

    New contents, another order or another corpus change nothing for the old ones. shares: (name, share), summing to 1.
    """
    place = int.from_bytes(hashlib.sha256(content.encode()).digest()[:8], "big") / 2**64
    reached = 0.0
    for name, part in shares:
        reached += part
        if place < reached:
            return name
    return shares[-1][0]


def in_split(clips: Sequence[Clip], name: str, shares: Sequence[tuple[str, float]] = SHARES) -> list[Clip]:
    """The clips whose content (or, without one, whose uid) is in a split."""
    return [clip for clip in clips if split_of(clip.reference_id or clip.uid, shares) == name]
