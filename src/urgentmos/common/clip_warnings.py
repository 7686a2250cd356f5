"""Warnings about clips: the kinds there are, and the warnings of many clips as a few sentences.

A warning is a sentence that opens with its kind and a colon: "silence: the level is digital zero". Rows carry the sentences;
results that rest on many clips (a ranking, a comparison, a gate, an evaluation) carry `grouped` of them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

SILENCE = "silence"  # nothing in the clip could be speech: digital zero, near-silence, a constant level, a lone click
CHANNELS = "channels cancel"
NOTHING_LEFT = "leaves nothing of their level"  # in a warning of CHANNELS: the average is silent
CUT_OFF = "cut off"
LENGTH = "length"
LEVEL = "level"
CLIPPING = "clipping"
BAND_LIMITED = "band-limited"
SHORT = "short"

# What the clips of a group do, the gravest kind first.
KINDS = {
    SILENCE: ("is silent", "are silent"),
    CHANNELS: ("has channels that cancel when averaged", "have channels that cancel when averaged"),
    CUT_OFF: ("is or may be cut off", "are or may be cut off"),
    LENGTH: ("holds more or less than its header says", "hold more or less than their headers say"),
    LEVEL: ("has samples far above full scale", "have samples far above full scale"),
    CLIPPING: ("is clipped", "are clipped"),
    BAND_LIMITED: ("is band-limited", "are band-limited"),
    SHORT: ("is very short", "are very short"),
}
NEVER_MERGED = (SILENCE, CHANNELS, CUT_OFF)  # each system with such clips is named
NAMED_SYSTEMS = 4  # of other kinds; more systems than these share one sentence


class Flagged(NamedTuple):
    """One clip for `grouped`: its system (None: it has none) and its warnings."""

    system: str | None
    warnings: Sequence[str]


def kind_of(warning: str) -> str:
    """The kind that a warning opens with; "" for a sentence of no known kind (such as one of an older file)."""
    kind = warning.split(": ", 1)[0]
    return kind if kind in KINDS else ""


def detail_of(warning: str) -> str:
    """The sentence behind the kind that a warning opens with."""
    return warning.split(": ", 1)[-1]


def is_silent(warnings: Iterable[str]) -> bool:
    """Whether the warnings mean that nothing could be speech: a silent clip, or channels that cancel wholly."""
    return any(
        kind_of(warning) == SILENCE or (kind_of(warning) == CHANNELS and NOTHING_LEFT in warning) for warning in warnings
    )


def grouped(clips: Iterable[Flagged]) -> list[str]:
    """The warnings of many clips, one sentence per system and kind: "muted: 10 of 10 clips are digital silence"."""
    totals: dict[str | None, int] = {}
    by_kind: dict[str, dict[str | None, list[str]]] = {kind: {} for kind in KINDS}
    for clip in clips:
        totals[clip.system] = totals.get(clip.system, 0) + 1
        for kind, warning in {kind_of(w): w for w in clip.warnings if kind_of(w)}.items():
            by_kind[kind].setdefault(clip.system, []).append(warning)
    return [sentence for kind, systems in by_kind.items() for sentence in _sentences(kind, systems, totals)]


def above_band(groups: Mapping[str, Iterable[float | None]], limit: float | None, model: str) -> list[str]:
    """One sentence if recordings reach above `limit`, the highest frequency in Hz of the model; else none.

    groups: name -> bandwidths of recordings in Hz, None where unknown; a group without a name is all there is.
    """
    measured = {name: [x for x in bandwidths if x is not None] for name, bandwidths in groups.items()}
    above = {name: sum(limit is not None and x > limit for x in bandwidths) for name, bandwidths in measured.items()}
    if limit is None or not any(above.values()):
        return []
    counts = [f"{name}: {above[name]} of {len(measured[name])}".removeprefix(": ") for name in measured]
    clips = "clips hold" if sum(map(len, measured.values())) > 1 else "clip holds"
    return [
        f"{', '.join(counts)} {clips} sound above {limit / 1000:g} kHz, which {model} does not hear: "
        "nothing up there is judged, be it good or bad. Listen to it, or measure it by a metric of a higher rate"
    ]


def _sentences(kind: str, systems: dict[str | None, list[str]], totals: dict[str | None, int]) -> list[str]:
    if len(systems) > NAMED_SYSTEMS and kind not in NEVER_MERGED:
        count, of = sum(map(len, systems.values())), sum(totals[system] for system in systems)
        return [f"{len(systems)} systems: {count} of {of} clips {KINDS[kind][1]}"]
    return [_sentence(kind, system, warnings, totals[system]) for system, warnings in systems.items()]


def _sentence(kind: str, system: str | None, warnings: list[str], total: int) -> str:
    what = KINDS[kind][len(warnings) > 1]
    if kind == SILENCE and all(warning.endswith("digital zero") for warning in warnings):
        what = what.replace("silent", "digital silence")
    clips = f"{len(warnings)} of {total} {'clip' if total == 1 else 'clips'} {what}"
    return clips if system is None else f"{system}: {clips}"
