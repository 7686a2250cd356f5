"""The four verbs of the package: load a judge, score a clip, compare two, rank systems.

Nothing here writes files. A measured metric (`dnsmos_ovrl`, `pesq` with reference signals, ...) is such a judge, too:
ranking by it is the "MOS predictor + ECS" baseline of the URGENT-PK paper.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from urgentmos.audio.samples import AudioInput
from urgentmos.clips.clip import Clip
from urgentmos.clips.inputs import Inputs, read_system_inputs
from urgentmos.clips.label_range import left_out
from urgentmos.clips.layouts import same_names
from urgentmos.clips.provenance import label_of, prediction_of, with_labels
from urgentmos.clips.references import attach_references
from urgentmos.clips.sources import LISTENERS, phrase_of
from urgentmos.common.packaged import DEFAULT_MODEL
from urgentmos.errors import UsageError, naming
from urgentmos.judges.base import Evidence, Predictor, Run, Score, check_cells, silent_table, warnings_about
from urgentmos.labellers import MEASURABLE
from urgentmos.metrics import HUMAN, METRICS, canonical
from urgentmos.models.names import resolve
from urgentmos.ranking.comparison import Comparison

if TYPE_CHECKING:
    from urgentmos.ranking.names import Scoring
    from urgentmos.ranking.rank import Ranking


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
    model = resolve(model, (*HUMAN, *MEASURABLE))
    from urgentmos.judges.loading import load_network

    allow_download = allow_download and not Path(model).exists()  # what lies here never makes us fetch anything
    return load_network(model, device=device, symmetric=symmetric, allow_download=allow_download)


def score(source: AudioInput, model: str | Path | Predictor = DEFAULT_MODEL, *, sample_rate: int | None = None) -> Score:
    """Score one recording, a file or samples with their rate. To score many, `load` a model once."""
    judge = model if isinstance(model, Predictor) else load(model)
    return judge.score(source, sample_rate=sample_rate)


def compare(
    a: AudioInput, b: AudioInput, model: str | Path | Predictor = DEFAULT_MODEL, *, sample_rate: int | None = None
) -> Comparison:
    """Compare two recordings, files or samples with their rate. To compare many, `load` a model once."""
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
    cannot be ranked. A clip without a score is missing and the others of its content count; the ranking's warnings list it.
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
    **resampling: Any,
) -> tuple[Ranking, list[Score]]:
    """The ranking and the scores it is made of; see `rank_with_evidence`."""
    ranking, evidence = rank_with_evidence(clips, judge, scoring, noisy_system=noisy_system, run=run, **resampling)
    return ranking, evidence.rows


def rank_with_evidence(
    clips: Sequence[Clip],
    judge: Predictor,
    scoring: Scoring,
    *,
    noisy_system: str | None = None,
    run: Run = Run(),
    **resampling: Any,
) -> tuple[Ranking, Evidence]:
    """The ranking and all that it is made of. `how`: confidence, samples, seed.

    noisy_system: the unprocessed input among the systems, for URGENT-PK's Noisy-Speech Strategy; only under "mos".
    """
    from urgentmos.ranking.rank import rank as rank_scores  # takes half a second, which a score need not wait for

    clips = same_names(clips)
    check_cells(clips)
    evidence = judge.noisy_evidence(clips, noisy_system, run) if noisy_system else judge.evidence(clips, scoring, run)
    failed = [naming(score.clip.audio_path, score.error) for score in evidence.rows if score.error]
    if evidence.rows and len(failed) == len(evidence.rows):
        raise UsageError(f"none of the {len(failed)} clips could be judged by {judge.name}. The first: {failed[0]}.")
    votes, outside = (
        ([], []) if judge.ranks_by in HUMAN and judge.name in HUMAN else left_out([with_labels(clip) for clip in clips], HUMAN)
    )
    human = human_mos(votes, evidence.systems) if votes else None
    row = METRICS.get(judge.ranks_by)  # a foreign model may rank by a metric of its own
    options: dict[str, Any] = {"scores": evidence.scores, "pairs": evidence.pairs, "scoring": scoring, "human": human}
    options |= {} if row is None else {"better": row.better, "bounds": row.range()}
    options |= {"progress": run.progress, "silent": None if judge.name in HUMAN else silent_table(evidence)}
    try:
        ranking = rank_scores(evidence.systems, evidence.contents, model=judge.name, **options, **resampling)
    except UsageError as e:
        if not failed:
            raise
        why = f"{len(failed)} of {len(evidence.rows)} clips could not be judged. The first: {failed[0]}."
        raise UsageError(f"{e} {why}") from e
    version, sources = evidence.version or judge.version, _sources(evidence, judge, human is not None)
    unheard = [] if human is not None or judge.name in HUMAN else _predicted_opinions(clips)
    warnings = (*warnings_about(evidence.rows, judge), *ranking.warnings, *evidence.warnings, *outside, *unheard)
    return replace(ranking, version=version, sources=sources, warnings=warnings), evidence


def _predicted_opinions(clips: Sequence[Clip]) -> list[str]:
    """A sentence if clips have an opinion score that is no listener's: it is neither shown nor correlated with."""
    own = [prediction_of(clip, HUMAN[0]) for clip in clips if label_of(clip, HUMAN[0]) is None]
    sources = [value.source for value in own if value is not None]
    if not sources:
        return []
    by = phrase_of(sources, HUMAN[0])
    return [f"no correlation with listeners: the {HUMAN[0]} of {len(sources)} of {len(clips)} clips in the manifest is {by}"]


def _sources(evidence: Evidence, judge: Predictor, with_mos: bool) -> dict[str, str]:
    """The sources of the ranking's scores and of its MOS: {"score": source, "mos": "listeners"}."""
    metric = judge.ranks_by
    values = [row.clip.sources.get(metric, judge.source) for row in evidence.rows if row.clip.metrics.get(metric) is not None]
    return {"score": phrase_of(values, metric) or judge.source} | ({"mos": LISTENERS} if with_mos else {})


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
