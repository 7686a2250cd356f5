"""Errors end in what to type next."""

import pytest

from urgentmos.errors import AudioError, MeasureError, UrgentmosError, UsageError, install_line, need


@pytest.mark.parametrize("error", [UsageError, AudioError, MeasureError])
def test_one_except_catches_everything_that_is_raised_on_purpose(error: type[Exception]) -> None:
    assert issubclass(error, UrgentmosError)
    assert not issubclass(UrgentmosError, ValueError | OSError)


def test_need_returns_the_module_itself() -> None:
    import numpy.linalg

    assert need("numpy.linalg", "label") is numpy.linalg


def test_a_missing_package_comes_with_the_line_that_installs_it() -> None:
    with pytest.raises(UsageError, match=r"no_such_package_1 is not installed.*pip install 'urgentmos\[label\]'"):
        need("no_such_package_1.part", "label")


def test_packages_whose_pins_clash_are_installed_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name="xls_r_sqa")

    monkeypatch.setattr("urgentmos.errors.import_module", absent)
    with pytest.raises(UsageError, match=r"pip install --no-deps distillmos==0.9.1 xls-r-sqa==0.1.0$"):
        need("distillmos.sqa", "label")  # the message names what is missing, not what was asked for


@pytest.mark.parametrize(
    "error",
    [
        "ImportError('numpy.core.multiarray failed to import')",
        "ValueError('numpy.dtype size changed, may indicate binary incompatibility')",
        "AttributeError('_ARRAY_API not found')",
        "OSError('libcudart.so.12: cannot open shared object file')",
    ],
)
def test_a_package_that_cannot_be_imported_comes_with_the_line_that_mends_it(
    error: str, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"broken_package_{error[:5].lower()}"
    (tmp_path / f"{name}.py").write_text(f"raise {error}\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        UsageError, match=rf"{name} is installed but cannot be imported.*--force-reinstall 'urgentmos\[label\]'"
    ):
        need(name, "label")


def test_pesqc2_is_built_against_the_numpy_that_is_there() -> None:
    assert "--no-build-isolation" in install_line("pesqc2", "label") and "cython" in install_line("pesqc2", "label")


def test_a_bug_inside_a_package_is_not_called_a_missing_package(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_package_1.py").write_text("raise ZeroDivisionError('inside')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ZeroDivisionError):
        need("broken_package_1", "label")
