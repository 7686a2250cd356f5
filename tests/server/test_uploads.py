import os
import threading
from contextlib import ExitStack, nullcontext

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from urgentmos.server.limits import Limits, Problem
from urgentmos.server.uploads import Room, Store, Upload, check_decoded, count, label, measure, receive, suffix_of


def asked(body: bytes, kind: str, piece: int = 1000, **headers: str) -> Request:
    sent = [body[i : i + piece] for i in range(0, len(body), piece)] or [b""]

    async def receive_next():
        return {"type": "http.request", "body": sent.pop(0), "more_body": bool(sent)}

    named = {"content-type": kind, **headers}
    return Request(
        {"type": "http", "method": "POST", "headers": [(k.encode(), v.encode()) for k, v in named.items()]}, receive_next
    )


def received(folder, request, **limits):
    import asyncio

    store = Store(2000.0)
    try:
        return asyncio.run(receive(request, Room(folder, store), Limits(**limits))), store.bytes
    finally:
        store.close()


@pytest.mark.parametrize("piece", [1, 7, 100_000])
def test_files_and_texts_arrive_whole_however_they_are_cut(tmp_path, serving, piece):
    sound = serving.sound(seconds=0.05)
    body, kind = serving.multipart([("files", "a.wav", sound), ("files", "b.flac", b"\r\n--xy\r\n")])
    text = b'--xyz\r\nContent-Disposition: form-data; name="system_id"\r\n\r\n\xc3\xa4\r\n'
    form, stored = received(tmp_path, asked(text + body, kind, piece))
    assert [(u.part, u.name, u.path.read_bytes()) for u in form.files] == [
        ("files", "a.wav", sound),
        ("files", "b.flac", b"\r\n--xy\r\n"),
    ]
    assert form.texts == {"system_id": ["ä"]} and stored == len(sound) + 8 == sum(u.size for u in form.files)


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        ({"files": 1}, "may have 1 files"),
        ({"file_mb": 0.001}, "a.wav has more than 0.001 MB"),
        ({"request_mb": 0.005}, "may have 0.005 MB"),
    ],
)
def test_sizes_are_limited_while_bytes_arrive(tmp_path, serving, limits, sentence):
    body, kind = serving.multipart([("files", "a.wav", b"x" * 4000), ("files", "b.wav", b"x" * 4000)])
    request = asked(body, kind, 100)
    with pytest.raises(Problem) as caught:
        received(tmp_path, request, **limits)
    assert caught.value.status == 413 and sentence in caught.value.detail
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 6000  # nothing is read to the end first


def test_a_length_that_is_too_large_is_refused_before_anything_is_read(tmp_path, serving):
    request = asked(b"", "multipart/form-data; boundary=x", **{"content-length": str(10**12)})
    with pytest.raises(Problem) as caught:
        received(tmp_path, request)
    assert caught.value.status == 413


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{}", "application/json", 415),
        (b"", "", 415),
        (b"abc", "multipart/form-data", 400),
        (b"nonsense", "multipart/form-data; boundary=x", 400),
        (
            b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.wav"\r\n\r\nabc',
            "multipart/form-data; boundary=x",
            400,
        ),
        (b"--x\r\n" + b"A" * 100_000 + b": b\r\n\r\n", "multipart/form-data; boundary=x", 400),
    ],
)
def test_what_is_no_form_is_refused(tmp_path, body, kind, status):
    with pytest.raises(Problem) as caught:
        received(tmp_path, asked(body, kind))
    assert caught.value.status == status and caught.value.detail.endswith(".")


def test_a_compressed_body_and_floods_of_fields_are_refused(tmp_path):
    with pytest.raises(Problem) as caught:
        received(tmp_path, asked(b"", "multipart/form-data; boundary=x", **{"content-encoding": "gzip"}))
    assert caught.value.status == 415
    field = b'--x\r\nContent-Disposition: form-data; name="s"\r\n\r\n1\r\n'
    with pytest.raises(Problem) as caught:
        received(tmp_path, asked(field * 100, "multipart/form-data; boundary=x"), files=2)
    assert caught.value.status == 413
    with pytest.raises(Problem) as caught:
        received(tmp_path, asked(field.replace(b"1", b"1" * 5000), "multipart/form-data; boundary=x"))
    assert caught.value.status == 413


