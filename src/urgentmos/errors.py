"""The three kinds of errors: of the command, of the clip, of the measurement.

`UsageError` ends a command (exit 2); its sentence names what to type instead. `AudioError` and `MeasureError` end
nothing: they become the reason in a clip's row.
"""

from importlib import import_module
from types import ModuleType
from unicodedata import category

JOINERS = "\u200c\u200d\xad"


class UrgentmosError(Exception):
    """Base of everything that the package raises on purpose."""


class UsageError(UrgentmosError):
    """The request cannot be understood, its input does not exist, or its model cannot be loaded.

    More arguments are further lines, such as a list of rows at fault.
    """

    def __str__(self) -> str:
        return "\n".join(map(str, self.args))


class AudioError(UrgentmosError):
    """A clip that cannot be decoded: missing, empty, undecodable, non-finite, too short."""


class MeasureError(UrgentmosError):
    """A clip that can be decoded but for which one metric has no value: silent reference, unequal lengths, ..."""


def visible(text: str) -> str:
    r"""`text` as one line that a terminal shows as it is: what would steer it is spelled out, as \n, \x1b or \u202e.

    That is every control character, line and paragraph separators, marks of direction and other invisible ones, and bytes of
    a name that is not UTF-8. Joiners stay, which many scripts are written with.

    >>> visible("a\x1b[2Jb.wav")
    'a\\x1b[2Jb.wav'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if _is_harmless(char) else char.encode("unicode_escape").decode() for char in text)


def _is_harmless(char: str) -> bool:
    return char.isprintable() or char in JOINERS or category(char) in ("Zs", "Cn", "Co")


def naming(path: str, sentence: str) -> str:
    """The sentence, with the file that it is about in front unless it opens with it."""
    return sentence if sentence.startswith(path) else f"{path}: {sentence}"


# Packages that pip must not resolve together with their own pins, and the line that installs each; see docs/models.md.
# pesqc2 is built against the numpy that is installed: by itself pip would build it against numpy 1, which then fails to load.
NO_DEPS = {
    "pesqc2": "pip install cython 'setuptools<81' wheel && "
    "pip install --no-cache-dir --no-deps --no-build-isolation --use-pep517 pesqc2==0.0.4",
    "distillmos": "pip install --no-deps distillmos==0.9.1 xls-r-sqa==0.1.0",
    "xls_r_sqa": "pip install --no-deps distillmos==0.9.1 xls-r-sqa==0.1.0",
    "resemblyzer": "pip install --no-deps resemblyzer==0.1.4",
}


def need(module: str, extra: str) -> ModuleType:
    """The module, imported. UsageError with the line that installs it if it is missing or fails to import.

    A package that was built for another numpy, Python or system library raises ImportError, ValueError, AttributeError or
    OSError when it is imported; other exceptions are bugs of the package and pass through.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as e:
        missing = (e.name or module).split(".")[0]
        raise UsageError(f"{missing} is not installed. Install it with: {install_line(missing, extra)}") from e
    except (ImportError, ValueError, AttributeError, OSError) as e:
        package = module.split(".")[0]
        reason = f"{type(e).__name__}: {e}".splitlines()[0]
        line = install_line(package, extra).replace("pip install", "pip install --force-reinstall")
        raise UsageError(f"{package} is installed but cannot be imported ({reason}). Install it again with: {line}") from e


def install_line(package: str, extra: str) -> str:
    """The command that installs a package of ours: the extra that brings it, or the package alone without its own pins."""
    return NO_DEPS.get(package, f"pip install 'urgentmos[{extra}]'")
