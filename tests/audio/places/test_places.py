"""Places: names, bytes of files, tar members, Parquet cells and URLs; what a manifest may name; nothing on disk."""

import io
import json
import os
import tarfile
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from urgentmos.audio.places import names, opening, parquet, remote, tar, views
from urgentmos.audio.places.names import Place
from urgentmos.audio.samples import decode, load, probe
from urgentmos.audio.windows import windows
from urgentmos.clips.checks import check
from urgentmos.clips.clip import Clip, to_record
from urgentmos.clips.inputs import read_clips, read_systems, write_records
from urgentmos.clips.journal import Journal, Outcome, Task
from urgentmos.clips.references import attach_references
from urgentmos.common import retries as passing
from urgentmos.errors import AudioError, UsageError

fsspec = pytest.importorskip("fsspec")
RATE = 8_000


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(passing, "PAUSE", 0.0)
    monkeypatch.delenv(remote.ALLOWED, raising=False)
    opening._kept.clear()
    tar.set_member_offsets({})


def sound(seed: int, seconds: float = 0.2, format: str = "FLAC") -> bytes:
    wave = 0.1 * np.random.default_rng(seed).standard_normal(int(seconds * RATE))
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, RATE, format=format)
    return buffer.getvalue()


def make_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as out:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))
    return path


def make_parquet(path: Path, rows: list[dict], group: int = 10) -> Path:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=group)
    return path


def cell(seed: int, name: str | None = None) -> dict:
    return {"bytes": sound(seed), "path": name}


# ---- names


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("a/b.wav", Place("a/b.wav")),
        ("a/b.tar", Place("a/b.tar")),
        ("a/b.tar#x/y.flac", Place("a/b.tar", "x/y.flac")),
        ("s3://b/x.TAR#y#z.flac", Place("s3://b/x.TAR", "y#z.flac")),
        ("x.parquet#audio[3]", Place("x.parquet", "audio[3]")),
        ("track #1.wav", Place("track #1.wav")),
    ],
)
def test_a_path_names_a_place(path, place):
    assert names.place_of(path) == place


def test_a_file_with_the_name_of_a_place_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "x.tar#utt.flac"
    (tmp_path / name).write_bytes(sound(0))
    assert not names.is_elsewhere(name)
    assert probe(name)[1] == RATE


def test_a_path_that_was_made_of_a_url_is_mended():
    assert names.input_name(Path("s3://bucket/a.wav")) == "s3://bucket/a.wav"
    assert names.input_name("file:///a/b.wav") == names.input_name(Path("file:///a/b.wav")) == "/a/b.wav"
    assert names.input_name(Path("odd:/b")) == "odd:/b"


@pytest.mark.parametrize(
    ("pattern", "expanded"),
    [
        ("x.tar", ["x.tar"]),
        ("x-{008..011}.tar", ["x-008.tar", "x-009.tar", "x-010.tar", "x-011.tar"]),
        ("x-{2..0}", ["x-2", "x-1", "x-0"]),
        ("{a,b}{1..2}", ["a1", "a2", "b1", "b2"]),
    ],
)
def test_a_pattern_stands_for_names_in_order(pattern, expanded):
    assert names.expand(pattern) == expanded


@pytest.mark.parametrize("pattern", ["{0..99999999999}", "{0..999}{0..999}"])
def test_a_pattern_without_end_is_refused(pattern):
    with pytest.raises(UsageError, match="more than"):
        names.expand(pattern)


# ---- a slice of a file


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.binary(max_size=60),
    st.integers(0, 60),
    st.integers(0, 60),
    st.lists(st.tuples(st.integers(0, 70), st.integers(-1, 70)), max_size=8),
)
def test_a_slice_reads_like_the_bytes_it_stands_for(data, start, size, moves):
    start = min(start, len(data))
    size = min(size, len(data) - start)
    ours, plain = io.BufferedReader(views.Slice(io.BytesIO(data), start, size)), io.BytesIO(data[start : start + size])
    for to, count in moves:
        assert (ours.seek(to), ours.read(count)) == (plain.seek(to), plain.read(count))
    assert ours.seek(0, 2) == size


# ---- tar


