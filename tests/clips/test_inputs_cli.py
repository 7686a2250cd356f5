"""What the commands say of what was given: archives, unused files, names in any form, reference signals that are not there."""

import json
import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

import urgentmos as package
from urgentmos.cli import main

RATE = 16_000
LATIN1 = os.fsdecode(b"caf\xe9")
LSD = ("-m", "lsd", "--reference-dir", "clean")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_voice, add_noise) -> Path:
    """clean/ and systems/{good,bad}/ with three contents, one of them not UTF-8, as the current directory."""
    for number, content in enumerate(("a", "b", LATIN1)):
        voice = make_voice(number, 0.6)
        for folder, wave in (("clean", voice), ("systems/good", add_noise(voice, 40)), ("systems/bad", add_noise(voice, 0))):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            buffer = (tmp_path / folder / f"{content}.wav").open("wb")
            with buffer:
                soundfile.write(buffer, wave, RATE, format="WAV")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    return tmp_path


def urgentmos(*args: object) -> Result:
    result = CliRunner().invoke(main, [str(arg) for arg in args], prog_name="urgentmos")
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def without_latin1() -> None:
    """For zipfile, which cannot write such names."""
    for folder in ("clean", "systems/good", "systems/bad"):
        os.remove(f"{folder}/{LATIN1}.wav")


def values(file: str) -> dict[str, float]:
    return {row["uid"]: row["metrics"]["lsd"] for row in map(json.loads, Path(file).read_text().splitlines())}


# ---- names that are not UTF-8


@pytest.mark.parametrize("ending", ["jsonl", "csv", "json", "parquet"])
def test_a_name_that_is_not_utf_8_is_scored_like_any_other_and_found_again(ending, place):
    assert urgentmos("label", "systems", "--metrics", "lsd", "--reference-dir", "clean", "-o", f"o.{ending}").exit_code == 0
    assert urgentmos("rank", f"o.{ending}", "-m", "estoi", "--reference-dir", "clean", "-o", "r.json").exit_code == 0
    assert json.loads(Path("r.json").read_bytes())["n_contents"] == 3, "measured again, from the audio"
    assert urgentmos("rank", "systems", *LSD, "-o", "r2.json").exit_code == 0
    assert json.loads(Path("r2.json").read_bytes())["n_contents"] == 3


def test_its_score_is_that_of_the_same_file_under_another_name(place):
    shutil.copy(f"systems/bad/{LATIN1}.wav", "systems/bad/c.wav")
    shutil.copy(f"clean/{LATIN1}.wav", "clean/c.wav")
    urgentmos("label", "systems/bad", "--metrics", "lsd", "--reference-dir", "clean", "-o", "o.jsonl")
    found = values("o.jsonl")
    assert found[LATIN1] == found["c"] > 0


def test_a_page_with_such_a_name_is_written(place):
    pytest.importorskip("jinja2")
    pytest.importorskip("vl_convert")
    for audio in ("embed", "link"):
        result = urgentmos("score", "systems", *LSD, "-o", "o.jsonl", "--report", "o.html", "--report-audio", audio)
        assert result.exit_code == 0 and len(values("o.jsonl")) == 6 and "caf" in Path("o.html").read_text()
        result = urgentmos("rank", "systems", *LSD, "-o", "r.json", "--report", "r.html", "--report-audio", audio)
        assert result.exit_code == 0 and "caf" in Path("r.html").read_text()


def test_worker_processes_read_it_too(place):
    for k in range(6):
        shutil.copy("clean/a.wav", f"clean/x{k}{LATIN1}.wav")
    result = urgentmos("label", "clean", "--metrics", "lsd", "--reference-dir", "clean", "--jobs", "2", "-o", "o.jsonl")
    assert result.exit_code == 0 and len(values("o.jsonl")) == 9


# ---- NFC and NFD


def test_both_unicode_forms_of_a_name_are_one_name(place):
    nfc, nfd = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    for folder, name in (("systems/good", nfc), ("systems/bad", nfd), ("clean", nfc)):
        shutil.copy("clean/a.wav", f"{folder}/{name}.wav")
    assert urgentmos("rank", "systems", *LSD, "-o", "r.json").exit_code == 0
    assert json.loads(Path("r.json").read_bytes())["n_contents"] == 4
    result = urgentmos("compare", "systems/good", "systems/bad", *LSD, "-o", "c.json")
    assert result.exit_code == 0 and json.loads(Path("c.json").read_bytes())["summary"]["n_contents"] == 4
    rows = [f"systems/{s}/{nfc}.wav,{s},{form},clean/{nfd}.wav" for s, form in (("good", nfc), ("bad", nfd))]
    Path("m.csv").write_text("\n".join(["audio_path,system_id,reference_id,reference_path", *rows]))
    assert urgentmos("rank", "m.csv", "-m", "lsd", "-o", "r.json").exit_code == 0
    assert json.loads(Path("r.json").read_bytes())["n_contents"] == 1
    shutil.copy("clean/a.wav", f"systems/bad/{nfc}.wav")
    for command in (("rank", "systems"), ("compare", "systems/good", "systems/bad")):
        result = urgentmos(*command, *LSD)
        assert result.exit_code == 2 and "has two clips of" in result.stderr


