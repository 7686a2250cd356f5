"""The recipes that make the papers' tables: what they print is what `rank` says, and no more than the models answer."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile

torch = pytest.importorskip("torch")

from urgentmos.api import load as load_model  # noqa: E402
from urgentmos.api import rank, rank_clips  # noqa: E402
from urgentmos.clips.clip import Clip  # noqa: E402
from urgentmos.clips.verdicts import PK_BINS, PairLabels  # noqa: E402
from urgentmos.errors import UsageError  # noqa: E402
from urgentmos.evaluation.published import TABLES  # noqa: E402
from urgentmos.judges.base import Predictor  # noqa: E402
from urgentmos.models.folder import save  # noqa: E402
from urgentmos.nets.urgentpk import UrgentPk, UrgentPkConfig  # noqa: E402
from urgentmos.ranking.comparison import Comparison, comparison, failed_comparison  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
SYSTEMS = {"clean": 40.0, "fair": 15.0, "noisy": 3.0, "poor": 8.0}  # dB
RATE = 16_000


def recipe(path: str, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "recipes" / path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


tables = recipe("urgent-pk/tables.py", "recipe_tables")
symmetry = recipe("urgentmos/symmetry.py", "recipe_symmetry")


@pytest.fixture(scope="module")
def tiny_pk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An URGENT-PK model with random weights that hears differences: fresh ones say nearly the same of all pairs."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(3)
        net = UrgentPk(UrgentPkConfig(backbone="resnet18", filters=2)).eval()
        for weight in net.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return save(tmp_path_factory.mktemp("models") / "pk", net, {"name": "pk"})


def wave(content: int, snr_db: float) -> np.ndarray:
    """(T,) half a second of a gliding tone in noise."""
    rng = np.random.default_rng([content, round(snr_db)])
    t = np.arange(RATE // 2) / RATE
    noise = rng.standard_normal(len(t)) * 10 ** (-snr_db / 20)
    return 0.2 * (np.sin(2 * np.pi * (150 + 40 * content + 100 * t) * t) + noise)


def data_set(folder: Path, contents: int = 3) -> Path:
    """An URGENT-PK data set: louder noise, lower MOS, with a little of the listeners' own mind."""
    rng = np.random.default_rng(0)
    for system, snr in SYSTEMS.items():
        place = folder / system
        place.mkdir(parents=True)
        names = [f"c{k}" for k in range(contents)]
        for k, name in enumerate(names):
            soundfile.write(place / f"{name}.wav", wave(k, snr), RATE, subtype="FLOAT")
        (place / "wav.scp").write_text("".join(f"{n} {place / n}.wav\n" for n in names))
        mos = (1 + 3.5 * snr / 40 + rng.uniform(-0.3, 0.3) for _ in names)
        (place / "mos.scp").write_text("".join(f"{n} {m:.2f}\n" for n, m in zip(names, mos, strict=True)))
    (folder / "split.json").write_text(json.dumps({"tr": [], "cv": [], "tt": names}))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_set(tmp_path_factory.mktemp("sets") / "urgent25_en")


