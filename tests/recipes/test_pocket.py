"""The recipe of the shipped model: its parts one by one, and all of it at toy size."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes" / "pocket"
RATE = 16_000


def load(name: str) -> ModuleType:
    """A module of the recipe, which is no package."""
    spec = importlib.util.spec_from_file_location(f"pocket_{name}", RECIPE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[f"pocket_{name}"] = module
    spec.loader.exec_module(module)
    return module


sys.path.append(str(RECIPE))  # its scripts import each other
simulate, targets, measured, jsonl, card = (load(name) for name in ("simulate", "targets", "measured", "jsonl", "card"))
SPEECH = {
    ("read", f"speaker{k}"): [(f"/speech/speaker{k}/{n}.wav", 1.5 + (7 * k + 3 * n) % 4) for n in range(40)] for k in range(12)
}


# ---- contents


def test_recordings_are_used_once_and_test_speakers_apart():
    found = list(simulate.contents(SPEECH, 0))
    files = [file for content in found for file in content.files]
    assert len(files) == len(set(files)) > 400
    speakers = [{c.speaker for c in found if c.test is test} for test in (True, False)]
    assert all(speakers) and not speakers[0] & speakers[1]
    assert [c for c in found if c.speed != 1] == []


def test_other_voices_are_training_recordings_at_other_speeds():
    first = list(simulate.contents(SPEECH, 0))
    kept = {file for content in first if content.test for file in content.files}
    again = list(simulate.other_voices(SPEECH, first, 1, 0))
    assert len(again) > 100 and not any(content.test for content in again)
    for content in again:
        assert kept.isdisjoint(content.files)
        assert any(low <= content.speed <= high for low, high in simulate.SPEEDS)
        length = {file: seconds for files in SPEECH.values() for file, seconds in files}
        joined = sum(length[file] / content.speed for file in content.files)
        assert joined + simulate.GAP * (len(content.files) - 1) >= content.seconds
    names = [content.name for content in [*first, *again, *simulate.other_voices(SPEECH, first, 2, 0)]]
    assert len(names) == len(set(names))
    assert again == list(simulate.other_voices(SPEECH, first, 1, 0))


@pytest.mark.parametrize("speed", [0.9, 1.0, 1.15])
def test_speech_at_another_speed_is_higher_and_shorter(tmp_path, speed):
    time = np.arange(6 * 24_000) / 24_000
    soundfile.write(tmp_path / "tone.wav", 0.3 * np.sin(2 * np.pi * 500 * time), 24_000)
    content = simulate.Content("c", "read", "s", (str(tmp_path / "tone.wav"),), 5.0, False, speed)
    wave = simulate.clean_speech(content)
    assert len(wave) == 5 * RATE
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    assert spectrum.argmax() * RATE / len(wave) == pytest.approx(500 * speed, abs=0.5)


def test_coloured_speech_has_the_drawn_gains_and_is_as_loud_as_before(tmp_path):
    time = np.arange(6 * RATE) / RATE
    tones = (125, 1000, 4000)
    soundfile.write(tmp_path / "tones.wav", sum(0.02 * np.sin(2 * np.pi * f * time) for f in tones), RATE, subtype="FLOAT")
    plain = simulate.Content("c", "read", "s", (str(tmp_path / "tones.wav"),), 5.0, False)
    content = simulate.coloured(plain, 0)
    assert content == simulate.coloured(plain, 0) and content.name != plain.name
    assert len(content.colour) == len(simulate.COLOUR_HZ) and content.colour[simulate.COLOUR_HZ.index(1000)] == 0
    waves = [simulate.clean_speech(one) for one in (plain, content)]
    spectra = [np.abs(np.fft.rfft(wave * np.hanning(len(wave)))) for wave in waves]
    levels = [20 * np.log10([spectrum[f * len(waves[0]) // RATE] for f in tones]) for spectrum in spectra]
    gains = [content.colour[simulate.COLOUR_HZ.index(f)] for f in tones]
    assert np.diff(levels[1] - levels[0]) == pytest.approx(np.diff(gains), abs=0.1)
    assert np.std(waves[1]) == pytest.approx(np.std(waves[0]), rel=0.01)


@pytest.mark.parametrize("wave", [np.zeros(800, np.float32), np.sign(np.sin(np.arange(800.0))).astype(np.float32)])
def test_no_colour_makes_silence_heard_or_full_scale_louder(wave):
    out = simulate.filtered(wave, (0, 0, 0, 0, 0, 9, 9, 9))
    assert out.dtype == np.float32 and len(out) == len(wave) and np.abs(out).max() <= min(np.abs(wave).max(), 0.9501)


# ---- targets


@given(st.lists(st.floats(1, 5), min_size=2, max_size=7), st.randoms(use_true_random=False))
def test_known_orders_hold_and_what_held_stays(values, random):
    places = list(range(len(values)))
    random.shuffle(places)
    chain = [(places[k], places[k + 1]) for k in range(len(places) - 1)]
    moved = targets.ordered(np.array(values), chain)
    assert all(moved[i] >= moved[j] - 2e-3 for i, j in chain)
    assert min(values) - 1e-9 <= moved.min() and moved.max() <= max(values) + 1e-9
    if all(values[i] >= values[j] for i, j in chain):
        assert np.array_equal(moved, values)


def row(content: str, *recordings: str, speed: float = 1.0) -> dict:
    return {"reference_id": content, "meta": {"recordings": list(recordings), "speed": speed}}


def test_no_recording_is_in_training_and_in_validation():
    rows = [row(f"c{k}", f"f{k}") for k in range(100)]
    rows += [row(f"v{k}", f"f{k}", f"f{k + 1}", speed=1.1) for k in range(99)]
    training, validation = targets.divided(rows, 0.2)
    recordings = [{file for r in side for file in r["meta"]["recordings"]} for side in (training, validation)]
    assert not recordings[0] & recordings[1]
    assert 10 <= len(validation) <= 30 and all(r["meta"]["speed"] == 1 for r in validation)
    left_out = len(rows) - len(training) - len(validation)
    assert len(validation) <= left_out <= 2 * len(validation)


def test_a_clip_that_was_labelled_twice_is_one_clip(tmp_path):
    def labelled(name: str, **metrics: float | None) -> dict:
        return {"audio_path": name, "metrics": metrics, "meta": {}}

    jsonl.write_rows(tmp_path / "known.jsonl", [labelled("a.wav", pesq=2.0, estoi=None), labelled("b.wav", pesq=3.0)])
    jsonl.write_rows(tmp_path / "rest.jsonl", [labelled("a.wav", pesq=1.0, estoi=0.5), labelled("c.wav", pesq=None)])
    rows = targets.read([tmp_path / "known.jsonl", tmp_path / "rest.jsonl"])
    assert [Path(r["audio_path"]).name for r in rows] == ["a.wav", "b.wav"]
    assert [r["metrics"] for r in rows] == [{"pesq": 2.0, "estoi": 0.5}, {"pesq": 3.0}]


def test_the_consensus_is_a_line_through_opinions():
    rng = np.random.default_rng(0)
    names = list(targets.WEIGHTS)
    rows = [{"metrics": dict(zip(names, rng.uniform(1, 5, len(names)), strict=True)), "meta": {}} for _ in range(50)]
    raw = targets.Consensus(targets.WEIGHTS, rows, []).raw(rows)
    for one, value in zip(rows, raw, strict=True):
        one["meta"]["human"] = {"mos_overall": 0.4 * value + 3}
    consensus = targets.Consensus(targets.WEIGHTS, rows, rows)
    assert (consensus.slope, consensus.offset) == pytest.approx((0.4, 3.0))
    known = targets.Consensus(targets.WEIGHTS, rows, [])
    assert (known.slope, known.offset) == (targets.SLOPE, targets.OFFSET)
    lacking = [{**rows[0], "metrics": {**rows[0]["metrics"], "distill_mos": None}}]
    assert np.isnan(consensus.mos(lacking)).all()


def test_where_noise_drowns_speech_plcmos_has_no_vote():
    rng = np.random.default_rng(1)
    names = [*targets.WEIGHTS, targets.BACKGROUND]
    rows = [{"metrics": dict(zip(names, rng.uniform(1, 5, len(names)), strict=True)), "meta": {}} for _ in range(60)]
    consensus = targets.Consensus(targets.WEIGHTS, rows, [])

    def gain(background: float | None) -> float:
        """What a point of PLCMOS more is worth."""
        low, high = ({**rows[0]["metrics"], "plcmos": p, targets.BACKGROUND: background} for p in (2.0, 3.0))
        return float(np.subtract(*consensus.raw([{"metrics": high, "meta": {}}, {"metrics": low, "meta": {}}])))

    assert gain(1.2) == 0 < gain(2.75) < gain(3.5) == gain(4.4) == gain(None)


def test_pesq_has_no_vote_where_a_network_made_the_wave():
    rng = np.random.default_rng(1)
    rows = [{"metrics": {n: rng.uniform(1, 4) for n in targets.WEIGHTS}, "meta": {}} for _ in range(60)]
    consensus = targets.Consensus(targets.WEIGHTS, rows, [])
    for name, heard in (("latent_hold", False), ("opus", True)):
        metrics, chain = rows[0]["metrics"], [{"name": name}]
        both = [{"metrics": {**metrics, "pesq": p}, "meta": {"simulation": chain}} for p in (1.2, 4.2)]
        low, high = consensus.raw(both)
        assert (high > low) is np.bool_(heard) and (heard or high == low)


# ---- what was measured before


def test_labels_are_found_again_by_the_samples(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for k in range(5):
        soundfile.write(tmp_path / f"{k}.flac", 0.1 * rng.standard_normal(800), RATE)
        rows.append({"uid": str(k), "audio_path": f"{k}.flac", "reference_path": "0.flac", "metrics": {}, "meta": {}})
    labels = [{"pesq": 1.5 + k, "sdr": None if k == 1 else -3.25, "distill_mos": 3.0, "dnsmos_ovrl": 2.0} for k in range(4)]
    del labels[3]["distill_mos"]  # measuring was broken off
    labelled = [{**row, "metrics": found} for row, found in zip(rows, labels, strict=False)]
    jsonl.write_rows(tmp_path / "some.labels.jsonl", labelled)
    table = tmp_path / "measured.csv.gz"
    assert measured.save([tmp_path / "some.labels.jsonl"], table) == 4
    before = table.read_bytes()
    assert measured.save([tmp_path / "some.labels.jsonl"], table) == 4 and table.read_bytes() == before

    samples, _ = soundfile.read(tmp_path / "2.flac", dtype="int16")
    samples[100] += 1
    soundfile.write(tmp_path / "2.flac", samples, RATE)
    jsonl.write_rows(tmp_path / "all.jsonl", rows)
    measured.divide(tmp_path / "all.jsonl", measured.read_measured(table))
    known = jsonl.read_rows(tmp_path / "all.known.labels.jsonl")
    assert [row["metrics"] for row in known] == [labels[0], {key: labels[1][key] for key in labels[1] if key != "sdr"}]
    assert [row["uid"] for row in jsonl.read_rows(tmp_path / "all.rest.jsonl")] == ["2", "3", "4"]
    measured.divide(tmp_path / "all.jsonl", measured.read_measured(table), needed=())
    assert [row["uid"] for row in jsonl.read_rows(tmp_path / "all.rest.jsonl")] == ["2", "4"]  # any label is enough
    assert measured.read_measured(tmp_path / "none.csv.gz") == {}


# ---- the model that is shipped


def test_validation_chooses_and_weights_are_snapped(tmp_path, monkeypatch):
    safetensors = pytest.importorskip("safetensors.numpy")
    pytest.importorskip("onnx")
    monkeypatch.syspath_prepend(str(RECIPE))
    finish = load("finish")
    rng = np.random.default_rng(0)
    for name, score in (("one", 1.5), ("two", 1.7), ("three", 1.6)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"validation": {"score": score}}))
    two = tmp_path / "two"
    assert finish.chosen([tmp_path / "one", two, tmp_path / "three"]) == two
    state = {"w": rng.standard_normal((64, 96)).astype(np.float32), "b": rng.standard_normal(96).astype(np.float32)}
    safetensors.save_file(state, two / "model.safetensors", metadata={"of": "two"})
    version = finish.snap(two)
    after = safetensors.load_file(two / "model.safetensors")
    assert np.array_equal(after["b"], state["b"]) and not np.array_equal(after["w"], state["w"])
    assert max(len(np.unique(row)) for row in after["w"]) <= 255
    assert finish.snap(two) == version and len(version) == 12


def test_agreement_is_mean_correlation_plus_accuracy(monkeypatch):
    pytest.importorskip("onnx")
    monkeypatch.syspath_prepend(str(RECIPE))
    finish = load("finish")
    rising, unknown = np.arange(6.0), np.array([0, 1, np.nan, 3, 4, 5])
    delta = np.array([1.0, 0.2, -0.9, -0.1])  # a, tie, b, tie
    verdicts = np.eye(3)[[0, 1, 2, 0]]
    told = {"pesq": rising, "estoi": rising}
    assert finish.agreement(told, {"pesq": rising**2, "estoi": unknown}, verdicts, delta) == pytest.approx(1 + 0.75)
    assert finish.agreement(told, {"pesq": -rising, "estoi": unknown}, verdicts, delta) == pytest.approx(0 + 0.75)
    assert finish.agreement(told, {"pesq": rising, "estoi": 0 * rising}, verdicts, delta) == pytest.approx(0.5 + 0.75)


def test_the_mean_of_models_is_that_of_their_weights(tmp_path, monkeypatch):
    safetensors = pytest.importorskip("safetensors.numpy")
    pytest.importorskip("onnx")
    monkeypatch.syspath_prepend(str(RECIPE))
    finish = load("finish")
    for name, value, seen in (("one", 1.0, 10), ("two", 4.0, 13)):
        (tmp_path / name).mkdir()
        state = {"w": np.full((2, 3), value, np.float32), "batches": np.array(seen)}
        safetensors.save_file(state, tmp_path / name / "model.safetensors", metadata={"of": name})
        (tmp_path / name / "model.safetensors").chmod(0o644)
        (tmp_path / name / "config.json").write_text(name)
        (tmp_path / name / "model.onnx").write_text("of this one alone")
    finish.mean_of([tmp_path / "one", tmp_path / "two"], tmp_path / "both")
    mean = safetensors.load_file(tmp_path / "both" / "model.safetensors")
    assert np.array_equal(mean["w"], np.full((2, 3), 2.5, np.float32)) and mean["batches"] == 11
    assert (tmp_path / "both" / "config.json").read_text() == "two" and not (tmp_path / "both" / "model.onnx").exists()
    assert (tmp_path / "both" / "model.safetensors").stat().st_mode & 0o777 == 0o644, "who could read it still can"


@pytest.mark.parametrize(
    ("wanted", "got", "validated"), [(1.0, 1.0, True), (2.0, 2.0, True), (1.4, 1.5, False), (3.1, 3.0, False)]
)
def test_validation_chooses_a_model_or_a_mean_of_what_went_on_from_another(tmp_path, monkeypatch, wanted, got, validated):
    safetensors = pytest.importorskip("safetensors.numpy")
    pytest.importorskip("onnx")
    monkeypatch.syspath_prepend(str(RECIPE))
    finish = load("finish")
    for name, value in (("before", 6.0), ("one", 1.0), ("two", 2.0)):
        (tmp_path / name).mkdir()
        safetensors.save_file({"w": np.full(2, value, np.float32)}, tmp_path / name / "model.safetensors")
        (tmp_path / name / "config.json").write_text(json.dumps({"validation": {"score": 1.0}}))
    weight = lambda folder: float(safetensors.load_file(folder / "model.safetensors")["w"][0])  # noqa: E731
    monkeypatch.setattr(finish, "heard", lambda folder, rows: (weight(folder), None, None, None))
    monkeypatch.setattr(finish, "agreement", lambda told, *_: -abs(told - wanted))
    finish.preferred([tmp_path / "one", tmp_path / "two"], tmp_path / "before", [], tmp_path / "out")
    assert weight(tmp_path / "out") == got
    assert ("validation" in json.loads((tmp_path / "out" / "config.json").read_text())) is validated


@pytest.mark.parametrize(("mean", "left"), [(True, {"name"}), (False, {"name", "validation"})])
def test_what_an_earlier_finish_found_is_forgotten(mean, left):
    config = {"name": "pocket", "verdict_temperature": 1.7, "validation": {"score": 1.0}}
    assert load("finish").unfinished(config, mean).keys() == left


# ---- labels by models


# ---- all of it


def speech_noise_rooms(folder: Path) -> None:
    """The data that the recipe asks for, of what the project has itself; half of that, as labels take most of the time."""
    for path in sorted((ROOT / "examples" / "clean").glob("*.flac"))[::2]:
        wave, rate = soundfile.read(path)
        for k, speed in enumerate((1.0, 0.9, 1.12)):
            target = folder / "speech" / f"speaker{k}" / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(target, soxr.resample(wave, speed, 1.0), rate)
    for kind, speed in (("prompts", 0.8), ("never", 1.2)):
        target = folder / "other" / kind / "someone" / path.name
        target.parent.mkdir(parents=True)
        soundfile.write(target, soxr.resample(np.tile(wave, 5), speed, 1.0), rate)
    rng = np.random.default_rng(0)
    for k in range(3):
        for kind, wave in (
            ("noise", 0.1 * rng.standard_normal(4 * RATE)),
            ("rir", rng.standard_normal(RATE // 4) * np.exp(-np.arange(RATE // 4) / (200 + 200 * k))),
        ):
            (folder / kind).mkdir(exist_ok=True)
            soundfile.write(folder / kind / f"{k}.wav", wave / np.abs(wave).max() / 2, RATE)


@pytest.mark.parametrize("more", ["here/speech", "here/prompts there/prompts/"])
def test_folders_of_speech_that_share_a_name_are_refused(tmp_path, more):
    asked = ["bash", str(RECIPE / "run.sh"), str(tmp_path), str(tmp_path / "out")]
    asked += [option for folder in more.split() for option in ("--more", folder)]
    done = subprocess.run(asked, capture_output=True, text=True)
    assert done.returncode == 2 and Path(more.split()[0]).name in done.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_every_option_of_the_recipe_has_a_line_of_help_and_others_are_refused(tmp_path):
    command = ["bash", str(RECIPE / "run.sh")]
    text = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True).stdout
    script = (RECIPE / "run.sh").read_text()
    cases = script[script.index("while [") : script.index("\ndone")]
    assert set(re.findall(r"--[a-z-]+", cases)) - {"--"} == set(re.findall(r"^  (?:-h, )?(--[a-z-]+)", text, re.M))
    for wrong in (["--nonsense"], ["--hours"], [str(tmp_path)]):
        done = subprocess.run([*command, *wrong], capture_output=True, text=True)
        assert done.returncode == 2 and done.stderr.startswith("Error: ") and not list(tmp_path.iterdir())


def test_the_recipe_at_toy_size_ends_in_a_model_that_scores_without_torch(tmp_path):
    for package in ("lightning", "distillmos", "speechmos", "pesq", "pystoi", "onnx"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    speech_noise_rooms(tmp_path / "data")
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    other = tmp_path / "data" / "other"
    options = [
        "--hours",
        "1",
        "--clips",
        "2",
        "--voices",
        "1",
        "--enhancers",
        "1",
        "--coloured",
        "1",
        "--test-share",
        "0.5",
        "--valid-share",
        "0.4",
        "--level",
        "0.5",
        "--jobs",
        "1",
    ]
    options += ["--more", str(other / "prompts"), "--never", str(other / "never")]
    settings = ["steps=12", "valid_every=12", "warmup=2", "batch_seconds=20"]
    out = tmp_path / "out"
    command = ["bash", str(RECIPE / "run.sh"), str(tmp_path / "data"), str(out), *options]

    def run(*more: str) -> str:
        done = subprocess.run([*command, *more], env=env, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    run(*settings, "--seeds", "2", "encoder.width=32", "encoder.channels=[4,4,4,4]")
    found = json.loads((out / "evaluation.json").read_text())
    config = json.loads((out / "pocket" / "config.json").read_text())
    assert str(tmp_path) not in json.dumps(config) and config["training"]["config"]["data"] == ["taught.jsonl"]
    assert found["pairs"]["pairs"] >= 3 and found["Speech never heard"]["pairs"]["pairs"] >= 1
    assert "| speech never heard |" in card.tables(found)
    rows = jsonl.read_rows(out / "taught.jsonl")
    assert {r["meta"]["speech"] for r in rows} == {"speech", "prompts"}
    assert {r["meta"]["speech"] for r in jsonl.read_rows(out / "taught.never.jsonl")} == {"never"}
    assert any("-voice1-" in r["reference_id"] for r in rows)
    assert all(1 <= r["metrics"]["mos_overall"] <= 5 for r in rows)
    made_by = [step["name"] for r in jsonl.read_rows(out / "train.jsonl") for step in r["meta"]["simulation"]]
    assert made_by.count("mixture") == 1
    assert {r["reference_id"].endswith("-coloured") for r in jsonl.read_rows(out / "train.jsonl")} == {True, False}
    other = json.loads((out / "round1" / "seed1" / "model" / "config.json").read_text())
    assert other["validation"]["score"] <= config["validation"]["score"]
    check = "import sys, urgentmos; urgentmos.load(sys.argv[1]).score(sys.argv[2]); assert 'torch' not in sys.modules"
    clip = next((ROOT / "examples" / "clean").glob("*.flac"))
    subprocess.run([sys.executable, "-c", check, str(out / "pocket"), str(clip)], check=True, timeout=120)

    first = shutil.move(out / "pocket", tmp_path / "first")
    shutil.rmtree(out / "round1")
    taught = {r["uid"]: r["metrics"] for r in rows}
    labelled = [path for path in out.rglob("*.labels.jsonl") if ".known." not in path.name]
    measured.save(labelled, tmp_path / "measured.csv.gz")
    for path in labelled:
        path.unlink()
    told = run(
        *settings, "--from", str(first), "--rounds", "2", "--no-measure", "--measured", str(tmp_path / "measured.csv.gz")
    )
    means = [line for line in told.splitlines() if "the mean of" in line]
    assert [str(before) in line for before, line in zip((first, out / "round1" / "pocket"), means, strict=True)] == [True] * 2
    again = {r["uid"]: r["metrics"] for r in jsonl.read_rows(out / "taught.jsonl")}
    assert again.keys() == taught.keys()
    for uid, metrics in again.items():
        assert {n: v for n, v in metrics.items() if v is not None} == pytest.approx(
            {n: v for n, v in taught[uid].items() if v is not None}, rel=1e-4
        )
    for model, before in ((out / "round1" / "pocket", "first"), (out / "pocket", "pocket")):
        went_on = json.loads((model / "config.json").read_text())
        assert went_on["training"]["config"]["model"] == before and went_on["config"] == config["config"]