def test_all_requests_together_hold_no_more_than_allowed(tmp_path):
    store = Store(0.001)
    with store.room() as first:
        first.reserve(700)
        with store.room() as second, pytest.raises(Problem) as caught:
            second.reserve(51)
        assert caught.value.status == 503 and int(caught.value.headers["Retry-After"]) > 0
    with store.room() as third:
        third.reserve(750)
        assert list(store.root.iterdir()) == [third.folder]
    assert store.bytes == 0 and list(store.root.iterdir()) == []
    store.close()


@given(st.text(max_size=40), st.sampled_from(["", "audio/wav", "application/octet-stream"]))
def test_a_name_never_becomes_a_path(name, kind):
    try:
        suffix = suffix_of(label(name.encode("utf-8", "replace")), kind)
    except Problem as problem:
        assert problem.status == 415
    else:
        assert os.sep not in suffix and ".." not in suffix and suffix.startswith(".") and len(suffix) <= 5


@pytest.mark.parametrize(
    "name", ["../../etc/x.wav", "/abs.wav", "..", "a\x00b.wav", "C:\\x.wav", "x" * 1000 + ".wav", "%2e%2e%2fx.wav"]
)
def test_files_lie_in_the_folder_of_their_request_whatever_they_are_called(tmp_path, serving, name):
    folder = tmp_path / "inner"
    folder.mkdir()
    body = serving.multipart([("files", "NAME", b"abc")])[0].replace(b"NAME", name.encode())
    head = b"Content-Type: audio/wav\r\n\r\nabc"
    form, _ = received(folder, asked(body.replace(b"\r\n\r\nabc", b"\r\n" + head), "multipart/form-data; boundary=xyz"))
    assert [u.path.name for u in form.files] == ["0000.wav"]
    assert sorted(tmp_path.rglob("*")) == [folder, folder / "0000.wav"]
    assert len(form.files[0].name) <= 255 and form.files[0].name.isprintable()


@pytest.mark.parametrize(
    ("name", "kind", "suffix"),
    [
        ("a.WAV", "audio/wav", ".wav"),
        ("a.opus", "", ".opus"),
        ("a.flac", "application/octet-stream", ".flac"),
        ("blob", "audio/webm", ".webm"),
        ("a.m4a", "video/mp4", ".m4a"),
        ("a.wav", "text/html", None),
        ("a.txt", "", None),
        ("a.txt", "text/plain", None),
        ("a", "", None),
    ],
)
def test_what_is_no_audio_by_name_and_type_is_refused(name, kind, suffix):
    if suffix is None:
        with pytest.raises(Problem) as caught:
            suffix_of(name, kind)
        assert caught.value.status == 415
    else:
        assert suffix_of(name, kind) == suffix


# ---- bombs


def upload(folder, name, content):
    path = folder / name
    path.write_bytes(content)
    return Upload("files", name, path, len(content))


@pytest.mark.parametrize(
    ("form", "subtype", "name"), [("FLAC", "PCM_16", "a.flac"), ("OGG", "OPUS", "a.opus"), ("OGG", "VORBIS", "a.ogg")]
)
def test_a_small_file_that_decodes_to_more_than_allowed_is_refused(tmp_path, serving, form, subtype, name):
    bomb = upload(tmp_path, name, serving.silence(0.1, form, subtype))
    assert bomb.size < 300_000
    check_decoded(bomb, Limits(seconds=361))
    with pytest.raises(Problem) as caught:
        check_decoded(bomb, Limits(seconds=359))
    assert caught.value.status == 413 and name in caught.value.detail
    with pytest.raises(Problem):
        check_decoded(bomb, Limits(samples=100_000))


def test_channels_count(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros((1000, 40)), 8000)
    check_decoded(Upload("files", "a.wav", path), Limits(samples=40_000))
    with pytest.raises(Problem):
        check_decoded(Upload("files", "a.wav", path), Limits(samples=39_999))


