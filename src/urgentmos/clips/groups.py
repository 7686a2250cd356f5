"""One input -> its clips: an audio file, a folder, an archive, a manifest, shards, or an URGENT-PK data set, also as URL.

An input that cannot be understood as a whole (no such file, a row without a path) is a UsageError before any work starts.
Clips are not decoded here: a path that leads nowhere stays a clip and becomes a row with a reason.
Relative paths in a manifest are relative to the manifest; in memory a path opens from the current directory.
"""

import json
import os
from dataclasses import replace
from pathlib import Path

from urgentmos.audio.formats import AUDIO_ENDINGS, PARQUET_ENDINGS, is_foreign
from urgentmos.audio.left_out import LeftOut, audio_note, left_out, refusal, some
from urgentmos.audio.places.names import expand, file_name, is_archive, place_of, scheme_of, suffix_of
from urgentmos.clips.clip import Clip, clip_of, is_audio, no_path, without_suffix
from urgentmos.clips.delimited import looks_like_data
from urgentmos.clips.layouts import (
    Group,
    Item,
    archive_group,
    check_allowed,
    entries,
    folder_group,
    folders,
    is_folder,
    remote_group,
    scan,
    shards_in,
    together,
    with_systems,
)
from urgentmos.clips.records import brief
from urgentmos.clips.tables import Rows, complain, is_table, read_records, read_rows
from urgentmos.common.names import Disk, advice, is_junk, name_key, nearest
from urgentmos.errors import UsageError

SUBSETS = ("tr", "cv", "tt")  # training, validation, testing contents in the split.json of URGENT-PK
KINDS = "audio files, folders, a wav.scp, or a manifest (.jsonl .csv .parquet .json), or archives (.zip .tar .tar.gz .parquet)"

_NAMED = 12  # columns that a message spells out
_MANIFEST_BYTES = 4 << 30  # of a manifest behind a URL


def group_of(name: str) -> Group:
    """UsageError if it does not exist, holds no clip, or is of no known kind."""
    names = [name] if os.path.lexists(name) else expand(name)
    groups = [_remote(one) if scheme_of(one) else _local(Path(one)) for one in names]
    group = groups[0] if len(groups) == 1 else together(name, without_suffix(os.path.basename(name)), groups)
    if not group.items:
        unused = "".join(f" ({note.sentence})" for note in group.all_notes())
        raise UsageError(f"{name}: holds no clips{unused}. Give {KINDS}; audio ends in {AUDIO_ENDINGS}.")
    return group


def missing_input(path: Path) -> str:
    """The sentence about an input that does not exist, without the cure."""
    close = nearest(path.name, os.listdir(path.parent)) if path.parent.is_dir() and os.access(path.parent, os.R_OK) else []
    hint = advice(str(path))
    extra = f" The nearest name there: {close[0]}." if close else f" {hint}." if hint != "Check the path" else ""
    return f"{path}: no such file or folder.{extra}"


def _local(path: Path) -> Group:
    if not os.path.lexists(path):
        raise UsageError(f"{missing_input(path)} Give {KINDS}.")
    if path.is_dir():
        return _folder(path)
    if (shard := shard_group(os.fspath(path))) is not None:
        return shard
    if is_table(path):
        return manifest_group(path)
    if is_audio(path.name):
        return _single(path)
    kind = (
        "sound of a kind that is not read. Convert it to WAV or FLAC"
        if is_foreign(path.name)
        else f"of no known kind. Give {KINDS}"
    )
    raise UsageError(f"{path}: {kind}; audio ends in {AUDIO_ENDINGS}.")


def _single(path: Path) -> Group:
    return Group(str(path), path.resolve().parent.name, [Item(Clip(without_suffix(path.name), str(path)), True)])


def _folder(path: Path) -> Group:
    if is_urgentpk(path):
        return urgentpk_group(path, None)
    scanned = scan(path)
    if names := shards_in(path, scanned):
        whole = together(str(path), path.resolve().name, [_local(Path(name)) for name in names])
        others = ["/".join(parts) for parts in scanned.others if os.path.join(path, *parts) not in names]
        return replace(whole, left_out=whole.left_out + [left_out(name) for name in others])
    if not scanned.both and (path / "wav.scp").is_file():  # a data folder of Kaldi
        return manifest_group(path / "wav.scp")
    if not scanned.both and is_audio(path.name):
        return _single(path)
    group = folder_group(path, scanned=scanned)
    return replace(group, items=with_systems(group.items))


