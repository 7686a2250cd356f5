"""Clips, and every way to name them: audio files, folders, wav.scp, CSV, JSON, JSONL, Parquet, URGENT-PK data sets, and
shards (tar, Parquet with sound in it), here or behind a URL.

Whatever cannot be understood as a whole (no such file, a row without a path) is a UsageError before any work starts.
Whether a clip can be heard is not asked here: a path that leads nowhere stays a clip and becomes a row with a reason.
Relative paths in a manifest are relative to the manifest; in memory a path opens from the current directory.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from urgentmos.audio import AUDIO_ENDINGS, AUDIO_SUFFIXES
from urgentmos.cells import brief
from urgentmos.checking import Problem, check, report
from urgentmos.clips import Clip, clip_of, from_record, is_audio, no_path, to_record, without_suffix
from urgentmos.delimited import looks_like_data
from urgentmos.errors import UsageError
from urgentmos.sources import PARQUET_ENDINGS, TAR_ENDINGS, WEB, expand, input_name, scheme_of, suffix_of
from urgentmos.tables import Rows, complain, is_table, read_records, read_rows, write_jsonl_lines, write_records

__all__ = [
    "Clip",
    "Problem",
    "audio_below",
    "check",
    "from_record",
    "is_urgentpk",
    "read_clips",
    "read_records",
    "read_systems",
    "report",
    "to_record",
    "write_jsonl_lines",
    "write_records",
]

SUBSETS = ("tr", "cv", "tt")  # training, validation, testing contents in the split.json of URGENT-PK

_NAMED = 12  # columns that a message spells out
_KINDS = "audio files, folders, a wav.scp, or a manifest (.jsonl .csv .parquet .json), or shards (.tar .parquet)"
_MANIFEST_BYTES = 4 << 30  # of a manifest behind a URL


class _Group(NamedTuple):
    """What one input gave. Uids that we made ourselves may still change, those that a file names may not."""

    name: str  # goes before the uids when two inputs share some
    clips: list[Clip]
    made: list[bool]  # the uid is ours


# ---- folders


def _is_junk(name: str) -> bool:
    """Hidden files, and what macOS leaves in archives (`._x.wav`, `__MACOSX`)."""
    return name.startswith(".") or name == "__MACOSX"


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return sorted((e for e in found if not _is_junk(e.name)), key=lambda e: e.name)
    except OSError as e:
        raise UsageError(f"{folder}: cannot be opened ({e.strerror}). Correct its permissions or leave it out.") from None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def audio_below(folder: str | Path) -> list[str]:
    """Paths of all audio files below `folder`, relative to it with "/", sorted part by part.

    Links are followed, but never in a circle. What is named like audio but is none (a broken link, a folder `x.wav` without
    audio in it) is listed too: whoever opens it learns why it cannot be heard.
    """
    return ["/".join(parts) for parts in _walk(os.fspath(folder), (), frozenset())]


def _walk(folder: str, parts: tuple[str, ...], above: frozenset[str]) -> Iterator[tuple[str, ...]]:
    real = os.path.realpath(folder)
    if real in above:
        return
    for entry in _entries(folder):
        here = (*parts, entry.name)
        if not _is_folder(entry):
            if is_audio(entry.name):
                yield here
            continue
        inside = list(_walk(entry.path, here, above | {real}))
        yield from inside
        if not inside and is_audio(entry.name):
            yield here


def _folder_group(folder: Path) -> _Group:
    def place(rel: str) -> str:
        return os.path.join(folder, *rel.split("/"))

    return _tree_group(folder.resolve().name, audio_below(folder), place)


def _tree_group(name: str, found: Sequence[str], place: Callable[[str], str]) -> _Group:
    """Clips of relative paths, with systems and contents where the paths are those of systems; place: path -> audio_path."""
    contents = homologous(found)
    clips = []
    for rel in found:
        system, content = (rel.split("/", 1)[0], without_suffix(rel).split("/", 1)[1]) if contents else (None, None)
        clips.append(Clip(without_suffix(rel), place(rel), system, content))
    return _Group(name, clips, [True] * len(clips))


def homologous(found: Sequence[str]) -> bool:
    """Whether the paths are those of systems: two folders or more, all with the same contents in them."""
    by_folder: dict[str, set[str]] = {}
    for rel in found:
        folder, slash, rest = rel.partition("/")
        if not slash:
            return False
        by_folder.setdefault(folder, set()).add(without_suffix(rest))
    return len(by_folder) > 1 and len({frozenset(contents) for contents in by_folder.values()}) == 1


# ---- manifests and scp files


def _manifest_group(path: Path) -> _Group:
    return _rows_group(path, read_rows(path), os.fspath(path.parent) if path.parent != Path() else "", os.fspath(path))


def _rows_group(path: Path, rows: Rows, folder: str, manifest: str) -> _Group:
    """The clips of a manifest's rows; `manifest` is its path or URL, and what `folder` makes paths relative to."""
    if rows.records and not any("audio_path" in record for record in rows.records):
        names = list(dict.fromkeys(brief(name) for record in rows.records for name in record))
        listed = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
        header = " Line 1 looks like data: the file needs a header." if looks_like_data(rows.columns) else ""
        raise UsageError(f"{path}: {no_path(rows.records[0])}, but {listed}. Every row needs an audio_path.{header}")
    scp = path.suffix.lower() == ".scp"
    group, problems = _Group(path.stem, [], []), list(rows.problems)
    for count, record in zip(rows.numbers, rows.records, strict=True):
        try:
            clip, made = clip_of(record, folder)
            _check_allowed(clip, manifest)
        except ValueError as e:
            problems.append(f"{rows.unit} {count}: {e}")
            continue
        group.clips.append(_beside_or_here(clip, record["audio_path"]) if scp else clip)
        group.made.append(made)
    complain(path, sorted(problems, key=lambda p: int(p.split()[1].rstrip(":"))))
    return group


