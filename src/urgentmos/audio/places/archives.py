"""Archives of either kind: their recordings in the layout of WebDataset, and what else they hold.

`KEY.flac` and `KEY.json` are one sample, and the JSON object is a row of a manifest without audio_path. An archive of a folder
tree is read like the folder. One folder that holds all recordings and is called like the archive counts as the archive
itself: c.zip may hold c/utt1.wav or utt1.wav.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, BinaryIO, NamedTuple

from urgentmos.audio.formats import ARCHIVE_ENDINGS, ZIP_ENDINGS, is_foreign, is_sound
from urgentmos.audio.left_out import LeftOut, left_out, some, unpacking
from urgentmos.audio.places import tar
from urgentmos.audio.places import zip as zips
from urgentmos.audio.places.names import file_name, is_archive
from urgentmos.common.json_values import parse_row
from urgentmos.common.names import is_junk, name_key
from urgentmos.common.untrusted import shown
from urgentmos.errors import AudioError, UsageError

MAX_JSON = 1 << 20  # bytes of a sample's JSON


class Sample(NamedTuple):
    """A recording in an archive. `record` is its JSON object, {} if it has none; `problem` is what is wrong with that."""

    key: str
    member: str
    path: str  # inside the archive, with "/", without the archive's own folder
    record: dict[str, Any]
    problem: str | None = None


class Contents(NamedTuple):
    """The recordings of an archive in the order of its members, and what is not used."""

    samples: list[Sample]
    left_out: list[LeftOut]


class _Listed(NamedTuple):
    """Names of members, those that are junk left out."""

    names: list[str]
    links: list[str]
    refused: dict[str, str]  # with the reason
    texts: dict[str, bytes | None]  # of .json members; None: larger than MAX_JSON


def stem(file: str) -> str:
    """The name of an archive without its ending: "c" of "x/c.tar.gz"."""
    name = file_name(file)
    ending = max((ending for ending in ARCHIVE_ENDINGS if name.lower().endswith(ending)), key=len, default="")
    return name[: len(name) - len(ending)]


def _is_zip(file: str) -> bool:
    return file_name(file).lower().endswith(ZIP_ENDINGS)


# ---- one member


def member(file: str, name: str) -> bytes | BinaryIO:
    """The bytes of a member, or a file to seek in if it is large. AudioError if there are none, UsageError if no archive."""
    if _is_zip(file):
        return zips.member(file, _spelled(name, file))
    return tar.member(file, name if tar.has_member_offset(file, name) else _spelled(name, file))


def size_of(file: str, name: str) -> int:
    """The bytes of a member, unpacked. AudioError if there is none."""
    name = _spelled(name, file)
    return zips.directory(file).places[name].size if _is_zip(file) else tar.directory(file).places[name].size


def _spelled(name: str, file: str) -> str:
    """The name of a member as the archive spells it; `name` may be in another Unicode form. AudioError if there is none."""
    directory = zips.directory(file) if _is_zip(file) else tar.directory(file)
    if name in directory.places:
        return name
    if isinstance(directory, zips.Directory) and name in directory.refused:
        raise AudioError(f"{file}: {shown(name, 200)} is not read: {directory.refused[name]}. Unpack the archive")
    plain = name.isascii() and "\\" not in name
    alike = [] if plain else [other for other in directory.places if name_key(other) == name_key(name)]
    if len(alike) != 1:
        raise AudioError(f"{file} has no member {shown(name, 200)}. Check the name")
    return alike[0]


# ---- all members


def contents(file: str) -> Contents:
    """UsageError if the archive cannot be read, or holds recordings or archives that cannot be."""
    listed = _listed(file)
    _check_readable(file, listed)
    sounds = [name for name in listed.names if is_sound(name)]
    records = {_key(name)[0]: name for name in listed.texts}
    plain = {key for key, ending in map(_key, sounds) if "." not in ending}
    places, top = set(listed.names), _own_folder(file, sounds)
    samples, companions, used = [], [], set()
    for name in sounds:
        key, ending = _key(name)
        if "." in ending:  # utt1.clean.flac: a companion of the sample utt1.flac, utt1.json; else a recording of that name
            if key in plain and key in records:
                companions.append(name)
                continue
            key = name[: -len(PurePosixPath(name).suffix)].removeprefix("./")
        sample = _sample(key, name, listed.texts, records, places)
        used |= {records.get(key, ""), str(sample.record.get("reference_path", "")).removeprefix("#")}
        samples.append(sample._replace(key=_below(key, top), path=_below(_path(name, file), top)))
    unused = [LeftOut(name, "beside a sample whose JSON does not name it", True) for name in companions if name not in used]
    unused += [_of_link(name) for name in listed.links]
    unused += [left_out(name) for name in listed.names if not is_sound(name) and name not in used]
    return Contents(samples, [item._replace(name=f"{file_name(file)}#{item.name}") for item in unused])


def _listed(file: str) -> _Listed:
    if _is_zip(file):
        directory = zips.directory(file)
        names = [name for name in directory.places if not _is_junk(name)]
        texts = zips.texts(file, [name for name in names if name.lower().endswith(".json")], MAX_JSON)
        refused = {name: why for name, why in directory.refused.items() if not _is_junk(name)}
        unread = [name for name in refused if not is_sound(name)]
        return _Listed(names + unread, _not_junk(directory.links), refused, texts)
    places, links, texts = tar.with_texts(file, ".json", MAX_JSON)
    return _Listed(_not_junk(places), _not_junk(links), {}, {name: text for name, text in texts.items() if not _is_junk(name)})


def _not_junk(names: Mapping[str, Any] | list[str]) -> list[str]:
    return [name for name in names if not _is_junk(name)]


def _is_junk(name: str) -> bool:
    return any(map(is_junk, PurePosixPath(name.replace("\\", "/")).parts))


def _of_link(name: str) -> LeftOut:
    sound = is_sound(name) or is_foreign(name)
    return LeftOut(name, "a link, and links in archives are not followed; pack the files themselves", sound)


def _check_readable(file: str, listed: _Listed) -> None:
    """UsageError that names the recordings which are encrypted or packed in a strange way, and archives in the archive."""
    sounds = [f"{name} ({why})" for name, why in listed.refused.items() if is_sound(name)]
    nested = [name for name in listed.names if is_archive(name) or unpacking(name)]
    if sounds:
        raise UsageError(f"{file}: cannot be read in place: {some(sounds)}. Unpack it and give the folder.")
    if nested:
        what = "an archive in an archive is" if len(nested) == 1 else "archives in an archive are"
        raise UsageError(f"{file}: {what} not read: {some(nested)}. Unpack {file_name(file)} and give the folder.")


def _path(name: str, file: str) -> str:
    """The path of a member with "/" and nothing in front; packers on Windows have written backslashes."""
    if "/" not in name and _is_zip(file):
        name = name.replace("\\", "/")
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def _own_folder(file: str, sounds: list[str]) -> str:
    """ "c/" if all recordings of c.zip lie below c/; else ""."""
    tops = {path.partition("/")[0] if "/" in path else "" for path in (_path(name, file) for name in sounds)}
    top = tops.pop() if len(tops) == 1 else ""
    return f"{top}/" if top and name_key(top) == name_key(stem(file)) else ""


def _below(path: str, top: str) -> str:
    return path.removeprefix("./").removeprefix(top)


# ---- samples


def _key(name: str) -> tuple[str, str]:
    """(key, ending) of a member, as WebDataset splits its name: at the first dot behind the folder."""
    folder, slash, last = name.rpartition("/")
    start, _, ending = last.partition(".")
    return (folder + slash + start).removeprefix("./"), ending


def _sample(key: str, name: str, texts: Mapping[str, bytes | None], records: Mapping[str, str], places: set[str]) -> Sample:
    if key not in records:
        return Sample(key, name, "", {})
    text = texts[records[key]]
    if text is None:
        return Sample(key, name, "", {}, f"{key}.json has more than {MAX_JSON >> 20} MB")
    try:
        record = parse_row(text.decode("utf-8-sig"))
    except (UnicodeDecodeError, ValueError) as e:
        return Sample(key, name, "", {}, f"{key}.json: {e}")
    if not isinstance(record, dict):
        return Sample(key, name, "", {}, f"{key}.json does not hold an object with keys")
    return Sample(key, name, "", _with_companions(record, name, places))


def _with_companions(record: dict[str, Any], name: str, places: set[str]) -> dict[str, Any]:
    """The record, with reference_path as "#MEMBER" where it names a member of the archive, by its name or by its ending."""
    reference = record.get("reference_path")
    if not isinstance(reference, str):
        return record
    folder = name.rpartition("/")[0]
    for candidate in (reference, f"{folder}/{reference}" if folder else reference, f"{name.rpartition('.')[0]}.{reference}"):
        if candidate in places:
            return {**record, "reference_path": f"#{candidate}"}
    return record
