"""The exact packages of the image, with the SHA-256 of every file: writes packaging/requirements-VARIANT.txt.

python packaging/lock.py cpu cuda

Asks the package index, by pip, what a Linux machine would install, for each Python and processor. `pip install
--require-hashes -r` then takes those files and no others. To be run again for newer packages.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PLATFORMS = {  # processor -> tags of its wheels, newest first
    machine: [f"manylinux_2_{minor}_{machine}" for minor in range(36, 16, -1)] + [f"manylinux2014_{machine}"]
    for machine in ("x86_64", "aarch64")
}
EXTRAS = {"cpu": "av,parquet,report,serve,urls", "cuda": "av,models,parquet,report,serve,urls"}  # as in the Dockerfile
# (Python, processor) of the machines that a variant is locked for. The image has Python 3.12; the check of a release runs the
# image's steps with whatever Python there is. CUDA comes for x86_64.
MACHINES = {
    "cpu": [(python, machine) for python in ("3.11", "3.12", "3.13") for machine in PLATFORMS],
    "cuda": [("3.12", "x86_64")],
}
ALSO = ["speechmos", "setuptools>=77"]  # weights of DNSMOS; what builds our own wheel


def requirements(extras: str, project: dict[str, Any]) -> list[str]:
    """The dependencies of the project with these extras, extras of extras included."""
    optional = project["optional-dependencies"]
    found, waiting, seen = list(project["dependencies"]), extras.split(","), set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for line in optional[name]:
            own = re.fullmatch(rf"{project['name']}\[([^\]]*)\]", line)
            waiting += own[1].split(",") if own else []
            found += [] if own else [line]
    return sorted(set(found))


def resolved(wanted: list[str], python: str, platforms: list[str]) -> list[dict[str, Any]]:
    """What pip would install there: its report, a package each."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--dry-run"),
            *("--ignore-installed", "--only-binary", ":all:", "--implementation", "cp", "--python-version", python),
            *("--target", folder, "--report", str(report), "-c", str(ROOT / "constraints.txt")),
            *(word for platform in platforms for word in ("--platform", platform)),
            *wanted,
        ]
        # the index alone: no mirror and no local wheels, whose files could be other ones
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PIP_") or name == "PIP_CERT"}
        subprocess.run(command, check=True, env={**clean, "PIP_CONFIG_FILE": os.devnull})
        return list(json.loads(report.read_text("utf-8"))["install"])


def locked(reports: Iterable[list[dict[str, Any]]]) -> str:
    """NAME==VERSION --hash ... lines of several reports together. ValueError if they disagree about a version."""
    versions: dict[str, str] = {}
    hashes: dict[str, set[str]] = {}
    for package in (package for report in reports for package in report):
        name, version = package["metadata"]["name"].lower().replace("_", "-"), package["metadata"]["version"]
        if versions.setdefault(name, version) != version:
            raise ValueError(f"{name} would be {versions[name]} on one machine and {version} on another. Pin it.")
        hashes.setdefault(name, set()).add(package["download_info"]["archive_info"]["hashes"]["sha256"])
    lines = (
        " \\\n    ".join([f"{name}=={versions[name]}", *(f"--hash=sha256:{digest}" for digest in sorted(hashes[name]))])
        for name in sorted(versions)
    )
    return "\n".join(lines) + "\n"


def main(variants: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for variant in variants:
        wanted = [*requirements(EXTRAS[variant], project), *ALSO]
        text = locked(resolved(wanted, python, PLATFORMS[machine]) for python, machine in MACHINES[variant])
        head = f"# What the image holds (VARIANT={variant}): made by packaging/lock.py, not by hand.\n"
        (ROOT / "packaging" / f"requirements-{variant}.txt").write_text(head + text, "utf-8")
        print(f"packaging/requirements-{variant}.txt: {text.count('==')} packages, {text.count('--hash')} files")


if __name__ == "__main__":
    main(sys.argv[1:] or list(EXTRAS))
