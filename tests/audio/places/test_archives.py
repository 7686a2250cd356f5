"""Zip and compressed tar in place: the same samples as from files, by any thread; what is not read is refused by name."""

import bz2
import gzip
import io
import lzma
import os
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from urgentmos.audio.places import archives, compressed, opening, tar, views
from urgentmos.audio.places import zip as zips
from urgentmos.audio.places.names import place_of
from urgentmos.audio.samples import decode, load, probe
from urgentmos.audio.windows import windows
from urgentmos.clips.checks import check
from urgentmos.clips.clip import Clip, to_record
from urgentmos.clips.inputs import is_collection, pair_folders, read_clips, read_inputs, read_system_inputs, read_systems
from urgentmos.clips.journal import Journal, Outcome, Task
from urgentmos.errors import AudioError, UsageError

RATE = 8_000
TARS = {
    ".tar": "w",
    ".tar.gz": "w:gz",
    ".tgz": "w:gz",
    ".tar.bz2": "w:bz2",
    ".tbz2": "w:bz2",
    ".tar.xz": "w:xz",
    ".txz": "w:xz",
}
ENDINGS = [".zip", *TARS]


@pytest.fixture(autouse=True)
def nothing_kept():
    opening._kept.clear()


def sound(seed: int, seconds: float = 0.2) -> bytes:
    wave = 0.1 * np.random.default_rng(seed).standard_normal(int(seconds * RATE))
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, RATE, format="WAV")
    return buffer.getvalue()