def test_names_that_differ_in_case_do_not_match_and_are_named(place):
    os.rename("systems/bad/b.wav", "systems/bad/B.wav")
    result = urgentmos("compare", "systems/good", "systems/bad", *LSD)
    assert "(the nearest name in systems/bad: B)" in result.stderr
    result = urgentmos("rank", "systems", *LSD, "-o", "r.json")
    warnings = json.loads(Path("r.json").read_bytes())["warnings"]
    assert any("differ in case are different contents: B (bad) and b (good)" in warning for warning in warnings)


# ---- the same stem twice


def test_a_stem_twice_is_refused_by_compare_and_rank_and_named_by_score(place):
    without_latin1()
    shutil.copy("systems/bad/a.wav", "systems/bad/a.flac")
    for source in ("systems/bad", "bad.zip", "bad.tar.gz"):
        if source == "bad.zip":
            shutil.make_archive("bad", "zip", "systems/bad")
            shutil.make_archive("bad", "gztar", "systems/bad")
        result = urgentmos("compare", "systems/good", source, *LSD)
        assert result.exit_code == 2 and f"{source} has two clips of a. Keep one of them: {source}" in result.stderr
    result = urgentmos("rank", "systems", *LSD)
    assert result.exit_code == 2 and "system bad has two clips of a. Keep one of them: systems/bad/a.flac or" in result.stderr
    result = urgentmos("score", "systems", *LSD, "-o", "o.jsonl")
    assert len(values("o.jsonl")) == 5
    assert (
        "bad has two clips of a (systems/bad/a.flac and systems/bad/a.wav). Keep one of them before you rank" in result.stderr
    )
    result = urgentmos("rank", "o.jsonl", "-m", "lsd")
    assert result.exit_code == 2 and "two clips of a. Keep one of them: " in result.stderr


# ---- reference signals


def test_a_reference_signal_that_is_not_found_says_what_was_looked_for_and_where(place):
    os.rename("clean/b.wav", "clean/bb.wav")
    result = urgentmos("label", "systems", "--metrics", "lsd", "--reference-dir", "clean", "-o", "o.jsonl")
    (note,) = [line for line in result.stderr.splitlines() if line.startswith("Note")]
    said = "clean has none called b; the nearest names there are bb. Rename the clean signal, or give a reference_path"
    assert note.startswith("Note: 2 of 6 clips have no reference signal; the first, systems/bad/b.wav: ") and said in note
    errors = [row["error"] for row in map(json.loads, Path("o.jsonl").read_text().splitlines())]
    assert [error for error in errors if error] == [f"lsd: no reference signal: {said} in a manifest"] * 2
    shutil.rmtree("clean")
    Path("clean").mkdir()
    shutil.copy("systems/good/a.wav", "clean/other.wav")
    result = urgentmos("rank", "systems", *LSD)
    assert result.exit_code == 2 and "clean has none called a" in result.stderr


def test_several_reference_signals_are_named(place):
    soundfile.write("clean/a.flac", np.zeros(RATE), RATE)
    result = urgentmos("label", "systems", "--metrics", "lsd", "--reference-dir", "clean", "-o", "o.jsonl")
    assert "clean: several signals for 1 of its names, such as a.flac, a.wav; the one of the clip's format" in result.stderr
    for system in ("good", "bad"):
        os.rename(f"systems/{system}/a.wav", f"systems/{system}/a.aiff")
    result = urgentmos("label", "systems", "--metrics", "lsd", "--reference-dir", "clean", "-o", "o.jsonl")
    assert result.exit_code == 1
    assert "clean has several for a (a.flac, a.wav). Keep one, or give a reference_path" in result.stderr


def test_reference_signals_may_lie_in_an_archive(place):
    urgentmos("label", "systems", "--metrics", "lsd", "--reference-dir", "clean", "-o", "files.jsonl")
    shutil.make_archive("clean", "gztar", "clean")
    urgentmos("label", "systems", "--metrics", "lsd", "--reference-dir", "clean.tar.gz", "-o", "archive.jsonl")
    assert values("files.jsonl") == values("archive.jsonl") and None not in values("files.jsonl").values()


