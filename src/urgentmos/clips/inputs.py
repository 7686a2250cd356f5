"""Clips, and every way to name them: audio files, folders, archives, wav.scp, CSV, JSON, JSONL, Parquet, URGENT-PK data sets,
and shards (archives, Parquet with sound in it), here or behind a URL.

Everything that is given is used, or named with the reason: by a UsageError, or by a note beside the clips. `inputs.py` reads
one input; here several become one list, systems, or pairs.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from urgentmos.audio.formats import AUDIO_ENDINGS, AUDIO_SUFFIXES
from urgentmos.audio.left_out import LeftOut, Note, audio_note, refusal, some
from urgentmos.audio.places.archives import stem
from urgentmos.audio.places.names import expand, input_name, is_archive, scheme_of, suffix_of
from urgentmos.clips.checks import Problem, check, report
from urgentmos.clips.clip import Clip, from_record, to_record, without_suffix
from urgentmos.clips.groups import KINDS, SUBSETS, group_of, is_urgentpk, missing_input, scp_system, urgentpk_group
from urgentmos.clips.layouts import (
    Group,
    Item,
    archive_group,
    audio_below,
    check_one_each,
    entries,
    folder_group,
    folders,
    prefixed,
    same_names,
    scan,
    shards_in,
    twice,
)
from urgentmos.clips.tables import read_records, write_jsonl_lines, write_records
from urgentmos.common.names import name_key, nearest
from urgentmos.errors import UsageError

__all__ = [
    "SUBSETS",
    "Clip",
    "Inputs",
    "Note",
    "Pairs",
    "Problem",
    "audio_below",
    "check",
    "from_record",
    "is_collection",
    "is_urgentpk",
    "pair_folders",
    "read_clips",
    "read_inputs",
    "read_pairs",
    "read_records",
    "read_system_inputs",
    "read_systems",
    "report",
    "to_record",
    "write_jsonl_lines",
    "write_records",
]

_LAYOUT = "Ranking needs one folder per system, an URGENT-PK data set, or a manifest with system_id and reference_id"


class Inputs(NamedTuple):
    """Clips, and sentences about what was given with them and is not used, or is used in a way worth saying."""

    clips: list[Clip]
    notes: list[Note]

    @property
    def warnings(self) -> list[str]:
        """The notes that concern audio: a result that rests on the clips should repeat them."""
        return [note.warning for note in self.notes if note.warning]


class Pairs(NamedTuple):
    """Clips of one content from A and B; `alone` are the paths of A and of B that have no counterpart."""

    pairs: list[tuple[Clip, Clip]]
    alone: tuple[list[str], list[str]]
    notes: list[Note]


# ---- any input


def read_clips(inputs: Sequence[str | Path] | str | Path) -> list[Clip]:
    """Clips of all inputs, one input after the other, each in its own order; uids that we make are unique.

    An input is an audio file, a folder (recursive, sorted), an archive or shards (zip, tar, Parquet with sound in it, several
    by a pattern such as x-{000..003}.tar), a wav.scp, a manifest, or an URGENT-PK data set; all but the last also as URL. A uid
    is that of the manifest, else the path inside the folder without suffix; when two inputs share one, the name of the folder
    goes before it, and then "#2", "#3". UsageError names an input that does not exist, holds no clip, or is of no known kind.
    """
    return read_inputs(inputs).clips


def read_inputs(inputs: Sequence[str | Path] | str | Path) -> Inputs:
    """The clips as `read_clips` gives them, with notes about what is not used."""
    if isinstance(inputs, str | Path):
        inputs = [inputs]
    if not inputs:
        raise UsageError(f"no input. Give {KINDS}.")
    groups = [group_of(input_name(name)) for name in inputs]
    notes = [note for group in groups for note in [*group.all_notes(), *_same_contents(group)]]
    return Inputs(_unique(groups), notes)


def _same_contents(group: Group) -> list[Note]:
    """A note if a folder's systems have two files of a content: both are used, but neither can be compared."""
    same = twice([item.clip for item in group.items if item.path])
    if not same:
        return []
    (first, second, *_), count = next(iter(same.values())), len(same)
    which = (
        f"two clips of {first.reference_id}" if count == 1 else f"two clips of {count} contents, the first {first.reference_id}"
    )
    files = f"{first.audio_path} and {second.audio_path}"
    return [audio_note(f"{group.where}: {first.system_id} has {which} ({files}). Keep one of them before you rank or compare")]