def pack(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """The members in an archive of the kind that the path says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith(".zip"):
        with zipfile.ZipFile(path, "w", method) as out:
            for name, data in members.items():
                out.writestr(name, data)
        return path
    mode = next(mode for ending, mode in sorted(TARS.items(), key=lambda item: -len(item[0])) if path.name.endswith(ending))
    with tarfile.open(path, mode) as out:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))
    return path


def plant(folder: Path, members: dict[str, bytes]) -> Path:
    for name, data in members.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


# ---- the samples


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_are_the_files_that_were_packed(ending, method, tmp_path):
    members = {f"d é/u{i}.wav": sound(i) for i in range(5)}
    file = pack(tmp_path / f"x{ending}", members, method)
    clips = read_clips(str(file))
    assert [clip.uid for clip in clips] == [f"d é/u{i}" for i in range(5)]
    for clip, (name, data) in zip(clips, members.items(), strict=True):
        assert clip.audio_path == f"{file}#{name}" and place_of(clip.audio_path) == (str(file), name)
        assert np.array_equal(decode(clip.audio_path)[0], soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)[0])
        assert to_record(clip, tmp_path)["audio_path"] == f"x{ending}#{name}"
    assert check(clips) == []
    assert os.listdir(tmp_path) == [f"x{ending}"], "nothing is unpacked beside it"


@pytest.mark.parametrize("ending", [".zip", ".tar.gz"])
def test_threads_read_in_parallel(ending, tmp_path):
    members = {f"u{i}.wav": sound(i, 0.5) for i in range(40)}
    file = pack(tmp_path / f"x{ending}", members)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            opening._kept.clear()
            waves = list(pool.map(lambda name: load(f"{file}#{name}").wave, members))
            for wave, data in zip(waves, members.values(), strict=True):
                assert np.array_equal(wave, soundfile.read(io.BytesIO(data), dtype="float32")[0])


@pytest.mark.parametrize("ending", [".zip", ".tar.xz"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_large_members_are_not_held_in_memory(ending, method, tmp_path, monkeypatch):
    data = sound(3, seconds=25.0)
    file = pack(tmp_path / f"x{ending}", {"pad.txt": b"x" * 700, "long.wav": data}, method)
    whole = load(f"{file}#long.wav").wave
    for module in (views, zips, tar):
        monkeypatch.setattr(module, "IN_MEMORY", 1000)
    opening._kept.clear()
    assert not isinstance(archives.member(str(file), "long.wav"), bytes)
    assert np.array_equal(load(f"{file}#long.wav").wave, whole)
    assert np.array_equal(np.concatenate([piece.wave for piece in windows(f"{file}#long.wav", RATE, 11.0)]), whole)


def test_a_journal_knows_a_member_until_its_zip_changes(tmp_path):
    file = pack(tmp_path / "x.zip", {"a.wav": sound(0)})
    task = Task(f"{file}#a.wav", None)
    with Journal.open(tmp_path / "j") as log:
        log.append("s", task, Outcome({"pesq": 1.0}))
        assert log.get("s", task) is None
    with Journal.open(tmp_path / "j") as log:
        assert log.get("s", task) == Outcome({"pesq": 1.0})
    pack(file, {"a.wav": sound(1), "b.wav": sound(2)})
    os.utime(file, ns=(5, 5))
    with Journal.open(tmp_path / "j") as log:
        assert log.get("s", task) is None
    opening._kept.clear()
    expected = soundfile.read(io.BytesIO(sound(1)), dtype="float32")[0]
    assert np.array_equal(load(f"{file}#a.wav").wave, expected), "a zip that has changed is read again"


def test_a_compressed_tar_that_has_changed_is_read_again(tmp_path):
    file = pack(tmp_path / "x.tar.gz", {"a.wav": sound(0)})
    load(f"{file}#a.wav")
    pack(file, {"a.wav": sound(1)})
    os.utime(file, ns=(5, 5))
    opening._kept.clear()
    assert np.array_equal(load(f"{file}#a.wav").wave, soundfile.read(io.BytesIO(sound(1)), dtype="float32")[0])


@settings(max_examples=40, deadline=None)
@given(moves=st.lists(st.tuples(st.integers(0, 300), st.integers(-1, 300)), max_size=8), data=st.binary(max_size=250))
def test_a_compressed_tar_reads_like_the_bytes_in_it(moves, data, tmp_path_factory):
    file = tmp_path_factory.getbasetemp() / "view.tar.gz"
    file.write_bytes(gzip.compress(data))
    compressed._held.clear()
    ours, plain = compressed.open_tar(str(file)), io.BytesIO(data)
    for to, size in moves:
        assert (ours.seek(to), ours.read(size)) == (plain.seek(to), plain.read(size))
    assert ours.seek(0, 2) == len(data)


# ---- systems


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("top", ["", "c/", "./", "./c/"])
def test_folders_and_archives_are_systems_of_one_ranking(ending, top, tmp_path):
    plant(tmp_path / "a", {f"utt{i}.wav": sound(i) for i in range(3)})
    pack(tmp_path / f"c{ending}", {f"{top}utt{i}.wav": sound(i) for i in (2, 0, 1)})
    for clips in (read_systems(tmp_path), read_clips(tmp_path)):
        assert [(c.system_id, c.reference_id) for c in sorted(clips, key=lambda c: (c.system_id, c.reference_id))] == [
            (s, f"utt{i}") for s in "ac" for i in range(3)
        ]
    assert [c.reference_id for c in read_systems(tmp_path)] == ["utt0", "utt1", "utt2"] * 2, "whatever the order in the archive"
    pairs, alone = pair_folders(tmp_path / "a", tmp_path / f"c{ending}")
    assert len(pairs) == 3 and alone == [] and is_collection(tmp_path / f"c{ending}")
    (note,) = read_inputs(tmp_path).notes
    assert f"c{ending}" in note.sentence and not note.warning


@pytest.mark.parametrize("ending", ENDINGS)
def test_archives_alone_are_systems_and_so_are_the_folders_in_one(ending, tmp_path):
    for name in "ab":
        pack(tmp_path / "in" / f"{name}{ending}", {"x/u.wav": sound(0), "v.wav": sound(1)})
    expected = [("a", "v"), ("a", "x/u"), ("b", "v"), ("b", "x/u")]
    assert [(c.system_id, c.reference_id) for c in read_systems(tmp_path / "in")] == expected
    assert sorted((c.system_id, c.reference_id) for c in read_clips(tmp_path / "in")) == expected
    for top in ("", "all/"):
        members = {f"{top}{s}/{u}.wav": sound(0) for s in "ab" for u in ("v", "x/u")}
        file = pack(tmp_path / "one" / f"all{ending}", {**members, "notes.txt": b"x"})
        for source in (file, file.parent):
            inputs = read_system_inputs(source)
            assert [(c.system_id, c.reference_id) for c in inputs.clips] == expected
            assert "notes.txt" in inputs.notes[0].sentence


def test_a_system_folder_with_an_archive_in_it_is_read_as_if_unpacked_there(tmp_path):
    plant(tmp_path / "a", {"u.wav": sound(0), "v.wav": sound(1)})
    plant(tmp_path / "b", {"u.wav": sound(0)})
    pack(tmp_path / "b" / "rest.zip", {"v.wav": sound(1)})
    assert [c.uid for c in read_systems(tmp_path)] == ["a:u", "a:v", "b:u", "b:v"]
    pack(tmp_path / "b" / "rest.zip", {"u.wav": sound(1)})
    with pytest.raises(UsageError, match=r"system b has two clips of u. Keep one of them: .*rest.zip#u.wav or .*b/u.wav"):
        read_systems(tmp_path)


def test_a_folder_and_its_archive_are_not_one_system(tmp_path):
    plant(tmp_path / "a", {"u.wav": sound(0)})
    pack(tmp_path / "a.zip", {"v.wav": sound(0)})
    with pytest.raises(UsageError, match=r"a and a.zip are both the system a. Keep one"):
        read_systems(tmp_path)


def test_an_archive_without_audio_is_named(tmp_path):
    plant(tmp_path / "a", {"u.wav": sound(0)})
    pack(tmp_path / "b.zip", {"u.txt": b""})
    with pytest.raises(UsageError, match=r"b.zip: a system without audio"):
        read_systems(tmp_path)
    assert "b.zip (an archive without audio)" in read_inputs(tmp_path).warnings[0]
    with pytest.raises(UsageError, match=r"holds no clips .*b.zip#u.txt"):
        read_clips(tmp_path / "b.zip")


# ---- what is not read


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("c.7z", "7z x c.7z"),
        ("c.RAR", "unrar x"),
        ("c.tar.zst", "tar --zstd -xf"),
        ("u.wav.gz", "gunzip"),
        ("u.flac.bz2", "bunzip2"),
        ("c.gz", "gunzip"),
        ("c.zip.001", "7z x"),
    ],
)
def test_other_archives_are_refused_by_name(name, command, tmp_path):
    plant(tmp_path / "a", {"u.wav": sound(0)})
    plant(tmp_path / "b", {"u.wav": sound(0)})
    (tmp_path / name).write_bytes(b"x")
    for read in (
        lambda: read_clips(tmp_path),
        lambda: read_systems(tmp_path),
        lambda: read_clips(tmp_path / name),
        lambda: read_systems(tmp_path / name),
        lambda: pair_folders(tmp_path / "a", tmp_path / name),
    ):
        with pytest.raises(UsageError, match=rf"{name}: an archive of this kind is not read. Unpack it \({command}"):
            read()


@pytest.mark.parametrize("name", ["u.lab.gz", "features.npz", "model.ark.xz"])
def test_other_packed_files_are_just_not_used(name, tmp_path):
    plant(tmp_path, {"u.wav": sound(0), name: b"x"})
    (note,) = read_inputs(tmp_path).notes
    assert name in note.sentence and not note.warning


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tar.gz"])
def test_archives_in_archives_are_refused_by_name(ending, tmp_path):
    inner = pack(tmp_path / "inner.zip", {"u.wav": sound(0)}).read_bytes()
    for name in ("deep/inner.zip", "inner.tar.gz", "inner.7z", "u.wav.gz"):
        file = pack(tmp_path / f"x{ending}", {"u.wav": sound(0), name: inner})
        os.utime(file, ns=(hash(name) % 2**40,) * 2)
        with pytest.raises(UsageError, match=rf"x{ending}: an archive in an archive is not read: {name}. Unpack"):
            read_clips(str(file))


def test_encrypted_and_strangely_packed_members_are_refused_by_name(tmp_path):
    file = pack(tmp_path / "x.zip", {"a.wav": sound(0), "b.txt": b"x"})
    data = bytearray(file.read_bytes())
    for at in (data.index(b"PK\3\4") + 6, data.index(b"PK\1\2") + 8):
        data[at] |= 1
    file.write_bytes(data)
    with pytest.raises(UsageError, match=r"x.zip: cannot be read in place: a.wav \(it is encrypted\). Unpack it"):
        read_clips(str(file))
    with pytest.raises(AudioError, match="encrypted"):
        load(f"{file}#a.wav")
    pack(tmp_path / "y.zip", {"a.wav": sound(0)}, zipfile.ZIP_LZMA)
    with pytest.raises(UsageError, match=r"a.wav \(it is packed by method 14"):
        read_clips(str(tmp_path / "y.zip"))


@pytest.mark.parametrize("ending", [".zip", ".tar"])
def test_links_are_named_not_followed(ending, tmp_path):
    (tmp_path / "secret.wav").write_bytes(sound(0))
    file = pack(tmp_path / f"x{ending}", {"u.wav": sound(1)})
    if ending == ".zip":
        with zipfile.ZipFile(file, "a") as out:
            info = zipfile.ZipInfo("link.wav")
            info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
            out.writestr(info, "secret.wav")
    else:
        with tarfile.open(file, "a") as out:
            info = tarfile.TarInfo("link.wav")
            info.type, info.linkname = tarfile.SYMTYPE, "secret.wav"
            out.addfile(info)
    inputs = read_inputs(str(file))
    assert [c.uid for c in inputs.clips] == ["u"]
    assert f"x{ending}#link.wav (a link" in inputs.notes[0].warning
    with pytest.raises(AudioError, match="no member"):
        load(f"{file}#link.wav")


def test_names_in_an_archive_are_never_paths(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    names = ["../../secret.wav", "/etc/secret.wav", "C:\\secret.wav", "nul\0.wav"]
    file = folder / "x.zip"
    with zipfile.ZipFile(file, "w") as out:
        for name in names[:3]:
            out.writestr(name, sound(0))
        info = zipfile.ZipInfo("x")
        info.filename = names[3]
        out.writestr(info, sound(0))
    with pytest.raises(UsageError, match="NUL byte"):
        read_clips(str(file))
    with zipfile.ZipFile(file, "w") as out:
        for name in names[:3]:
            out.writestr(name, sound(0))
    clips = read_clips(str(file))
    assert [probe(clip.audio_path)[1] for clip in clips] == [RATE] * 3
    assert os.listdir(tmp_path) == ["in"] and os.listdir(folder) == ["x.zip"]


def test_junk_is_left_out_without_a_word(tmp_path):
    junk = ["__MACOSX/._u.wav", "a/.DS_Store", "._u.wav", "Thumbs.db", ".git/x.wav"]
    file = pack(tmp_path / "x.zip", {"a/u.wav": sound(0), **dict.fromkeys(junk, b"x")})
    plant(tmp_path / "d", {"a/u.wav": sound(0), **dict.fromkeys(junk, b"x")})
    for source in (file, tmp_path / "d"):
        inputs = read_inputs(source)
        assert len(inputs.clips) == 1 and inputs.notes == []


def test_two_members_of_one_name_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as out, pytest.warns(UserWarning, match="Duplicate"):
        out.writestr("u.wav", sound(0))
        out.writestr("u.wav", sound(1))
    with pytest.raises(UsageError, match=r"two members are called .u.wav."):
        read_clips(str(tmp_path / "x.zip"))


# ---- names in a zip


@pytest.mark.parametrize(
    ("raw", "system", "name"),
    [
        ("é.wav".encode(), 3, "é.wav"),  # without the mark, as older packers write it
        (b"\xe9.wav", 3, "\udce9.wav"),
        ("é.wav".encode("cp437"), 0, "é.wav"),
    ],
)
def test_names_without_the_mark_of_utf8(raw, system, name, tmp_path):
    file = pack(tmp_path / "x.zip", {"?" * len(raw): sound(0)})
    data = bytearray(file.read_bytes().replace(b"?" * len(raw), raw))
    data[data.index(b"PK\1\2") + 5] = system
    file.write_bytes(data)
    (clip,) = read_clips(str(file))
    assert clip.audio_path == f"{file}#{name}"
    assert probe(clip.audio_path)[1] == RATE


def test_backslashes_of_a_windows_packer_are_folders(tmp_path):
    file = pack(tmp_path / "all.zip", {f"{s}\\u.wav": sound(0) for s in "ab"})
    assert [(c.system_id, c.reference_id) for c in read_systems(file)] == [("a", "u"), ("b", "u")]


# ---- damage and bombs


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_a_damaged_archive_gives_the_right_samples_or_a_sentence(data, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp()
    ending = data.draw(st.sampled_from([".zip", ".tar.gz", ".tar.xz", ".tar.bz2"]))
    members = {"a.wav": sound(0), "b.wav": sound(1)}
    whole = pack(folder / f"whole{ending}", members).read_bytes()
    broken = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for _ in range(data.draw(st.integers(0, 3))):
        if broken:
            broken[data.draw(st.integers(0, len(broken) - 1))] ^= data.draw(st.integers(1, 255))
    file = folder / f"broken{ending}"
    file.write_bytes(broken)
    compressed._held.clear()
    zips._directories.clear()
    opening._kept.clear()
    try:
        clips = read_clips(str(file))
    except UsageError as e:
        assert str(file) in str(e)
        return
    for clip in clips:
        try:
            wave = load(clip.audio_path).wave
        except AudioError as e:
            assert str(file) in str(e)
            continue
        right = [soundfile.read(io.BytesIO(whole), dtype="float32")[0] for whole in members.values()]
        if ending == ".zip":  # a checksum guards every member
            assert any(np.array_equal(wave, other) for other in right)


def test_a_member_that_says_less_than_comes_out_is_damaged(tmp_path):
    file = pack(tmp_path / "x.zip", {"u.wav": sound(0)})
    data = bytearray(file.read_bytes())
    at = data.index(b"PK\1\2") + 24
    (size,) = struct.unpack("<I", data[at : at + 4])
    for lie in (size - 100, size + 100):
        data[at : at + 4] = struct.pack("<I", lie)
        file.write_bytes(data)
        os.utime(file, ns=(lie, lie))
        opening._kept.clear()
        with pytest.raises(AudioError, match="damaged"):
            load(f"{file}#u.wav")


def test_a_zip_bomb_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(zips, "IN_MEMORY", 1 << 20)
    file = pack(tmp_path / "x.zip", {"u.wav": bytes(4 << 20), "loud.wav": np.random.default_rng(0).bytes(2 << 20)})
    monkeypatch.setattr(zips, "_inflate", lambda *args: pytest.fail("inflated"))
    with pytest.raises(AudioError, match="bytes come out of"):
        load(f"{file}#u.wav")
    monkeypatch.undo()
    with pytest.raises(AudioError, match="cannot be decoded"):
        load(f"{file}#loud.wav")


@pytest.mark.parametrize("pack_bytes", [gzip.compress, bz2.compress, lzma.compress])
def test_a_bomb_of_a_tar_is_refused_while_it_grows(pack_bytes, tmp_path, monkeypatch):
    monkeypatch.setattr(compressed, "SUSPICIOUS_BYTES", 1 << 20)
    ending = {gzip.compress: ".gz", bz2.compress: ".bz2", lzma.compress: ".xz"}[pack_bytes]
    file = tmp_path / f"x.tar{ending}"
    file.write_bytes(pack_bytes(bytes(32 << 20)))
    with pytest.raises(UsageError, match=r"tar xf .*x.tar"):
        read_clips(str(file))


def test_a_tar_that_finds_no_room_is_refused(tmp_path, monkeypatch):
    file = pack(tmp_path / "x.tar.gz", {"u.wav": sound(0)})
    full = shutil.disk_usage(tempfile.gettempdir())._replace(free=0)
    monkeypatch.setattr(compressed.shutil, "disk_usage", lambda folder: full)
    with pytest.raises(UsageError, match=r"no room to decompress it. Unpack it \(tar xf"):
        read_clips(str(file))


def test_what_claims_to_be_an_archive_and_is_none(tmp_path):
    for name in ("x.zip", "x.tar.gz", "x.tar.xz", "x.tar.bz2", "x.tar"):
        for content in (b"", b"nothing", zlib.compress(b"x" * 100)):
            (tmp_path / name).write_bytes(content)
            os.utime(tmp_path / name, ns=(len(content), 1))
            with pytest.raises(UsageError, match=name):
                read_clips(str(tmp_path / name))
    assert load_fails(f"{tmp_path}/x.zip#u.wav") and load_fails(f"{tmp_path}/gone.zip#u.wav")


def load_fails(path: str) -> bool:
    try:
        load(path)
    except AudioError as e:
        return path.partition("#")[0] in str(e) and check([Clip("u", path)])[0].kind == "missing file"
    return False
