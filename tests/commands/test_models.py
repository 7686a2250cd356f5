"""import, export and models, as a user and as a script meet them."""

import io
import json
import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from urgentmos.api import load
from urgentmos.cli import main
from urgentmos.clips.inputs import read_records
from urgentmos.judges.listing import known_models
from urgentmos.models.releases import RELEASES


def urgentmos(*args: object) -> Result:
    """The command, with a pipe for a stdout; a bug is raised, not swallowed."""
    result = CliRunner().invoke(main, [str(arg) for arg in args], prog_name="urgentmos")
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(result: Result) -> str:
    """The sentence of a command that was refused and wrote nothing."""
    assert (result.exit_code, result.stdout) == (2, "") and result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1, "one sentence, no traceback"
    return result.stderr.removeprefix("Error: ").rstrip("\n")


# ---- models


def test_a_pipe_gets_a_row_per_model() -> None:
    result = urgentmos("models")
    assert result.exit_code == 0 and result.stderr == ""
    assert [json.loads(line) for line in result.stdout.splitlines()] == known_models()


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv"])
def test_the_list_can_be_kept(ending: str, place: Path) -> None:
    assert urgentmos("models", "-o", f"models.{ending}").exit_code == 0
    assert [row["model"] for row in read_records(f"models.{ending}")] == [row["model"] for row in known_models()]
    assert [path.name for path in place.iterdir()] == [f"models.{ending}"]


def test_a_terminal_gets_all_facts_and_no_broken_words(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        main(["models"])
    lines = out.getvalue().splitlines()
    facts = [line for line in lines if line.startswith("  ")]
    assert not ended.value.code and max(map(len, facts)) <= 100 and max(len(line) for line in lines if line not in facts) <= 80
    for row in known_models():
        assert any(line.split()[:1] == [row["model"]] for line in lines), row["model"]
    for release in RELEASES.values():
        assert any(release.repo in line for line in lines) and any(release.file in line for line in lines)
        assert release.trained_on in " ".join(" ".join(lines).split())


def test_a_list_of_models_is_no_scp(place: Path) -> None:
    assert refused(urgentmos("models", "-o", "x.scp")).startswith("x.scp: a list of models does not fit into a .scp file.")


# ---- import


@pytest.fixture
def released(shared: Path) -> Path:
    path = shared / "parity" / "urgentpk_mel" / "mel.ckpt"
    if not path.is_file():
        pytest.skip("no released checkpoint beside the checkout")
    return path


def test_an_imported_checkpoint_is_a_model_folder_that_judges_alike(released: Path, place: Path, make_voice) -> None:
    import soundfile

    result = urgentmos("import", released, "-o", "pk")
    assert (result.exit_code, result.stdout) == (0, "") and result.stderr.startswith("pk: ")
    assert sorted(path.name for path in Path("pk").iterdir()) == ["MODEL_CARD.md", "config.json", "model.safetensors"]
    for i in (1, 2):
        soundfile.write(f"{i}.wav", make_voice(i, 0.5), 16_000)
    ours, theirs = (json.loads(urgentmos("compare", "1.wav", "2.wav", "-m", m).stdout) for m in ("pk", released))
    assert ours == theirs


def test_what_is_imported_once_can_be_imported_again(tiny_model: Path, place: Path) -> None:
    assert urgentmos("import", tiny_model, "-o", "copy").exit_code == 0
    assert urgentmos("import", "copy", "-o", "copy").exit_code == 0
    assert (place / "copy" / "model.safetensors").read_bytes() == (tiny_model / "model.safetensors").read_bytes()
    copied, own = (json.loads((folder / "config.json").read_text()) for folder in (place / "copy", tiny_model))
    assert copied == own


def test_a_release_is_not_fetched_unless_asked(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*_: object) -> Path:
        raise AssertionError("fetched")

    monkeypatch.setattr("urgentmos.models.folder._fetch", fetch)
    for name, row in RELEASES.items():
        said = refused(urgentmos("import", name, "-o", "x"))
        assert row.file in said and row.repo in said and ("--download" in said) == row.on_hub
    with pytest.raises(AssertionError, match="fetched"):
        urgentmos("import", "urgent-pk-mel", "-o", "x", "--download")
    assert not list(place.iterdir())


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "x.pt"), (b"no model\n", "not a torch file"), (b"\x80\x02cposix\nsystem\nX\x0c\0\0\0touch hacked\x85R.", "x.pt")],
    ids=["empty", "text", "hostile"],
)
def test_a_file_that_is_no_checkpoint_is_refused(content: bytes, said: str, place: Path) -> None:
    Path("x.pt").write_bytes(content)
    assert said in refused(urgentmos("import", "x.pt", "-o", "model"))
    assert [path.name for path in place.iterdir()] == ["x.pt"], "nothing was executed, nothing written"


def test_a_name_that_is_nothing_is_answered_with_the_releases(place: Path) -> None:
    said = refused(urgentmos("import", "nonsense", "-o", "x"))
    assert "'nonsense'" in said and all(name in said for name in RELEASES)


def test_a_model_is_not_written_over_a_file(tiny_model: Path, place: Path) -> None:
    Path("taken").write_text("mine")
    said = refused(urgentmos("import", tiny_model, "-o", "taken"))
    assert said == "taken is a file, and a model is a folder. Choose another name for -o."
    assert Path("taken").read_text() == "mine"


# ---- export


def test_an_exported_model_is_one_checked_file(tiny_model: Path, place: Path) -> None:
    pytest.importorskip("onnx")
    result = urgentmos("export", tiny_model, "-o", "tiny.onnx")
    assert (result.exit_code, result.stdout) == (0, "")
    said, number = result.stderr.removesuffix(" at most\n").rsplit(" ", 1)
    assert said == "tiny.onnx: differs from the original by" and float(number) <= 1e-4
    assert [path.name for path in place.iterdir()] == ["tiny.onnx"]


def test_a_model_exported_into_its_folder_needs_no_torch(tiny_model: Path, place: Path, make_voice) -> None:
    pytest.importorskip("onnx")
    folder = Path(shutil.copytree(tiny_model, place / "light"))
    assert urgentmos("export", folder, "--input", "log-mel", "-o", folder / "model.onnx").exit_code == 0
    judge = load(folder)
    assert type(judge._backend).__name__ == "OnnxBackend" and judge._backend.model.front is not None
    wave = make_voice(0, 1.0)
    assert judge.score(wave, sample_rate=16_000).metrics == pytest.approx(
        load(tiny_model).score(wave, sample_rate=16_000).metrics, abs=1e-4
    )


def test_ctrl_c_does_not_promise_what_is_not_kept(tiny_model: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr("urgentmos.judges.export.to_onnx", interrupted)
    result = urgentmos("export", tiny_model, "-o", "x.onnx")
    assert (result.exit_code, result.stderr) == (130, "Interrupted. x.onnx was not written. Run the same command again.\n")


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("x.pt", "x.pt: name the file with .onnx at its end."),
        ("no/x.onnx", "no/x.onnx: the folder no does not exist. Create it first."),
    ],
)
def test_a_place_that_cannot_hold_the_file_is_refused(output: str, said: str, tiny_model: Path, place: Path) -> None:
    assert refused(urgentmos("export", tiny_model, "-o", output)) == said
    assert not list(place.iterdir())


def test_a_model_that_cannot_be_exported_is_refused(released: Path, place: Path) -> None:
    assert "only UrgentMOS models with the encoder conv" in refused(urgentmos("export", released, "-o", "x.onnx"))
    assert not list(place.iterdir())