def test_a_header_that_hides_its_length_is_decoded_no_further_than_the_limit(tmp_path, serving):
    pytest.importorskip("av")
    content = bytearray(serving.silence(0.05))
    content[21] &= 0xF0  # STREAMINFO: 36 bits of total samples, 0 is "unknown"
    content[22:26] = bytes(4)
    bomb = upload(tmp_path, "a.flac", bytes(content))
    assert soundfile.info(bomb.path).frames > 2**61
    check_decoded(bomb, Limits(seconds=181))
    with pytest.raises(Problem) as caught:
        check_decoded(bomb, Limits(seconds=100))
    assert caught.value.status == 413


def test_other_containers_are_counted_frame_by_frame(tmp_path):
    av = pytest.importorskip("av")
    path = tmp_path / "a.webm"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libopus", rate=48_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 48_000), np.float32), format="flt", layout="mono")
        frame.sample_rate = 48_000
        for i in range(30):
            frame.pts = i * 48_000
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    check_decoded(Upload("files", "a.webm", path), Limits(seconds=31))
    with pytest.raises(Problem):
        check_decoded(Upload("files", "a.webm", path), Limits(seconds=20))


@pytest.mark.parametrize("name", ["a.webm", "a.m4a", "a.aac", "a.amr", "a.wma", "a.3gp", "a.mka", "a.mp4"])
def test_a_list_of_other_files_is_never_opened(tmp_path, name):
    (tmp_path / "secret.wav").write_bytes(b"x")
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{tmp_path / 'secret.wav'}\n#EXT-X-ENDLIST\n".encode()
    with pytest.raises(Problem) as caught:
        check_decoded(upload(tmp_path, name, playlist), Limits())
    assert caught.value.status == 415


def test_what_cannot_be_decoded_is_left_to_the_model(tmp_path):
    for content in (b"", b"nonsense", b"RIFF\x00\x00"):
        check_decoded(upload(tmp_path, "a.wav", content), Limits())
    check_decoded(upload(tmp_path, "b.webm", b"\x1a\x45\xdf\xa3 nothing more"), Limits())


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4000)), max_size=60))
def test_small_requests_have_room_beside_any_number_of_greedy_ones(steps):
    store = Store(0.01)  # 10000 bytes
    try:
        with ExitStack() as stack:
            rooms = [stack.enter_context(store.room()) for _ in range(6)]
            for k, n_bytes in steps:
                small = store.is_small(rooms[k].bytes + n_bytes)
                try:
                    rooms[k].reserve(n_bytes)
                except Problem as problem:
                    assert problem.status == 503 and "Retry-After" in problem.headers and not small
                    assert store.bytes + n_bytes > 7500
            assert store.bytes == sum(room.bytes for room in rooms) <= 10_000
            for _ in range(50):
                stack.enter_context(store.room()).reserve(39)
        assert store.bytes == 0
    finally:
        store.close()


def test_counting_ends_when_nobody_waits(tmp_path, monkeypatch):
    """A recording whose length only decoding tells: the decoder stops at the next piece."""
    file = upload(tmp_path, "a.wav", b"x")
    stop, pieces = threading.Event(), []

    class Endless:
        rate, channels, n_samples = 16_000, 1, None

        def pieces(self, n):
            while True:
                pieces.append(n)
                if len(pieces) == 3:
                    stop.set()
                yield np.zeros(10)

    monkeypatch.setattr("urgentmos.server.uploads.open_stream", lambda path: nullcontext(Endless()))
    assert not measure(file, Limits())
    count(file, Limits(), stop)
    assert len(pieces) == 3


@pytest.mark.parametrize(
    ("seconds", "channels", "rate", "counted"), [(2, 2, 48_000, 2.0), (2, 8, 48_000, 7.68), (1, 1, 8000, 1.0)]
)
def test_many_channels_count_for_more(tmp_path, seconds, channels, rate, counted):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros((seconds * rate, channels)), rate)
    file = Upload("files", "a.wav", path)
    assert measure(file, Limits()) and file.seconds == pytest.approx(counted)
