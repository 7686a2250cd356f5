"""The house: which shelf may import which, how many files stand at the root, how long a module may be."""

import ast
import re
from functools import cache
from pathlib import Path

import urgentmos

PACKAGE = Path(urgentmos.__file__).parent
ORDER = (
    "errors files common metrics ranking audio clips nets models labellers simulation=corpora=evaluation=listening judges api "
    "cluster training report server commands cli"
)
PLACES = {shelf: place for place, group in enumerate(ORDER.split()) for shelf in group.split("=")}
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def imports_of(path: Path) -> set[str]:
    """The modules of the package that a file imports anywhere, late imports and those for type checkers included."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "urgentmos":
            base = (node.module or "").removeprefix("urgentmos").lstrip(".")
            names = (f"{base}.{alias.name}".lstrip(".") for alias in node.names)
            modules |= {name if name in MODULES else base for name in names}
        elif isinstance(node, ast.Import):
            modules |= {alias.name.removeprefix("urgentmos.") for alias in node.names if alias.name.startswith("urgentmos.")}
    return modules - {""}


@cache
def all_imports() -> dict[str, set[str]]:
    return {name: imports_of(path) - {name} for name, path in MODULES.items() if name != "__init__"}


def test_a_file_imports_only_what_stands_to_the_left_of_its_own_shelf() -> None:
    wrong = [
        f"{name} imports {other}"
        for name, others in all_imports().items()
        for other in others
        if (shelf := name.split(".")[0]) != (left := other.split(".")[0]) and PLACES[left] >= PLACES[shelf]
    ]
    assert wrong == []


def test_no_imports_go_in_a_circle() -> None:
    left = {name: {other for other in others if other in all_imports()} for name, others in all_imports().items()}
    while free := {name for name, others in left.items() if not others}:
        left = {name: others - free for name, others in left.items() if name not in free}
    assert left == {}, f"these import each other: {sorted(left)}"


def test_the_root_is_small_and_modules_are_short() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 6
    assert [name for name, path in MODULES.items() if len(path.read_text("utf-8").splitlines()) > 500] == []


def shown_in_contributing() -> set[str]:
    """The modules that CONTRIBUTING.md lists, such as "ranking/rank" and "api.py"."""
    text = (PACKAGE.parents[1] / "CONTRIBUTING.md").read_text("utf-8")
    block = text[text.index("src/urgentmos/\n") : text.index("\nrecipes/")]
    modules, shelf = set(), ""
    for line in block.splitlines()[1:]:
        if match := re.match(r"  (\w+(?:\.py|/)) ", line):
            shelf = match[1]
            modules |= {shelf} if shelf.endswith(".py") else set()
            continue
        folder, colon, names = line.strip().partition(": ")
        if line[15:16] != " ":
            below = f"{shelf}{folder}" if colon else shelf
        modules |= {f"{below}{name}" for name in (names if colon else folder).rstrip(",").split(", ") if name[-1] != "/"}
    return modules


def test_contributing_shows_every_module_and_no_other() -> None:
    there = {path.relative_to(PACKAGE).as_posix() for path in MODULES.values()} - {"__init__.py"}
    there = {name if "/" not in name else name.removesuffix(".py") for name in there if not name.endswith("/__init__.py")}
    assert shown_in_contributing() == there | {"__init__.py"}
