"""A bill of materials (CycloneDX 1.6, JSON) of a package and all that it needs, from what is installed beside this interpreter.

PYTHON packaging/sbom.py urgentmos [EXTRA,...] > sbom.json

Exit status 1, and a line for each, if a package has no name, version or licence.
"""

import json
import sys
import uuid
from collections.abc import Iterable, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from typing import Any

try:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name
except ModuleNotFoundError:  # an environment with pip and nothing else
    from pip._vendor.packaging.requirements import Requirement
    from pip._vendor.packaging.utils import canonicalize_name

# Packages whose metadata name no licence: read in the files that they install, or at their source.
LICENCES = {
    "mergedeep": "MIT",
    "pyrnnoise": "Apache-2.0",
    "pyworld": "MIT",
    "resemblyzer": "Apache-2.0",
}


def needs(package: Distribution, extras: Iterable[str]) -> list[tuple[str, frozenset[str]]]:
    """(name, extras) of what a package with these extras requires on this machine."""
    wanted: list[tuple[str, frozenset[str]]] = []
    for line in package.requires or []:
        requirement = Requirement(line)
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            wanted.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    return wanted


def closure(name: str, extras: Iterable[str] = ()) -> tuple[dict[str, Distribution], dict[str, set[str]]]:
    """All packages that `name` needs, itself included, and the edges between them. PackageNotFoundError if one is missing."""
    packages: dict[str, Distribution] = {}
    edges: dict[str, set[str]] = {}
    waiting = [(canonicalize_name(name), frozenset(extras))]
    seen = set()
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        package = packages.setdefault(one[0], distribution(one[0]))
        found = needs(package, one[1])
        edges.setdefault(one[0], set()).update(other for other, _ in found)
        waiting += found
    return packages, edges


def licence(name: str, metadata: Mapping[str, Any]) -> str:
    """An SPDX expression where the package gives one, else its own words in one line; "" if it has none."""
    if expression := metadata.get("License-Expression"):
        return str(expression)
    classifiers = [value for key, value in metadata.items() if key == "Classifier" and value.startswith("License ::")]
    words = " and ".join(line.rsplit(" :: ", 1)[-1] for line in classifiers if not line.endswith("OSI Approved"))
    own = str(metadata.get("License") or "").strip().splitlines()
    text = own[0].strip() if own and own[0].strip() != "UNKNOWN" and len(own) == 1 else ""
    return text or words or (own[0].strip() if own and own[0].strip() != "UNKNOWN" else "") or LICENCES.get(name, "")


def component(name: str, package: Distribution) -> dict[str, Any]:
    metadata = package.metadata
    said = licence(name, metadata)
    spdx = bool(metadata.get("License-Expression"))
    licences = [{"expression": said}] if spdx else [{"license": {"name": said}}] if said else []
    purl = f"pkg:pypi/{name}@{package.version}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": package.version, "purl": purl, "licenses": licences}


def bill(name: str, extras: Iterable[str] = ()) -> dict[str, Any]:
    """The bill of materials as plain data, the same for the same packages."""
    packages, edges = closure(name, extras)
    parts = {other: component(other, package) for other, package in sorted(packages.items())}
    main = parts.pop(canonicalize_name(name))
    refs = {other: part["bom-ref"] for other, part in {**parts, main["name"]: main}.items()}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, ' '.join(sorted(refs.values())))}",
        "version": 1,
        "metadata": {"component": {**main, "type": "application"}},
        "components": list(parts.values()),
        "dependencies": [
            {"ref": refs[other], "dependsOn": sorted(refs[one] for one in edges[other])} for other in sorted(refs)
        ],
    }


def faults(plain: Mapping[str, Any]) -> list[str]:
    """What is not said of a package."""
    found = []
    for part in [plain["metadata"]["component"], *plain["components"]]:
        lacking = [key for key in ("name", "version", "licenses") if not part.get(key)]
        found += [f"{part.get('name') or 'a package'} has no {key.removesuffix('s')}" for key in lacking]
    return found


def main(arguments: list[str]) -> int:
    try:
        plain = bill(arguments[0], arguments[1].split(",") if len(arguments) > 1 else ())
    except PackageNotFoundError as e:
        print(f"{e.name} is needed and not installed", file=sys.stderr)
        return 1
    print(json.dumps(plain, indent=1, ensure_ascii=False))
    wrong = faults(plain)
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
