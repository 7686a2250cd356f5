"""From what the user names to an open model, or to a sentence that says what to name instead."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from urgentmos.errors import MeasureError, UsageError
from urgentmos.labellers import Settings, hub


def named(value: object) -> Settings:
    return Settings(weights={"sbert": str(value)})


@pytest.fixture
def fake_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Replaces the download: records what is asked for and puts the files that `holds` names into a folder."""
    asked: list[tuple[str, str | None, list[str]]] = []
    fake = SimpleNamespace(asked=asked, holds=["config.json", "model.safetensors"], fails=None)
    folder = tmp_path / "snapshot"

    def snapshot_download(repo: str, revision: str | None = None, allow_patterns: list[str] | None = None) -> str:
        asked.append((repo, revision, list(allow_patterns or [])))
        if fake.fails:
            raise fake.fails
        folder.mkdir(exist_ok=True)
        for name in fake.holds:
            if any(Path(name).match(pattern) for pattern in allow_patterns or []):
                (folder / name).write_text("{}")
        return str(folder)

    fake.snapshot_download = snapshot_download
    monkeypatch.setattr(hub, "need", lambda module, extra: fake)
    return fake


def test_a_local_path_wins_and_no_hub_is_asked(fake_hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert hub.source("sbert", named("org/name")) == Path("org/name")
    (tmp_path / "org" / "name" / "config.json").write_text("{}")
    assert hub.pretrained_folder("sbert", named("org/name")) == Path("org/name")
    assert fake_hub.asked == []


@pytest.mark.parametrize(
    ("value", "repo", "revision"),
    [
        ("utter-project/mHuBERT-147", "utter-project/mHuBERT-147", None),
        ("org/name@v1.2.0", "org/name", "v1.2.0"),
        ("org/name@refs/pr/7", "org/name", "refs/pr/7"),
    ],
)
def test_a_hub_id_may_pin_a_revision(value: str, repo: str, revision: str | None) -> None:
    assert hub.source("sbert", named(value)) == hub.HubId(repo, revision)
    assert str(hub.HubId(repo, revision)) == value


@pytest.mark.parametrize(
    "value", ["nowhere/utmos.pt", "model.onnx", "/no/such/folder", "./a/b", "~/no/such", "a/b/c", "../x", ""]
)
def test_what_is_neither_a_path_nor_a_hub_id_says_how_to_get_it(
    value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"no file or folder .*Pass --weights sbert="):
        hub.source("sbert", named(value))


def test_nothing_named_says_how_to_get_it() -> None:
    with pytest.raises(UsageError, match=r"sbert needs weights.*Pass --weights sbert=.*mHuBERT-147"):
        hub.source("sbert", Settings())


def test_a_model_is_fetched_once_and_its_pickle_only_if_there_is_nothing_better(fake_hub) -> None:
    hub.pretrained_folder("sbert", named("org/name@main"))
    assert [(repo, revision) for repo, revision, _ in fake_hub.asked] == [("org/name", "main")]
    assert not any("bin" in pattern for pattern in fake_hub.asked[0][2])


def test_an_old_model_is_fetched_as_pickle(fake_hub) -> None:
    fake_hub.holds = ["config.json", "pytorch_model.bin"]
    folder = hub.pretrained_folder("sbert", named("org/name"))
    assert (folder / "pytorch_model.bin").exists()
    assert len(fake_hub.asked) == 2


def test_an_unreachable_hub_says_which_id_why_and_what_else_to_do(fake_hub) -> None:
    fake_hub.fails = OSError("Name or service not known\nmore")
    with pytest.raises(UsageError, match=r"org/name@v1 is no local path.*service not known\).*--weights sbert=PATH"):
        hub.pretrained_folder("sbert", named("org/name@v1"))


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no config\.json"):
        hub.pretrained_folder("sbert", named(tmp_path))


def test_one_file_is_the_file_itself_or_the_only_one_in_its_folder(tmp_path: Path, fake_hub) -> None:
    file = tmp_path / "sub" / "a.onnx"
    file.parent.mkdir()
    file.write_text("")
    assert hub.one_file("sbert", named(file), "*.onnx") == file
    assert hub.one_file("sbert", named(tmp_path), "*.onnx") == file
    with pytest.raises(UsageError, match=r"one \*\.pt file, found none"):
        hub.one_file("sbert", named(tmp_path), "*.pt")
    (tmp_path / "b.onnx").write_text("")
    with pytest.raises(UsageError, match=r"found b\.onnx, a\.onnx|found a\.onnx, b\.onnx"):
        hub.one_file("sbert", named(tmp_path), "*.onnx")
    fake_hub.holds = ["c.onnx", "huge.bin"]
    assert hub.one_file("sbert", named("org/name"), "*.onnx").name == "c.onnx"
    assert fake_hub.asked == [("org/name", None, ["*.onnx"])]


def test_a_file_that_is_no_onnx_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"not a protobuf")
    with pytest.raises(UsageError, match=r"a\.onnx cannot be loaded as an ONNX model"):
        hub.onnx_session("sbert", named(tmp_path / "a.onnx"))


def test_another_architecture_is_refused_before_any_weight_is_read(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "wavlm"}))
    with pytest.raises(UsageError, match="holds a 'wavlm' model and sbert needs 'hubert'"):
        hub.pretrained(transformers.HubertModel, "sbert", tmp_path, "cpu")


@pytest.mark.parametrize("text", ["{", "[]", "\xff"])
def test_broken_json_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(UsageError, match=r"config\.json"):
        hub.read_json(tmp_path / "config.json")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_only_numbers_pass(value: float) -> None:
    assert hub.finite(-1.5) == -1.5
    with pytest.raises(MeasureError):
        hub.finite(value)


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 6)), min_size=1, max_size=5))
def test_the_receptive_field_is_the_shortest_input_with_one_frame(layers: list[tuple[int, int]]) -> None:
    def frames(samples: int) -> int:
        for kernel, stride in layers:
            samples = (samples - kernel) // stride + 1 if samples >= kernel else 0
        return samples

    shortest = hub.receptive_field(*zip(*layers, strict=True))
    assert frames(shortest) == 1
    assert frames(shortest - 1) == 0


def test_wav2vec_needs_400_samples() -> None:
    assert hub.receptive_field((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)) == 400
    hub.check_length(400, 400, 16_000)
    with pytest.raises(MeasureError, match=r"0\.020 s is shorter than the 0\.025 s"):
        hub.check_length(320, 400, 16_000)
