"""A corpus on disk -> manifests, one per split, and a word about everything that is not as published.

Each recording is decoded once: what cannot be decoded, has no score or stands there twice goes to left_out.jsonl with its
reason. A corpus without an official dev set gets one that is a function of the content alone. Equal recordings in two
splits are found by a hash of their samples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from urgentmos.clips.clip import Clip, to_record
from urgentmos.clips.label_range import left_out
from urgentmos.clips.provenance import predicted_labels
from urgentmos.clips.sources import phrase_of
from urgentmos.clips.tables import read_records, write_records
from urgentmos.corpora import Corpus, Count, NotOnDisk
from urgentmos.corpora.recordings import Heard, hear_all
from urgentmos.errors import UsageError

Show = Callable[[str, int, int], None]
Pair = dict[str, Any]
HASH = "audio_hash"  # in meta: what overlap is found by
DEV_SHARE = 0.1


@dataclass
class Split:
    """The clips and problems of one split."""

    name: str
    clips: list[Clip] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    left_out: list[dict[str, Any]] = field(default_factory=list)  # {"uid", "audio_path", "split", "error"}
    hours: float = 0.0

    def row(self) -> dict[str, Any]:
        """A summary as one flat record."""
        return {
            "split": self.name,
            "clips": len(self.clips),
            "pairs": len(self.pairs),
            "systems": len({clip.system_id for clip in self.clips} - {None}),
            "contents": len({clip.reference_id for clip in self.clips} - {None}),
            "hours": round(self.hours, 3),
            "left_out": len(self.left_out),
        }


@dataclass(frozen=True)
class Prepared:
    """The result of `prepare`: the splits that it wrote, and sentences about problems."""

    splits: list[Split]
    warnings: list[str]
    files: list[Path]


def side(content: str, dev_share: float = DEV_SHARE) -> str:
    """ "train" or "dev", by the content's id alone: one content of all systems, today and elsewhere, is on one side.

    A larger share keeps all contents of a smaller one.
    """
    # No CRC: `train` holds out contents by it and would find none of them left, and it is uneven over a few short ids.
    digest = hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return "dev" if int.from_bytes(digest) < dev_share * 2**64 else "train"


def content_of(clip: Clip) -> str:
    """The key that must not stand on both sides of a split: the content, or else the corpus's substitute, or else the clip."""
    return clip.reference_id or str(clip.meta.get("sample_id") or clip.uid)


def prepare(
    corpus: Corpus,
    root: Path,
    output: Path,
    *,
    splits: Sequence[str] = (),
    options: dict[str, str] | None = None,
    dev_share: float = DEV_SHARE,
    against: Sequence[Path] = (),
    jobs: int = 1,
    show: Show = lambda title, done, total: None,
) -> Prepared:
    """Write SPLIT.jsonl (clips) and SPLIT_pairs.jsonl into `output`, and left_out.jsonl if rows cannot be used.

    splits: some of the corpus; all that are on disk if empty. options: KEY=VALUE of the corpus. dev_share: of the contents,
    for a corpus without dev set; 0 for none. against: manifests of other corpora whose recordings must not occur here.
    UsageError if nothing of the corpus is below root.
    """
    options = options or {}
    _check_request(corpus, splits, options)
    splits_read, warnings = _read_splits(corpus, root, splits, options)
    for split in splits_read:
        split.clips, sentences = left_out(split.clips)
        warnings += [f"{split.name}: {sentence}" for sentence in sentences]
    output.mkdir(parents=True, exist_ok=True)
    heard = _hear(splits_read, output, jobs, show)
    usable = [_usable(split, corpus, heard) for split in splits_read]
    warnings += [sentence for split in usable for sentence in _differences(split, corpus.counts.get(split.name))]
    warnings += [sentence for split in usable for sentence in (*_odd_ratings(split), *_predictions(split))]
    usable = _with_dev(usable, corpus, splits, dev_share)
    if _wants_dev(usable, corpus, splits, dev_share) and any(split.name == "train" for split in usable):
        warnings.append(f"no content fell into dev, as there are few. Raise --dev-share above {dev_share:g}, or go without.")
    warnings += _overlaps(usable)
    for path in against:
        warnings += _overlaps_with(usable, path)
    return Prepared(usable, warnings, _write(usable, output))


def _check_request(corpus: Corpus, splits: Sequence[str], options: dict[str, str]) -> None:
    unknown = [name for name in splits if name not in corpus.splits]
    if unknown:
        raise UsageError(f"{corpus.name} has no split {unknown[0]!r}. Choose from: {', '.join(corpus.splits)}.")
    strange = [] if corpus.any_option else [key for key in options if key not in corpus.options]
    if strange:
        options_text = "; ".join(f"{key}: {text}" for key, text in corpus.options.items()) or "it takes none"
        raise UsageError(f"{corpus.name} does not know {strange[0]}=. Its options: {options_text}.")


# ---- reading


