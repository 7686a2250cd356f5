"""The parts of a page: what is escaped, what is inlined, how large it may be; sound, pictures and charts."""

import base64
import io
import json
import re
import struct
import zlib
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from urgentmos.audio.samples import load
from urgentmos.clips.clip import Clip
from urgentmos.errors import UsageError
from urgentmos.report import Options, charts, page, picture, write
from urgentmos.report.audio import BYTES_PER_SECOND, check_size, opus, sound_of

RATE = 16_000


def options(folder: Path, **more: object) -> Options:
    return Options(folder / "page.html", **more)  # type: ignore[arg-type]


# ---- JSON in a script element


SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20)


@given(
    st.recursive(SCALARS, lambda x: st.lists(x, max_size=4) | st.dictionaries(st.text(max_size=9), x, max_size=4), max_leaves=9)
)
def test_any_data_survives_the_script_element(data):
    text = page.script_json(data)
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == data


def test_numbers_that_json_lacks_become_null():
    data = {"a": np.array([1.0, np.nan]), "b": (np.float32(2), np.int64(3), float("inf")), 4: True}
    assert json.loads(page.script_json(data)) == {"a": [1.0, None], "b": [2.0, 3, None], "4": True}


def test_a_name_that_is_not_utf8_is_written(tmp_path):
    write(page.script_json(["\udcff"]), options(tmp_path))
    assert json.loads((tmp_path / "page.html").read_text(encoding="utf-8")) == ["\udcff"]


# ---- size


def test_a_page_that_is_too_large_is_not_written(tmp_path):
    with pytest.raises(
        UsageError, match=r"2\.0 MB, and the limit is 1 MB.*--report-audio link.*--report-listen below 40.*--report-limit 3"
    ):
        write("x" * 2_000_000, options(tmp_path, limit_mb=1))
    assert not (tmp_path / "page.html").exists()


def test_a_page_that_fits_is_written(tmp_path):
    write("x" * 2_000_000, options(tmp_path, limit_mb=2))
    assert (tmp_path / "page.html").stat().st_size == 2_000_000


def test_a_folder_that_is_not_there_is_a_sentence(tmp_path):
    with pytest.raises(UsageError, match=r"cannot be written.*another place"):
        write("x", options(tmp_path / "none"))


def test_too_much_audio_is_said_before_the_work_with_a_number_that_fits(tmp_path):
    clips = [Clip(str(k), f"{k}.wav", duration=10.0) for k in range(100)]
    own = options(tmp_path, limit_mb=2, listen=40)
    with pytest.raises(UsageError) as told:
        check_size(clips, 100, own)
    fits = int(re.search(r"--report-listen (\d+) \(which fits\)", str(told.value)).group(1))
    assert 0 < 10.0 * 100 / 40 * fits * BYTES_PER_SECOND <= 2_000_000
    check_size(clips, 100, options(tmp_path, limit_mb=2, audio="link"))
    check_size(clips, 10, own)


# ---- sound


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
def test_opus_keeps_the_speech_and_its_length(rate, make_voice):
    wave = make_voice(5, 2.0, rate)
    coded = opus(wave, rate)
    samples, to = soundfile.read(io.BytesIO(coded))
    assert len(samples) / to == pytest.approx(2.0, abs=0.01)
    assert len(coded) * 4 / 3 == pytest.approx(2.0 * BYTES_PER_SECOND, rel=0.6)
    before, after = (np.abs(np.fft.rfft(load(x, 8000, sample_rate=r).wave))[200:4000] for x, r in ((wave, rate), (samples, to)))
    n = min(len(before), len(after))
    assert np.corrcoef(before[:n], after[:n])[0, 1] > 0.95


def test_sound_is_embedded_linked_or_left_out(tmp_path, make_voice):
    odd = tmp_path / "a & b" / "ü#1 'q'.wav"
    odd.parent.mkdir()
    soundfile.write(odd, make_voice(1, 0.5), RATE)
    embedded = sound_of(str(odd), options(tmp_path)).url
    assert embedded.startswith("data:audio/ogg;base64,")
    assert base64.b64decode(embedded.split(",")[1]).startswith(b"OggS")
    (tmp_path / "reports").mkdir()
    linked = sound_of(str(odd), options(tmp_path / "reports", audio="link")).url
    assert (tmp_path / "reports" / unquote(linked)).resolve() == odd
    assert not set("#'\" &") & set(linked)
    assert sound_of(str(odd), options(tmp_path, audio="none")) == (sound_of(str(odd), options(tmp_path, audio="none")))
    assert sound_of(str(odd), options(tmp_path, audio="none")).url is None


