"""Folders and archives as groups of clips: what lies where, which paths are those of systems, and what is not used.

An archive directly in the folder that was given stands for a folder of its name (c.zip for c/); one further below stands for
the files in it, as if it had been unpacked there.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from urgentmos.audio.formats import PARQUET_ENDINGS
from urgentmos.audio.left_out import LeftOut, Note, left_out, left_out_notes, refusal, some
from urgentmos.audio.places.names import file_name, is_archive, scheme_of
from urgentmos.clips.clip import Clip, is_audio, without_suffix
from urgentmos.clips.tables import complain
from urgentmos.common.names import is_junk, name_key
from urgentmos.errors import UsageError


class Item(NamedTuple):
    """A clip and where it lies below its folder or archive."""

    clip: Clip
    made: bool  # the uid is ours, and may change; one that a file names may not
    path: str = ""  # with "/"; "" for a row of a manifest


@dataclass
class Group:
    """The clips of one input, with notes and problems."""

    where: str  # as the user named it
    name: str  # goes before the uids when two inputs share some
    items: list[Item] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    @property
    def clips(self) -> list[Clip]:
        return [item.clip for item in self.items]

    def all_notes(self) -> list[Note]:
        return [*self.notes, *left_out_notes(self.where, self.left_out)]


# ---- what lies in a folder


class Scan(NamedTuple):
    """Paths below a folder as tuples of names, in order. `sounds` and `archives` are in `both`, too."""

    both: list[tuple[str, ...]]
    archives: set[tuple[str, ...]]
    others: list[tuple[str, ...]]

    @property
    def sounds(self) -> list[tuple[str, ...]]:
        return [parts for parts in self.both if parts not in self.archives]


def entries(folder: str) -> list[os.DirEntry[str]]:
    """The entries of a folder without junk, sorted by name."""
    try:
        with os.scandir(folder) as items:
            return sorted((e for e in items if not is_junk(e.name)), key=lambda e: e.name)
    except OSError as e:
        raise UsageError(f"{folder}: cannot be opened ({e.strerror}). Correct its permissions or leave it out.") from None


def is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def folders(folder: Path) -> list[Path]:
    return [Path(entry.path) for entry in entries(os.fspath(folder)) if is_folder(entry)]


def scan(folder: str | Path) -> Scan:
    """Everything below `folder`. Links are followed, but never in a circle.

    What is named like audio but is none (a broken link, a folder `x.wav` without audio in it) counts as audio: its row says why
    it cannot be read. UsageError names the archives that are not read.
    """
    tree = Scan([], set(), [])
    refused = list(_walk(os.fspath(folder), (), frozenset(), tree))
    if refused:
        more = [] if len(refused) == 1 else [f"The others: {some(refused[1:])}."]
        raise UsageError(f"{refusal(refused[0])}, or move it away.", *more)
    return tree


def _walk(folder: str, parts: tuple[str, ...], above: frozenset[str], tree: Scan) -> Iterator[str]:
    """Fills `made`; yields the archives that are not read."""
    real = os.path.realpath(folder)
    if real in above:
        return
    for entry in entries(folder):
        here = (*parts, entry.name)
        if is_folder(entry):
            before = len(tree.both)
            yield from _walk(entry.path, here, above | {real}, tree)
            if len(tree.both) == before and is_audio(entry.name):
                tree.both.append(here)
        elif is_audio(entry.name):
            tree.both.append(here)
        elif is_archive(entry.name):
            tree.both.append(here)
            tree.archives.add(here)
        elif refusal(entry.name):
            yield entry.path
        else:
            tree.others.append(here)


def audio_below(folder: str | Path) -> list[str]:
    """Paths of all audio files below `folder`, relative to it with "/", sorted part by part."""
    return ["/".join(parts) for parts in scan(folder).sounds]


def shards_in(folder: str | Path, scanned: Scan) -> list[str]:
    """Archives and Parquet files of a folder that holds nothing else to read; [] if it holds more."""
    tables = [parts for parts in scanned.others if len(parts) == 1 and parts[0].lower().endswith(PARQUET_ENDINGS)]
    if len(scanned.archives) < len(scanned.both) or any(len(parts) > 1 for parts in scanned.archives):
        return []
    return [os.path.join(folder, parts[0]) for parts in sorted([*scanned.archives, *tables])]


# ---- groups


def folder_group(folder: Path, where: str = "", scanned: Scan | None = None, *, own_folder: bool = True) -> Group:
    """The clips below a folder. own_folder: whether an archive directly in it stands for a folder of its name."""
    scanned = scanned or scan(folder)
    group = Group(where or str(folder), folder.resolve().name)
    group.left_out += [left_out("/".join(parts)) for parts in scanned.others]

    def place(path: str) -> str:
        return os.path.join(folder, *path.split("/"))

    _fill(
        group, ["/".join(parts) for parts in scanned.both], {"/".join(parts) for parts in scanned.archives}, place, own_folder
    )
    return group


def remote_group(url: str, names: Sequence[str]) -> Group:
    """The clips of the objects below a URL; `names` are their paths below it."""
    names = [name for name in names if not any(map(is_junk, name.split("/")))]
    refused = [f"{url}/{name}" for name in names if refusal(name)]
    if refused:
        raise UsageError(f"{refusal(refused[0])}, or move it away.")
    group = Group(url, file_name(url))
    archives = {name for name in names if is_archive(name)}
    group.left_out += [left_out(name) for name in names if not is_audio(name) and name not in archives]
    _fill(group, [name for name in names if is_audio(name) or name in archives], archives, lambda path: f"{url}/{path}", True)
    return group


def _fill(group: Group, paths: Sequence[str], archives: set[str], place: Callable[[str], str], own_folder: bool) -> None:
    """Adds the recordings, and those in the archives, in the order of the paths."""
    from urgentmos.audio.places.archives import stem

    opened = []
    for path in paths:
        if path not in archives:
            group.items.append(Item(Clip(without_suffix(path), place(path)), True, path))
            continue
        above = path.rpartition("/")[0]
        before = f"{above}/" if above else f"{stem(path)}/" if own_folder else ""
        inside = archive_group(place(path))
        group.items += [
            Item(replace(clip, uid=f"{before}{clip.uid}") if is_generated else clip, is_generated, f"{before}{rel}")
            for clip, is_generated, rel in inside.items
        ]
        group.left_out += [item._replace(name=f"{above}/{item.name}" if above else item.name) for item in inside.left_out]
        if inside.items:
            opened.append(path)
        else:
            group.left_out.append(LeftOut(path, "an archive without audio", True))
    if opened and len(archives) < len(paths):
        as_folder = own_folder and any("/" not in path for path in opened)
        manner = "like a folder of its name" if as_folder else "as if unpacked there"
        group.notes.append(Note(f"{group.where}: read in place, {manner}: {some(opened)}"))


def archive_group(file: str) -> Group:
    """The clips of an archive, here or behind a URL. UsageError if it cannot be read, or is of a kind that is not."""
    from urgentmos.audio.places import archives
    from urgentmos.clips import shards

    shard = shards.of_archive(file)
    complain(file, shard.problems)
    group = Group(file, archives.stem(file), left_out=shard.left_out)
    for clip, ours, path in zip(shard.clips, shard.made, shard.paths, strict=True):
        try:
            check_allowed(clip, file)
        except ValueError as e:
            raise UsageError(f"{file}: {clip.uid} {e}.") from None
        group.items.append(Item(clip, ours, path))
    return group


def check_allowed(clip: Clip, manifest: str) -> None:
    """ValueError if a row of `manifest` names what lies elsewhere."""
    if scheme_of(clip.audio_path) or scheme_of(clip.reference_path or "") or scheme_of(manifest):
        from urgentmos.audio.places.remote import refusal as not_allowed

        for path in (clip.audio_path, clip.reference_path):
            if why := not_allowed(path, manifest):
                raise ValueError(why)


def together(where: str, name: str, groups: Sequence[Group]) -> Group:
    """The shards of one data set as one group, their names before the uids that several of them share.

    Systems are looked for in all of them together; if there are none, each archive may be the folder of a system.
    """
    whole = Group(where, name)
    whole.left_out += [item for group in groups for item in group.left_out]
    whole.notes += [note for group in groups for note in group.notes]
    whole.items = with_systems([item for group in prefixed(groups) for item in group.items])
    if not any(item.clip.system_id for item in whole.items):
        named = [item._replace(path=f"{group.name}/{item.path}") for group in groups for item in _with_prefix(group).items]
        if (systems := with_systems(named)) is not named:
            whole.items = systems
    return whole


def prefixed(groups: Sequence[Group]) -> list[Group]:
    """The groups, with the group's name before the uids of ours in each group that shares a uid with another."""
    owner: dict[str, int] = {}
    shared: set[int] = set()
    for place, group in enumerate(groups):
        for uid in {clip.uid for clip in group.clips}:
            if owner.setdefault(uid, place) != place:
                shared |= {owner[uid], place}
    return [_with_prefix(group) if place in shared else group for place, group in enumerate(groups)]