# ---- shards


def shard_group(file: str) -> Group | None:
    """The clips of an archive, or of a Parquet file with sound in it; None if it is neither."""
    from urgentmos.clips import shards

    if is_archive(file):
        group = archive_group(file)
        return replace(group, items=with_systems(group.items))
    if why := refusal(file):
        raise UsageError(f"{why}.")
    if suffix_of(file) not in PARQUET_ENDINGS or not shards.holds_sound(file):
        return None
    shard = shards.of_parquet(file)
    complain(file, shard.problems)
    for clip in shard.clips:
        try:
            check_allowed(clip, file)
        except ValueError as e:
            raise UsageError(f"{file}: {clip.uid} {e}.") from None
    items = [Item(clip, ours) for clip, ours in zip(shard.clips, shard.made, strict=True)]
    return Group(file, without_suffix(os.path.basename(file)), items)


def _remote(url: str) -> Group:
    from urgentmos.audio.places import remote

    remote.check_scheme(url)
    remote.trust([url])
    if "*" in url:
        return together(url, file_name(url), [_remote(one) for one in remote.listing(url, lambda name: True)])
    if (shard := shard_group(url)) is not None:
        return shard
    name = file_name(url)
    if is_table(Path(name)):
        rows = read_rows(name, remote.read_all(url, _MANIFEST_BYTES))
        return _rows_group(Path(name), rows, url.rsplit("/", 1)[0], url)
    if is_audio(name):
        return Group(url, url.rsplit("/", 2)[-2], [Item(Clip(without_suffix(name), url), True)])
    return _remote_folder(url.rstrip("/"))


def _remote_folder(url: str) -> Group:
    from urgentmos.audio.places import remote

    names = [one.removeprefix(url).lstrip("/") for one in remote.listing(url, lambda name: True)]
    names = [name for name in names if not any(map(is_junk, name.split("/")))]
    shards = [name for name in names if is_archive(name) or name.lower().endswith(PARQUET_ENDINGS)]
    if shards and not any(is_audio(name) for name in names) and not any("/" in name for name in shards):
        whole = together(url, file_name(url), [_remote(f"{url}/{name}") for name in shards])
        others = [left_out(name) for name in names if name not in shards]
        return replace(whole, left_out=whole.left_out + others)
    group = remote_group(url, names)
    return replace(group, items=with_systems(group.items))


# ---- manifests and scp files


def manifest_group(path: Path) -> Group:
    folder = os.fspath(path.parent) if path.parent != Path() else ""
    return _rows_group(path, read_rows(path), folder, os.fspath(path))


def _rows_group(path: Path, rows: Rows, folder: str, manifest: str) -> Group:
    """The clips of a manifest's rows; `manifest` is its path or URL, and what `folder` makes paths relative to."""
    if rows.records and not any("audio_path" in record for record in rows.records):
        names = list(dict.fromkeys(brief(name) for record in rows.records for name in record))
        listed = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
        header = " Line 1 looks like data: the file needs a header." if looks_like_data(rows.columns) else ""
        raise UsageError(f"{path}: {no_path(rows.records[0])}, but {listed}. Every row needs an audio_path.{header}")
    scp, disk = path.suffix.lower() == ".scp", Disk()
    group, problems = Group(manifest, path.stem), list(rows.problems)
    for count, record in zip(rows.numbers, rows.records, strict=True):
        try:
            clip, is_generated = clip_of(record, folder)
            check_allowed(clip, manifest)
        except ValueError as e:
            problems.append(f"{rows.unit} {count}: {e}")
            continue
        clip = _beside_or_here(clip, record["audio_path"], disk) if scp else clip
        group.items.append(Item(_on_disk(clip, record.get("reference_path"), folder, disk), is_generated))
    complain(path, sorted(problems, key=lambda p: int(p.split()[1].rstrip(":"))))
    return group


