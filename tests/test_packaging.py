"""What is published: the package's data, the Dockerfile, compose and workflow. packaging/check.sh builds and installs it."""

import fnmatch
import importlib.util
import json
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import click
import pytest

from urgentmos.cli import main

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "urgentmos"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LARGEST = 20 << 20  # bytes


def script(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "packaging" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


steps = script("steps")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def yaml_of(path: Path) -> dict:
    return pytest.importorskip("yaml").safe_load(path.read_text(encoding="utf-8"))


def options_of(command: str) -> set[str]:
    return {spelling for p in main.commands[command].params if isinstance(p, click.Option) for spelling in p.opts}


# ---- the package


def data_files() -> list[str]:
    files = (path for path in SOURCE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return sorted(path.relative_to(SOURCE).as_posix() for path in files if path.suffix != ".py")


def test_all_data_of_the_package_is_named_in_package_data():
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["urgentmos"]

    def covers(pattern: str, name: str) -> bool:
        parts, wanted = name.split("/"), pattern.split("/")
        return len(parts) == len(wanted) and all(map(fnmatch.fnmatch, parts, wanted))

    files = data_files()
    assert "py.typed" in files and any(name.startswith("report/templates/") for name in files)
    assert [name for name in files if not any(covers(pattern, name) for pattern in patterns)] == []


def test_no_large_file_is_shipped():
    assert [p for p in SOURCE.rglob("*") if p.is_file() and p.stat().st_size > LARGEST] == []


def test_each_folder_of_code_is_a_package():
    folders = {path.parent for path in SOURCE.rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_extras_name_extras_that_exist():
    extras = PROJECT["project"]["optional-dependencies"]
    named = re.findall(r"urgentmos\[([^\]]*)\]", str(extras))
    assert {name for names in named for name in names.split(",")} <= extras.keys()


def test_the_core_has_no_torch():
    names = {re.match(r"[\w-]+", line)[0] for line in PROJECT["project"]["dependencies"]}
    assert names.isdisjoint({"torch", "transformers", "pandas", "pyarrow", "ray", "fsspec", "librosa"})


# ---- the image


def test_lines_are_joined_and_comments_left_out():
    text = "# a\nARG A=1\nFROM x AS y\nRUN a \\\n  # b\n  && c\nFROM z\nRUN d\n"
    assert steps.instructions(text)[2] == ("RUN", "a    && c")
    assert [[name for name, _ in stage] for stage in steps.stages(text)] == [["FROM", "RUN"], ["FROM", "RUN"]]
    assert steps.script("FROM x\nRUN ls /src /opt/a b/src '/src[x]'\n", "/t") == "ls /t/src /t/opt/a b/src '/t/src[x]'\n"


def test_the_image_copies_what_is_there_and_nothing_secret():
    first = steps.stages(DOCKERFILE)[0]
    copied = [word for name, rest in first if name == "COPY" for word in rest.split()[:-1]]
    assert copied and all((ROOT / name).exists() for name in copied)
    ignore = (ROOT / ".dockerignore").read_text().split()
    assert ignore[0] == "*" and {line[1:] for line in ignore if line.startswith("!")} == set(copied)


@pytest.mark.parametrize("variant", ["cpu", "cuda", "tpu"])
def test_each_variant_installs_extras_that_exist(variant, tmp_path):
    (tmp_path / "opt/urgentmos/bin").mkdir(parents=True)
    for name in ("python", "urgentmos"):
        (tmp_path / "opt/urgentmos/bin" / name).write_text('#!/bin/sh\necho "$@"\n')
        (tmp_path / "opt/urgentmos/bin" / name).chmod(0o755)
    text = "\n".join(line for line in steps.script(DOCKERFILE, str(tmp_path)).splitlines() if "venv" not in line)
    ran = subprocess.run(
        ["sh", "-eu", "-c", text], env={"VARIANT": variant, "PATH": "/bin:/usr/bin"}, capture_output=True, text=True
    )
    if variant == "tpu":
        assert ran.returncode == 1 and "cpu or cuda" in ran.stderr
        return
    assert ran.returncode == 0, ran.stderr
    (asked,) = re.findall(r"/src\[([\w,]+)\]", ran.stdout)
    assert set(asked.split(",")) <= PROJECT["project"]["optional-dependencies"].keys()
    assert ("models" in asked.split(",")) == (variant == "cuda")


def test_the_image_serves_without_root():
    last = steps.stages(DOCKERFILE)[-1]
    assert dict(last)["USER"] not in ("root", "0")
    command = json.loads(dict(last)["CMD"])
    assert command[0] in main.commands
    assert {word for word in command if word.startswith("--")} <= options_of(command[0])
    assert dict(last)["EXPOSE"] in command and f":{dict(last)['EXPOSE']}/healthz" in DOCKERFILE


# ---- what stands around it


def test_prometheus_watches_the_service_that_compose_starts():
    compose = yaml_of(ROOT / "compose.yaml")
    (job,) = yaml_of(ROOT / "packaging/prometheus.yml")["scrape_configs"]
    host, port = job["static_configs"][0]["targets"][0].split(":")
    assert job.get("metrics_path", "/metrics") == "/metrics"
    assert host in compose["services"] and port == dict(steps.stages(DOCKERFILE)[-1])["EXPOSE"]
    assert any(published.endswith(f":{port}") for published in compose["services"][host]["ports"])
    mounted = [v.split(":")[0] for v in compose["services"]["prometheus"]["volumes"]]
    assert all((ROOT / v).is_file() for v in mounted if v.startswith("./"))
    assert all(port.startswith("127.0.0.1:") for s in compose["services"].values() for port in s["ports"])


def test_the_workflow_runs_a_gate_that_exists():
    workflow = yaml_of(ROOT / ".github/workflows/quality.yml")
    assert "pull_request" in workflow.get("on", workflow.get(True))
    assert workflow["permissions"] == {"contents": "read"}
    runs = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    (gate,) = [shlex.split(run) for run in runs if run.startswith("urgentmos")]
    command = main.commands[gate[1]]
    assert "--fail-if-worse" in gate
    assert {word for word in gate if word.startswith("-")} <= options_of(gate[1]) | {"-o"}
    with command.make_context(gate[1], gate[2:]) as context:
        assert (ROOT / str(context.params["a"]).split("/", 1)[1]).is_dir()


def test_the_check_is_a_script_that_sh_understands():
    assert subprocess.run(["bash", "-n", str(ROOT / "packaging/check.sh")], capture_output=True).returncode == 0
    assert (ROOT / "packaging/check.sh").stat().st_mode & 0o100


def test_a_wheel_that_lacks_data_is_noticed():
    contents = script("contents")
    files = {path.relative_to(ROOT / "src").as_posix() for path in SOURCE.rglob("*") if path.is_file()}
    assert contents.missing(files) == []
    assert contents.missing(files - {"urgentmos/py.typed"}) == ["urgentmos/py.typed"]


# ---- licences, hashes


def test_ffmpeg_is_what_the_notice_says_it_is() -> None:
    """Which libraries PyAV's wheel brings is looked up; each of them stands in NOTICE, the GPL ones by their licence."""
    av = pytest.importorskip("av")
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    folder = Path(av.__file__).parents[1] / "av.libs"
    brought = {re.match(r"lib[A-Za-z]+(\d\d\d)?(-amr[nw]b)?(1d)?", path.name)[0] for path in folder.glob("lib*")}
    own = {"libavcodec", "libavdevice", "libavfilter", "libavformat", "libavutil", "libswresample", "libswscale"}
    assert [name for name in sorted(brought - own) if name.rstrip("-") not in notice] == []
    for name in ("libx264", "libx265"):
        assert (name in brought) == bool(re.search(rf"{name} +GPL-2.0-or-later", notice)) or not brought
    (licence,) = {one["license"] for one in av._core.library_meta.values()}
    assert f'"{licence}"' in notice
    assert "GPL-2.0-or-later" in DOCKERFILE


def test_the_image_takes_no_file_without_a_hash() -> None:
    (installs,) = [rest for name, rest in steps.stages(DOCKERFILE)[0] if name == "RUN" and "pip install" in rest]
    commands = [part for part in installs.split(";") if "pip install" in part]
    assert all("--require-hashes" in command or "--no-deps" in command for command in commands) and len(commands) == 2


@pytest.mark.parametrize("variant", ["cpu", "cuda"])
def test_all_that_a_variant_needs_is_locked(variant: str) -> None:
    text = (ROOT / "packaging" / f"requirements-{variant}.txt").read_text(encoding="utf-8")
    entries = [entry.split() for entry in text.replace("\\\n", " ").splitlines() if not entry.startswith("#")]
    names = {entry[0].split("==")[0] for entry in entries}
    assert all("==" in entry[0] and len(entry) > 1 for entry in entries)
    assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", word) for entry in entries for word in entry[1:])
    lock = script("lock")
    wanted = {
        re.match(r"[\w-]+", line)[0].lower().replace("_", "-")
        for line in lock.requirements(lock.EXTRAS[variant], PROJECT["project"])
    }
    assert wanted <= names, "run packaging/lock.py again"
    assert f"{variant}) extras={lock.EXTRAS[variant]} ;;" in DOCKERFILE


def test_a_lock_holds_every_file_once_and_one_version_each() -> None:
    lock = script("lock")

    def package(name: str, version: str, digest: str) -> dict:
        return {
            "metadata": {"name": name, "version": version},
            "download_info": {"archive_info": {"hashes": {"sha256": digest}}},
        }

    text = lock.locked([[package("B_x", "1", "b"), package("a", "2", "a")], [package("b-x", "1", "c")]])
    assert text == "a==2 \\\n    --hash=sha256:a\nb-x==1 \\\n    --hash=sha256:b \\\n    --hash=sha256:c\n"
    with pytest.raises(ValueError, match="b-x would be 1 on one machine and 2"):
        lock.locked([[package("b-x", "1", "b")], [package("b-x", "2", "b")]])


# ---- the bill of materials


def test_the_bill_names_all_that_the_core_needs_with_licences() -> None:
    sbom = script("sbom")
    plain = sbom.bill("urgentmos")
    names = {part["name"] for part in plain["components"]}
    assert {re.match(r"[\w-]+", line)[0].lower() for line in PROJECT["project"]["dependencies"]} <= names
    assert "cffi" in names  # of soundfile
    assert "torch" not in names
    assert sbom.faults(plain) == []
    assert plain["bomFormat"] == "CycloneDX" and plain["metadata"]["component"]["name"] == "urgentmos"
    refs = {part["bom-ref"] for part in [plain["metadata"]["component"], *plain["components"]]}
    assert {edge["ref"] for edge in plain["dependencies"]} == refs
    assert all(set(edge["dependsOn"]) <= refs for edge in plain["dependencies"])
    assert sbom.bill("urgentmos") == plain


def test_the_bill_of_an_extra_follows_extras_of_extras() -> None:
    sbom = script("sbom")
    try:
        names = {part["name"] for part in sbom.bill("urgentmos", ["train"])["components"]}
    except sbom.PackageNotFoundError as e:
        pytest.skip(f"{e.name} is not installed")
    assert {"torch", "lightning"} <= names


def test_a_package_without_a_licence_is_a_fault() -> None:
    sbom = script("sbom")
    plain = sbom.bill("urgentmos")
    plain["components"][0] |= {"licenses": [], "version": ""}
    assert sbom.faults(plain) == [f"{plain['components'][0]['name']} has no {key}" for key in ("version", "license")]
