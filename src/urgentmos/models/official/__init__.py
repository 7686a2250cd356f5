"""Released checkpoints, read as data and rewritten in our words: one file per format.

A format module offers `matches(raw) -> bool` and `read(raw, path) -> Released`, where `raw` is what
`urgentmos.models.torch_file.load_torch_file` made of the file. One that needs the configuration of a pretrained encoder says
`NEEDS_ENCODERS = True` and takes `allow_download` too; one whose files hold a foreign class offers `stubs`. Nothing of a
file is ever executed.
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from urgentmos.common.untrusted import shown
from urgentmos.errors import UsageError
from urgentmos.models.torch_file import load_torch_file

if TYPE_CHECKING:
    from torch import Tensor

FORMATS = ("urgentpk", "universa", "urgentmos", "utmos")


@dataclass(frozen=True)
class Released:
    """A released checkpoint in our words: the architecture, its configuration and its weights under our names."""

    architecture: str  # a key of urgentmos.models.folder.ARCHITECTURES
    config: dict[str, Any]  # plain data: what the architecture's config class reads with from_dict
    state: dict[str, "Tensor"]
    info: dict[str, Any]  # plain data for config.json: name, format, source, licence, ...


def read(path: str | Path, *, allow_download: bool = False) -> Released:
    """The released checkpoint in the file `path`, whichever of the formats it has.

    allow_download: whether the configuration of a pretrained encoder may be fetched from the hub when it is neither next to
        the file nor in the built-in table. Its weights are in the file and are never fetched.

    Raises UsageError with the reason if the file is refused, damaged, or of no known format.
    """
    path = Path(path)
    raw = load_torch_file(path, stubs=_stubs)
    for module in map(_module, FORMATS):
        if module.matches(raw):
            options = {"allow_download": allow_download} if getattr(module, "NEEDS_ENCODERS", False) else {}
            try:
                released: Released = module.read(raw, path, **options)
            except UsageError as e:
                raise (e if str(path.parent) in str(e) else UsageError(f"{path}: {e}")) from e
            return released
    raise UsageError(
        f"{path} is a torch file, but no released checkpoint that is known here: {_describe(raw)}. "
        "Known are those of UrgentMOS, Uni-VERSA-Ext, URGENT-PK and UTMOS22; see `urgentmos models`."
    )


def _module(name: str) -> ModuleType:
    return import_module(f"{__name__}.{name}")


def _stubs(module: str, name: str) -> type | None:
    """The inert class that stands for `module.name`, from the first format that knows it."""
    for released in map(_module, FORMATS):
        stubs = getattr(released, "stubs", None)
        stub: type | None = stubs(module, name) if stubs else None
        if stub is not None:
            return stub
    return None


def _describe(raw: Any) -> str:
    if not isinstance(raw, dict):
        return f"it holds a {type(raw).__name__}"
    keys = [key[:40] if isinstance(key, str) else shown(key, 40) for key in list(raw)[:4]]
    return f"it holds {', '.join(keys)}{', ...' if len(raw) > 4 else ''}" if keys else "it holds nothing"