def test_a_tar_of_samples_gives_clips_in_order_with_their_rows(tmp_path):
    members = {
        "b.flac": sound(1),
        "b.json": json.dumps({"system_id": "sysA", "reference_id": "b", "mos": 3.5, "speaker": "f1"}).encode(),
        "a.json": json.dumps({"uid": "other", "audio_path": "/etc/passwd"}).encode(),
        "a.wav": sound(2, format="WAV"),
        "a.txt": b"hello",
        "._a.wav": b"junk",
    }
    file = make_tar(tmp_path / "x.tar", members)
    clips = read_clips(str(file))
    assert [(c.uid, c.audio_path) for c in clips] == [("b", f"{file}#b.flac"), ("other", f"{file}#a.wav")]
    assert clips[0].metrics == {"mos_overall": 3.5} and clips[0].system_id == "sysA" and clips[0].meta == {"speaker": "f1"}
    for clip, name in zip(clips, ("b.flac", "a.wav"), strict=True):
        inside, _, _ = decode(clip.audio_path)
        outside, _ = soundfile.read(io.BytesIO(members[name]), dtype="float32", always_2d=True)
        assert np.array_equal(inside, outside)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.tar"]


def test_shards_keep_their_order_and_uids(tmp_path):
    for shard in range(3):
        make_tar(tmp_path / f"s-{shard:03}.tar", {f"utt{shard}{i}.flac": sound(i) for i in (2, 0, 1)})
    by_pattern = read_clips(str(tmp_path / "s-{000..002}.tar"))
    assert [c.uid for c in by_pattern] == [f"utt{s}{i}" for s in range(3) for i in (2, 0, 1)]
    assert [c.audio_path for c in read_clips(tmp_path)] == [c.audio_path for c in by_pattern]
    with pytest.raises(UsageError, match=r"s-003\.tar: no such file"):
        read_clips(str(tmp_path / "s-{000..003}.tar"))


def test_a_tar_of_a_folder_tree_has_systems_also_across_shards(tmp_path):
    make_tar(tmp_path / "a-0.tar", {"sysA/u1.flac": sound(0), "sysA/u2.flac": sound(1)})
    make_tar(tmp_path / "a-1.tar", {"sysB/u1.flac": sound(2), "sysB/u2.flac": sound(3)})
    for source in (str(tmp_path / "a-{0..1}.tar"), tmp_path):
        clips = read_systems(source)
        assert [(c.system_id, c.reference_id) for c in clips] == [(s, u) for s in ("sysA", "sysB") for u in ("u1", "u2")]
        assert not check(clips, systems=True)


