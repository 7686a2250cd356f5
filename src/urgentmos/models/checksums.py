"""Checksums of model folders and exported files: what was damaged or edited is refused by name, before it computes anything.

config.json holds "sha256", the SHA-256 of each weight file beside it, and "checksum", that of config.json itself. An ONNX file
holds its own in its metadata, so that it can be checked where it lies alone. They find damage and unnoticed edits; they are no
signature: an attacker who writes a whole folder can write its checksums, too.

The version of a model is the start of a SHA-256 of what computes: the weights, and the keys of config.json that decide about
scores, verdicts and intervals. A folder written before there were checksums has none; it loads, with a warning.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from urgentmos.errors import UsageError

FILES = "sha256"  # of config.json: {file name: SHA-256}
OWN = "checksum"  # of config.json: SHA-256 of all its other keys
COMPUTING = ("architecture", "config", "intervals", "metrics", "verdict_temperature")
SEALED = "sealed"  # metadata of an ONNX file that has a checksum, named once more in case the first name is damaged
VERSION_DIGITS = 12

_HEX = re.compile(r"[0-9a-f]{64}")
_ZEROS = "0" * 64
# An entry of an ONNX file's metadata (onnx.proto: StringStringEntryProto), its key "sha256" and its value of 64 digits.
_ONNX_ENTRY = re.compile(rb"\x0a\x06sha256\x12\x40([0-9a-f]{64})")


def sha256_of(content: bytes) -> str:
    """The SHA-256 of some bytes, as 64 digits."""
    return hashlib.sha256(content).hexdigest()


def version_of(about: Mapping[str, Any], weights: str) -> str:
    """The version of a model: 12 digits of a hash of its weights (given by their SHA-256) and of what else computes."""
    computing = {key: about[key] for key in COMPUTING if key in about}
    return sha256_of(_canonical({**computing, "weights": weights}))[:VERSION_DIGITS]


def _canonical(about: Mapping[str, Any]) -> bytes:
    return json.dumps(about, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


# --- config.json


def sealed(about: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, Any]:
    """config.json with the SHA-256 of the `files` beside it and its own. ValueError or TypeError if it is no plain JSON."""
    listed = {**unsealed(about), FILES: dict(files)}
    return {**listed, OWN: sha256_of(_canonical(listed))}


def unsealed(about: Mapping[str, Any]) -> dict[str, Any]:
    """config.json without checksums."""
    return {key: value for key, value in about.items() if key not in (FILES, OWN)}


def is_sealed(about: Mapping[str, Any]) -> bool:
    """Whether config.json has checksums."""
    return FILES in about


def is_whole(about: Mapping[str, Any]) -> bool:
    """Whether config.json has checksums, and its own fits."""
    files = about.get(FILES)
    if not isinstance(files, dict) or not all(isinstance(digest, str) and _HEX.fullmatch(digest) for digest in files.values()):
        return False
    try:
        return bool(about.get(OWN) == sha256_of(_canonical({key: value for key, value in about.items() if key != OWN})))
    except (RecursionError, TypeError, ValueError):  # no plain JSON
        return False


def files_of(about: Mapping[str, Any]) -> dict[str, str]:
    """File name -> SHA-256, as config.json has them; {} if it was written before there were checksums."""
    return dict(about.get(FILES, {}))


def check_config(about: Mapping[str, Any], path: Path) -> None:
    """UsageError that names config.json (`path`) if it has changed since it was written."""
    if (FILES not in about and OWN not in about) or is_whole(about):
        return
    raise UsageError(
        f"{path} has changed since it was written: its checksum does not fit. Get the model again; if you edited it yourself, "
        f'remove its keys "{FILES}" and "{OWN}" and write it as a new model: urgentmos import {path.parent} -o NEW_FOLDER'
    )


def check_file(about: Mapping[str, Any], path: Path, digest: str, cure: str) -> None:
    """UsageError that names the weight file `path` and ends in `cure` if its SHA-256, `digest`, is not that in config.json."""
    wanted = files_of(about).get(path.name)
    if wanted is not None and wanted != digest:
        raise UsageError(
            f"{path} is damaged, or of another model: its SHA-256 is {digest[:12]}... and {path.parent}/config.json says "
            f"{wanted[:12]}.... {cure}"
        )


def unchecked(place: Path) -> str:
    """The warning about a model without checksums."""
    folder = place.parent if place.is_file() else place
    cure = f"urgentmos export {folder} -o {place}" if place.is_file() else f"urgentmos import {place} -o NEW_FOLDER"
    return f"{place} was written without checksums, so that damage to it would go unnoticed. Write it again: {cure}"


# --- ONNX files


def empty_entry() -> dict[str, str]:
    """The metadata entry of an ONNX file that `sealed_onnx` fills with its checksum."""
    return {SEALED: FILES, FILES: _ZEROS}


def sealed_onnx(content: bytes) -> bytes:
    """The file with its SHA-256 in its metadata: that of the file with 64 zeros in this place."""
    start, end = _entry(content) or _missing()
    return content[:start] + sha256_of(content).encode() + content[end:]


def onnx_is_whole(content: bytes) -> bool | None:
    """Whether an ONNX file is as it was written; None if it has no checksum of its own."""
    place = _entry(content)
    if place is None:
        return None
    start, end = place
    view = memoryview(content)
    digest = hashlib.sha256(view[:start])
    digest.update(_ZEROS.encode())
    digest.update(view[end:])
    return content[start:end].decode() == digest.hexdigest()


def _entry(content: bytes) -> tuple[int, int] | None:
    """Offset of the digits: in the last entry of that form, since metadata stand at the end."""
    places = [match.span(1) for match in _ONNX_ENTRY.finditer(content)]
    return places[-1] if places else None


def _missing() -> tuple[int, int]:
    raise ValueError("the file has no entry for its checksum")
