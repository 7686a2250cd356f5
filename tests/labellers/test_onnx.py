"""ONNX sessions: one thread, and an error that names the file."""

from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")

from urgentmos.errors import UsageError
from urgentmos.labellers.onnx import packaged, session


def test_a_session_has_one_thread() -> None:
    pytest.importorskip("speechmos")
    options = session(packaged("speechmos", "dnsmos_models/model_v8.onnx")).get_session_options()
    assert options.intra_op_num_threads == options.inter_op_num_threads == 1


def test_a_packaged_file_is_found_without_importing_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "carrier_of_models_1"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert packaged("carrier_of_models_1", "a/b.onnx") == folder / "a" / "b.onnx"


def test_a_missing_package_says_how_to_get_it() -> None:
    with pytest.raises(UsageError, match=r"no_such_package_1 is not installed.*urgentmos\[label\]"):
        packaged("no_such_package_1", "a.onnx")


@pytest.mark.parametrize("content", [None, b"", b"not a model"])
def test_a_file_that_is_no_model_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(UsageError, match=r"a\.onnx cannot be loaded as an ONNX model.*get it again"):
        session(tmp_path / "a.onnx")
