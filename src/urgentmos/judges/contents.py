"""One content that a network has judged: what is known of its clips and pairs, and how a journal keeps it."""

from collections.abc import Sequence
from dataclasses import dataclass

from urgentmos.clips.clip import Clip
from urgentmos.clips.journal import Journal, Outcome


@dataclass(frozen=True)
class Content:
    """One content, judged: what is known of its clips, and for pairs of their places P(the first sounds better)."""

    outcomes: list[Outcome]
    wins: dict[tuple[int, int], float]


def by_content(clips: Sequence[Clip]) -> dict[str, list[Clip]]:
    """Content -> its clips, contents in the order of their first clips."""
    groups: dict[str, list[Clip]] = {}
    for clip in clips:
        groups.setdefault(str(clip.reference_id), []).append(clip)
    return groups


def remembered(log: Journal, stage: str, group: Sequence[Clip]) -> Content | None:
    """The content as a journal holds it; None unless all of it is there."""
    files = [clip.audio_path for clip in group]
    pairs = log.get(stage, files)
    outcomes = [log.get(stage, [path, *files]) for path in files]
    if pairs is None or any(outcome is None for outcome in outcomes):
        return None
    wins = {(int(k), int(m)): win for (k, m), win in ((pair.split(), win) for pair, win in pairs.values.items())}
    return Content([outcome for outcome in outcomes if outcome is not None], wins)


def remember(log: Journal, stage: str, group: Sequence[Clip], content: Content) -> None:
    """The clips first: where the pairs are known, so are they."""
    files = [clip.audio_path for clip in group]
    for path, outcome in zip(files, content.outcomes, strict=True):
        log.append(stage, [path, *files], outcome)
    log.append(stage, files, Outcome({f"{k} {m}": win for (k, m), win in content.wins.items()}))


def span(outcomes: Sequence[Outcome]) -> tuple[float, float]:
    """The shortest and the longest, in seconds."""
    seconds = [outcome.duration for outcome in outcomes if outcome.duration is not None]
    return min(seconds, default=0.0), max(seconds, default=0.0)