def _unique(groups: list[Group]) -> list[Clip]:
    """All clips, no uid of ours twice. A uid that a file names is left alone: `check` reports those that repeat."""
    groups = prefixed(groups)
    items = [item for group in groups for item in group.items]
    used = Counter(item.clip.uid for item in items)
    taken = {item.clip.uid for item in items if not item.made}
    copies: Counter[str] = Counter()
    clips = []
    for clip, is_generated, _ in items:
        uid = clip.uid
        while (is_generated and uid in taken) or (uid != clip.uid and uid in used):
            copies[clip.uid] += 1
            uid = f"{clip.uid}#{copies[clip.uid] + 1}"
        taken.add(uid)
        clips.append(clip if uid == clip.uid else replace(clip, uid=uid))
    return clips


# ---- systems


def read_systems(path: str | Path, subset: str = "tt") -> list[Clip]:
    """Clips with system_id and reference_id, to rank: system after system, contents in order.

    `path` is a folder with one folder or archive per system (reference_id: the path inside it without suffix), an archive of
    such folders, an URGENT-PK data set (the contents of its `subset`), or a manifest, also one that score or label wrote.
    UsageError if something is missing, or a system has two clips of a content. Whether all systems hold the same contents is
    for `check(clips, systems=True)`.
    """
    return read_system_inputs(path, subset).clips


def read_system_inputs(path: str | Path, subset: str = "tt") -> Inputs:
    """The clips as `read_systems` gives them, with notes about what is not used."""
    name = input_name(path)
    group = _systems(name, subset)
    clips = same_names(group.clips)
    check_one_each(clips, lambda clip: f"system {clip.system_id}")
    return Inputs(clips, [*group.all_notes(), *_cased(name, clips)])


def _systems(name: str, subset: str) -> Group:
    path = Path(name)
    if scheme_of(name) or not path.is_dir():
        return _systems_of_file(name)
    if is_urgentpk(path):
        return urgentpk_group(path, subset)
    scanned = scan(path)
    if shards := shards_in(path, scanned):
        group = group_of(name)
        if len(shards) == 1:
            inside = _systems_of_file(shards[0])
            return replace(inside, where=name, left_out=list(dict.fromkeys([*inside.left_out, *group.left_out])))
        if any(clip.system_id for clip in group.clips) or not all(map(is_archive, shards)):
            return _systems_of_file(name)
    systems = folders(path)
    if not systems and not scanned.archives:
        raise UsageError(f"{path}: has no folders. Ranking needs one folder per system, each with the same file names in it.")
    _check_names(path)
    group = folder_group(path, scanned=scanned)
    held = {item.path.partition("/")[0] for item in group.items}
    for folder in (folder for folder in systems if folder.name not in held):
        group.items += _without_audio(folder).items
        group.left_out = [item for item in group.left_out if item.name != f"{folder.name}/wav.scp"]
    for archive in (parts[0] for parts in scanned.archives if len(parts) == 1 and stem(parts[0]) not in held):
        raise UsageError(f"{path / archive}: a system without audio. Fill the archive or move it away.")
    return _by_top(group)


def _check_names(path: Path) -> None:
    """UsageError if two of a folder's folders and archives are called alike."""
    first: dict[str, str] = {}
    for entry in entries(os.fspath(path)):
        if entry.is_dir() or is_archive(entry.name):
            system = entry.name if entry.is_dir() else stem(entry.name)
            if (other := first.setdefault(name_key(system), entry.name)) != entry.name:
                raise UsageError(f"{path}: {other} and {entry.name} are both the system {system}. Keep one of them.")


