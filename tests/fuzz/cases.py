"""A case is a recipe, the name of a seed and mutations of its bytes: plain data, so that it shrinks and can be committed."""

from __future__ import annotations

import json
import random
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NUMBERS = (0, 1, 2, 3, 0x7F, 0x80, 0xFF, 1024, 1025, 0x7FFF, 0x8000, 0xFFFF, 0x40000000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE,
           0xFFFFFFFF, 2**62, 2**63, 2**64 - 1)  # fmt: skip
WIDTHS = (1, 2, 4, 8)
_YAML_DAG = "net:\n  a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"  a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 25)
)
ODD_VALUES = (
    "", "0", "-1", "1e400", "-1e-400", "NaN", ".nan", "Infinity", "null", "true", "[]", "{}", '""', '"\\u0000"', "9" * 5000,
    "[" * 5000, '{"a":' * 2000, "x" * 100_000, "../../../etc/hostname", "/etc/hostname", "file:///etc/hostname",
    "http://127.0.0.1:1/x.wav", "https://example.com/x.wav", "s3://bucket/x.wav", "ok.wav#x", "shard.tar#../../x.wav",
    "table.parquet#audio[99999999999999999999]", "=1+1", "\x1b[31m", "\u202e", "\ufeff", "\x00", "\r\n", '"', "'", "&a [*a]",
    "*a", "<<: *a", "!!python/object/apply:os.system ['true']", "!!set {a}", "2020-01-01", "0x1F", "1_000", "on",
)  # fmt: skip
SNIPPETS: Mapping[str, bytes] = {
    "yaml dag": _YAML_DAG.encode(),
    "pickle dag": b"\x80\x02]q\x00"
    + b"".join(b"(h" + bytes([i]) + b"h" + bytes([i]) + b"lq" + bytes([i + 1]) for i in range(40)),
    "yaml alias": b"\nlr: *a24\n",
    "pickle call": b"cposix\nsystem\n(S'true'\ntR.",
    "riff chunk": b"data" + b"\xff" * 4,
    "ogg page": b"OggS\x00\x02" + bytes(21) + b"\x01\xff",
    "id3 tag": b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f",
    "mp4 box": b"\x00\x00\x00\x00moov",
    "mp4 long box": b"\x00\x00\x00\x01mdat" + b"\xff" * 8,
    "ebml": b"\x1a\x45\xdf\xa3\x01\xff\xff\xff\xff\xff\xff\xff",
    "ffconcat": b"ffconcat version 1.0\nfile /etc/hostname\n",
    "sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 4 RTP/AVP 0\n",
    "playlist": b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:1/x.ts\n",
    "tar negative size": b"\xff" * 10 + b"\xfe\x00",
    "pax": b"30 GNU.sparse.map=1,x\n30 size=-512\n",
    "zip end": b"PK\x05\x06" + b"\xff" * 18,
    "boundary": b"\r\n--xyz\r\n",
    "header": b'Content-Disposition: form-data; name="files"; filename="../../x.wav"\r\n\r\n',
    "nul": bytes(600),
}

Mutation = Sequence[Any]  # name, then numbers


@dataclass(frozen=True)
class Case:
    """A seed and what is done to it. `repaired`: checksums are made right afterwards, so that parsers go on."""

    seed: str
    mutations: tuple[tuple[Any, ...], ...] = ()
    repaired: bool = False

    def to_json(self) -> str:
        return json.dumps({"seed": self.seed, "mutations": self.mutations, "repaired": self.repaired})

    @staticmethod
    def from_plain(plain: Mapping[str, Any]) -> Case:
        return Case(plain["seed"], tuple(tuple(m) for m in plain.get("mutations", ())), bool(plain.get("repaired")))


def mutated(data: bytes, mutations: Sequence[Mutation], others: Callable[[int], bytes]) -> bytes:
    """The bytes after all mutations. Positions are taken modulo the length; others: number -> bytes of another seed."""
    for name, *numbers in mutations:
        data = _splice(data, others, *numbers) if name == "splice" else _MUTATIONS[name](data, *numbers)
    return data


def at(data: bytes, position: int, room: int = 0) -> int:
    """A position in the data; negative ones count from the end."""
    return position % max(1, len(data) + 1 - room)


def _cut(data: bytes, position: int) -> bytes:
    return data[: at(data, position)]


def _flip(data: bytes, position: int, bit: int) -> bytes:
    i = at(data, position, 1)
    return data[:i] + bytes([data[i] ^ (1 << bit % 8)]) + data[i + 1 :] if data else data


def _write(data: bytes, position: int, width: int, big: bool, number: int) -> bytes:
    i = at(data, position, width)
    return data[:i] + packed(number, width, big) + data[i + width :]


