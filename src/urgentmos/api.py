"""One class for every judge of speech: score a clip, compare two, rank systems. Paths or arrays in, named results out.

Writes no files. A measured metric (`dnsmos_ovrl`, `distill_mos`, `pesq` with reference signals, ...) is such a judge, too:
ranking by it is the "MOS predictor + ECS" baseline of the URGENT-PK paper.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from urgentmos.clips.clip import Clip
from urgentmos.clips.inputs import Inputs, read_clips, read_system_inputs
from urgentmos.clips.label_range import left_out
from urgentmos.clips.layouts import same_names
from urgentmos.clips.provenance import LISTENERS, label_of, phrase_of, predicted_by, prediction_of, with_labels
from urgentmos.clips.references import attach_references
from urgentmos.common.clip_warnings import Flagged, above_band, grouped, is_silent
from urgentmos.common.untrusted import shown
from urgentmos.errors import AudioError, MeasureError, UsageError, naming
from urgentmos.judges.base import Evidence, Run, Score, Source
from urgentmos.labellers import MEASURABLE
from urgentmos.metrics import HUMAN, METRICS, canonical
from urgentmos.models.hub import check_not_a_path, is_hub_id, nearest_path, release_of
from urgentmos.models.packaged import PACKAGED
from urgentmos.models.releases import RELEASES
from urgentmos.ranking.comparison import Comparison, failed_comparison

if TYPE_CHECKING:
    from urgentmos.judges.timeline import Timeline
    from urgentmos.ranking.rank import Ranking, Scoring

DEFAULT_MODEL = "pocket"


class Predictor(ABC):
    """A judge of speech. `metrics` is what it can tell of a clip, `judge` the one of them that it ranks by."""

    name: str
    version: str
    metrics: tuple[str, ...]
    judge: str
    hears_up_to: float | None = None  # Hz; what a recording holds above it is not judged
    notes: tuple[str, ...] = ()  # what every result must say of the judge itself, such as that its files have no checksums
    tells_opinions: bool = False  # of both clips of a pair, as URGENT-PK does: then there are MOS strategies to choose from

    @property
    def source(self) -> str:
        """The source of its values, as rows state it."""
        return predicted_by(self.name, self.version)

    @abstractmethod
    def score_clips(self, clips: Sequence[Clip], run: Run = Run()) -> Iterator[Score]:
        """As many scores as clips, in their order; a clip that cannot be scored has an error."""

    @abstractmethod
    def score(self, source: Source, *, sample_rate: int | None = None, reference: Source | None = None) -> Score:
        """Score one recording: a file, or samples (T,), (T, C), (C, T) with their `sample_rate` in Hz.

        `reference` is the clean reference signal that intrusive metrics need. A recording that cannot be heard gives a
        Score with an error.
        """

    @abstractmethod
    def compare(self, a: Source, b: Source, *, sample_rate: int | None = None) -> Comparison:
        """Which of two recordings sounds better. Mirrors `compare(b, a)` exactly; a recording against itself is a tie.

        Raises AudioError if one cannot be heard, MeasureError if the judge has no answer, UsageError if it does not compare.
        """

    def score_all(self, inputs: str | Path | Sequence[str | Path], run: Run = Run()) -> list[Score]:
        """Score files, folders, `wav.scp` or manifests: as many scores as clips, in their order."""
        return list(self.score_clips(read_clips(inputs), run))

    def compare_clips(self, pairs: Sequence[tuple[Clip, Clip]], run: Run = Run()) -> Iterator[Comparison]:
        """As many comparisons as pairs, in their order; a pair that cannot be judged has an error."""
        for done, (a, b) in enumerate(pairs, start=1):
            try:
                yield self.compare(a.audio_path, b.audio_path)
            except (AudioError, MeasureError) as e:
                yield failed_comparison(a.audio_path, b.audio_path, str(e))
            if run.progress:
                run.progress(self.name, done, len(pairs))

    def evidence(self, clips: Sequence[Clip], scoring: Scoring, run: Run = Run()) -> Evidence:
        """What a ranking of these clips' systems rests on. UsageError if the clips do not suit the judge."""
        scores = list(self.score_clips(clips, run))
        return Evidence(*score_table(scores, self.judge), None, scores)

    def timeline(self, source: Source, *, sample_rate: int | None = None) -> Timeline | None:
        """What each frame of a recording contributes to its scores; None from a judge that cannot tell.

        Raises AudioError if the recording cannot be heard.
        """
        return None

    def noisy_evidence(self, clips: Sequence[Clip], noisy_system: str, run: Run = Run()) -> Evidence:
        """Scores by the Noisy-Speech Strategy of the URGENT-PK paper (section III-F3). UsageError for other judges."""
        raise UsageError(f"{self.name} tells a clip's MOS from the clip alone. --mos-strategy is for URGENT-PK models.")