def _with_prefix(group: Group) -> Group:
    items = [
        item._replace(clip=replace(item.clip, uid=f"{group.name}/{item.clip.uid}")) if item.made else item
        for item in group.items
    ]
    return replace(group, items=items)


# ---- systems


def homologous(paths: Sequence[str]) -> bool:
    """Whether the paths are those of systems: two folders or more, all with the same contents in them."""
    by_folder: dict[str, set[str]] = {}
    for path in paths:
        folder, slash, rest = path.partition("/")
        if not slash:
            return False
        by_folder.setdefault(folder, set()).add(name_key(without_suffix(rest)))
    return len(by_folder) > 1 and len({frozenset(contents) for contents in by_folder.values()}) == 1


def with_systems(items: list[Item]) -> list[Item]:
    """New items with the systems and contents of their paths; the list itself if the paths or the clips state others."""
    if any(item.clip.system_id or item.clip.reference_id for item in items) or not homologous([item.path for item in items]):
        return items
    spelled = one_spelling(without_suffix(item.path.split("/", 1)[1]) for item in items)
    return [
        item._replace(clip=replace(item.clip, system_id=item.path.split("/", 1)[0], reference_id=content))
        for item, content in zip(items, spelled, strict=True)
    ]


def one_spelling(names: Iterable[str]) -> list[str]:
    """The names, each as the first one with its key is spelled."""
    first: dict[str, str] = {}
    return [first.setdefault(name_key(name), name) for name in names]


