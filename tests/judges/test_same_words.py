"""Every path says the same of a clip: score, compare, rank, label, the Python API and the service, in the same words."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

import urgentmos
from urgentmos.api import rank_with_evidence
from urgentmos.cli import main
from urgentmos.clips.inputs import read_systems
from urgentmos.common.clip_warnings import KINDS, Flagged, grouped, kind_of

RATE = 16_000


def encoded(wave: np.ndarray, ending: str, rate: int = RATE) -> bytes:
    kind = {"wav": ("WAV", "PCM_16"), "float": ("WAV", "FLOAT"), "ogg": ("OGG", "VORBIS")}[ending]
    out = io.BytesIO()
    soundfile.write(out, wave, rate, format=kind[0], subtype=kind[1])
    return out.getvalue()


def troubles(voice: np.ndarray) -> dict[str, tuple[str, bytes]]:
    """Content -> (kind of trouble, the bytes of a recording that has it)."""
    low = np.convolve(np.repeat(voice[::4], 4), np.ones(16) / 16, mode="same")[: len(voice)]
    return {
        "silent": ("silence", encoded(0 * voice, "wav")),
        "constant": ("silence", encoded(0 * voice + 0.3, "wav")),
        "inverted": ("channels cancel", encoded(np.stack([voice, -voice], 1), "wav")),
        "cut": ("cut off", encoded(voice, "wav")[: len(voice) * 2 - 4000]),
        "cut_ogg": ("cut off", encoded(np.tile(voice, 3), "ogg")[:-3000]),
        "loud": ("level", encoded(voice * 200, "float")),
        "clipped": ("clipping", encoded(np.clip(voice * 20, -0.5, 0.5), "wav")),
        "narrow": ("band-limited", encoded(_without_treble(low), "float")),
        "short": ("short", encoded(voice[: RATE // 5], "wav")),
        "sound": ("", encoded(voice, "wav")),
    }


def _without_treble(wave: np.ndarray) -> np.ndarray:
    spectrum = np.fft.rfft(wave)
    spectrum[len(spectrum) // 4 :] = 0
    return np.fft.irfft(spectrum, len(wave))


@pytest.fixture
def kinds(tmp_path: Path, make_voice, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """In the current folder: systems/well and systems/ill with one trouble per content; {content: kind of trouble}."""
    monkeypatch.chdir(tmp_path)
    voice = make_voice(3, 2.0)
    made = troubles(voice)
    for system in ("well", "ill"):
        Path("systems", system).mkdir(parents=True)
    for content, (_, data) in made.items():
        ending = "ogg" if content == "cut_ogg" else "wav"
        Path("systems/well", f"{content}.{ending}").write_bytes(encoded(voice, ending))
        Path("systems/ill", f"{content}.{ending}").write_bytes(data)
    return {content: kind for content, (kind, _) in made.items()}


def run(*args: str) -> tuple[list[dict], str]:
    """(rows on standard output, standard error)."""
    result = CliRunner().invoke(main, [*args])
    assert result.exit_code in (0, 1), result.output
    return [json.loads(line) for line in result.stdout.splitlines()], result.stderr


def content_of(path: str) -> str:
    return Path(path).stem


def test_every_path_says_the_same_of_every_trouble(kinds: dict[str, str], tiny_model: Path) -> None:
    model = ["-m", str(tiny_model)]
    rows, stderr = run("score", "systems/ill", *model)
    words = {content_of(row["audio_path"]): row["warnings"] for row in rows}
    errors = {content_of(row["audio_path"]): row["error"] for row in rows}
    for content, kind in kinds.items():  # the trouble is there, and it is named
        assert (kind in map(kind_of, words[content])) if kind else words[content] == [], (
            content,
            words[content],
            errors[content],
        )
    sentences = grouped(Flagged("ill", w) for w in words.values())
    assert {kind_of(w) for ws in words.values() for w in ws} == {*kinds.values()} - {""} <= {*KINDS}

    # score on standard error, grouped
    assert all(f"Warning: {s}" in stderr.splitlines() for s in grouped(Flagged(None, w) for w in words.values()))
    # compare
    rows, stderr = run("compare", "systems/well", "systems/ill", *model)
    assert {content_of(row["b"]): row["warnings"] for row in rows} == {c: [f"b: {w}" for w in ws] for c, ws in words.items()}
    assert all(f"Warning: systems/{s}" in stderr.splitlines() for s in sentences)
    # rank: rows, standard error, JSON
    judge = urgentmos.load(tiny_model)
    ranking, evidence = rank_with_evidence(read_systems("systems"), judge, "binary")
    assert {r.clip.reference_id: r.warnings for r in evidence.rows if r.clip.system_id == "ill"} == words
    assert set(sentences) <= set(ranking.to_dict()["warnings"])
    result = CliRunner().invoke(main, ["rank", "systems", *model, "-o", "r.json"])
    assert all(f"Warning: {s}" in result.stderr.splitlines() for s in sentences)
    # the Python API
    paths = {content_of(str(path)): str(path) for path in Path("systems/ill").iterdir()}
    assert {content: judge.score(path).warnings for content, path in paths.items()} == words
    # the ranking of what score wrote
    CliRunner().invoke(main, ["score", "systems", *model, "-o", "s.jsonl"])
    assert {r.uid: r.warnings for r in judge.score_all("s.jsonl")} == {
        **{f"well/{content}": [] for content in words},
        **{f"ill/{content}": w for content, w in words.items()},
    }


def test_label_and_the_service_say_it_too(kinds: dict[str, str], tiny_model: Path) -> None:
    pytest.importorskip("httpx")
    from starlette.testclient import TestClient

    from urgentmos.server import create_app

    model = ["-m", str(tiny_model)]
    words = {content_of(row["audio_path"]): row["warnings"] for row in run("score", "systems/ill", *model)[0]}
    rows, _ = run("label", "systems/ill", "--metrics", "lsd", "--reference-dir", "systems/well", "--jobs", "1")
    labelled = {content_of(row["audio_path"]): row["warnings"] for row in rows}
    about_clips = {c: [w for w in ws if "reference" not in w and not w.startswith("unequal")] for c, ws in labelled.items()}
    assert about_clips == words
    files = sorted(Path("systems/ill").iterdir())
    with TestClient(create_app(urgentmos.load(tiny_model))) as client:
        sent = [("files", (path.name, path.read_bytes())) for path in files]
        answer = client.post("/v1/score", files=sent).json()
        assert {content_of(row["audio_path"]): row["warnings"] for row in answer["clips"]} == words
        well = Path("systems/well/silent.wav")
        pair = [("a", (well.name, well.read_bytes())), ("b", ("silent.wav", Path("systems/ill/silent.wav").read_bytes()))]
        assert client.post("/v1/compare", files=pair).json()["warnings"] == [f"b: {w}" for w in words["silent"]]
        both = [
            ("files", (f"{system}/{path.name}", Path("systems", system, path.name).read_bytes()))
            for system in ("well", "ill")
            for path in files
        ]
        ranking = client.post("/v1/rank", files=both).json()
        assert set(grouped(Flagged("ill", w) for w in words.values())) <= set(ranking["warnings"])