def _check_allowed(clip: Clip, manifest: str) -> None:
    """ValueError if a row of `manifest` names what lies elsewhere."""
    if scheme_of(clip.audio_path) or scheme_of(clip.reference_path or "") or scheme_of(manifest):
        from urgentmos.sources.remote import refusal

        for path in (clip.audio_path, clip.reference_path):
            if why := refusal(path, manifest):
                raise ValueError(why)


def _beside_or_here(clip: Clip, written: str) -> Clip:
    """Paths in an scp file are relative to it; Kaldi's own are relative to where its commands run, so that is tried too."""
    if not os.path.lexists(clip.audio_path) and os.path.lexists(written):
        return replace(clip, audio_path=written)
    return clip


# ---- URGENT-PK data sets


def is_urgentpk(folder: Path) -> bool:
    """True for a folder with split.json and SYSTEM/wav.scp."""
    return (folder / "split.json").is_file() and any((s / "wav.scp").is_file() for s in _folders(folder))


def _folders(folder: Path) -> list[Path]:
    return [Path(entry.path) for entry in _entries(os.fspath(folder)) if _is_folder(entry)]


def _scp_system(folder: Path) -> list[Clip]:
    """Clips of SYSTEM/wav.scp, with the MOS of SYSTEM/mos.scp where that exists."""
    mos: dict[str, float | None] = {}
    if (folder / "mos.scp").exists():
        mos = {record["uid"]: record["metrics"]["mos_overall"] for record in read_records(folder / "mos.scp")}
    system = folder.name
    return [
        replace(
            clip,
            uid=f"{system}:{clip.uid}",
            system_id=system,
            reference_id=clip.uid,
            metrics={"mos_overall": mos[clip.uid]} if clip.uid in mos else {},
        )
        for clip in _manifest_group(folder / "wav.scp").clips
    ]