def load(
    model: str | Path = DEFAULT_MODEL,
    *,
    weights: Mapping[str, str] | None = None,
    device: str = "auto",
    symmetric: bool = True,
    allow_download: bool = True,
) -> Predictor:
    """A model: the name of a release or of a measured metric, a model folder, a released checkpoint file or an exported one.

    weights: labeller -> local path or hub id (see `urgentmos label --help`). device: "auto", "cpu", "cuda", ... symmetric:
    whether both orders of a pair are averaged; False gives the raw network. allow_download: whether a release that is named
    may be fetched from its hub. UsageError, with the names that exist, if there is no such model or it cannot be loaded.
    """
    name = canonical(str(model))
    if name in METRICS:
        from urgentmos.judges.metric import Measured
        from urgentmos.labellers import Settings

        return Measured(name, Settings(weights or {}, "cpu" if device == "auto" else device))
    if name in PACKAGED:  # also where a folder has that name by chance: "./pocket" is the folder
        model = PACKAGED[name]
    if name not in RELEASES and not Path(model).exists() and not is_hub_id(name):
        named, measured = ", ".join((*PACKAGED, *RELEASES)), ", ".join((*HUMAN, *MEASURABLE))
        known = f"Releases: {named}. Measured metrics that can judge: {measured}"
        near = nearest_path(name)
        meant = f"Did you mean {near}?" if near else "Give a model folder, a checkpoint file, or a name."
        raise UsageError(f"unknown model {shown(name, 200)}. {meant} {known}.")
    if name not in RELEASES and release_of(name) is None:
        check_not_a_path(name)
    from urgentmos.judges.loading import load_network

    allow_download = allow_download and not Path(model).exists()  # what lies here never makes us fetch anything
    return load_network(model, device=device, symmetric=symmetric, allow_download=allow_download)


def score(source: Source, model: str | Path | Predictor = DEFAULT_MODEL, *, sample_rate: int | None = None) -> Score:
    """Score one recording, a file or samples with their rate. To score many, `load` a model once."""
    judge = model if isinstance(model, Predictor) else load(model)
    return judge.score(source, sample_rate=sample_rate)


def compare(
    a: Source, b: Source, model: str | Path | Predictor = DEFAULT_MODEL, *, sample_rate: int | None = None
) -> Comparison:
    """Which of two recordings sounds better, files or samples with their rate. To compare many, `load` a model once."""
    judge = model if isinstance(model, Predictor) else load(model)
    return judge.compare(a, b, sample_rate=sample_rate)


def rank(
    source: str | Path | Sequence[Clip],
    model: str | Path | Predictor = DEFAULT_MODEL,
    *,
    scoring: Scoring = "binary",
    confidence: float = 0.95,
    samples: int = 1000,
    seed: int = 0,
    reference_dir: str | Path | None = None,
    subset: str = "tt",
    run: Run = Run(),
) -> Ranking:
    """Rank the systems in a folder with one folder per system, an URGENT-PK data set, a manifest, or among clips.

    scoring: "binary" or "soft" votes of ECS (Algorithm 1 of the URGENT-PK paper), "bradley-terry", or "mos" (the mean).
    confidence, samples, seed: of the intervals, which come from resampling contents. Raises UsageError if the systems
    cannot be ranked. A clip without a score is missing and the others of its content count; the ranking's warnings say so.
    """
    inputs = read_system_inputs(source, subset) if isinstance(source, str | Path) else Inputs(list(source), [])
    clips = inputs.clips if reference_dir is None else attach_references(inputs.clips, reference_dir)
    judge = model if isinstance(model, Predictor) else load(model)
    ranking = rank_clips(clips, judge, scoring, confidence=confidence, samples=samples, seed=seed, run=run)[0]
    return replace(ranking, warnings=(*inputs.warnings, *ranking.warnings))


