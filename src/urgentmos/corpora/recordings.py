"""Checks of the recordings of a corpus: each is decoded once, for its length, faults and duplicates.

Recordings inside Parquet files are written to DIR/audio first. The results are kept in DIR/.heard.jsonl, so that a later
run decodes only what is new or has changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from urgentmos.audio.samples import load
from urgentmos.common.names import Disk
from urgentmos.corpora import hub
from urgentmos.errors import AudioError
from urgentmos.files import appending, write_whole

Show = Callable[[str, int, int], None]
_CHUNK = 256  # recordings between two lines of progress


@dataclass(frozen=True)
class Heard:
    """One recording. `error` is empty if it can be decoded."""

    path: str  # where it lies
    seconds: float = 0.0
    digest: str = ""
    error: str = ""


def digest_of(wave: np.ndarray, rate: int) -> str:
    """(T,) -> 32 hex digits, the same for a WAV and a FLAC of the same samples: of the 16-bit mono signal and its rate."""
    samples = np.clip(np.rint(wave * 32768.0), -32768, 32767).astype("<i2")  # as libsndfile scales: 16 bits come back
    return hashlib.blake2b(samples.tobytes(), digest_size=16, key=str(rate).encode()).hexdigest()


def hear(path: str) -> Heard:
    """Decode one recording."""
    try:
        audio = load(path)
    except AudioError as e:
        return Heard(path, error=f"{e}.")
    return Heard(path, audio.info.duration, digest_of(audio.wave, audio.rate))


def hear_all(sounds: Mapping[str, str], output: Path, *, jobs: int, show: Show) -> dict[str, Heard]:
    """{audio_path or locator: uid} -> {the same: Heard}."""
    written = extract({name: uid for name, uid in sounds.items() if hub.LOCATOR.fullmatch(name)}, output / "audio", show)
    disk = Disk()  # a table may write an accent in one Unicode form, an archive in the other
    places = {name: written.get(name) or Heard(disk.find(name)) for name in sounds}
    checked = _read(output / ".heard.jsonl")
    result: dict[str, Heard] = {}
    new = []
    for name, place in places.items():
        stamp = _stamp(place.path)
        if place.error:
            result[name] = place
        elif stamp in checked:
            result[name] = checked[stamp]
        else:
            new.append(name)
    with ThreadPoolExecutor(jobs) as pool, appending(output / ".heard.jsonl") as journal:
        if new and journal.size:
            journal.write(b"\n")  # ends a line that a kill left open
        for start in range(0, len(new), _CHUNK):
            names, lines = new[start : start + _CHUNK], []
            for name, recording in zip(names, pool.map(hear, [places[name].path for name in names]), strict=True):
                result[name] = recording
                if recording.error and name in written:
                    Path(recording.path).unlink(missing_ok=True)  # so that a data set fetched again is taken out again
                if not recording.error:  # a fault may be mended: check it again next time
                    lines.append(json.dumps({"stamp": _stamp(recording.path), **asdict(recording)}) + "\n")
            journal.write("".join(lines).encode())
            show("decoding", min(start + _CHUNK, len(new)), len(new))
    return result


def _stamp(path: str) -> str:
    try:
        stat = os.stat(path)
    except OSError:
        return ""
    return f"{os.path.abspath(path)}|{stat.st_size}|{stat.st_mtime_ns}"


def _read(journal: Path) -> dict[str, Heard]:
    """stamp -> the results of an earlier run; a line that a kill cut short is ignored."""
    checked = {}
    if journal.exists():
        for line in journal.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                entry: dict[str, Any] = json.loads(line)
                stamp = str(entry.pop("stamp"))
                checked[stamp] = Heard(**entry)
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
    return checked


# ---- sound inside Parquet files


def extract(sounds: Mapping[str, str], folder: Path, show: Show) -> dict[str, Heard]:
    """{locator: uid} -> {locator: where its bytes lie now}; what is there already is not written again."""
    stems = {locator: folder / file_name(uid) for locator, uid in sounds.items()}
    present = {path.stem: path for path in folder.iterdir()} if folder.is_dir() else {}
    extracted = {locator: Heard(str(present[stem.name])) for locator, stem in stems.items() if stem.name in present}
    todo = [locator for locator in sounds if locator not in extracted]
    if todo:
        folder.mkdir(parents=True, exist_ok=True)
    for locator, sound in hub.sounds(todo):
        extracted[locator] = _written(locator, sound, stems[locator])
        if len(extracted) % _CHUNK == 0:
            show("extracting", len(extracted), len(sounds))
    return {
        name: extracted.get(name, Heard(name, error=f"{name} is not in the file. Fetch the data set again.")) for name in sounds
    }


def _written(locator: str, sound: bytes | None, stem: Path) -> Heard:
    if not sound:
        return Heard(locator, error=f"{locator} holds no sound. Fetch the data set again.")
    target = stem.with_name(stem.name + hub.suffix_of(sound))
    write_whole(target, sound, sync=False)
    return Heard(str(target))


def file_name(uid: str) -> str:
    """A uid as a file name without dots; what had to be replaced gets a checksum."""
    plain = re.sub(r"[^\w-]+", "_", uid, flags=re.ASCII)[:120]
    return plain if plain == uid else f"{plain}-{crc32(uid.encode('utf-8', 'surrogatepass')):08x}"