@pytest.mark.parametrize("audio", ["embed", "link"])
def test_a_missing_file_has_a_reason(tmp_path, audio):
    found = sound_of(str(tmp_path / "none.wav"), options(tmp_path, audio=audio))
    assert found.url is None and "does not exist" in found.reason


# ---- pictures


def read_png(url: str) -> np.ndarray:
    """(H, W) palette indices of an 8-bit PNG without filters; each chunk's checksum is verified."""
    raw = base64.b64decode(url.removeprefix("data:image/png;base64,"))
    assert raw[:8] == b"\x89PNG\r\n\x1a\n"
    at, body, size = 8, b"", (0, 0)
    while at < len(raw):
        (length,) = struct.unpack(">I", raw[at : at + 4])
        kind, data = raw[at + 4 : at + 8], raw[at + 8 : at + 8 + length]
        assert struct.unpack(">I", raw[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + data)
        if kind == b"IHDR":
            size = struct.unpack(">II", data[:8])
        body += data if kind == b"IDAT" else b""
        at += 12 + length
    lines = np.frombuffer(zlib.decompress(body), np.uint8).reshape(size[1], size[0] + 1)
    assert not lines[:, 0].any()
    return lines[:, 1:]


def test_a_tone_is_a_line_at_its_height_and_time():
    t = np.arange(2 * RATE) / RATE
    wave = np.where(t > 1, np.sin(2 * np.pi * 2000 * t), 0).astype(np.float32)
    image = read_png(picture.spectrogram(wave, RATE))
    assert image.shape[0] <= picture.HEIGHT and image.shape[1] <= picture.WIDTH
    row, _ = np.unravel_index(image.argmax(), image.shape)
    assert 1 - (row + 0.5) / image.shape[0] == pytest.approx(2000 / 8000, abs=0.01)
    loud = np.flatnonzero(image[row] > picture.LEVELS * 0.8) / image.shape[1]
    assert loud.min() == pytest.approx(0.5, abs=0.03) and loud.max() > 0.97


@pytest.mark.parametrize("n", [1, 100, 5 * 60 * RATE])
def test_any_length_is_drawn_in_bounds(n):
    image = read_png(picture.spectrogram(np.random.default_rng(0).standard_normal(n).astype(np.float32), RATE))
    assert 1 <= image.shape[1] <= picture.WIDTH and image.max() < picture.LEVELS


def test_silence_is_dark():
    assert read_png(picture.spectrogram(np.zeros(RATE, np.float32), RATE)).max() == 0


def test_the_palette_gets_lighter_all_the_way():
    luminance = picture.palette().astype(float) @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) > 0).all()


# ---- charts


@pytest.fixture(scope="module")
def compiled():
    """Vega-Lite -> SVG, as a browser would draw it; an invalid chart raises."""
    vl_convert = pytest.importorskip("vl_convert")
    return lambda spec: vl_convert.vegalite_to_svg({**spec, "width": 400})


TIPS = (("system", "system", None), ("value", "score", ".2f"))
NASTY = "</script><img src=x onerror=alert(1)> \"q\" 'a' & @main"


def test_charts_show_every_row_and_escape_names(compiled):
    rows = [{"system": name, "value": k, "low": k - 1.0, "high": k + 1.0} for k, name in enumerate((NASTY, "b"))]
    svg = compiled(charts.forest(rows, "score", TIPS, zero=0))
    assert svg.count("role-mark") >= 1 and "<img" not in svg and "&lt;img" in svg
    cells = [{"a": a, "b": b, "x": 0.5, "n": 3} for a in "pqr" for b in "pqr"]
    heat = compiled(
        charts.heat(cells, "a", "b", "x", domain=(0, 0.5, 1), form=".0%", tips=TIPS, legend="share", order=("pqr", "pqr"))
    )
    assert heat.count(">50%<") >= 9


def test_missing_cells_do_not_change_the_order_of_a_heat_map(compiled):
    cells = [{"a": a, "b": b, "x": 0.5} for a, b in ("zp", "pz", "qp")]
    names = ("pp", "qq", "zz")
    cells = [{**cell, "a": 2 * cell["a"], "b": 2 * cell["b"]} for cell in cells]
    svg = compiled(
        charts.heat(cells, "a", "b", "x", domain=(0, 0.5, 1), form=".0%", tips=TIPS, legend="share", order=(names, names))
    )
    assert re.findall(r">(pp|qq|zz)</text>", svg) == ["pp", "qq", "zz", "pp", "zz"]