def _read_splits(corpus: Corpus, root: Path, splits: Sequence[str], options: dict[str, str]) -> tuple[list[Split], list[str]]:
    read, absent = [], []
    for name in splits or corpus.splits:
        split, missing = Split(name), []
        for kind in ("clips", "pairs"):
            reader = getattr(corpus, kind)
            try:
                if reader is not None:
                    setattr(split, kind, list(reader(root, name, **options)))
            except NotOnDisk as e:
                missing.append(f"{name}: not read. {e}")
        absent += missing
        if split.clips or split.pairs:
            read.append(split)
    if not read:
        reason = absent[0].partition("not read. ")[2] if absent else f"{root}: its tables hold no rows. Fetch them again."
        raise NotOnDisk(reason)
    return read, absent


def _hear(splits: Iterable[Split], output: Path, jobs: int, show: Show) -> dict[str, Heard]:
    """audio_path -> the check of every recording that any split names."""
    sounds: dict[str, str] = {}
    for split in splits:
        for clip in split.clips:
            sounds.setdefault(clip.audio_path, clip.uid)
        for pair in split.pairs:
            for path, uid in zip(pair["audio_paths"], pair["uids"], strict=True):
                sounds.setdefault(path, uid)
    sounds.pop("", None)
    return hear_all(sounds, output, jobs=jobs, show=show)


def _usable(split: Split, corpus: Corpus, heard: dict[str, Heard]) -> Split:
    """The split without what cannot be used, which is in left_out."""
    kept = Split(split.name)
    labelled = split.name not in corpus.unlabelled
    seen: dict[str, Clip] = {}
    for clip in split.clips:
        fault = _fault(clip, heard, labelled) or _repeated(clip, seen.get(clip.uid))
        if fault:
            kept.left_out.append({"uid": clip.uid, "audio_path": clip.audio_path, "split": split.name, "error": fault})
            continue
        seen[clip.uid] = clip
        sound = heard[clip.audio_path]
        meta = {**clip.meta, HASH: sound.digest}
        kept.clips.append(replace(clip, audio_path=sound.path, duration=round(sound.seconds, 4), meta=meta))
    for pair in split.pairs:
        if fault := _pair_fault(pair, heard, labelled):
            left = {"uid": " ".join(pair["uids"]), "audio_path": pair["audio_paths"][0], "split": split.name, "error": fault}
            kept.left_out.append(left)
        else:
            kept.pairs.append(_complete(pair, corpus.name, [heard[path] for path in pair["audio_paths"]]))
    if corpus.clips is None:
        kept.clips = _sides(kept.pairs, corpus.name)
    return _timed(kept)


def _sides(pairs: Iterable[Pair], corpus: str) -> list[Clip]:
    """The recordings of pairs as clips without labels: what a judge of single clips scores."""
    clips: dict[str, Clip] = {}
    for pair in pairs:
        for uid, path, seconds, digest in zip(
            pair["uids"], pair["audio_paths"], pair["durations"], pair["meta"][HASH], strict=True
        ):
            content = pair.get("reference_id")
            clips.setdefault(uid, Clip(uid, path, None, content, corpus, seconds, meta={HASH: digest}))
    return list(clips.values())


def _timed(split: Split) -> Split:
    seconds = {clip.audio_path: clip.duration or 0.0 for clip in split.clips}
    for pair in split.pairs:
        seconds.update(zip(pair["audio_paths"], pair["durations"], strict=True))
    return replace(split, hours=sum(seconds.values()) / 3600)


def _fault(clip: Clip, heard: dict[str, Heard], labelled: bool) -> str:
    if not clip.audio_path:
        return str(clip.meta.get("unusable") or "the row names no recording")
    if error := heard[clip.audio_path].error:
        return error
    if labelled and all(value is None for value in clip.metrics.values()):
        return "no score"
    return ""


def _repeated(clip: Clip, earlier: Clip | None) -> str:
    if earlier is None:
        return ""
    same = earlier.metrics == clip.metrics and earlier.system_id == clip.system_id
    return "the same row stands there twice" if same else "its uid was taken by an earlier row with another label"


def _pair_fault(pair: Pair, heard: dict[str, Heard], labelled: bool) -> str:
    if not all(pair["audio_paths"]):
        return str(pair.get("meta", {}).get("unusable") or "the row names no recording")
    errors = [heard[path].error for path in pair["audio_paths"] if heard[path].error]
    if errors:
        return errors[0]
    if pair["audio_paths"][0] == pair["audio_paths"][1]:
        return "compares a recording with itself"
    return "no verdict" if labelled and pair["verdict"] is None and not pair["metrics"] else ""


def _complete(pair: Pair, corpus: str, sounds: list[Heard]) -> Pair:
    return {
        **pair,
        "audio_paths": [sound.path for sound in sounds],
        "durations": [round(sound.seconds, 4) for sound in sounds],
        "corpus": corpus,
        "meta": {**pair.get("meta", {}), HASH: [sound.digest for sound in sounds]},
    }


# ---- what is not as published


def _differences(split: Split, count: Count | None) -> list[str]:
    """A sentence for each published number that was not found."""
    if count is None:
        return []
    row = split.row()
    stated = {"clips": count.clips, "systems": count.systems, "pairs": count.pairs}
    why = f"; {count.note}" if count.note else ""
    return [
        f"{split.name}: {row[what]} {what}, but {number} were published ({count.source}{why})"
        for what, number in stated.items()
        if number is not None and row[what] != number
    ]