def _field(data: bytes, number: int, value: int) -> bytes:
    """The number-th length in the data, replaced."""
    lengths = length_fields(data)
    if not lengths:
        return _write(data, number, 4, False, value)
    position, width, big = lengths[number % len(lengths)]
    return data[:position] + packed(value, width, big) + data[position + width :]


def _delete(data: bytes, position: int, count: int) -> bytes:
    i = at(data, position)
    return data[:i] + data[i + count :]


def _insert(data: bytes, position: int, count: int, seed: int) -> bytes:
    i = at(data, position)
    return data[:i] + random.Random(seed).randbytes(count) + data[i:]


def _duplicate(data: bytes, position: int, count: int) -> bytes:
    i = at(data, position)
    return data[: i + count] + data[i:]


def _zero(data: bytes, position: int, count: int) -> bytes:
    i = at(data, position)
    count = min(count, len(data) - i)
    return data[:i] + bytes(count) + data[i + count :]


def _paste(data: bytes, position: int, snippet: str, over: bool) -> bytes:
    i, pasted = at(data, position), SNIPPETS[snippet]
    return data[:i] + pasted + data[i + len(pasted) * over :]


def _swap(data: bytes, number: int, value: int) -> bytes:
    """The number-th word of a text, replaced by an odd one."""
    words = [match.span() for match in _WORD.finditer(data)]
    if not words:
        return data
    start, end = words[number % len(words)]
    return data[:start] + ODD_VALUES[value % len(ODD_VALUES)].encode() + data[end:]


def _splice(data: bytes, others: Callable[[int], bytes], number: int, position: int, start: int) -> bytes:
    other = others(number)
    return data[: at(data, position)] + other[at(other, start) :]


_WORD = re.compile(rb'"(?:[^"\\\r\n]|\\.)*"|[^\s,;:=&\[\]{}"]+')
_MUTATIONS: Mapping[str, Callable[..., bytes]] = {
    "cut": _cut,
    "flip": _flip,
    "write": _write,
    "field": _field,
    "delete": _delete,
    "insert": _insert,
    "duplicate": _duplicate,
    "zero": _zero,
    "paste": _paste,
    "swap": _swap,
}


def packed(number: int, width: int, big: bool) -> bytes:
    return (number % (1 << 8 * width)).to_bytes(width, "big" if big else "little")


def length_fields(data: bytes, most: int = 64) -> list[tuple[int, int, bool]]:
    """(position, width, big-endian) of numbers that look like the length of what follows them, or of all the data."""
    found = []
    for i in range(min(len(data), 4096) - 4):
        for big in (False, True):
            (value,) = struct.unpack_from(">I" if big else "<I", data, i)
            ends = i + 4 + value
            if value > 8 and (value == len(data) or ends == len(data) or (ends + 4 <= len(data) and _is_tag(data, i, ends))):
                found.append((i, 4, big))
        if len(found) >= most:
            break
    return found


def _is_tag(data: bytes, position: int, end: int) -> bool:
    """Whether a name of four letters stands before the length and another one behind what it measures."""
    return all(
        len(tag) == 4 and tag.isascii() and tag.replace(b" ", b"a").isalnum()
        for tag in (data[max(0, position - 4) : position], data[end : end + 4])
    )


# ---- checksums


def repaired(data: bytes) -> bytes:
    """The data with right checksums, where it is a tar or an Ogg: damage behind them is then parsed."""
    if b"ustar" in data[:1024]:
        return _tar_checksums(data)
    return _ogg_checksums(data) if data.startswith(b"OggS") else data


def _tar_checksums(data: bytes) -> bytes:
    out = bytearray(data)
    for i in range(0, len(data) - 511, 512):
        if out[i + 257 : i + 262] == b"ustar":
            out[i + 148 : i + 156] = b" " * 8
            out[i + 148 : i + 156] = b"%06o\0 " % sum(out[i : i + 512])
    return bytes(out)


def _ogg_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1) ^ (0x04C11DB7 if value & 0x80000000 else 0)
        table.append(value & 0xFFFFFFFF)
    return table


_CRC = _ogg_table()


def _ogg_checksums(data: bytes) -> bytes:
    out = bytearray(data)
    starts = [match.start() for match in re.finditer(b"OggS", data)]
    for start, end in zip(starts, [*starts[1:], len(data)], strict=True):
        if end - start < 27:
            continue
        out[start + 22 : start + 26] = bytes(4)
        crc = 0
        for byte in out[start:end]:
            crc = ((crc << 8) & 0xFFFFFFFF) ^ _CRC[(crc >> 24) ^ byte]
        out[start + 22 : start + 26] = crc.to_bytes(4, "little")
    return bytes(out)
