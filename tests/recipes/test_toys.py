"""The recipes at toy size, from the label to the ranking; and that what they show is learned from the labels."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lightning")
pytest.importorskip("fast_bss_eval")
pytest.importorskip("pystoi")

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str) -> str:
    """stdout of a command with one thread; `urgentmos` is the one of this Python."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def shuffled(manifest: Path, target: Path) -> Path:
    """The same labels on other clips."""
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    labels = [row["metrics"] for row in rows]
    random.Random(0).shuffle(labels)
    made = [{**row, "metrics": label} for row, label in zip(rows, labels, strict=True)]
    target.write_text("".join(json.dumps(row) + "\n" for row in made))
    return target


def test_the_toy_of_urgentmos_hears_what_shuffled_labels_do_not_teach(tmp_path: Path) -> None:
    run("bash", "recipes/urgentmos/toy.sh", str(tmp_path))
    sets = tmp_path / "sets"
    contents = [
        {json.loads(line)["reference_id"] for line in (sets / name).read_text().splitlines()}
        for name in ("train.jsonl", "dev.jsonl")
    ]
    assert all(contents) and not contents[0] & contents[1]
    taught = shuffled(sets / "train.jsonl", sets / "shuffled.jsonl")
    run("urgentmos", "train", "recipes/urgentmos/toy.yaml", f"data={taught}", f"out={tmp_path / 'other'}")
    run("urgentmos", "score", str(sets / "dev.jsonl"), "-m", str(tmp_path / "other/model"), "-o", str(tmp_path / "other.jsonl"))
    evaluated = tmp_path / "other.json"
    run("urgentmos", "evaluate", str(tmp_path / "other.jsonl"), str(sets / "dev.jsonl"), "-o", str(evaluated))
    true, other = (read(path)["utterance"]["lsd"]["lcc"] for path in (tmp_path / "evaluation.json", evaluated))
    assert true > 0.7 and true - other > 0.3
    ranking = read(tmp_path / "ranking.json")
    assert len(ranking["systems"]) == 8 and ranking["n_contents"] == len(contents[1])


def test_the_toy_of_urgent_pk_ends_in_a_ranking_and_chooses_by_ecs(tmp_path: Path) -> None:
    run("bash", "recipes/urgent-pk/toy.sh", str(tmp_path))
    result = read(tmp_path / "run/run.json")["result"]
    assert result["score"] == max(result["ecs"].values())
    for name in ("ranking", "ranking_soft"):
        ranking = read(tmp_path / f"{name}.json")
        votes = sum(system["score"] for system in ranking["systems"])
        assert votes == pytest.approx(ranking["n_contents"] * 8 * 7 / 2)
    assert read(tmp_path / "evaluation.json")["utterance"]["mos_overall"]["srcc"] > 0.2


@pytest.mark.parametrize("script", ["urgentmos/run.sh", "urgent-pk/run.sh"])
def test_the_full_recipes_say_what_they_need(script: str) -> None:
    env = {key: value for key, value in os.environ.items() if key not in ("CORPORA", "WAVLM", "DATA")}
    done = subprocess.run(["bash", f"recipes/{script}"], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode != 0 and "the folder" in done.stderr
