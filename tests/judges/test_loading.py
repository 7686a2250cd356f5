"""Models that follow -m: what runs without torch, what is asked of torch, and what a model folder says of its scores."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from urgentmos import api as predictor  # noqa: E402
from urgentmos.api import load  # noqa: E402
from urgentmos.cli import main  # noqa: E402
from urgentmos.clips.tables import read_records  # noqa: E402
from urgentmos.common.packaged import PACKAGED  # noqa: E402
from urgentmos.errors import UsageError  # noqa: E402
from urgentmos.judges.export import to_onnx  # noqa: E402
from urgentmos.judges.onnx import OnnxBackend  # noqa: E402
from urgentmos.models.folder import load as load_folder  # noqa: E402
from urgentmos.models.folder import save, seal  # noqa: E402

CALIBRATION = {
    "level": 0.9,
    "metrics": {"mos_overall": {"knots": [1.0, 5.0], "low": [-0.25, -0.5], "high": [0.5, 0.75]}},
}
RATE = 16_000


def light_folder(tiny_model: Path, to: Path, **info: Any) -> Path:
    """A copy of the tiny model with more in its config.json, and model.onnx."""
    loaded = load_folder(tiny_model)
    save(to, loaded.net, {**{key: value for key, value in loaded.info.items() if key != "config"}, **info})
    to_onnx(load_folder(to), to / "model.onnx", "log-mel")
    return to


@pytest.fixture(scope="module")
def folder(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return light_folder(tiny_model, tmp_path_factory.mktemp("models") / "light", intervals=CALIBRATION)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two systems with three contents of 0.3 to 1.5 s each."""
    root = tmp_path_factory.mktemp("systems")
    rng = np.random.default_rng(0)
    for system, level in (("a", 0.1), ("b", 0.02)):
        (root / system).mkdir()
        for i, n in enumerate((5000, 24_000, 16_000)):
            soundfile.write(root / system / f"u{i}.wav", level * rng.standard_normal(n), RATE)
    return root


# ---- without torch

ONLY_CORE = """
import importlib.metadata as metadata, re, sys

def closure(name, seen):
    if name in seen:
        return seen
    seen.add(name)
    try:
        needs = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return seen
    for need in needs:
        if "extra ==" not in need:
            closure(re.match(r"[\\w.-]+", need)[0].lower().replace("_", "-"), seen)
    return seen

core = closure("urgentmos", set())
homes = metadata.packages_distributions()
allowed = {top for top, dists in homes.items() if any(d.lower().replace("_", "-") in core for d in dists)}

class OnlyCore:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in homes and top not in allowed:
            raise ModuleNotFoundError(f"{name} is no package of the core", name=name)

sys.meta_path.insert(0, OnlyCore())
for heavy in ("torch", "safetensors", "transformers", "onnx", "pyarrow"):
    assert heavy not in allowed
    try:
        __import__(heavy)
        sys.exit(f"{heavy} could be imported")
    except ModuleNotFoundError:
        pass
from urgentmos.cli import main
main(sys.argv[1:])
"""


