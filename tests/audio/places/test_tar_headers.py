"""The headers of a tar: those that tarfile and GNU tar write are read as they do, all others are refused in bounded steps."""

import io
import subprocess
import tarfile
from pathlib import Path
from shutil import which

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from urgentmos.audio.places.tar_headers import BLOCK, Member, TarError, members

NAMES = st.text("abä/é0 ", min_size=1, max_size=20).map(lambda s: s.strip("/ ") + "x") | st.just("d/" * 60 + "x" * 90)
PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE)
KINDS = st.sampled_from([*PLAIN, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
FORMATS = st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
# tarfile takes a V7 file for a folder where the first 100 bytes of its name end in "/"
ENTRIES = st.lists(
    st.tuples(NAMES, KINDS, st.binary(max_size=1200)).filter(lambda e: e[1] != tarfile.AREGTYPE or len(e[0]) < 40), max_size=6
)


def packed(entries: list[tuple[str, bytes, bytes]], form: int, pax: dict[str, str] | None = None) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form, encoding="utf-8") as out:
        for name, kind, content in entries:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "l" * 150 if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            info.size = len(content) if kind in PLAIN else 0
            info.pax_headers = pax or {}
            out.addfile(info, io.BytesIO(content))
    return file.getvalue()


def read(content: bytes) -> list[Member]:
    return list(members(io.BytesIO(content)))


def plain(name: str = "a.wav", content: bytes = b"abc", **pax: str) -> bytes:
    """One member without the zeros at the end."""
    whole = packed([(name, tarfile.REGTYPE, content)], tarfile.PAX_FORMAT, pax)
    return whole[: whole.rindex(content) + BLOCK] if content else whole


@given(ENTRIES, FORMATS)
def test_what_tarfile_writes_is_read_as_tarfile_reads_it(entries: list[tuple[str, bytes, bytes]], form: int) -> None:
    content = packed(entries, form)
    with tarfile.open(fileobj=io.BytesIO(content), encoding="utf-8") as tar:
        wanted = [(i.name, i.offset_data, i.size, i.isreg(), i.isdir()) for i in tar]
    assert [tuple(member) for member in read(content)] == wanted
    for member, (_, kind, data) in zip(read(content), entries, strict=True):
        if member.is_file:
            assert content[member.start : member.start + member.size] == data and kind in tarfile.REGULAR_TYPES


@settings(max_examples=150)
@given(ENTRIES, FORMATS, st.data())
def test_a_damaged_header_is_an_error_and_never_an_early_end(
    entries: list[tuple[str, bytes, bytes]], form: int, data: st.DataObject
) -> None:
    """A flipped byte of any header: tarfile would end its list there without a word."""
    content = bytearray(packed(entries, form))
    whole = read(bytes(content))
    if not whole:
        return
    starts = [member.start - BLOCK for member in whole]
    place = data.draw(st.sampled_from(starts)) + data.draw(st.integers(0, BLOCK - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    try:
        told = read(bytes(content))
    except TarError as e:
        assert 0 < len(str(e)) < 200
        return
    assert told == whole, "only blanks of the checksum may change without a word"


@given(st.binary(max_size=4 * BLOCK), st.integers(0, 3))
def test_any_bytes_are_a_tar_or_an_error_in_bounded_steps(content: bytes, before: int) -> None:
    try:
        told = read(plain() * before + content)
    except TarError as e:
        assert 0 < len(str(e)) < 200
        return
    assert len(told) <= before + len(content) // BLOCK


@settings(max_examples=100)
@given(ENTRIES, FORMATS, st.data())
def test_a_tar_that_is_cut_off_loses_nothing_without_a_word(
    entries: list[tuple[str, bytes, bytes]], form: int, data: st.DataObject
) -> None:
    content = packed(entries, form)
    whole = read(content)
    cut = content[: data.draw(st.integers(0, len(content)))]
    try:
        told = read(cut)
    except TarError:
        return
    assert told == whole[: len(told)]
    after = whole[len(told) :]
    assert not after or len(cut) <= after[0].start - BLOCK, "a tar may lack its end, but no begun member"


def header(size: bytes = b"00000000003\0", kind: bytes = b"0", name: bytes = b"x.wav") -> bytes:
    block = bytearray(BLOCK)
    block[: len(name)] = name
    block[124:136], block[156:157], block[257:265] = size, kind, b"ustar\x0000"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def negative(n: int) -> bytes:
    return b"\xff" + (256**11 + n).to_bytes(11, "big")


END = bytes(2 * BLOCK)


def record(text: bytes) -> bytes:
    """A header of pax records as they are given."""
    return header(b"%011o\0" % len(text), b"x", b"pax") + text + bytes(-len(text) % BLOCK)


@pytest.mark.parametrize(
    ("tail", "why"),
    [
        *((header(negative(-n)) + END, "a size that is none") for n in (1, 512, 1024, 1 << 40)),
        (header(b"9" * 12) + END, "a size that is none"),
        (header(b"\x80" + (1 << 62).to_bytes(11, "big")) + END, "cut off"),
        (header(b"\x80" + (1 << 62).to_bytes(11, "big"), b"L") + END, "a header of"),
        (header(negative(-512), b"x") + END, "a size that is none"),
        (record(b"11 size=-5\n") + header() + END, "has the size '-5'"),
        (record(b"12 size=1e9\n") + header() + END, "has the size"),
        (record(b"%d size=%s\n" % (1010, b"9" * 1000)) + header() + END, "pax header"),
        (record(b"0 a=b\n") + header() + END, "pax header .* damaged"),
        (record(b"9" * 400 + b" a=b\n") + header() + END, "pax header .* damaged"),
        (record(b"99 a=b\n") + header() + END, "pax header .* damaged"),
        (record(b"6 a=b\n") + END, "missing|cut off"),
        (record(b"6 a=b\n"), "cut off"),
        (header(kind=b"L", size=b"00000000005\0") + b"abcd\0".ljust(BLOCK, b"\0"), "cut off"),
        (header(kind=b"S")[:482] + b"\1" + header(kind=b"S")[483:], "damaged|cut off"),
        (b"x" * 100, "cut off"),
        (b"x" * BLOCK, "damaged"),
    ],
)
def test_what_is_odd_is_refused_by_its_place(tail: bytes, why: str) -> None:
    with pytest.raises(TarError, match=why):
        read(plain() + tail)


LONG_NAME = header(kind=b"L", size=b"00000000005\0") + b"abcd\0".ljust(BLOCK, b"\0")


@pytest.mark.parametrize("nested", [LONG_NAME, record(b"6 a=b\n")], ids=["gnu", "pax"])
def test_any_number_of_headers_before_a_member_is_read(nested: bytes) -> None:
    (first, second) = read(plain() + nested * 5000 + header() + b"abc".ljust(BLOCK, b"\0") + END)
    assert second.size == 3 and second.is_file and first.name == "a.wav"


def test_pax_names_win_and_bytes_that_are_no_utf8_stay() -> None:
    assert read(plain("ä" * 120))[0].name == "ä" * 120
    (member,) = read(record(b"14 path=\xff.wav\n") + header() + bytes(BLOCK) + END)
    assert member.name == "\udcff.wav"


@pytest.mark.parametrize("key", ["GNU.sparse.size", "GNU.sparse.map", "GNU.sparse.major"])
def test_sparse_files_are_no_plain_files(key: str) -> None:
    (member,) = read(plain(**{key: "abc,1"}))
    assert not member.is_file and not member.is_folder


def test_tars_behind_one_another_are_one() -> None:
    one, two = (packed([(name, tarfile.REGTYPE, b"abc")], tarfile.GNU_FORMAT) for name in ("a", "b"))
    assert [member.name for member in read(one + two)] == ["a", "b"]
    assert [member.name for member in read(one + bytes(3 << 20) + two)] == ["a", "b"]
    assert [member.name for member in read(one + b"rest of an older tape")] == ["a"]


def test_no_bytes_are_no_tar_and_zeros_are_an_empty_one() -> None:
    assert read(END) == []
    with pytest.raises(TarError, match="empty file"):
        read(b"")


@pytest.mark.skipif(which("tar") is None, reason="no tar here")
@pytest.mark.parametrize("form", ["v7", "oldgnu", "gnu", "ustar", "posix"])
@pytest.mark.parametrize("sparse", [(), ("--sparse",)], ids=["", "sparse"])
def test_what_gnu_tar_writes_is_read(form: str, sparse: tuple[str, ...], tmp_path: Path) -> None:
    if sparse and form in ("v7", "ustar"):
        pytest.skip("has no sparse files")
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a.wav").write_bytes(b"sound" * 500)
    with (tmp_path / "d/hole").open("wb") as file:
        for k in range(30):
            file.seek(k << 20)
            file.write(b"y")
    (tmp_path / "d/z.wav").write_bytes(b"more")
    done = subprocess.run(
        ["tar", f"--format={form}", "--sort=name", *sparse, "-cf", "t.tar", "d"], cwd=tmp_path, capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("another tar")
    content = (tmp_path / "t.tar").read_bytes()
    told = {member.name: member for member in read(content)}
    assert list(told) == ["d", "d/a.wav", "d/hole", "d/z.wav"] and told["d"].is_folder
    for name, wanted in (("d/a.wav", b"sound" * 500), ("d/z.wav", b"more")):
        assert content[told[name].start : told[name].start + told[name].size] == wanted
    assert told["d/hole"].is_file == (not sparse)