@pytest.fixture(scope="module")
def report(data: Path, tiny_pk: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("out") / "tables.json"
    given = [str(data), "--models", f"mel={tiny_pk}", "oracle=mos_overall", "--noisy-system", "noisy", "-o", str(out)]
    assert tables.main([*given, "--device", "cpu"]) == 0
    assert [path.name for path in out.parent.iterdir()] == ["tables.json"], "the journal is gone once results are safe"
    return json.loads(out.read_text())


def by_model(report: dict[str, Any], number: str) -> dict[str, Any]:
    return {row["model"]: row for row in report["tables"][number]["rows"]}


# ---- Tables II, III and V


@pytest.mark.parametrize(("label", "scoring"), [("mel BS", "binary"), ("mel NBS", "soft")])
def test_correlations_are_those_of_rank(report: Any, data: Path, tiny_pk: Path, label: str, scoring: Any) -> None:
    ranking = rank(data, load_model(tiny_pk, device="cpu"), scoring=scoring, samples=2)
    row = by_model(report, "2")[label]
    assert ranking.correlation is not None and None not in ranking.correlation.values()
    assert {name: row[name] for name in tables.STATISTICS} == pytest.approx(ranking.correlation)
    assert row["contents"] == 3


def test_opinions_are_those_of_rank_by_both_strategies(report: Any, data: Path, tiny_pk: Path) -> None:
    judge, rows = load_model(tiny_pk, device="cpu"), by_model(report, "5")
    clips = tables.read_data(data).clips
    for label, noisy in (("mel replication", None), ("mel noisy", "noisy")):
        ranking, _ = rank_clips(clips, judge, "mos", noisy_system=noisy, samples=2)
        assert {name: rows[label][name] for name in tables.STATISTICS} == pytest.approx(ranking.correlation)
    assert rows["mel replication"]["lcc"] != rows["mel noisy"]["lcc"]
    assert "oracle noisy" not in rows, "a judge of single clips hears no second one"


def test_an_unprocessed_system_without_mos_still_stands_beside_the_others(
    data: Path, tiny_pk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "set"
    for path in data.rglob("*"):
        if path.is_file() and path.suffix != ".wav" and path != data / "noisy" / "mos.scp":
            target = place / path.relative_to(data)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(path.read_text())
    judges = {"mel": load_model(tiny_pk, device="cpu")}
    found = tables.opinion_rows(tables.read_data(place, noisy_system="noisy"), judges, "noisy")
    full, _ = rank_clips(tables.read_data(data).clips, judges["mel"], "mos", noisy_system="noisy", samples=2)
    rated = [s for s in full.systems if s.system_id != "noisy"]
    expected = np.corrcoef([s.score for s in rated], [s.mos for s in rated])[0, 1]
    assert found[1]["lcc"] == pytest.approx(expected)
    assert "Left out" not in capsys.readouterr().err
    assert {c.system_id for c in tables.read_data(place).clips} == set(SYSTEMS) - {"noisy"}
    assert "noisy" in capsys.readouterr().err


# ---- Table IV


class Scripted(Predictor):
    """A judge whose answers are given; its score of a clip is its MOS, turned round or not."""

    name, version, metrics, ranks_by = "scripted", "0", ("mos_overall",), "mos_overall"

    def __init__(self, sign: float, deaf: str = "") -> None:
        self.sign, self.deaf = sign, deaf

    def score_clips(self, clips: Any, run: Any = None) -> Any:
        raise NotImplementedError

    score = compare = score_clips  # type: ignore[assignment]

    def compare_clips(self, pairs: Any, run: Any = None) -> Any:
        for a, b in pairs:
            if self.deaf in (a.uid, b.uid):
                yield failed_comparison(a.uid, b.uid, "it is deaf")
                continue
            lead = self.sign * np.sign(a.metrics["mos_overall"] - b.metrics["mos_overall"])
            yield comparison(a.uid, b.uid, np.array([(1 + lead) / 2, 0, (1 - lead) / 2, lead]))


def rated_clips(per_system: int = 4) -> list[Clip]:
    rng = np.random.default_rng(1)
    return [
        Clip(f"s{s}:c{c}", f"s{s}/c{c}.wav", f"s{s}", f"c{c}", metrics={"mos_overall": round(float(rng.uniform(1, 4)), 2)})
        for s in range(6)
        for c in range(per_system)
    ]


def test_drawn_pairs_fill_the_bins_once_each_and_alike() -> None:
    clips = rated_clips(20)
    pairs = tables.drawn_pairs(clips, 7, seed=5)
    counts = np.histogram([abs(pair.cmos) for pair in pairs], PK_BINS)[0]
    assert counts.tolist() == [7] * 5
    assert len({frozenset((pair.a.uid, pair.b.uid)) for pair in pairs}) == len(pairs)
    assert all(pair.a.reference_id == pair.b.reference_id for pair in pairs)
    assert pairs == tables.drawn_pairs(clips, 7, seed=5) != tables.drawn_pairs(clips, 7, seed=6)


def test_a_judge_that_follows_mos_is_always_right_and_its_opposite_never(capsys: pytest.CaptureFixture[str]) -> None:
    pairs = tables.drawn_pairs(rated_clips(), 5)
    right, wrong = tables.accuracy_rows(pairs, {"right": Scripted(1), "wrong": Scripted(-1)})
    assert right["mean"] == 1.0 and wrong["mean"] == 0.0
    deaf = tables.accuracy_rows(pairs, {"deaf": Scripted(1, deaf=pairs[0].a.uid)})[0]
    assert sum(b["n"] for b in deaf["bins"]) < sum(b["n"] for b in right["bins"])
    assert "could not judge" in capsys.readouterr().err


def test_listeners_verdicts_are_the_truth_where_there_are_some() -> None:
    drawn = tables.drawn_pairs(rated_clips(), 4)
    against = [replace_verdict(pair, {"a": "b", "b": "a"}[pair.verdict]) for pair in drawn]  # listeners against their own MOS
    mos, judge = tables.accuracy_rows(against, {"against": Scripted(-1)})
    assert (mos["model"], mos["mean"], judge["mean"]) == ("MOS_cp", 0.0, 1.0)


def replace_verdict(pair: Any, verdict: str) -> Any:
    return pair._replace(verdict=verdict, cmos=None, scope="native")


def test_judged_pairs_are_read_from_a_file(data: Path, tiny_pk: Path, tmp_path: Path) -> None:
    file = tmp_path / "judged.jsonl"
    rows = [{"uids": ["clean:c0", "poor:c0"], "verdict": "b"}, {"uids": ["fair:c1", "poor:c1"], "verdict": "a"}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = tables.make(tables.read_data(data), {"oracle": load_model("mos_overall")}, [4], judged=file)
    first, second = found["tables"]["4"]["rows"]
    assert first["model"] == "MOS_cp" and first["bins"] == second["bins"], "both decide by MOS"
    assert [b["n"] for b in first["bins"]] != [0] * 5


# ---- on paper


def test_the_paper_stands_below_where_the_data_set_has_its_name(report: Any, data: Path) -> None:
    for number, key in (("2", "PK-III"), ("4", "PK-IV"), ("5", "PK-V")):
        assert list(report["tables"][number]["published"]["rows"]) == list(TABLES[key].rows)
    assert tables.published_of(2, "CHiME-7")["rows"]["UTMOS"] == [0.2, 0.2, 0.267]
    assert tables.published_of(4, "CHiME-7") is tables.published_of(5, "CHiME-7") is tables.published_of(2, "mine") is None
    text = "\n".join(tables.lines(report))
    assert "UG-PK_mel NBS" in text and "0.853      0.960      0.935" in text
    ours = by_model(report, "2")["mel BS"]
    line = next(line for line in text.splitlines() if line.startswith("mel BS"))
    assert line.split()[2:] == [f"{ours[name]:.3f}" for name in tables.STATISTICS]


def test_columns_stand_below_their_heads(report: Any) -> None:
    block: list[str] = []
    for line in [*tables.lines(report)]:
        if line.startswith("model"):
            block = [line]
        elif block and line and not line.startswith("published"):
            assert len(line) == len(block[0]), "numbers end where their heads end"
        else:
            block = block if line.startswith("published") else []


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--noisy-system", "nobody"], "no system 'nobody'"),
        (["-o", "tables.csv"], "ends in .json"),
        (["--per-bin", "0"], "Give 1 or more"),
        (["--models", "a=mos_overall", "a=mos_overall"], "a name twice"),
    ],
)
def test_what_cannot_be_done_is_said_before_the_work(
    data: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tables.main([str(data), "--models", "x=mos_overall", *more]) == 2
    assert said in capsys.readouterr().err


def test_a_set_without_listeners_is_refused(tmp_path: Path) -> None:
    rows = [{"uid": s, "audio_path": "x.wav", "system_id": s, "reference_id": "c"} for s in "ab"]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UsageError, match=r"mos\.scp"):
        tables.read_data(tmp_path / "rows.jsonl")


# ---- Table 8 of UrgentMOS


def verdict_row(p_a: float, p_tie: float) -> Comparison:
    return comparison("a", "b", np.array([p_a, p_tie, 1 - p_a - p_tie, 0.0]))


class Ordered(Scripted):
    """Always prefers the first of two clips, as a net may that never saw a pair turned round; averaged, it knows nothing."""

    def __init__(self, symmetric: bool) -> None:
        self.symmetric = symmetric

    def compare_clips(self, pairs: Any, run: Any = None) -> Any:
        return (verdict_row(*((0.25, 0.5) if self.symmetric else (0.75, 0.0))) for _ in pairs)


def test_a_net_that_prefers_the_first_is_right_in_one_order_and_wrong_in_the_other() -> None:
    clip = Clip("u", "u.wav")
    labels = PairLabels(np.full(4, np.nan), np.ones(4))  # A is better in all four
    pairs = symmetry.Labelled("x", [(clip, clip)] * 4, labels)
    there, back, both = symmetry.rows_of(pairs, "net", Ordered(False), Ordered(True))
    assert [row["acc_0"] for row in (there, back, both)] == [1.0, 0.0, 0.0]
    assert [row["order"] for row in (there, back, both)] == ["A, B", "B, A", "both"]
    assert there["same"] == 0.0


def test_both_orders_of_a_model_on_a_file_of_pairs(
    data: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {
            "uids": [f"{a}:c{k}", f"{b}:c{k}"],
            "audio_paths": [str(data / a / f"c{k}.wav"), str(data / b / f"c{k}.wav")],
            "verdict": "a",
            "corpus": "speecheval",
        }
        for k, (a, b) in enumerate((("clean", "noisy"), ("fair", "poor"), ("noisy", "fair")))
    ]
    turned = [{**row, "uids": row["uids"][::-1], "audio_paths": row["audio_paths"][::-1], "verdict": "b"} for row in rows]
    found = []
    for name, chosen in (("rows", rows), ("turned", turned)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chosen))
        out = tmp_path / f"{name}.json"
        given = [str(tmp_path / f"{name}.jsonl"), "--models", f"tiny={tiny_model}", "-o", str(out), "--device", "cpu"]
        assert symmetry.main(given) == 0
        found.append(json.loads(out.read_text()))
    one, other = ([row["acc_0"] for row in report["rows"]] for report in found)
    assert one == [other[1], other[0], other[2]], "turning the file swaps the orders, and their average stays"
    assert found[0]["rows"][0]["n"] == 3
    assert found[0]["published"]["rows"]["w/ symm."] == [0.81, 0.89]
    assert "w/o symm." in capsys.readouterr().out


def test_unlabelled_pairs_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps({"uids": ["a", "b"], "audio_paths": ["a.wav", "b.wav"]}) + "\n")
    with pytest.raises(UsageError, match="no pair has a verdict"):
        symmetry.read_pairs(file)


# ---- the scripts


@pytest.mark.parametrize(("script", "said"), [("urgent-pk/delta.sh", "the folder"), ("urgentmos/encoders.sh", "NAME=FOLDER")])
def test_the_scripts_say_what_they_need(script: str, said: str) -> None:
    env = {key: value for key, value in os.environ.items() if key not in ("DATA", "ENCODERS")}
    done = subprocess.run(["bash", str(ROOT / "recipes" / script)], env=env, capture_output=True, text=True)
    assert done.returncode != 0 and said in done.stderr
