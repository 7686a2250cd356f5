"""Looks into a wheel: is all data of the package in it, and nothing that is too large or does not belong there?

python packaging/contents.py dist/urgentmos-*.whl
"""

import sys
import zipfile
from pathlib import Path

LARGEST = 20 << 20  # bytes of one file: the embedded model is smaller
SOURCE = Path(__file__).resolve().parents[1] / "src"


def missing(names: set[str], source: Path = SOURCE) -> list[str]:
    """Files of the package that are not among the wheel's."""
    files = (path.relative_to(source).as_posix() for path in sorted((source / "urgentmos").rglob("*")) if path.is_file())
    return [name for name in files if "__pycache__" not in name and name not in names]


def main(wheel: str) -> int:
    with zipfile.ZipFile(wheel) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    faults = [f"{name} is missing" for name in missing(set(sizes))]
    faults += [f"{name} has {size >> 20} MB" for name, size in sizes.items() if size > LARGEST]
    faults += [f"{name} does not belong there" for name in sizes if not name.startswith("urgentmos")]
    for fault in faults:
        print(fault, file=sys.stderr)
    print(f"{len(sizes)} files, {sum(sizes.values()) / 2**20:.1f} MB unpacked")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