def without_torch(*args: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", ONLY_CORE, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_core_alone_scores_compares_and_ranks(folder: Path, clips: Path) -> None:
    judge = load(folder, device="cpu")
    scored = without_torch("score", clips, "-m", folder)
    assert scored.returncode == 0, scored.stderr
    rows = [json.loads(line) for line in scored.stdout.splitlines()]
    for row, score in zip(rows, judge.score_all(clips), strict=True):
        assert row["metrics"] == pytest.approx(score.metrics, abs=1e-4) and row["error"] is None

    compared = without_torch("compare", clips / "a/u1.wav", clips / "b/u1.wav", "-m", folder)
    assert compared.returncode == 0, compared.stderr
    row = json.loads(compared.stdout)
    want = judge.compare(clips / "a/u1.wav", clips / "b/u1.wav")
    assert (row["p_a"], row["cmos"]) == pytest.approx((want.p_a, want.cmos), abs=1e-4)

    ranked = without_torch("rank", clips, "-m", folder)
    assert ranked.returncode == 0, ranked.stderr
    assert json.loads(ranked.stdout)["systems"][0]["score"] == pytest.approx(
        predictor.rank(clips, judge).to_dict()["systems"][0]["score"], abs=1e-3
    )


def test_a_folder_without_its_file_says_what_is_missing_without_torch(tiny_model: Path, clips: Path) -> None:
    done = without_torch("score", clips, "-m", tiny_model)
    assert done.returncode == 2 and "torch is not installed. Install it with: pip install 'urgentmos[models]'" in done.stderr


def test_torch_stays_out_where_it_is_installed(folder: Path, clips: Path) -> None:
    code = (
        "import sys\nfrom urgentmos.cli import main\n"
        f"main(['score', {str(clips / 'a/u0.wav')!r}, '-m', {str(folder)!r}], standalone_mode=False)\n"
        "sys.exit([m for m in ('torch', 'scipy.stats', 'pandas', 'rich', 'pydantic') if m in sys.modules] or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_cold_start_takes_less_than_two_seconds_of_work(folder: Path, clips: Path) -> None:
    """Processor seconds, which a busy machine does not stretch much."""
    before = os.times()
    command = [sys.executable, "-c", "from urgentmos.cli import main; main()", "score", clips / "a/u0.wav", "-m", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    assert json.loads(done.stdout)["model"] == "tiny" and 0 < spent < 2


# ---- which way a model takes


def test_a_folder_with_an_onnx_file_takes_the_light_way_unless_another_device_is_asked(folder: Path, tiny_model: Path) -> None:
    for device in ("auto", "cpu"):
        assert isinstance(load(folder, device=device)._backend, OnnxBackend)  # type: ignore[attr-defined]
    assert not isinstance(load(tiny_model)._backend, OnnxBackend)  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="device 'cuda:99' is not available here"):
        load(folder, device="cuda:99")


def test_both_ways_agree(folder: Path, tmp_path: Path, clips: Path) -> None:
    heavy = Path(shutil.copytree(folder, tmp_path / "heavy"))
    (heavy / "model.onnx").unlink()
    by_torch, light = load(heavy), load(folder)
    assert (by_torch.name, by_torch.version, by_torch.metrics) == (light.name, light.version, light.metrics)
    for one, other in zip(light.score_all(clips), by_torch.score_all(clips), strict=True):
        assert one.metrics == pytest.approx(other.metrics, abs=1e-4)
        assert one.intervals is not None and other.intervals is not None
        assert one.intervals["mos_overall"] == pytest.approx(other.intervals["mos_overall"], abs=1e-4)
    a, b = clips / "a/u0.wav", clips / "b/u2.wav"
    one, other = light.compare(a, b), by_torch.compare(a, b)
    assert (one.p_a, one.p_tie, one.cmos) == pytest.approx((other.p_a, other.p_tie, other.cmos), abs=1e-4)


def test_an_exported_file_is_a_model(folder: Path, tiny_model: Path, tmp_path: Path, clips: Path) -> None:
    to_onnx(load_folder(folder), tmp_path / "alone.onnx")
    alone, light = load(tmp_path / "alone.onnx"), load(folder)
    assert (alone.name, alone.version, alone.metrics) == (light.name, light.version, light.metrics)
    one, other = (judge.score(clips / "a/u1.wav") for judge in (alone, light))
    assert one.metrics == pytest.approx(other.metrics, abs=1e-4)
    assert one.intervals is not None and one.intervals.keys() == {"mos_overall"}
    with pytest.raises(UsageError, match=r"alone\.onnx is computed on the CPU only\. Use --device cpu"):
        load(tmp_path / "alone.onnx", device="cuda")


def test_comparisons_mirror_to_the_last_bit(folder: Path, clips: Path) -> None:
    judge = load(folder)
    for a, b in (("a/u0", "b/u1"), ("a/u2", "b/u2"), ("b/u1", "b/u2")):
        there, back = (judge.compare(clips / f"{x}.wav", clips / f"{y}.wav") for x, y in ((a, b), (b, a)))
        assert (there.p_a, there.p_tie, there.p_b, there.cmos) == (back.p_b, back.p_tie, back.p_a, -back.cmos)
    same = judge.compare(clips / "a/u0.wav", clips / "a/u0.wav")
    assert same.verdict == "tie" and same.cmos == 0


@pytest.mark.parametrize("key", ["name", "version"])
def test_a_file_of_other_weights_is_refused(key: str, folder: Path, tmp_path: Path) -> None:
    stale = Path(shutil.copytree(folder, tmp_path / "stale"))
    seal(stale, {**json.loads((stale / "config.json").read_text()), key: "other"})
    with pytest.raises(
        UsageError, match=rf"made of {key} .* and config.json says 'other'. Make it again with: urgentmos export"
    ):
        load(stale)


def test_metrics_that_were_not_taught_are_not_offered(tiny_model: Path, tmp_path: Path) -> None:
    assert load(light_folder(tiny_model, tmp_path / "m", metrics=["utmos"])).metrics == ("utmos",)


def test_a_model_of_the_package_is_called_by_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(PACKAGED, "pocket", folder)
    (tmp_path / "pocket").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load("pocket").name == "tiny", "a folder that has that name by chance is another thing"
    with pytest.raises(UsageError, match="Releases: pocket, "):
        load("no-such-model")
    assert all((path / "config.json").is_file() for path in PACKAGED.values())


def test_memory_that_runs_out_is_noticed_with_and_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    from urgentmos.judges.backend import halving

    def fails(_: Any) -> list[Any]:
        raise RuntimeError("a bug")

    for module in (torch, None):
        monkeypatch.setitem(sys.modules, "torch", module)
        with pytest.raises(RuntimeError, match="a bug"):
            halving(fails, [1, 2])


# ---- what config.json says of scores and verdicts


@pytest.mark.parametrize(
    "way", [lambda path: path, lambda path: (path / "model.onnx").unlink() or path], ids=["light", "torch"]
)
def test_a_temperature_in_the_config_softens_verdicts(
    way: Callable[[Path], Path], tiny_model: Path, folder: Path, tmp_path: Path, clips: Path
) -> None:
    soft = load(way(light_folder(tiny_model, tmp_path / "soft", verdict_temperature=50.0)))
    told = soft.compare(clips / "a/u1.wav", clips / "b/u0.wav")
    hard = load(folder).compare(clips / "a/u1.wav", clips / "b/u0.wav")
    assert np.ptp([told.p_a, told.p_tie, told.p_b]) < 0.1 < np.ptp([hard.p_a, hard.p_tie, hard.p_b])
    assert told.cmos == pytest.approx(hard.cmos, abs=1e-4)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"verdict_temperature": 0}, "should be a number above 0"),
        ({"verdict_temperature": "hot"}, "should be a number above 0"),
        ({"intervals": {"level": 0.9}}, "its intervals cannot be understood"),
    ],
    ids=str,
)
def test_a_config_that_means_nothing_is_refused(wrong: dict[str, Any], said: str, folder: Path, tmp_path: Path) -> None:
    bad = Path(shutil.copytree(folder, tmp_path / "bad"))
    seal(bad, {**json.loads((bad / "config.json").read_text()), **wrong})
    with pytest.raises(UsageError, match=said):
        load(bad)


