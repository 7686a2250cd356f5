"""The committed example set keeps its promises, and the recipe that makes it computes what it says. No program is needed."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
SET = ROOT / "examples"
RECIPE = ROOT / "recipes" / "examples"


def load(file: str, name: str) -> ModuleType:
    """A module of the recipe, which is no package, under `name`."""
    spec = importlib.util.spec_from_file_location(name, RECIPE / file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


signals = load("example_signals.py", "example_signals")
recipe = load("make.py", "examples_make")

ROWS: list[dict[str, Any]] = [json.loads(line) for line in (SET / "manifest.jsonl").read_text().splitlines()]
SYSTEMS = sorted({row["system_id"] for row in ROWS})
CONTENTS = sorted({row["reference_id"] for row in ROWS})


def read(path: str) -> np.ndarray:
    wave, rate = soundfile.read(SET / path, dtype="float64")
    assert rate == 16_000 and wave.ndim == 1
    return wave


def power_db(wave: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(wave**2)))


# The committed set


def test_set_is_large_enough_to_rank_and_small_enough_to_ship():
    assert len(SYSTEMS) >= 5 and len(CONTENTS) >= 8
    assert sum(path.stat().st_size for path in SET.rglob("*") if path.is_file()) < 6e6


def test_every_system_and_the_clean_folder_hold_every_content_and_nothing_else():
    names = {f"{content}.flac" for content in CONTENTS}
    folders = [SET / "clean", *(SET / "systems").iterdir()]
    assert {folder.name for folder in folders} == {"clean", *SYSTEMS}
    assert all({path.name for path in folder.iterdir()} == names for folder in folders)


def test_folder_holds_what_the_recipe_writes():
    assert {path.relative_to(SET).as_posix() for path in SET.rglob("*") if path.is_file()} == recipe.expected_files()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["uid"])
def test_clip_is_decodable_and_as_long_as_its_clean_signal(row):
    wave, clean = read(row["audio_path"]), read(row["reference_path"])
    assert len(wave) == len(clean) == round(row["duration"] * 16_000)
    assert np.ptp(wave) > 0 and np.abs(wave).max() < 1


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["uid"])
def test_clip_is_aligned_with_its_clean_signal(row):
    wave, clean = read(row["audio_path"]), read(row["reference_path"])
    if recipe.SYSTEMS[row["system_id"]].parametric:  # no common waveform: only the spectrogram can tell, less exactly
        assert abs(signals.spectral_delay(clean, wave)) <= 0.005 * 16_000
    else:
        assert abs(signals.delay(clean, wave)) <= 0.002 * 16_000


@pytest.mark.parametrize("row", [row for row in ROWS if row["system_id"] == "noisy"], ids=lambda row: row["uid"])
def test_unprocessed_clip_has_the_snr_that_the_manifest_names(row):
    noisy, clean = read(row["audio_path"]), read(row["reference_path"])
    assert power_db(clean) - power_db(noisy - clean) == pytest.approx(row["meta"]["snr_db"], abs=0.05)


def test_no_two_systems_gave_the_same_signal():
    for content in CONTENTS:
        waves = [read(f"systems/{system}/{content}.flac").tobytes() for system in SYSTEMS]
        assert len(set(waves)) == len(SYSTEMS)


def test_clips_of_one_content_say_the_same_about_it():
    for content in CONTENTS:
        metas = [row["meta"] for row in ROWS if row["reference_id"] == content]
        assert len({(meta["text"], meta["voice"], meta["noise"], meta["snr_db"]) for meta in metas}) == 1


def test_committed_manifest_is_the_one_that_the_recipe_would_write():
    texts, n = recipe.sentences(), len(recipe.PLAN)
    lengths = [len(read(f"clean/{recipe.utterance(i)}.flac")) for i in range(n)]
    assert [recipe.manifest_row(name, i, texts[i], lengths[i]) for name in recipe.SYSTEMS for i in range(n)] == ROWS


def test_package_reads_the_manifest_and_the_folder_without_complaint():
    manifest = pytest.importorskip("urgentmos.clips.inputs")
    clips = list(manifest.read_clips(SET / "manifest.jsonl"))
    assert [clip.uid for clip in clips] == [row["uid"] for row in ROWS]
    assert not list(manifest.check(clips, systems=True))
    assert {clip.system_id for clip in manifest.read_systems(SET / "systems")} == set(SYSTEMS)


def test_readme_names_every_system_and_sentence():
    text = (SET / "README.md").read_text()
    assert all(f"| `{system}` |" in text for system in SYSTEMS)
    assert all(sentence in text for sentence in recipe.sentences())
    measured = (RECIPE / "README.md").read_text()
    assert all(f"| `{system}` |" in measured for system in SYSTEMS)


def test_plan_alternates_voices_noises_and_levels():
    assert len({row.voice for row in recipe.PLAN}) >= 4
    assert len({row.noise for row in recipe.PLAN}) >= 3
    assert all(0 <= row.snr_db <= 10 and row.voice in recipe.VOICES for row in recipe.PLAN)


# The recipe's arithmetic


@given(seed=st.integers(0, 2**32 - 1), samples=st.integers(400, 4000), snr_db=st.floats(-20, 40), lead=st.integers(0, 500))
@settings(max_examples=50)
def test_mixture_has_the_snr_asked_for_and_is_only_scaled(seed, samples, snr_db, lead):
    rng = np.random.default_rng(seed)
    clean, noise = rng.standard_normal(samples), rng.standard_normal(lead + samples)
    mixed = signals.mix(clean, noise, snr_db, lead)
    assert power_db(mixed.speech[lead:]) - power_db(mixed.noise[lead:]) == pytest.approx(snr_db, abs=1e-6)
    assert not mixed.speech[:lead].any() and np.array_equal(mixed.speech[lead:], clean)
    assert np.allclose(mixed.noise / noise, mixed.noise[0] / noise[0])
    assert np.array_equal(mixed.noisy, mixed.speech + mixed.noise)


def test_mixture_refuses_noise_of_another_length():
    with pytest.raises(ValueError, match="10 samples"):
        signals.mix(np.ones(5), np.ones(10), 0.0, lead=4)


@given(seed=st.integers(0, 2**32 - 1), late=st.integers(-1900, 1900), snr_db=st.floats(0, 30))
@settings(max_examples=40)
def test_alignment_recovers_a_known_delay(seed, late, snr_db):
    rng = np.random.default_rng(seed)
    source = rng.standard_normal(8000)
    output = signals.shift(source, -late, 9000) + 10 ** (-snr_db / 20) * rng.standard_normal(9000)
    assert signals.delay(source, output) == late


@given(late=st.integers(-3000, 3000), samples=st.integers(1, 4000))
def test_shift_moves_and_fits_the_length(late, samples):
    moved = signals.shift(np.arange(1.0, 1001.0), late, samples)
    expected = np.arange(samples) + late + 1.0
    assert np.array_equal(moved, np.where((expected >= 1) & (expected <= 1000), expected, 0))


@pytest.mark.parametrize("late_ms", [-60, 0, 20, 100])
def test_spectral_alignment_needs_no_common_waveform(make_voice, late_ms):
    def burst(seed: int) -> np.ndarray:  # the same loudness over time, on another carrier
        return envelope * np.random.default_rng(seed).standard_normal(32_000)

    envelope = np.abs(make_voice(3, 2.0)) ** 0.5
    output = signals.shift(burst(2), -late_ms * 16, 34_000)
    assert abs(signals.spectral_delay(burst(1), output) - late_ms * 16) <= 2 * 16


def test_a_delay_that_wanders_is_refused():
    assert recipe.common_delay("x", [400, 401, 399], tolerance=16) == 400
    with pytest.raises(recipe.RecipeError, match="no constant delay"):
        recipe.common_delay("x", [400, 401, 420], tolerance=16)


@pytest.mark.parametrize("kind", ["pink", "hum", "traffic", "babble"])
def test_noise_follows_its_seed(kind, make_voice):
    def noise(seed: int) -> np.ndarray:
        return signals.make_noise(kind, 8000, np.random.default_rng(seed), [make_voice(1, 0.3), make_voice(2, 0.4)])

    assert noise(1).shape == (8000,) and np.isfinite(noise(1)).all() and noise(1).std() > 0
    assert np.array_equal(noise(1), noise(1)) and not np.array_equal(noise(1), noise(2))


def test_unknown_noise_is_refused():
    with pytest.raises(ValueError, match="rain"):
        signals.make_noise("rain", 10, np.random.default_rng(0), [])


@pytest.mark.parametrize(("exponent", "fall_db"), [(0, 0), (1, 3), (2, 6)])
def test_shaped_noise_falls_by_three_db_an_octave_and_exponent(exponent, fall_db):
    power = np.abs(np.fft.rfft(signals.shaped(160_000, np.random.default_rng(0), exponent))) ** 2  # bins of 0.1 Hz
    octaves = [10 * np.log10(power[low * 10 : low * 20].mean()) for low in (250, 500, 1000, 2000)]
    assert np.diff(octaves) == pytest.approx([-fall_db] * 3, abs=0.3)


def test_trim_keeps_the_margin_and_set_level_the_shape(make_voice):
    voice = np.full(8000, 0.1)
    trimmed = signals.trim(np.concatenate([np.zeros(5000), voice, np.zeros(9000)]))
    spoken = np.flatnonzero(trimmed)
    assert abs(spoken[0] - signals.MARGIN) < 160 and abs(len(trimmed) - spoken[-1] - signals.MARGIN) <= 160
    assert power_db(signals.set_level(make_voice(0, 1.0), -20)) == pytest.approx(-20, abs=1e-4)


def test_wiener_filter_removes_noise_and_spares_speech(make_voice):
    clean = make_voice(5, 2.0).astype(np.float64)
    noise = signals.make_noise("pink", signals.LEAD + len(clean), np.random.default_rng(0), [])
    mixed = signals.mix(clean, noise, 5.0)
    filtered = signals.wiener(mixed.noisy)[signals.LEAD :]
    assert power_db(clean) - power_db(filtered - clean) > 8
    spared = signals.wiener(signals.mix(clean, noise, 60.0).noisy)[signals.LEAD :]
    assert power_db(clean) - power_db(spared - clean) > 30


# The recipe's manners


def test_missing_programs_are_named_with_the_line_that_installs_them(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert recipe.main(["--out", str(tmp_path / "set")]) == 2
    said = capsys.readouterr()
    assert said.out == "" and "apt-get install" in said.err
    assert all(package in said.err for package in {*recipe.NEEDS.values(), *recipe.NEEDS_FESTIVAL.values()})
    assert not (tmp_path / "set").exists()


def test_install_lines_name_what_is_missing_and_no_more():
    assert recipe.how_to_install([], []) == ""
    assert "pip" not in recipe.how_to_install(["sox"], []) and "sox" in recipe.how_to_install(["sox"], [])
    assert "apt-get" not in recipe.how_to_install([], ["pyrnnoise"])


def test_folder_with_files_of_others_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(recipe.RecipeError, match=r"thesis\.txt"):
        recipe.make(tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["thesis.txt"]


def test_signal_that_would_clip_is_refused(tmp_path):
    with pytest.raises(recipe.RecipeError, match="clip"):
        recipe.save(tmp_path / "loud.flac", np.array([0.0, 1.5]))


def test_recipe_gives_the_committed_bytes_where_its_programs_are_the_same(tmp_path):
    if any(recipe.missing()):
        pytest.skip("the programs of the recipe are not installed")
    if recipe.versions() != json.loads((SET / "versions.json").read_text()):
        pytest.skip("the programs of the recipe have other versions than those that made the set")
    recipe.make(tmp_path)
    for name in recipe.expected_files():
        assert (tmp_path / name).read_bytes() == (SET / name).read_bytes(), name
