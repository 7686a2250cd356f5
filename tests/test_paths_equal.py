"""One clip has one score: as a file, as samples, whole or in windows, in a shard or a table, behind a URL, by the service."""

import io
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import urgentmos
from fuzz.seeds import LONG_SECONDS, Missing, Seed, seeds
from urgentmos.audio.samples import decode, load
from urgentmos.audio.windows import windows
from urgentmos.clips.inputs import read_clips

CHANNELS = ("-1ch", "-2ch", "-6ch", "-8ch", "-16ch")
Answer = tuple[Any, ...]  # error, warnings, metrics


def answer(row: Any) -> Answer:
    return row.error, tuple(row.warnings), tuple(sorted(row.metrics.items()))


@pytest.fixture(scope="module")
def model():
    return urgentmos.load()


@pytest.fixture(scope="module")
def clips() -> Mapping[str, bytes]:
    """Name of a file -> bytes: each container with each number of channels that it can have here, and some beyond a window."""
    made = {}
    for seed in seeds("audio"):
        if any(part in seed.name for part in CHANNELS):
            try:
                made[seed.name.removeprefix("audio/")] = seed.make()
            except Missing:
                continue  # no such encoder on this machine
    assert len(made) > 60 and any("long" in name for name in made)
    return made


@pytest.fixture(scope="module")
def folder(clips: Mapping[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for name, data in clips.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def as_files(clips: Mapping[str, bytes], folder: Path, model) -> Mapping[str, Answer]:
    answers = {name: answer(model.score(folder / name)) for name in clips}
    assert [name for name, (error, _, _) in answers.items() if error] == []
    return answers


# ---- the same bytes, elsewhere


def packed_tar(clips: Mapping[str, bytes], path: Path, mode: str) -> list[str]:
    with tarfile.open(path, mode) as out:
        for name, data in clips.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))
    return [f"{path}#{name}" for name in clips]


def packed_zip(clips: Mapping[str, bytes], path: Path) -> list[str]:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in clips.items():
            out.writestr(name, data)
    return [f"{path}#{name}" for name in clips]


def packed_parquet(clips: Mapping[str, bytes], path: Path, paths: bool) -> list[str]:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [{"audio": {"bytes": data, "path": name if paths else None}} for name, data in clips.items()]
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=7)
    return [f"{path}#audio[{number}]" for number in range(len(clips))]


STORES: Mapping[str, Callable[[Mapping[str, bytes], Path], list[str]]] = {
    "tar": lambda clips, folder: packed_tar(clips, folder / "x.tar", "w"),
    "tar.gz": lambda clips, folder: packed_tar(clips, folder / "x.tar.gz", "w:gz"),
    "zip": lambda clips, folder: packed_zip(clips, folder / "x.zip"),
    "parquet": lambda clips, folder: packed_parquet(clips, folder / "x.parquet", paths=True),
    "parquet without names": lambda clips, folder: packed_parquet(clips, folder / "y.parquet", paths=False),
}


def check_equal(model, places: list[str], as_files: Mapping[str, Answer]) -> None:
    scores = model.score_clips([urgentmos.Clip(str(number), place) for number, place in enumerate(places)])
    answers = dict(zip(as_files, map(answer, scores), strict=True))
    assert {name: one for name, one in answers.items() if one != as_files[name]} == {}


@pytest.mark.parametrize("store", STORES)
def test_a_store_gives_the_scores_of_files(store: str, clips, as_files, model, tmp_path: Path) -> None:
    check_equal(model, STORES[store](clips, tmp_path), as_files)


def test_a_folder_and_a_manifest_give_the_scores_of_files(clips, folder: Path, as_files, model, tmp_path: Path) -> None:
    check_equal(model, [str(folder / name) for name in clips], as_files)
    manifest = tmp_path / "rows.csv"
    manifest.write_text("uid,audio_path\n" + "".join(f"{name},{folder / name}\n" for name in clips))
    check_equal(model, [clip.audio_path for clip in read_clips(manifest)], as_files)


