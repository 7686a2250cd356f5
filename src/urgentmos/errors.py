"""What can go wrong, in three words: the command, the clip, the measurement.

`UsageError` ends a command (exit 2) and its sentence says what to type instead. `AudioError` and `MeasureError` end
nothing: they become the reason in a clip's row.
"""

from importlib import import_module
from types import ModuleType


class UrgentmosError(Exception):
    """Base of everything that the package raises on purpose."""


class UsageError(UrgentmosError):
    """The request cannot be understood, its input does not exist, or its model cannot be loaded."""


class AudioError(UrgentmosError):
    """A clip that cannot be heard: missing, empty, undecodable, non-finite, too short."""


class MeasureError(UrgentmosError):
    """A clip that can be heard but for which one metric has no value: silent reference, unequal lengths, ..."""


# Packages that pip must not resolve together with their own pins; see docs/models.md.
NO_DEPS = {"pesqc2", "distillmos", "resemblyzer", "xls_r_sqa"}


def need(module: str, extra: str) -> ModuleType:
    """Import `module`, or raise UsageError with the line that installs it."""
    try:
        return import_module(module)
    except ModuleNotFoundError as e:
        missing = (e.name or module).split(".")[0]
        if missing in NO_DEPS:
            line = f"pip install --no-deps {missing.replace('_', '-')}"
        else:
            line = f"pip install 'urgentmos[{extra}]'"
        raise UsageError(f"{missing} is not installed. Install it with: {line}") from e