def _urgentpk(folder: Path, subset: str | None) -> list[Clip]:
    """Clips of all systems (those in split.json's `subset`, in its order; None: all), system after system."""
    contents = None if subset is None else _contents(folder / "split.json", subset)
    clips: list[Clip] = []
    bare = []
    for system in _folders(folder):
        if not (system / "wav.scp").is_file():
            continue
        found = _scp_system(system)
        if contents is not None:
            found = sorted((c for c in found if c.reference_id in contents), key=lambda c: contents[c.reference_id or ""])
        clips += found
        bare += [] if found else [system.name]
    if clips and bare:
        raise UsageError(f"{folder}: {', '.join(bare)} without any content to compare. Fill wav.scp or move the folder away.")
    if not clips:
        raise UsageError(
            f"{folder}: no wav.scp lists any content of the subset {subset!r}. Choose another --subset: {', '.join(SUBSETS)}."
        )
    return clips


def _contents(path: Path, subset: str) -> dict[str, int]:
    """Content -> its place in the subset."""
    try:
        split = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as e:
        raise UsageError(
            f"{path}: cannot be read ({brief(str(e))}). It must hold {{'tr': [...], 'cv': [...], 'tt': [...]}}."
        ) from None
    listed = split.get(subset) if isinstance(split, dict) else None
    if listed is None:
        offered = ", ".join(split) if isinstance(split, dict) else "nothing"
        raise UsageError(f"{path}: has no subset {subset!r}, but {offered}. Choose one of them with --subset.")
    if not isinstance(listed, list) or not all(isinstance(x, str | int) for x in listed):
        raise UsageError(f"{path}: {subset!r} is not a list of content ids. Correct it there.")
    return {str(content): place for place, content in reversed(list(enumerate(listed)))}


# ---- any input


def read_clips(inputs: Sequence[str | Path] | str | Path) -> list[Clip]:
    """Clips of all inputs, one input after the other, each in its own order; uids that we make are unique.

    An input is an audio file, a folder (recursive, sorted), shards (a tar, Parquet with sound in it, several by a pattern
    such as x-{000..003}.tar), a wav.scp, a manifest, or an URGENT-PK data set; all but the last also as URL. A uid is what
    the manifest says, else the path inside the folder without suffix; when two inputs share one, the name of the folder
    goes before it, and then "#2", "#3". UsageError names an input that does not exist, holds no clip, or is of no known kind.
    """
    if isinstance(inputs, str | Path):
        inputs = [inputs]
    if not inputs:
        raise UsageError(f"no input. Give {_KINDS}.")
    return _unique([_group(input_name(name)) for name in inputs])


def _group(name: str) -> _Group:
    names = [name] if os.path.lexists(name) else expand(name)
    groups = [_read_remote(one) if scheme_of(one) else _read(Path(one)) for one in names]
    group = groups[0] if len(groups) == 1 else _together(name, groups)
    if not group.clips:
        raise UsageError(f"{name}: holds no clips. Give {_KINDS}; audio ends in {AUDIO_ENDINGS}.")
    return group


def _together(name: str, groups: Sequence[_Group]) -> _Group:
    """The shards of one data set as one group; systems are looked for in all of them together."""
    from urgentmos.sources import shards

    clips = shards.with_systems([clip for group in groups for clip in group.clips])
    return _Group(without_suffix(os.path.basename(name)), clips, [made for group in groups for made in group.made])


def _read(path: Path) -> _Group:
    if not os.path.lexists(path):
        raise UsageError(f"{path}: no such file or folder. Give {_KINDS}.")
    if path.is_dir():
        return _read_folder(path)
    if (shard := _shard_group(os.fspath(path))) is not None:
        return shard
    if is_table(path):
        return _manifest_group(path)
    if is_audio(path.name):
        return _single(path)
    raise UsageError(f"{path}: of no known kind. Give {_KINDS}; audio ends in {AUDIO_ENDINGS}.")


def _read_folder(path: Path) -> _Group:
    if is_urgentpk(path):
        clips = _urgentpk(path, None)
        return _Group(path.resolve().name, clips, [False] * len(clips))
    group = _folder_group(path)
    if not group.clips and (path / "wav.scp").is_file():  # a Kaldi data folder
        return _manifest_group(path / "wav.scp")
    if not group.clips and (names := _shards_below(path)):
        return _together(path.resolve().name, [_read(Path(name)) for name in names])
    return _single(path) if not group.clips and is_audio(path.name) else group