@pytest.fixture
def address(folder: Path) -> Iterator[str]:
    pytest.importorskip("fsspec")
    pytest.importorskip("aiohttp")
    handler = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_url_gives_the_scores_of_files(address: str, clips, as_files, model) -> None:
    check_equal(model, [f"{address}/{name}" for name in clips], as_files)


def test_the_service_gives_the_scores_of_files(clips, as_files, model) -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("httpx")
    from starlette.testclient import TestClient

    from urgentmos.server import create_app

    short = {name: data for name, data in clips.items() if "long" not in name}
    with TestClient(create_app(model)) as client:
        for names in (list(short)[start : start + 20] for start in range(0, len(short), 20)):
            sent = client.post("/v1/score", files=[("files", (name, clips[name])) for name in names])
            assert sent.status_code == 200, sent.text
            for name, row in zip(names, sent.json()["clips"], strict=True):
                error, warnings, metrics = as_files[name]
                assert (row["error"], tuple(row["warnings"])) == (error, warnings)
                assert row["metrics"] == dict(metrics), name


# ---- the same samples


def test_samples_give_the_scores_of_files(clips, folder: Path, as_files, model) -> None:
    """As they were decoded, up to the 8 channels that an array may have; and the mean of them."""
    for name in clips:
        samples, rate, _ = decode(folder / name)
        error, _, metrics = as_files[name]
        if samples.shape[1] <= 8:
            assert answer(model.score(samples, sample_rate=rate))[::2] == (error, metrics), name
        audio = load(folder / name)
        mono = dict(answer(model.score(audio.wave, sample_rate=audio.rate))[2])
        assert mono == pytest.approx(dict(metrics), abs=1e-4), name


def test_windows_hold_the_samples_of_the_whole(clips, folder: Path) -> None:
    for name in clips:
        whole = load(folder / name, 16_000)
        for seconds in (0.3, 7.0):
            pieces = list(windows(str(folder / name), 16_000, seconds))
            joined = np.concatenate([piece.wave for piece in pieces])
            assert len(joined) == len(whole.wave) and pieces[-1].info == whole.info, name
            np.testing.assert_allclose(joined, whole.wave, atol=2e-5, err_msg=name)


def test_containers_of_the_same_samples_agree(clips, as_files) -> None:
    """Short and long: what is stored without loss has the same score wherever it lies."""
    lossless = ("pcm_16-", "pcm_s16le-", "alac_16-", "alac-")
    groups: dict[tuple[bool, str], dict[str, float]] = {}
    for name, (_, _, metrics) in as_files.items():
        if name.removeprefix("long-").startswith(lossless):
            channels = name.partition("ch.")[0].rpartition("-")[2]
            groups.setdefault((name.startswith("long"), channels), {})[name] = dict(metrics)["mos_overall"]
    assert {(False, "1"), (False, "2"), (True, "1")} <= groups.keys()
    for values in groups.values():
        assert max(values.values()) - min(values.values()) < 1e-3, values


def test_long_recordings_are_beyond_one_window() -> None:
    longest: Seed = next(seed for seed in seeds("audio") if seed.seconds == LONG_SECONDS)
    assert longest.seconds > 30


@pytest.mark.parametrize("fork", ["empty", "AppleDouble", "SD2"])
@pytest.mark.parametrize("held", ["a file", "a member"])
def test_what_lies_beside_a_recording_does_not_change_it(
    fork: str, held: str, clips, as_files, model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """macOS leaves ._NAME beside each NAME on foreign disks; a stranger can put one there."""
    import soundfile

    monkeypatch.chdir(tmp_path)
    (name,) = [name for name in clips if name.endswith("-1ch.mp3")]
    place = name
    if held == "a member":
        (place,) = packed_zip({name: clips[name]}, Path("x.zip"))
    else:
        Path(name).write_bytes(clips[name])
    soundfile.write("s.sd2", np.zeros(8000), 11_025, format="SD2", subtype="PCM_16")
    content = {"empty": b"", "AppleDouble": bytes.fromhex("0005160700020000") + bytes(82), "SD2": Path("._s.sd2").read_bytes()}
    for neighbour in (f"._{name}", "._"):
        Path(neighbour).write_bytes(content[fork])
    assert answer(model.score(place)) == as_files[name]