def test_scores_have_intervals_only_with_a_calibration(folder: Path, tiny_model: Path, clips: Path) -> None:
    told = load(folder).score(clips / "a/u1.wav")
    assert told.intervals is not None and told.intervals.keys() == {"mos_overall"}
    score = told.metrics["mos_overall"]
    share = (score - 1) / 4
    want = [max(1, score - 0.25 - 0.25 * share), min(5, score + 0.5 + 0.25 * share)]
    assert told.intervals["mos_overall"] == pytest.approx(want)
    assert told.only(["utmos"]).intervals == {} and load(tiny_model).score(clips / "a/u1.wav").intervals is None


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet", "json"])
def test_rows_hold_intervals_in_every_ending(ending: str, folder: Path, clips: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"no audio")
    files = [str(clips / "a/u0.wav"), str(tmp_path / "bad.wav")]
    out = tmp_path / f"scores.{ending}"
    assert CliRunner().invoke(main, ["score", *files, "-m", str(folder), "-o", str(out)]).exit_code == 1
    good, bad = read_records(out)
    want = load(folder).score(files[0])
    assert good["intervals"] == want.intervals and good["metrics"] == pytest.approx(want.metrics)
    assert bad["intervals"] == {} and bad["error"]
    if ending == "csv":
        assert {"intervals.mos_overall.low", "intervals.mos_overall.high"} <= {*out.read_text().splitlines()[0].split(",")}
    again = tmp_path / "again.jsonl"
    CliRunner().invoke(main, ["score", str(out), "-m", str(folder), "-o", str(again)])
    assert "intervals" not in read_records(again)[0]["meta"] and read_records(again)[0]["intervals"] == want.intervals


def test_rows_of_a_model_without_calibration_have_no_intervals(tiny_model: Path, clips: Path) -> None:
    done = CliRunner().invoke(main, ["score", str(clips / "a/u0.wav"), "-m", str(tiny_model)])
    assert "intervals" not in json.loads(done.stdout)


def test_a_terminal_shows_the_interval_of_the_opinion_score(folder: Path, clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from urgentmos.commands import options, output

    shown: list[Any] = []
    monkeypatch.setattr(output, "table", lambda head, rows, **_: shown.extend(rows))
    monkeypatch.setattr(output.sys.stdout.__class__, "isatty", lambda _: True, raising=False)
    score = load(folder).score(clips / "a/u0.wav")
    rows = [(score.clip, {"error": None, "warnings": [], **score.interval_cell()})]
    monkeypatch.setattr(output.sys, "stdout", type("Terminal", (), {"isatty": lambda self: True})())
    output.finish(rows, None, options.run_of(1, None, None), list(score.metrics))
    (low, high), value = score.intervals["mos_overall"], score.metrics["mos_overall"]  # type: ignore[index]
    assert shown == [["u0", f"{value:.1f} [{low:.1f}, {high:.1f}]", f"{score.metrics['utmos']:.3f}"]]
