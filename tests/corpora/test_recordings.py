"""Recordings are decoded once; equal samples have equal hashes; what cannot be heard says why."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from urgentmos.corpora import recordings as hearing
from urgentmos.corpora.recordings import digest_of, file_name, hear, hear_all


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, 4000).astype(np.float32)


def all_of(paths: list[str], output: Path, jobs: int = 1) -> dict[str, hearing.Heard]:
    return hear_all({path: path for path in paths}, output, jobs=jobs, show=lambda *_: None)


def test_a_container_does_not_change_the_hash_but_a_sample_or_the_rate_does(tmp_path: Path) -> None:
    wave = np.rint(noise() * 32767).astype(np.int16)  # what both containers hold exactly
    for name in ("a.wav", "a.flac"):
        soundfile.write(tmp_path / name, wave, 16_000)
    soundfile.write(tmp_path / "b.wav", wave, 8_000)
    other = wave.copy()
    other[2000] += 1
    soundfile.write(tmp_path / "c.wav", other, 16_000)
    a, same, b, c = (hear(str(tmp_path / name)) for name in ("a.wav", "a.flac", "b.wav", "c.wav"))
    assert a.digest == same.digest and len({a.digest, b.digest, c.digest}) == 3
    assert (a.seconds, b.seconds) == (0.25, 0.5)


def test_a_hash_tells_full_scale_from_its_negative() -> None:
    ones = np.ones(10, dtype=np.float32)
    assert digest_of(ones, 8000) != digest_of(-ones, 8000)
    assert digest_of(ones, 8000) == digest_of(1.5 * ones, 8000)


def test_a_second_run_decodes_only_what_is_new_or_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [str(tmp_path / f"{i}.wav") for i in range(4)]
    for i, path in enumerate(paths):
        soundfile.write(path, noise(i), 16_000)
    heard: list[str] = []
    real = hearing.hear
    monkeypatch.setattr(hearing, "hear", lambda path: heard.append(path) or real(path))
    first = all_of(paths[:3], tmp_path)
    (tmp_path / ".heard.jsonl").open("a").write('{"stamp": "cut sho')
    soundfile.write(paths[1], noise(9)[:3000], 16_000)
    heard.clear()
    second = all_of(paths, tmp_path)
    assert sorted(heard) == [paths[1], paths[3]]
    assert second[paths[0]] == first[paths[0]] and second[paths[1]].digest != first[paths[1]].digest
    heard.clear()
    assert all_of(paths, tmp_path) == second and not heard


def test_faults_have_a_reason_and_are_heard_again(tmp_path: Path) -> None:
    bad, empty, gone = (str(tmp_path / name) for name in ("bad.wav", "empty.wav", "gone.wav"))
    Path(bad).write_bytes(b"RIFFxxxx")
    Path(empty).touch()
    found = all_of([bad, empty, gone], tmp_path, jobs=2)
    assert "cannot be decoded" in found[bad].error and "0 bytes" in found[empty].error and "not exist" in found[gone].error
    soundfile.write(bad, noise(), 16_000)
    assert all_of([bad], tmp_path)[bad].error == ""


@given(st.text(min_size=1, max_size=200), st.text(min_size=1, max_size=200))
def test_file_names_are_safe_and_differ(one: str, other: str) -> None:
    name = file_name(one)
    assert os.path.basename(name) == name and name not in (".", "..") and len(name.encode()) < 140
    assert (file_name(other) == name) == (one == other)