def test_names_of_members_are_never_paths(tmp_path):
    secret = tmp_path / "secret.wav"
    secret.write_bytes(sound(0, format="WAV"))
    folder = tmp_path / "in"
    folder.mkdir()
    with tarfile.open(folder / "x.tar", "w") as out:
        for name, kind in (("link.wav", tarfile.SYMTYPE), ("hard.wav", tarfile.LNKTYPE), ("pipe.wav", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, str(secret)
            out.addfile(info)
        info = tarfile.TarInfo("../../secret.wav")
        info.size = 4
        out.addfile(info, io.BytesIO(b"evil"))
    clips = read_clips(str(folder / "x.tar"))
    assert [c.audio_path for c in clips] == [f"{folder}/x.tar#../../secret.wav"]
    with pytest.raises(AudioError, match="cannot be decoded"):
        decode(clips[0].audio_path)
    assert to_record(clips[0], folder)["audio_path"] == "x.tar#../../secret.wav"
    assert [p.name for p in folder.iterdir()] == ["x.tar"]


def test_a_tar_is_walked_once(tmp_path, monkeypatch):
    file = make_tar(tmp_path / "x.tar", {f"u{i}.flac": sound(i) for i in range(20)})
    walks = []
    walk = tar._walk
    monkeypatch.setattr(tar, "_walk", lambda file, *texts: walks.append(file) or walk(file, *texts))
    for clip in read_clips(str(file)):
        load(clip.audio_path)
    assert walks == [str(file)]
    os.utime(file, ns=(1, 1))
    opening._kept.clear()
    load(f"{file}#u3.flac")
    assert len(walks) == 2, "a tar that has changed is walked anew"


def test_hints_spare_the_walk(tmp_path, monkeypatch):
    file = str(make_tar(tmp_path / "x.tar", {f"u{i}.flac": sound(i) for i in range(3)}))
    tar.set_member_offsets(tar.hints(file, ["u1.flac", "no.flac"]))
    monkeypatch.setattr(tar, "_walk", lambda *args: pytest.fail("walked"))
    tar._indexes.clear()
    assert probe(f"{file}#u1.flac")[0] == 0.2 * RATE


def test_large_members_are_read_in_pieces(tmp_path, monkeypatch):
    data = sound(3, seconds=25.0)
    file = make_tar(tmp_path / "x.tar", {"pad.txt": b"x" * 700, "long.flac": data})
    whole = load(f"{file}#long.flac").wave
    monkeypatch.setattr(views, "IN_MEMORY", 1000)
    monkeypatch.setattr(tar, "IN_MEMORY", 1000)
    opening._kept.clear()
    assert isinstance(opening.open_audio(f"{file}#long.flac"), io.BufferedReader)
    assert np.array_equal(load(f"{file}#long.flac").wave, whole)
    pieces = [piece.wave for piece in windows(f"{file}#long.flac", RATE, 11.0)]
    assert len(pieces) == 3 and np.array_equal(np.concatenate(pieces), whole)


def test_what_is_wrong_with_a_tar_is_said(tmp_path):
    good = make_tar(tmp_path / "good.tar", {"a.flac": sound(0), "b.flac": sound(1)})
    (tmp_path / "cut.tar").write_bytes(good.read_bytes()[: 512 + 300])
    (tmp_path / "none.tar").write_bytes(b"this is no tar" * 100)
    (tmp_path / "zipped.tar.gz").write_bytes(b"\x1f\x8b")
    make_tar(tmp_path / "json.tar", {"a.flac": sound(0), "a.json": b"{", "b.flac": sound(0), "b.json": b"[1]"})
    with tarfile.open(tmp_path / "twice.tar", "w") as out:
        for _ in range(2):
            out.addfile(tarfile.TarInfo("a.flac"))
    for name, why in (
        ("cut.tar", "cut off"),
        ("none.tar", "not a whole tar"),
        ("zipped.tar.gz", "not a whole compressed tar"),
        ("json.tar", r"(?s)2 rows.*a\.json.*b\.json"),
        ("twice.tar", "two members"),
    ):
        with pytest.raises(UsageError, match=why):
            read_clips(str(tmp_path / name))
    with pytest.raises(AudioError, match="no member"):
        load(f"{good}#c.flac")


def test_a_header_that_claims_to_be_huge_is_refused(tmp_path):
    info = tarfile.TarInfo("x" * 10)
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 3 << 30
    file = tmp_path / "x.tar"
    file.write_bytes(info.tobuf() + b"\0" * 4096)
    with pytest.raises(UsageError, match="a header of"):
        read_clips(str(file))


def test_a_companion_is_a_reference_signal_not_a_clip(tmp_path):
    row = json.dumps({"reference_path": "clean.flac"}).encode()
    file = make_tar(
        tmp_path / "x.tar", {"d/u.flac": sound(0), "d/u.clean.flac": sound(1), "d/u.json": row, "d/v.1.flac": sound(2)}
    )
    first, second = read_clips(str(file))
    assert (first.uid, first.reference_path) == ("d/u", f"{file}#d/u.clean.flac")
    assert (second.uid, second.reference_path) == ("d/v.1", None)
    assert probe(first.reference_path)[1] == RATE


def test_reference_signals_are_found_by_the_members_name(tmp_path):
    clean = tmp_path / "clean"
    clean.mkdir()
    (clean / "u1.wav").write_bytes(sound(0, format="WAV"))
    clips = read_clips(str(make_tar(tmp_path / "x.tar", {"u1.flac": sound(0)})))
    assert attach_references(clips, clean)[0].reference_path == str(clean / "u1.wav")


# ---- Parquet


def test_a_data_set_of_a_hub_gives_clips_in_order_with_their_labels(tmp_path):
    rows = [{"audio": cell(i, f"clips/u{i}.flac"), "mos": 1.0 + i, "system_id": f"s{i % 2}", "id": i} for i in range(5)]
    file = make_parquet(tmp_path / "train-0.parquet", rows, group=2)
    clips = read_clips(str(file))
    assert [c.uid for c in clips] == [f"u{i}" for i in range(5)]
    assert [c.metrics["mos_overall"] for c in clips] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert clips[3].system_id == "s1" and clips[3].meta == {"id": 3}
    for i, clip in enumerate(clips):
        assert clip.audio_path == f"{file}#audio[{i}]"
        assert np.array_equal(
            decode(clip.audio_path)[0], soundfile.read(io.BytesIO(sound(i)), dtype="float32", always_2d=True)[0]
        )
    assert [p.name for p in tmp_path.iterdir()] == ["train-0.parquet"]


@settings(max_examples=30)
@given(order=st.lists(st.integers(0, 29), min_size=1, max_size=40))
def test_cells_are_right_in_any_order(order, tmp_path_factory):
    global _numbers
    if _numbers is None:
        rows = [{"audio": {"bytes": b"%d" % i, "path": None}} for i in range(30)]
        _numbers = make_parquet(tmp_path_factory.mktemp("p") / "n.parquet", rows, group=12)
    for row in order:
        assert parquet.sound(str(_numbers), "audio", row) == b"%d" % row


_numbers: Path | None = None


def test_rows_in_order_are_read_once(tmp_path, monkeypatch):
    file = str(make_parquet(tmp_path / "x.parquet", [{"audio": cell(0)} for _ in range(60)], group=25))
    starts = []
    start = parquet._Cursor._start
    monkeypatch.setattr(parquet._Cursor, "_start", lambda self, row: starts.append(row) or start(self, row))
    for row in range(60):
        parquet.sound(file, "audio", row)
        parquet.sound(file, "audio", max(0, row - 5))
    assert starts == [0], "two threads may be a few rows apart"
    parquet.sound(file, "audio", 1)
    assert starts == [0, 1]


def test_a_parquet_manifest_is_still_a_manifest(tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "a.wav").write_bytes(sound(0, format="WAV"))
    write_records([to_record(Clip("u", str(tmp_path / "a.wav")), tmp_path)], tmp_path / "m.parquet")
    assert [c.audio_path for c in read_clips(tmp_path / "m.parquet")] == [str(tmp_path / "a.wav")]


def test_what_is_wrong_with_a_cell_is_said(tmp_path):
    (tmp_path / "outside.wav").write_bytes(sound(0, format="WAV"))
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "beside.wav").write_bytes(sound(0, format="WAV"))
    paths = ["beside.wav", "../outside.wav", "gone.wav", None]
    file = make_parquet(folder / "x.parquet", [{"audio": {"bytes": None, "path": p}} for p in paths] + [{"audio": cell(1)}])
    assert probe(f"{file}#audio[0]")[1] == RATE
    for row in (1, 2, 3):
        with pytest.raises(AudioError, match="holds no sound"):
            load(f"{file}#audio[{row}]")
    for place, why in (("audio[9]", "no row 9"), ("sound[0]", "no column"), ("audio", "names no cell")):
        with pytest.raises(AudioError, match=why):
            load(f"{file}#{place}")
    two = make_parquet(folder / "two.parquet", [{"a": cell(0), "b": cell(1)}])
    with pytest.raises(UsageError, match="2 columns"):
        read_clips(two)


# ---- URLs


@pytest.fixture
def memory():
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    remote.stamp.cache_clear()
    yield fs
    fs.store.clear()


def test_objects_folders_shards_and_manifests_behind_a_url(memory, tmp_path):
    memory.pipe("/d/sysA/u1.flac", sound(0))
    memory.pipe("/d/sysB/u1.flac", sound(1))
    memory.pipe("/d/sysB/.hidden.flac", sound(1))
    clips = read_systems("memory://d")
    assert [(c.system_id, c.reference_id, c.audio_path) for c in clips] == [
        (s, "u1", f"memory://d/{s}/u1.flac") for s in ("sysA", "sysB")
    ]
    assert np.array_equal(load(clips[1].audio_path).wave, load_bytes(sound(1)))
    memory.pipe("/t/x-0.tar", make_tar(tmp_path / "x.tar", {"a.flac": sound(2), "b.flac": sound(3)}).read_bytes())
    memory.pipe("/t/x-1.tar", make_tar(tmp_path / "y.tar", {"c.flac": sound(4)}).read_bytes())
    for name in ("memory://t/x-{0..1}.tar", "memory://t", "memory://t/*.tar"):
        shards = read_clips(name)
        assert [c.uid for c in shards] == ["a", "b", "c"]
    assert np.array_equal(load(shards[1].audio_path).wave, load_bytes(sound(3)))
    parquet_file = make_parquet(tmp_path / "p.parquet", [{"audio": cell(5, "u5.flac")}])
    memory.pipe("/p.parquet", parquet_file.read_bytes())
    assert np.array_equal(load(read_clips("memory://p.parquet")[0].audio_path).wave, load_bytes(sound(5)))
    memory.pipe("/d/m.jsonl", b'{"audio_path": "sysA/u1.flac"}\n{"audio_path": "memory://t/x-1.tar#c.flac"}\n')
    named = read_clips("memory://d/m.jsonl")
    assert [c.audio_path for c in named] == ["memory://d/sysA/u1.flac", "memory://t/x-1.tar#c.flac"]
    assert to_record(named[0], tmp_path)["audio_path"] == "memory://d/sysA/u1.flac"
    memory.pipe("/d/wav.scp", b"one sysA/u1.flac\n")
    assert [(c.uid, c.audio_path) for c in read_clips("memory://d/wav.scp")] == [("one", "memory://d/sysA/u1.flac")]


def load_bytes(data: bytes) -> np.ndarray:
    return soundfile.read(io.BytesIO(data), dtype="float32")[0]


def test_what_is_not_there_is_a_row_with_a_reason(memory):
    for path, why in (
        ("memory://gone.wav", "does not exist"),
        ("ftp://h/x.wav", "not offered"),
        ("memory://x.tar#a.wav", "x.tar"),
    ):
        with pytest.raises(AudioError, match=why):
            load(path)
    memory.pipe("/empty.wav", b"")
    with pytest.raises(AudioError, match="empty"):
        load("memory://empty.wav")
    with pytest.raises(UsageError, match="does not exist"):
        read_clips("memory://gone.jsonl")
    with pytest.raises(UsageError, match="not offered"):
        read_clips("ftp://host/x.wav")
    assert not check([Clip("u", "memory://gone.wav")]), "what lies behind a URL is not asked for before it is needed"


def test_a_failing_line_is_tried_again(memory, monkeypatch):
    memory.pipe("/x.wav", sound(0, format="WAV"))
    fs, calls = remote.filesystem("memory://x.wav")[0], []

    def flaky(*args, **kwargs):
        calls.append(args)
        if len(calls) < 3:
            raise TimeoutError("slow")
        return type(fs).open(fs, *args, **kwargs)

    monkeypatch.setattr(fs, "open", flaky)
    assert probe("memory://x.wav")[1] == RATE and len(calls) == 3
    opening._kept.clear()
    monkeypatch.setattr(fs, "open", lambda *a, **k: (_ for _ in ()).throw(TimeoutError("slow")))
    with pytest.raises(AudioError, match="cannot be fetched"):
        probe("memory://x.wav")


def test_header_and_samples_cost_one_transfer(memory, monkeypatch):
    memory.pipe("/x.wav", sound(0, format="WAV"))
    fetched = []
    fetch = remote.fetch
    monkeypatch.setattr(remote, "fetch", lambda url: fetched.append(url) or fetch(url))
    probe("memory://x.wav")
    load("memory://x.wav")
    assert fetched == ["memory://x.wav"]


def test_what_is_kept_is_bounded(monkeypatch):
    kept = opening._Kept()
    monkeypatch.setattr(opening, "KEEP_BYTES", 10)
    for i in range(5):
        kept.put(str(i), b"xxxx")
    assert [kept.get(str(i)) for i in range(5)] == [None] * 3 + [b"xxxx"] * 2
    monkeypatch.setattr(opening, "KEEP_SECONDS", -1.0)
    assert kept.get("4") is None


# ---- who may name what


@pytest.mark.parametrize(
    ("path", "manifest", "allowed", "may"),
    [
        ("a.wav", "m.jsonl", "", True),
        ("s3://b/a.wav", "m.jsonl", "", False),
        ("s3://b/a.tar#x.wav", "m.jsonl", "", False),
        ("s3://b/a.wav", "m.jsonl", "https, S3", True),
        ("s3://b/a.wav", "s3://c/m.jsonl", "", True),
        ("https://h/a.wav", "https://h/m.jsonl", "", True),
        ("https://other/a.wav", "https://h/m.jsonl", "", False),
        ("http://h/a.wav", "https://h/m.jsonl", "", False),
        ("/etc/x.wav", "https://h/m.jsonl", "", False),
        ("/etc/x.wav", "https://h/m.jsonl", "file", True),
        (None, "m.jsonl", "", True),
    ],
)
def test_a_manifest_names_what_lies_where_it_lies(path, manifest, allowed, may, monkeypatch):
    monkeypatch.setenv(remote.ALLOWED, allowed)
    assert (remote.refusal(path, manifest) is None) == may


@pytest.mark.parametrize("key", ["audio_path", "reference_path"])
def test_a_manifest_of_this_disk_that_names_urls_is_refused(key, tmp_path, monkeypatch):
    row = {"audio_path": "a.wav", key: "https://h/x.wav"}
    (tmp_path / "m.jsonl").write_text(json.dumps(row))
    with pytest.raises(UsageError, match="URGENTMOS_ALLOW_URLS=https"):
        read_clips(tmp_path / "m.jsonl")
    monkeypatch.setenv(remote.ALLOWED, "https")
    assert getattr(read_clips(tmp_path / "m.jsonl")[0], key) == "https://h/x.wav"


def test_a_sample_of_a_tar_may_not_name_urls_either(tmp_path):
    file = make_tar(tmp_path / "x.tar", {"a.flac": sound(0), "a.json": b'{"reference_path": "http://h/x.wav"}'})
    with pytest.raises(UsageError, match="URGENTMOS_ALLOW_URLS=http"):
        read_clips(str(file))


# ---- a web server


class Ranges(BaseHTTPRequestHandler):
    """Serves the class attribute `files`, parts of them, too."""

    files: ClassVar[dict[str, bytes]] = {}

    def do_HEAD(self):
        self.answer(False)

    def do_GET(self):
        self.answer(True)

    def answer(self, body: bool):
        data = self.files.get(self.path)
        if data is None:
            self.send_error(404)
            return
        size, asked = len(data), self.headers.get("Range")
        if asked:
            low, _, high = asked.removeprefix("bytes=").partition("-")
            data = data[int(low) : int(high) + 1 if high else None]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {low}-{int(low) + len(data) - 1}/{size}")
        else:
            self.send_response(200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture
def serve():
    pytest.importorskip("aiohttp")
    running = []

    def start(handler) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        running.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def test_a_web_server_with_ranges(serve, tmp_path):
    shard = make_tar(tmp_path / "x.tar", {f"u{i}.flac": sound(i) for i in range(4)}).read_bytes()
    base = serve(type("Handler", (Ranges,), {"files": {"/x.tar": shard, "/a.wav": sound(9, format="WAV")}}))
    clips = read_clips([f"{base}/x.tar", f"{base}/a.wav"])
    assert [c.uid for c in clips] == ["u0", "u1", "u2", "u3", "a"]
    assert np.array_equal(load(clips[2].audio_path).wave, load_bytes(sound(2)))
    assert np.array_equal(load(clips[4].audio_path).wave, load_bytes(sound(9, format="WAV")))
    with pytest.raises(AudioError, match="does not exist"):
        load(f"{base}/gone.wav")
    with pytest.raises(UsageError, match="no folders"):
        read_clips(f"{base}/folder")


def test_a_web_server_without_ranges_gives_files_but_no_shards(serve, tmp_path):
    make_tar(tmp_path / "x.tar", {"u.flac": sound(0)})
    (tmp_path / "a.wav").write_bytes(sound(1, format="WAV"))

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    base = serve(partial(Quiet, directory=str(tmp_path)))
    assert np.array_equal(load(f"{base}/a.wav").wave, load_bytes(sound(1, format="WAV")))
    with pytest.raises(UsageError, match="parts of a file"):
        read_clips(f"{base}/x.tar")


# ---- the journal


def test_a_journal_knows_a_member_until_its_tar_changes(tmp_path):
    file = make_tar(tmp_path / "x.tar", {"a.flac": sound(0)})
    task = Task(f"{file}#a.flac", None)
    with Journal.open(tmp_path / "j") as log:
        log.append("s", task, Outcome({"pesq": 1.0}))
    with Journal.open(tmp_path / "j") as log:
        assert log.get("s", task) == Outcome({"pesq": 1.0})
    os.utime(file, ns=(5, 5))
    with Journal.open(tmp_path / "j") as log:
        assert log.get("s", task) is None