def rank_clips(
    clips: Sequence[Clip],
    judge: Predictor,
    scoring: Scoring,
    *,
    noisy_system: str | None = None,
    run: Run = Run(),
    **how: Any,
) -> tuple[Ranking, list[Score]]:
    """The ranking and the scores it is made of; see `judged_systems`."""
    ranking, found = judged_systems(clips, judge, scoring, noisy_system=noisy_system, run=run, **how)
    return ranking, found.rows


def judged_systems(
    clips: Sequence[Clip],
    judge: Predictor,
    scoring: Scoring,
    *,
    noisy_system: str | None = None,
    run: Run = Run(),
    **how: Any,
) -> tuple[Ranking, Evidence]:
    """The ranking and all that it is made of. `how`: confidence, samples, seed.

    noisy_system: the unprocessed input among the systems, for URGENT-PK's Noisy-Speech Strategy; only under "mos".
    """
    from urgentmos.ranking.rank import rank as rank_scores  # takes half a second, which a score need not wait for

    clips = same_names(clips)
    check_cells(clips)
    found = judge.noisy_evidence(clips, noisy_system, run) if noisy_system else judge.evidence(clips, scoring, run)
    failed = [naming(score.clip.audio_path, score.error) for score in found.rows if score.error]
    if found.rows and len(failed) == len(found.rows):
        raise UsageError(f"none of the {len(failed)} clips could be judged by {judge.name}. The first: {failed[0]}.")
    votes, outside = (
        ([], []) if judge.judge in HUMAN and judge.name in HUMAN else left_out([with_labels(clip) for clip in clips], HUMAN)
    )
    human = human_mos(votes, found.systems) if votes else None
    row = METRICS.get(judge.judge)  # a foreign model may rank by a metric of its own
    asked: dict[str, Any] = {"scores": found.scores, "pairs": found.pairs, "scoring": scoring, "human": human}
    asked |= {} if row is None else {"better": row.better, "bounds": row.range()}
    asked |= {"progress": run.progress, "silent": None if judge.name in HUMAN else silent_table(found)}
    try:
        ranking = rank_scores(found.systems, found.contents, model=judge.name, **asked, **how)
    except UsageError as e:
        if not failed:
            raise
        why = f"{len(failed)} of {len(found.rows)} clips could not be judged. The first: {failed[0]}."
        raise UsageError(f"{e} {why}") from e
    version, sources = found.version or judge.version, _sources(found, judge, human is not None)
    unheard = [] if human is not None or judge.name in HUMAN else _predicted_opinions(clips)
    warnings = (*warnings_about(found.rows, judge), *ranking.warnings, *found.warnings, *outside, *unheard)
    return replace(ranking, version=version, sources=sources, warnings=warnings), found


def _predicted_opinions(clips: Sequence[Clip]) -> list[str]:
    """A sentence if clips have an opinion score that is no listener's: it is neither shown nor correlated with."""
    own = [prediction_of(clip, HUMAN[0]) for clip in clips if label_of(clip, HUMAN[0]) is None]
    sources = [value.source for value in own if value is not None]
    if not sources:
        return []
    by = phrase_of(sources, HUMAN[0])
    return [f"no correlation with listeners: the {HUMAN[0]} of {len(sources)} of {len(clips)} clips in the manifest is {by}"]