def test_every_axis_says_what_it_shows(compiled):
    point = {"uid": "u", "system": "s", "x": 1.0, "y": 2.0, "n": 4}
    ends = {"x_low": 0.5, "x_high": 1.5, "y_low": 1.0, "y_high": 3.0, "low": 1.0, "high": 3.0, "value": 2.0}
    svg = compiled(charts.clip_scatter([point], [point | ends], "the label", "the score", (1, 5)))
    svg += compiled(charts.named_scatter([point | ends], ("x", "the MOS"), ("y", "the votes"), "system", TIPS))
    svg += compiled(charts.forest([point | ends], "the strength", TIPS, zero=0))
    for title in ("the label", "the score", "the MOS", "the votes", "the strength"):
        assert svg.count(f">{title}<") == 1


def test_each_chart_compiles(compiled):
    point = {"uid": "u", "system": "s", "x": 1.0, "y": 2.0, "x_low": 0.5, "x_high": 1.5, "y_low": None, "y_high": None, "n": 4}
    compiled(charts.clip_scatter([point], [point], "label", "predicted", (1, 5)))
    compiled(charts.named_scatter([{**point, "low": 1, "high": 3}], ("x", "MOS"), ("y", "score"), "system", TIPS))
    compiled(
        charts.lines(
            [{"t": k, "a": k / 2, "j": "one"} for k in range(3)], ("t", "t"), ("a", "a"), "j", [{"t": 1, "a": 0.5, "j": "one"}]
        )
    )
    compiled(charts.histogram([{"value": k / 3} for k in range(20)], "MOS"))
    drawn = charts.timeline() | {"data": {"values": [{"start": 0, "end": 1, "value": 0.2, "clip": 0.1, "score": 3}]}}
    drawn["layer"][0]["encoding"]["y"]["axis"]["labelExpr"] = f"format({charts.bend(1, 5, 'datum.value')}, '.2f')"
    assert ">3.2" in compiled(drawn)  # 1 + 4 / (1 + exp(-0.2)) = 3.2
    dot = (
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    )
    assert "<image" in compiled(
        charts.spectrogram() | {"data": {"values": [{"start": 0, "end": 1, "low": 0, "high": 8, "url": dot}]}}
    )


@pytest.mark.parametrize("ends", [(1.0, 5.0), (0.0, np.inf), (-np.inf, 1.0), (-np.inf, np.inf)])
@pytest.mark.parametrize("logit", [-3.0, 0.0, 2.5])
def test_the_bend_of_the_axis_is_that_of_the_head(ends, logit):
    torch = pytest.importorskip("torch")
    from urgentmos.nets.layers import bounded

    value = eval(charts.bend(*ends, str(logit)), {"exp": np.exp, "log": np.log})
    assert value == pytest.approx(float(bounded(*ends)(torch.tensor(logit, dtype=torch.float64))), abs=1e-6)


def test_colours_of_a_chart_are_roles_that_the_script_knows():
    script = page._resource("report.js")
    for role in (charts.MAIN, charts.QUIET, charts.INK, charts.GOOD, charts.BAD):
        assert re.search(rf"\b{role[1:]}: of\(", script)


def test_the_chart_library_can_stand_in_a_script_element():
    pytest.importorskip("vl_convert")
    bundle = page.chart_library()
    assert "vegaEmbed" in bundle and "</script" not in bundle.lower() and len(bundle) < 1_500_000


# ---- numbers


def test_numbers_for_a_reader():
    assert [page.number(x) for x in (1.005, -0.001, None, float("nan"))] == ["1.00", "0.00", "-", "-"]
    assert page.signed(0.5, 1) == "+0.5" and page.signed(-0.5, 1) == "-0.5" and page.signed(0.001) == "0.00"
    assert page.interval_text(1, None) == "1.00 .. -" and page.interval_text(-np.inf, np.inf) == "-"


def test_the_interval_of_a_mean_is_students():
    mean, low, high, n = page.mean_interval([1.0, 2.0, 3.0, np.nan], 0.95)
    assert (mean, n) == (2.0, 3) and high - mean == pytest.approx(4.302653 / np.sqrt(3), rel=1e-6) and low < mean
    assert page.mean_interval([1.0], 0.95)[3] == 1 and np.isnan(page.mean_interval([1.0], 0.95)[1])
    assert page.mean_interval([], 0.95)[3] == 0