def _shards_below(folder: Path) -> list[str]:
    return [e.path for e in _entries(os.fspath(folder)) if e.name.lower().endswith((*TAR_ENDINGS, *PARQUET_ENDINGS))]


def _shard_group(file: str) -> _Group | None:
    """The clips of a tar, or of a Parquet file with sound in it; None if it is neither."""
    from urgentmos.sources import shards

    if suffix_of(file) in TAR_ENDINGS:
        made = shards.of_tar(file)
    elif suffix_of(file) in PARQUET_ENDINGS and shards.holds_sound(file):
        made = shards.of_parquet(file)
    elif file.lower().endswith((".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")):
        raise UsageError(f"{file}: a compressed tar cannot be read in parts. Uncompress it to .tar.")
    else:
        return None
    complain(file, made.problems)
    for clip in made.clips:
        try:
            _check_allowed(clip, file)
        except ValueError as e:
            raise UsageError(f"{file}: {clip.uid} {e}.") from None
    return _Group(without_suffix(os.path.basename(file)), made.clips, made.made)


def _read_remote(url: str) -> _Group:
    from urgentmos.sources import remote

    remote.check_scheme(url)
    if "*" in url:
        return _together(url, [_read_remote(one) for one in remote.listing(url, lambda name: True)])
    if (shard := _shard_group(url)) is not None:
        return shard
    name = (urlsplit(url).path if scheme_of(url) in WEB else url).rsplit("/", 1)[-1]
    if is_table(Path(name)):
        rows = read_rows(name, remote.read_all(url, _MANIFEST_BYTES))
        return _rows_group(Path(name), rows, url.rsplit("/", 1)[0], url)
    if is_audio(name):
        return _Group(url.rsplit("/", 2)[-2], [Clip(without_suffix(name), url)], [True])
    return _remote_folder(url.rstrip("/"))


def _remote_folder(url: str) -> _Group:
    from urgentmos.sources import remote

    found = remote.listing(url, lambda name: is_audio(name) or name.lower().endswith((*TAR_ENDINGS, *PARQUET_ENDINGS)))
    junk = [one for one in found if any(_is_junk(part) for part in one.removeprefix(url).split("/"))]
    sounds = [one for one in found if is_audio(one) and one not in junk]
    if not sounds and found:
        return _together(url, [_read_remote(one) for one in found if one not in junk])
    return _tree_group(
        url.rsplit("/", 1)[-1], [one.removeprefix(url).lstrip("/") for one in sounds], lambda rel: f"{url}/{rel}"
    )


def _single(path: Path) -> _Group:
    return _Group(path.resolve().parent.name, [Clip(without_suffix(path.name), str(path))], [True])


def _unique(groups: list[_Group]) -> list[Clip]:
    """All clips, no uid of ours twice. A uid that a file names is left alone: `check` reports those that repeat."""
    groups = _prefixed(groups)
    used = Counter(clip.uid for group in groups for clip in group.clips)
    taken = {clip.uid for group in groups for clip, made in zip(group.clips, group.made, strict=True) if not made}
    copies: Counter[str] = Counter()
    clips = []
    for group in groups:
        for clip, made in zip(group.clips, group.made, strict=True):
            uid = clip.uid
            while (made and uid in taken) or (uid != clip.uid and uid in used):
                copies[clip.uid] += 1
                uid = f"{clip.uid}#{copies[clip.uid] + 1}"
            taken.add(uid)
            clips.append(clip if uid == clip.uid else replace(clip, uid=uid))
    return clips


def _prefixed(groups: list[_Group]) -> list[_Group]:
    """The groups, with the group's name before the uids of ours in each group that shares a uid with another."""
    owner: dict[str, int] = {}
    shared: set[int] = set()
    for place, group in enumerate(groups):
        for uid in {clip.uid for clip in group.clips}:
            if owner.setdefault(uid, place) != place:
                shared |= {owner[uid], place}
    return [_with_prefix(group) if place in shared else group for place, group in enumerate(groups)]