def _beside_or_here(clip: Clip, written: str, disk: Disk) -> Clip:
    """Paths in an scp file are relative to it; Kaldi's own are relative to where its commands run, so that is tried too."""
    if not os.path.lexists(disk.find(clip.audio_path)) and os.path.lexists(disk.find(written)):
        return replace(clip, audio_path=written)
    return clip


def _on_disk(clip: Clip, written: object, folder: str, disk: Disk) -> Clip:
    """The clip with its paths as the disk spells them; if there is no such reference signal, with the reason."""
    clip = replace(clip, audio_path=_spelled(clip.audio_path, disk))
    if clip.reference_path is None:
        return clip
    clip = replace(clip, reference_path=_spelled(clip.reference_path, disk))
    file = place_of(clip.reference_path or "").file
    if scheme_of(file) or os.path.lexists(file):
        return clip
    beside = "" if os.path.isabs(str(written)) else f" (reference_path {written}, relative to the manifest's folder)"
    return replace(clip, reference_fault=f"the reference signal {file} does not exist{beside}. {advice(str(written))}")


def _spelled(path: str, disk: Disk) -> str:
    place = place_of(path)
    if place.remote:
        return path
    file = disk.find(place.file)
    return path if file == place.file else f"{file}#{place.member}" if place.member else file


# ---- URGENT-PK data sets


def is_urgentpk(folder: Path) -> bool:
    """True for a folder with split.json and SYSTEM/wav.scp."""
    return (folder / "split.json").is_file() and any((s / "wav.scp").is_file() for s in folders(folder))


def scp_system(folder: Path) -> Group:
    """Clips of SYSTEM/wav.scp, with the MOS of SYSTEM/mos.scp where that exists."""
    mos: dict[str, float | None] = {}
    if (folder / "mos.scp").exists():
        mos = {name_key(record["uid"]): record["metrics"]["mos_overall"] for record in read_records(folder / "mos.scp")}
    system, listed = folder.name, manifest_group(folder / "wav.scp").clips
    clips = [
        replace(
            clip,
            uid=f"{system}:{clip.uid}",
            system_id=system,
            reference_id=clip.uid,
            metrics={"mos_overall": mos[name_key(clip.uid)]} if name_key(clip.uid) in mos else {},
        )
        for clip in listed
    ]
    unlisted = sorted({"/".join(parts) for parts in scan(folder).both} - {os.path.relpath(c.audio_path, folder) for c in clips})
    left = [LeftOut(f"{system}/{path}", "not in wav.scp", True) for path in unlisted]
    return Group(str(folder), system, [Item(clip, False) for clip in clips], left)


def urgentpk_group(folder: Path, subset: str | None) -> Group:
    """Clips of all systems (those in split.json's `subset`, in its order; None: all), system after system."""
    contents = None if subset is None else _contents(folder / "split.json", subset)
    group = Group(str(folder), folder.resolve().name)
    bare, held = [], set()
    for system in folders(folder):
        if not (system / "wav.scp").is_file():
            paths = ["/".join(parts) for parts in scan(system).both]
            group.left_out += [LeftOut(f"{system.name}/{path}", "in a folder without wav.scp", True) for path in paths]
            continue
        of_system = scp_system(system)
        group.left_out += of_system.left_out
        clips = of_system.clips
        if contents is not None:
            clips = [clip for clip in clips if name_key(clip.reference_id or "") in contents]
            clips.sort(key=lambda clip: contents[name_key(clip.reference_id or "")])
        group.items += [Item(clip, False) for clip in clips]
        held |= {name_key(clip.reference_id or "") for clip in clips}
        bare += [] if clips else [system.name]
    if group.items and bare:
        raise UsageError(f"{folder}: {', '.join(bare)} without any content to compare. Fill wav.scp or move the folder away.")
    if not group.items:
        raise UsageError(
            f"{folder}: no wav.scp lists any content of the subset {subset!r}. Choose another --subset: {', '.join(SUBSETS)}."
        )
    if absent := [content for content in contents or () if content not in held]:
        group.notes.append(audio_note(f"{folder}: no wav.scp lists these contents of the subset {subset!r}: {some(absent)}"))
    group.left_out += [
        LeftOut(entry.name) for entry in entries(str(folder)) if not is_folder(entry) and entry.name != "split.json"
    ]
    return group


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
    return {name_key(str(content)): place for place, content in reversed(list(enumerate(listed)))}