def _sources(found: Evidence, judge: Predictor, with_mos: bool) -> dict[str, str]:
    """What the ranking's scores rest on, and its MOS: {"score": source, "mos": "listeners"}."""
    metric = judge.judge
    values = [row.clip.sources.get(metric, judge.source) for row in found.rows if row.clip.metrics.get(metric) is not None]
    return {"score": phrase_of(values, metric) or judge.source} | ({"mos": LISTENERS} if with_mos else {})


def warnings_about(scores: Sequence[Score], judge: Predictor) -> list[str]:
    """The warnings of clips, grouped by system, and whether the judge is deaf to a part of their spectrum."""
    flagged = [Flagged(score.clip.system_id, score.warnings) for score in scores]
    bands = {"": [score.bandwidth for score in scores]}
    return [*judge.notes, *grouped(flagged), *above_band(bands, judge.hears_up_to, judge.name)]


def warnings_about_pairs(a: str, b: str, rows: Sequence[Comparison], judge: Predictor) -> list[str]:
    """The same for comparisons of the system (or clip) `a` with `b`."""
    flagged = [Flagged(name, row.warnings_of(side)) for name, side in ((a, "a"), (b, "b")) for row in rows]  # type: ignore[arg-type]
    bands = {name: [row.bandwidths[k] for row in rows if row.bandwidths] for k, name in enumerate((a, b))}
    return [*judge.notes, *grouped(flagged), *above_band(bands, judge.hears_up_to, judge.name)]


def on_its_own(row: Comparison, judge: Predictor) -> Comparison:
    """A comparison that is a run of its own: it also warns of what the judge does not hear."""
    own = [*judge.notes, *above_band({"": row.bandwidths}, judge.hears_up_to, judge.name)]
    return replace(row, warnings=(*row.warnings, *own))


def check_cells(clips: Iterable[Clip]) -> None:
    """UsageError unless every clip has a system and a content, and no system has a content twice: asked before any work."""
    seen: set[tuple[str, str]] = set()
    for clip in clips:
        if clip.system_id is None or clip.reference_id is None:
            raise UsageError(f"{clip.uid} has no system_id or no reference_id. Ranking needs both in every row.")
        if (clip.system_id, clip.reference_id) in seen:
            raise UsageError(f"system {clip.system_id} has two clips of {clip.reference_id}. Keep one of them.")
        seen.add((clip.system_id, clip.reference_id))


def score_table(scores: Sequence[Score], metric: str) -> tuple[list[str], list[str], np.ndarray]:
    """Scores -> (system ids, content ids, (S, U) values with NaN where missing). UsageError as `check_cells` says."""
    check_cells(score.clip for score in scores)
    cells: dict[tuple[str, str], float] = {}
    for clip in (score.clip for score in scores):
        value = clip.metrics.get(metric)
        cells[clip.system_id or "", clip.reference_id or ""] = np.nan if value is None else value
    systems, contents = (list(dict.fromkeys(names)) for names in zip(*cells, strict=True)) if cells else ([], [])
    table = np.full((len(systems), len(contents)), np.nan)
    row, column = ({name: i for i, name in enumerate(names)} for names in (systems, contents))
    for (system, content), value in cells.items():
        table[row[system], column[content]] = value
    return systems, contents, table


def silent_table(evidence: Evidence) -> np.ndarray:
    """(S, U) bool: the clips without speech."""
    silent = np.zeros((len(evidence.systems), len(evidence.contents)), bool)
    row, column = ({name: i for i, name in enumerate(names)} for names in (evidence.systems, evidence.contents))
    for score in evidence.rows:
        silent[row[str(score.clip.system_id)], column[str(score.clip.reference_id)]] = is_silent(score.warnings)
    return silent


def human_mos(clips: Iterable[Clip], systems: Sequence[str]) -> np.ndarray | None:
    """(S,) mean MOS of listeners of each system, or None unless every system has some. Predictions do not count."""
    labels: dict[str, list[float]] = {}
    for clip in clips:
        label = label_of(clip, HUMAN[0])
        if clip.system_id is not None and label is not None:
            labels.setdefault(clip.system_id, []).append(label.value)
    if any(system not in labels for system in systems):
        return None
    return np.array([np.mean(labels[system]) for system in systems])