def _with_prefix(group: _Group) -> _Group:
    pairs = zip(group.clips, group.made, strict=True)
    return group._replace(clips=[replace(clip, uid=f"{group.name}/{clip.uid}") if made else clip for clip, made in pairs])


# ---- systems


def read_systems(path: str | Path, subset: str = "tt") -> list[Clip]:
    """Clips with system_id and reference_id, to rank: system after system, contents in order.

    `path` is a folder with one folder per system (reference_id: the path inside it without suffix), an URGENT-PK data set
    (the contents of its `subset`), or a manifest, also one that score or label wrote. UsageError says what is missing.
    Whether all systems hold the same contents is for `check(clips, systems=True)`.
    """
    name = input_name(path)
    path = Path(name)
    if not path.is_dir():
        return _systems_of_manifest(name)
    if is_urgentpk(path):
        return _urgentpk(path, subset)
    folders = _folders(path)
    if not folders and not audio_below(path) and _shards_below(path):
        return _systems_of_manifest(name)
    if not folders:
        raise UsageError(f"{path}: has no folders. Ranking needs one folder per system, each with the same file names in it.")
    return [clip for folder in folders for clip in _system(folder)]


def _system(folder: Path) -> list[Clip]:
    found = audio_below(folder)
    if not found and (folder / "wav.scp").is_file():
        return _scp_system(folder)
    if not found:
        raise UsageError(f"{folder}: a system without audio. Fill the folder or move it away; audio ends in {AUDIO_ENDINGS}.")
    clips = []
    for rel in found:
        content = without_suffix(rel)
        clips.append(Clip(f"{folder.name}:{content}", os.path.join(folder, *rel.split("/")), folder.name, content))
    return clips


def _systems_of_manifest(path: str) -> list[Clip]:
    layout = "Ranking needs one folder per system, an URGENT-PK data set, or a manifest with system_id and reference_id"
    one = expand(path)[0]
    if scheme_of(one) is None and not os.path.exists(path) and not os.path.exists(one):
        raise UsageError(f"{path}: no such file or folder. {layout}.")
    if suffix_of(one) in AUDIO_SUFFIXES and not os.path.isdir(path):
        raise UsageError(f"{path}: a single file. {layout}.")
    clips = _unique([_group(path)])
    for name in ("system_id", "reference_id"):
        without = [clip.uid for clip in clips if getattr(clip, name) is None]
        if without:
            count = f"{len(without)} of {len(clips)} rows have no {name}"
            raise UsageError(f"{path}: {count} (the first: {without[0]}). {layout} in every row.")
    return clips


# ---- pairs of folders


def pair_folders(a: str | Path, b: str | Path) -> tuple[list[tuple[Clip, Clip]], list[str]]:
    """Two files, or two folders matched by path without suffix -> (pairs, paths that have no counterpart).

    UsageError if one does not exist, if a file meets a folder, or if the folders share no name.
    """
    paths = [Path(a), Path(b)]
    for path in paths:
        if not os.path.lexists(path):
            raise UsageError(f"{path}: no such file or folder. Give two audio files, or two folders of them.")
    if paths[0].is_dir() != paths[1].is_dir():
        raise UsageError(f"{paths[0]} and {paths[1]} are a file and a folder. Give two audio files, or two folders of them.")
    if not paths[0].is_dir():
        first, second = (Clip(without_suffix(path.name), str(path)) for path in paths)
        return [(first, second)], []
    sides = [{clip.reference_id: clip for clip in _system(path)} for path in paths]
    shared = [name for name in sides[0] if name in sides[1]]
    alone = [clip.audio_path for k in (0, 1) for name, clip in sides[k].items() if name not in sides[1 - k]]
    if not shared:
        raise UsageError(f"{paths[0]} and {paths[1]} share no file name. Clips of one content need the same name in both.")
    return [(sides[0][name], sides[1][name]) for name in shared], alone