def same_names(clips: Sequence[Clip]) -> list[Clip]:
    """The clips, with one spelling of each system and of each content: NFC and NFD are one name."""
    if all((clip.system_id or "").isascii() and (clip.reference_id or "").isascii() for clip in clips):
        return list(clips)
    systems = one_spelling(clip.system_id or "" for clip in clips)
    contents = one_spelling(clip.reference_id or "" for clip in clips)
    return [
        replace(clip, system_id=system or None, reference_id=content or None)
        for clip, system, content in zip(clips, systems, contents, strict=True)
    ]


def twice(clips: Sequence[Clip]) -> Mapping[tuple[str, str], list[Clip]]:
    """(system, content) -> its clips, where there are two or more."""
    cells: dict[tuple[str, str], list[Clip]] = {}
    for clip in clips:
        if clip.reference_id is not None:
            cells.setdefault((name_key(clip.system_id or ""), name_key(clip.reference_id)), []).append(clip)
    return {cell: same for cell, same in cells.items() if len(same) > 1}


def check_one_each(clips: Sequence[Clip], owner: Callable[[Clip], str]) -> None:
    """UsageError that names both files if a system has two clips of a content."""
    for same in twice(clips).values():
        files = f"{same[0].audio_path} or {same[1].audio_path}"
        raise UsageError(f"{owner(same[0])} has two clips of {same[0].reference_id}. Keep one of them: {files}.")