def test_a_reference_path_that_leads_nowhere_says_relative_to_what(place):
    Path("m.csv").write_text("audio_path,reference_path\nsystems/bad/a.wav,clean/gone.wav\n")
    result = urgentmos("label", "m.csv", "--metrics", "lsd", "-o", "o.jsonl")
    assert result.exit_code == 1
    assert "clean/gone.wav does not exist (reference_path clean/gone.wav, relative to the manifest's folder)" in result.stderr


# ---- paths in a manifest


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("systems", "is a folder"),
        ("~/a.wav", "A ~ is expanded by a shell only"),
        ("$HOME/a.wav", "Variables such as $NAME are expanded by a shell only"),
        ("%DATA%/a.wav", "Variables such as $NAME"),
        ("systems\\bad\\a.wav", "It has backslashes, as on Windows. Write / between folders"),
        ("gone.wav", "does not exist. Check the path"),
    ],
)
def test_a_path_that_leads_nowhere_says_why(path, sentence, place):
    Path("m.jsonl").write_text(json.dumps({"audio_path": path, "uid": "u"}) + "\n")
    result = urgentmos("label", "m.jsonl", "--metrics", "dnsmos_ovrl" if path == "none" else "lsd", "-o", "o.jsonl")
    assert result.exit_code == 1 and sentence in result.stderr and path.rpartition("\\")[2] in result.stderr


def test_an_input_that_does_not_exist_names_the_nearest(place):
    result = urgentmos("score", "system")
    assert result.exit_code == 2 and "system: no such file or folder. The nearest name there: systems. Give" in result.stderr
    result = urgentmos("score", "~/xyz")
    assert result.exit_code == 2 and "A ~ is expanded by a shell only" in result.stderr


# ---- what is not used


def test_what_is_not_used_is_one_line_and_a_warning_of_a_ranking_if_it_is_audio(place):
    for name in ("bad/x.lab", "bad/y.lab", "good/wav.scp", "notes.txt"):
        Path("systems", name).write_text("")
    for command in (("score", "systems"), ("label", "systems", "--metrics", "lsd"), ("rank", "systems", "-o", "r.json")):
        result = urgentmos(*command, *(LSD if command[0] != "label" else LSD[2:]))
        notes = [line for line in result.stderr.splitlines() if line.startswith("Note: systems")]
        assert notes == [
            "Note: systems: not used: 2 .lab files, notes.txt; "
            "good/wav.scp (a table beside audio files is not read; give it as an input itself)."
        ]
    assert json.loads(Path("r.json").read_bytes())["warnings"][0].startswith("3 contents")
    Path("systems/bad/z.mp2").write_text("")
    shutil.copy("clean/a.wav", "systems/stray.wav")
    urgentmos("rank", "systems", *LSD, "-o", "r.json")
    warning = json.loads(Path("r.json").read_bytes())["warnings"][0]
    assert "bad/z.mp2 (sound of a kind that is not read" in warning and "stray.wav (audio beside" in warning
    assert "notes.txt" not in warning
    api = package.rank("systems", "lsd", reference_dir="clean")
    assert api.warnings[0] == warning


def test_contents_that_lie_at_different_depths_are_refused_with_the_names(place):
    Path("systems/deep/wavs").mkdir(parents=True)
    shutil.copy("clean/a.wav", "systems/deep/wavs/a.wav")
    result = urgentmos("rank", "systems", *LSD)
    assert result.exit_code == 2
    assert "deep has no content in common with the others: deep has wavs/a, bad has a." in result.stderr
    assert "as in deep/a and bad/a. Move or rename the files." in result.stderr


def test_a_gate_counts_what_an_archive_lacks(place):
    without_latin1()
    shutil.make_archive("old", "zip", "systems/good")
    os.remove("systems/bad/b.wav")
    shutil.make_archive("new", "gztar", "systems/bad")
    result = urgentmos("compare", "old.zip", "new.tar.gz", *LSD, "--fail-if-worse", "--confidence", "0.5")
    assert "old.zip#b.wav: new.tar.gz lacks its counterpart" in result.stderr and result.exit_code in (1, 3)


def test_clips_that_are_handed_over_match_in_both_unicode_forms(place):
    clips = [
        package.Clip(f"{system}{name}", f"systems/{system}/{path}.wav", system, name, reference_path=f"clean/{path}.wav")
        for system, form in (("good", "NFC"), ("bad", "NFD"))
        for path, name in (("a", "a"), ("b", unicodedata.normalize(form, "é")))
    ]
    assert package.rank(clips, "lsd").n_contents == 2