def _odd_ratings(split: Split) -> list[str]:
    sentences = []
    for key, what in (("empty_ratings", "ratings are empty"), ("repeated_ratings", "ratings are repeated and count once")):
        if n := sum(clip.meta.get(key, 0) for clip in split.clips):
            sentences.append(f"{split.name}: {n} {what}")
    strange = [(clip.uid, value) for clip in split.clips for value in clip.meta.get("ratings_outside", ())]
    if strange:
        uid, value = strange[0]
        what = "1 rating lies" if len(strange) == 1 else f"{len(strange)} ratings lie"
        sentences.append(f"{split.name}: {what} outside 1 .. 5, not counted, the first: {uid} ({value})")
    return sentences


def _predictions(split: Split) -> list[str]:
    """Labels of a split that are predictions."""
    return [
        f"{split.name}: the {name} of {len(sources)} of {len(split.clips)} clips is {phrase_of(sources, name)}, not a label"
        for name, sources in predicted_labels(split.clips).items()
    ]


# ---- splits and overlap


def _wants_dev(splits: Sequence[Split], corpus: Corpus, requested: Sequence[str], dev_share: float) -> bool:
    """Whether a dev set is to be made: the corpus has none, and the user did not choose splits."""
    official = "dev" in corpus.splits and corpus.name != "custom"
    return dev_share > 0 and not requested and not official and all(split.name != "dev" for split in splits)


def _with_dev(splits: list[Split], corpus: Corpus, requested: Sequence[str], dev_share: float) -> list[Split]:
    """The splits, with a dev set out of train if one is to be made."""
    if not _wants_dev(splits, corpus, requested, dev_share):
        return splits
    with_dev: list[Split] = []
    for split in splits:
        if split.name != "train" or not split.clips:
            with_dev.append(split)
            continue
        sides = {name: [c for c in split.clips if side(content_of(c), dev_share) == name] for name in ("train", "dev")}
        with_dev.append(_timed(replace(split, clips=sides["train"])))
        if sides["dev"]:
            with_dev.append(_timed(Split("dev", sides["dev"])))
    return with_dev


def _hashes(split: Split) -> dict[str, str]:
    """hash -> uid of every recording of a split."""
    uids = {str(clip.meta[HASH]): clip.uid for clip in split.clips}
    for pair in split.pairs:
        uids.update(zip(pair["meta"][HASH], pair["uids"], strict=True))
    return uids


def _overlaps(splits: Sequence[Split]) -> list[str]:
    """A sentence for each two splits that share recordings or contents."""
    sentences = []
    for i, one in enumerate(splits):
        for other in splits[i + 1 :]:
            sentences += _shared(one.name, _hashes(one), other.name, _hashes(other))
            texts = [{clip.reference_id for clip in split.clips} - {None} for split in (one, other)]
            if both := len(texts[0] & texts[1]):
                sentences.append(f"{one.name} and {other.name} share {both} contents (other recordings of them)")
    return sentences


def _overlaps_with(splits: Sequence[Split], path: Path) -> list[str]:
    """The same for a manifest that an earlier `prepare` wrote."""
    theirs: dict[str, str] = {}
    for record in read_records(path):
        meta = record.get("meta") or {}
        digests, uids = meta.get(HASH, []), record.get("uids") or [record.get("uid")]
        theirs.update(zip([digests] if isinstance(digests, str) else digests, map(str, uids), strict=False))
    if not theirs:
        raise UsageError(f"{path}: no row has meta.{HASH}. Compare with a manifest that `urgentmos prepare` wrote.")
    return [sentence for split in splits for sentence in _shared(split.name, _hashes(split), str(path), theirs)]


def _shared(one: str, ours: dict[str, str], other: str, theirs: dict[str, str]) -> list[str]:
    both = sorted(ours.keys() & theirs.keys())
    if not both:
        return []
    first = f"{ours[both[0]]} is {theirs[both[0]]}"
    return [f"{one} and {other} share {len(both)} recordings, e.g. {first}. Do not train on one and test on the other."]


# ---- writing


def _write(splits: Sequence[Split], output: Path) -> list[Path]:
    files = []
    for split in splits:
        if split.clips:
            files.append(output / f"{split.name}.jsonl")
            write_records((to_record(clip, output) for clip in split.clips), files[-1])
        if split.pairs:
            files.append(output / f"{split.name}_pairs.jsonl")
            write_records((_pair_record(pair, output) for pair in split.pairs), files[-1])
    left_out = [row for split in splits for row in split.left_out]
    report = output / "left_out.jsonl"
    if left_out:
        files.append(report)
        write_records(left_out, report)
    else:
        report.unlink(missing_ok=True)  # of an earlier run
    return files


def _pair_record(pair: Pair, base: Path) -> Pair:
    """Paths relative to the manifest, as those of clips."""
    paths = [to_record(Clip("", path), base)["audio_path"] for path in pair["audio_paths"]]
    return {**pair, "audio_paths": paths}