def _without_audio(folder: Path) -> Group:
    """The clips of a data folder of Kaldi; UsageError for any other folder without audio."""
    if (folder / "wav.scp").is_file():
        return scp_system(folder)
    raise UsageError(f"{folder}: a system without audio. Fill the folder or move it away; audio ends in {AUDIO_ENDINGS}.")


def _systems_of_file(name: str) -> Group:
    one = expand(name)[0]
    if scheme_of(one) is None and not os.path.exists(name) and not os.path.exists(one):
        raise UsageError(f"{missing_input(Path(name))} {_LAYOUT}.")
    if suffix_of(one) in AUDIO_SUFFIXES and not os.path.isdir(name):
        raise UsageError(f"{name}: a single file. {_LAYOUT}.")
    group = group_of(name)
    paths = [item.path for item in group.items]
    if any("/" in path for path in paths) and not any(clip.system_id or clip.reference_id for clip in group.clips):
        return _by_top(group)
    for key in ("system_id", "reference_id"):
        without = [clip.uid for clip in group.clips if getattr(clip, key) is None]
        if without:
            count = f"{len(without)} of {len(group.items)} rows have no {key}"
            raise UsageError(f"{name}: {count} (the first: {without[0]}). {_LAYOUT} in every row.")
    items = [item._replace(clip=clip) for item, clip in zip(group.items, _unique([group]), strict=True)]
    return replace(group, items=_in_order(items) if all(paths) else items)


def _by_top(group: Group) -> Group:
    """The group with the first part of each path as the system and the rest as the content."""
    items, left = [], list(group.left_out)
    for item in group.items:
        system, slash, rest = item.path.partition("/")
        if item.path and not slash:
            left.append(LeftOut(item.path, "audio beside the systems' folders, which belongs to no system", True))
            continue
        content = without_suffix(rest)
        clip = item.clip
        uid = f"{system}:{content}" if item.made else clip.uid
        clip = replace(clip, uid=uid, system_id=clip.system_id or system, reference_id=clip.reference_id or content)
        items.append(item._replace(clip=clip))
    items = _in_order(items)
    _check_shared(group.where, [item.clip for item in items])
    return replace(group, items=items, left_out=left)


def _in_order(items: Sequence[Item]) -> list[Item]:
    """System after system, by path: a ranking does not depend on the order of an archive."""
    return sorted(items, key=lambda item: (str(item.clip.system_id), item.path.split("/")))


def _check_shared(where: str, clips: Sequence[Clip]) -> None:
    """UsageError if a system has no content of any other: then its files are called differently."""
    contents: dict[str, dict[str, str]] = {}
    for clip in clips:
        contents.setdefault(str(clip.system_id), {})[name_key(str(clip.reference_id))] = str(clip.reference_id)
    owners = Counter(key for held in contents.values() for key in held)
    lonely = [system for system, held in contents.items() if len(contents) > 1 and all(owners[key] == 1 for key in held)]
    if not lonely:
        return
    system = lonely[0]
    content = next(iter(contents[system].values()))
    others = [(other, name) for other, held in contents.items() if other != system for name in held.values()]
    same_end = [pair for pair in others if name_key(pair[1]).rpartition("/")[2] == name_key(content).rpartition("/")[2]]
    other, name = (same_end or others)[0]
    who = f"{len(lonely)} systems have" if len(lonely) > 1 else f"{system} has"
    raise UsageError(
        f"{where}: {who} no content in common with the others: {system} has {content}, {other} has {name}. A content needs the "
        f"same path below each system's folder, as in {system}/{name} and {other}/{name}. Move or rename the files."
    )


def _cased(where: str, clips: Sequence[Clip]) -> list[Note]:
    """A note if contents differ in case only."""
    spelled: dict[str, dict[str, Clip]] = {}
    for clip in clips:
        key = name_key(str(clip.reference_id))
        spelled.setdefault(key.casefold(), {}).setdefault(key, clip)
    alike = [list(same.values())[:2] for same in spelled.values() if len(same) > 1]
    if not alike:
        return []
    names = some([f"{a.reference_id} ({a.system_id}) and {b.reference_id} ({b.system_id})" for a, b in alike])
    return [
        audio_note(f"{where}: names that differ in case are different contents: {names}. Rename one of them if they are not")
    ]


# ---- pairs of folders


def is_collection(path: str | Path) -> bool:
    """Whether it is a folder or an archive of many files, not a recording."""
    return os.path.isdir(path) or is_archive(os.fspath(path))


def pair_folders(a: str | Path, b: str | Path) -> tuple[list[tuple[Clip, Clip]], list[str]]:
    """Two files, or two folders or archives matched by path without suffix -> (pairs, paths that have no counterpart).

    UsageError if one does not exist, if a file meets a folder, if one has two clips of a content, or if they share no name.
    """
    pairs = read_pairs(a, b)
    return pairs.pairs, [*pairs.alone[0], *pairs.alone[1]]


def read_pairs(a: str | Path, b: str | Path) -> Pairs:
    """The pairs as `pair_folders` gives them, with notes about what is not used."""
    paths = [Path(a), Path(b)]
    for path in paths:
        if not os.path.lexists(path):
            raise UsageError(f"{missing_input(path)} Give two audio files, or two folders of them.")
        if not path.is_dir() and (why := refusal(os.fspath(path))):
            raise UsageError(f"{why}.")
    if is_collection(paths[0]) != is_collection(paths[1]):
        raise UsageError(f"{paths[0]} and {paths[1]} are a file and a folder. Give two audio files, or two folders of them.")
    if not is_collection(paths[0]):
        first, second = (Clip(without_suffix(path.name), str(path)) for path in paths)
        return Pairs([(first, second)], ([], []), [])
    sides = [_side(path) for path in paths]
    by_key = [{name_key(str(clip.reference_id)): clip for clip in side.clips} for side in sides]
    shared = [key for key in by_key[0] if key in by_key[1]]
    alone = [[clip for key, clip in by_key[k].items() if key not in by_key[1 - k]] for k in (0, 1)]
    if not shared:
        example = f"{alone[0][0].reference_id} and {alone[1][0].reference_id}"
        cure = f"Clips of one content need the same name in both, and these have, for example, {example}"
        raise UsageError(f"{paths[0]} and {paths[1]} share no file name. {cure}.")
    notes = [note for side in sides for note in side.all_notes()] + _alone_note(paths, by_key, alone)
    pairs = [(by_key[0][key], by_key[1][key]) for key in shared]
    return Pairs(pairs, ([c.audio_path for c in alone[0]], [c.audio_path for c in alone[1]]), notes)


def _side(path: Path) -> Group:
    """The clips of a folder or archive, each with its content. UsageError if it has two of one."""
    group = archive_group(os.fspath(path)) if not path.is_dir() else folder_group(path, own_folder=False)
    if not group.items and not path.is_dir():
        raise UsageError(f"{path}: an archive without audio. Fill it; audio ends in {AUDIO_ENDINGS}.")
    if not group.items:
        group = _without_audio(path)
    items = []
    for item in _in_order(group.items):
        content = item.clip.reference_id or without_suffix(item.path)
        uid = f"{group.name}:{content}" if item.made else item.clip.uid
        items.append(
            item._replace(clip=replace(item.clip, uid=uid, system_id=item.clip.system_id or group.name, reference_id=content))
        )
    check_one_each([item.clip for item in items], lambda clip: str(path))
    return replace(group, items=items)


def _alone_note(paths: Sequence[Path], by_key: Sequence[dict[str, Clip]], alone: Sequence[Sequence[Clip]]) -> list[Note]:
    count = len(alone[0]) + len(alone[1])
    if not count:
        return []
    side = 0 if alone[0] else 1
    first = alone[side][0]
    close = nearest(str(first.reference_id), [str(clip.reference_id) for clip in by_key[1 - side].values()], 1)
    hint = f" (the nearest name in {paths[1 - side]}: {close[0]})" if close else ""
    verb = "file has" if count == 1 else "files have"
    return [audio_note(f"{count} {verb} no counterpart of the same name. Left out, the first: {first.audio_path}{hint}")]
