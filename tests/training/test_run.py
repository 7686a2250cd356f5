"""Training runs end to end: tiny nets and data, one thread. Labels are a function of the noise: there is something to learn."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
import torch

pytest.importorskip("lightning")

from urgentmos.api import load
from urgentmos.errors import UsageError
from urgentmos.models import folder as checkpoints
from urgentmos.training.checkpointing import state_of
from urgentmos.training.config import TrainConfig, make_config, read_config
from urgentmos.training.folder import Trained, fingerprint
from urgentmos.training.run import both_sides, ecs_score, fit

RATE = 16_000
SNRS = (40.0, 25.0, 12.0, 0.0)
TINY = {
    "model": "f1c1m5-dref",
    "size": "pocket",
    "encoder": {"width": 16, "layers": 1, "channels": 4, "heads": 2, "feedforward": 32, "bands": 20},
    "net": {"dim": 16, "layers": 1, "heads": 2, "feedforward": 32, "preference_heads": 2},
    "steps": 4,
    "valid_every": 2,
    "batch_seconds": 4.0,
    "lr": 3e-3,
    "valid_share": 0.0,
    "tensorboard": False,
    "device": "cpu",
}
PK = {
    "model": "urgent-pk",
    "net": {"backbone": "resnet18", "filters": 4},
    "steps": 4,
    "valid_every": 2,
    "batch_pairs": 4,
    "valid_share": 0.0,
    "tensorboard": False,
    "device": "cpu",
    "lr": 1e-3,
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write_set(folder: Path, make_voice, add_noise, contents: int, seconds: float = 0.5, first: int = 0) -> Path:
    """A manifest: each content by each of four systems, whose MOS falls with their noise."""
    folder.mkdir(parents=True)
    rows = []
    for u in range(first, first + contents):
        clean = make_voice(u, seconds)
        for s, snr in enumerate(SNRS):
            path = folder / f"s{s}_u{u}.wav"
            soundfile.write(path, add_noise(clean, snr, seed=100 * u + s), RATE, subtype="FLOAT")
            mos = 4.6 - s + 0.05 * (u % 3)
            rows.append(
                {
                    "uid": path.stem,
                    "audio_path": path.name,
                    "system_id": f"s{s}",
                    "reference_id": f"u{u}",
                    "corpus": "tiny",
                    "duration": seconds,
                    "metrics": {"mos_overall": mos, "utmos": None if u == first else mos - 0.2},
                }
            )
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return manifest


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> tuple[Path, Path]:
    """(training manifest, validation manifest)."""
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("fixtures", Path(__file__).parents[1] / "conftest.py")
    assert spec and spec.loader
    fixtures = module_from_spec(spec)
    spec.loader.exec_module(fixtures)
    root = tmp_path_factory.mktemp("sets")
    return (
        write_set(root / "train", fixtures.voice, fixtures.noisy, 6),
        write_set(root / "valid", fixtures.voice, fixtures.noisy, 3, first=50),
    )


def trained(sets: tuple[Path, Path], out: Path, base: dict = TINY, **changes: object) -> Trained:
    return fit(make_config({**base, "data": [str(sets[0])], "valid": [str(sets[1])], "out": str(out), **changes}))


def weights(folder: Path) -> dict:
    return {name: x.clone() for name, x in checkpoints.load(folder).net.state_dict().items()}


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# ---- what a run leaves


def test_a_run_leaves_a_model_that_scores_compares_and_says_what_it_was_trained_on(sets, tmp_path) -> None:
    done = trained(sets, tmp_path / "run", name="tiny")
    assert done.model == tmp_path / "run" / "model" and done.step in (2, 4)
    model = load(done.model)
    clip = sets[1].parent / "s0_u50.wav"
    assert model.name == "tiny" and set(model.score(clip).metrics) == {"mos_overall", "utmos"}  # taught, and no other
    assert model.compare(clip, clip).verdict == "tie"
    assert "tiny (24 clips" in checkpoints.load(done.model).info["trained_on"]
    assert done.score == max(float(row["score"]) for row in rows(tmp_path / "run/valid.csv"))


def test_the_run_folder_holds_config_versions_fingerprints_and_logs(sets, tmp_path) -> None:
    trained(sets, tmp_path / "run")
    about = json.loads((tmp_path / "run/run.json").read_text())
    assert about["data"][0]["sha256"] == fingerprint(sets[0]) and about["versions"]["torch"]
    assert about["training"]["labels"] == {"mos_overall": 24, "utmos": 20}
    log = rows(tmp_path / "run/train.csv")
    assert [row["step"] for row in log] == ["1", "2", "3", "4"] and {"loss", "loss_utmos", "loss_verdict"} <= log[0].keys()
    again = read_config(str(tmp_path / "run/config.yaml"), [f"out={tmp_path / 'again'}"])
    assert same(weights(fit(again).model), weights(tmp_path / "run/model"))


def test_a_net_learns_what_the_labels_say_and_nothing_from_shuffled_ones(sets, tmp_path) -> None:
    """Held-out contents. Dealt in a Latin square, the labels of four contents say nothing about the systems."""
    lines = [{**json.loads(line), "metrics": {}} for line in sets[0].read_text().splitlines()][:16]
    values = [[1.6 + s for s in (3, 2, 1, 0)], [1.6 + (s + u) % 4 for u in range(4) for s in range(4)]]
    found = []
    for name, labels in zip(("true", "shuffled"), (values[0] * 4, values[1]), strict=True):
        file = sets[0].with_name(f"{name}.jsonl")
        rows_ = [{**row, "metrics": {"mos_overall": label}} for row, label in zip(lines, labels, strict=True)]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows_))
        last = []
        for seed in range(3):
            trained((file, sets[1]), tmp_path / f"{name}{seed}", steps=60, valid_every=60, seed=seed)
            last.append(rows(tmp_path / f"{name}{seed}/valid.csv")[-1])
        found.append({k: [float(row[k]) for row in last] for k in ("srcc_mos_overall", "mse_mos_overall", "accuracy")})
    true, shuffled = found
    assert min(true["srcc_mos_overall"]) > 0.8 > 0.5 > sum(shuffled["srcc_mos_overall"]) / 3
    assert max(true["mse_mos_overall"]) < min(shuffled["mse_mos_overall"]) / 2
    assert min(true["accuracy"]) > sum(shuffled["accuracy"]) / 3


def test_finished_runs_are_not_done_again(sets, tmp_path) -> None:
    first = trained(sets, tmp_path / "run")
    before = (tmp_path / "run/last.ckpt").stat().st_mtime_ns
    assert trained(sets, tmp_path / "run") == first and (tmp_path / "run/last.ckpt").stat().st_mtime_ns == before


@pytest.mark.parametrize(("rank", "sentences"), [(0, 1), (1, 0)])
def test_one_process_of_several_speaks(rank, sentences, sets, tmp_path, monkeypatch) -> None:
    from lightning.fabric.utilities.rank_zero import rank_zero_only

    done = trained(sets, tmp_path / "run")
    said: list[str] = []
    monkeypatch.setattr(rank_zero_only, "rank", rank)
    config = make_config({**TINY, "data": [str(sets[0])], "valid": [str(sets[1])], "out": str(tmp_path / "run")})
    assert fit(config, say=said.append) == done and len(said) == sentences


def test_a_folder_of_another_run_is_refused(sets, tmp_path) -> None:
    trained(sets, tmp_path / "run")
    with pytest.raises(UsageError, match="another lr"):
        trained(sets, tmp_path / "run", lr=1e-5)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.txt").write_text("precious")
    with pytest.raises(UsageError, match="not empty"):
        trained(sets, tmp_path / "other")


# ---- going on


def test_a_run_in_two_parts_gives_the_weights_and_logs_of_one(sets, tmp_path) -> None:
    """Both accumulate, drop out, and stop in the middle of an epoch."""
    more = {"accumulate": 2, "warmup": 3, "steps": 6}
    trained(sets, tmp_path / "whole", **more)
    trained(sets, tmp_path / "parts", **{**more, "steps": 4})
    assert state_of(tmp_path / "parts") == {"consumed": 8, "step": 4}
    trained(sets, tmp_path / "parts", **more)
    assert same(weights(tmp_path / "whole/model"), weights(tmp_path / "parts/model"))
    whole, parts = (
        [{k: v for k, v in row.items() if k != "seconds"} for row in rows(tmp_path / name / "train.csv")]
        for name in ("whole", "parts")
    )
    assert whole == parts and rows(tmp_path / "whole/valid.csv") == rows(tmp_path / "parts/valid.csv")


@pytest.mark.parametrize("base", [{**TINY, "optimizer": "muon"}, PK], ids=["urgentmos", "urgent-pk"])
def test_a_killed_run_goes_on_to_the_weights_of_the_undisturbed_one(base, sets, tmp_path) -> None:
    changes = {"steps": 30, "valid_every": 5, "speed": 0.1, "crop": 0.8, "data": [str(sets[0])], "valid": [str(sets[1])]}
    config = make_config({**base, **changes, "out": str(tmp_path / "killed")})
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    code = (
        "import json, sys, torch; torch.set_num_threads(1)\n"
        "from urgentmos.training.run import fit; from urgentmos.training.config import make_config\n"
        f"fit(make_config(json.load(open({str(tmp_path / 'config.json')!r}))))"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 120
    log = tmp_path / "killed/train.csv"
    while process.poll() is None and time.monotonic() < deadline and len(rows(log) if log.exists() else []) < 7:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    state = state_of(tmp_path / "killed")
    assert state is not None and 5 <= state["step"] < 30  # it was killed on its way
    fit(config)
    fit(make_config({**base, **changes, "out": str(tmp_path / "whole")}))
    last = "best/step-0000030"
    folders = [tmp_path / name / ("model" if base is PK else last) for name in ("killed", "whole")]
    found = [folder if folder.exists() else folder.parents[1] / "model" for folder in folders]
    assert same(weights(found[0]), weights(found[1]))
    states = [torch.load(tmp_path / name / "last.ckpt", weights_only=True)["state_dict"] for name in ("killed", "whole")]
    assert same(*states)


def test_two_processes_take_the_steps_of_one_with_the_doubled_batch(sets, tmp_path) -> None:
    """Also where the halves have unlike numbers of labels; without dropout and batch norm, which differ between processes."""
    still = {
        "net": {**TINY["net"], "dropout": 0.0},
        "encoder": {**TINY["encoder"], "dropout": 0.0, "batch_norm": False},
        "pairs_per_clip": 100,
        "steps": 5,
        "valid_every": 5,
    }
    trained(sets, tmp_path / "one", **still, batch_seconds=8.0)
    config = {**TINY, **still, "batch_seconds": 4.0, "devices": 2, "strategy": "ddp", "out": str(tmp_path / "two")}
    plain = make_config({**config, "data": [str(sets[0])], "valid": [str(sets[1])]}).to_dict()
    (tmp_path / "config.json").write_text(json.dumps(plain))
    script = tmp_path / "two.py"
    script.write_text(
        "import json, torch\ntorch.set_num_threads(1)\n"
        "from urgentmos.training.run import fit\nfrom urgentmos.training.config import make_config\n"
        f"if __name__ == '__main__':\n    fit(make_config(json.load(open({str(tmp_path / 'config.json')!r}))))\n"
    )
    env = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(script)], env=env, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (_without_key_biases(weights(tmp_path / name / "model")) for name in ("one", "two"))
    # Adam makes steps of gradients however small: of attention's they are near rounding here, and 5 steps reach 0.015
    assert all(torch.allclose(one[name], two[name], rtol=0, atol=5e-5) for name in one)
    begun = weights(fit(make_config({**plain, "devices": 1, "strategy": "auto", "steps": 1, "out": str(tmp_path / "b")})).model)
    assert not all(torch.allclose(one[name], begun[name], atol=1e-3) for name in one)  # there was something to get wrong


def _without_key_biases(state: dict) -> dict:
    """The bias of attention's keys cancels in the softmax: its gradient is rounding noise, which Adam makes steps of."""
    for name, x in state.items():
        if name.endswith(("qkv.bias", "in_proj_bias")):
            x[len(x) // 3 : 2 * len(x) // 3] = 0.0
    return state


# ---- fine-tuning, caches, pairs


def test_a_model_is_fine_tuned_from_its_folder(sets, tmp_path) -> None:
    base = trained(sets, tmp_path / "base")
    own = {k: v for k, v in TINY.items() if k not in ("model", "size", "net", "encoder")}
    tuned = trained(sets, tmp_path / "tuned", own, model=str(base.model), lr=1e-6, steps=1)
    before, after = weights(base.model), weights(tuned.model)
    assert not same(before, after) and all(torch.allclose(before[n], after[n], atol=1e-4) for n in before)
    info = checkpoints.load(tuned.model).info
    assert "; then tiny" in info["trained_on"] and info["started_from"]["name"] == "base"
    with pytest.raises(UsageError, match="belong to new models"):
        trained(sets, tmp_path / "x", own, model=str(base.model), net={"dim": 8})


def test_cached_features_of_a_frozen_encoder_train_as_the_encoder_does(sets, tmp_path, monkeypatch) -> None:
    from urgentmos.nets.encoder import EncoderConfig
    from urgentmos.nets.presets import Preset

    def frozen(preset: Preset, size: str) -> tuple[EncoderConfig, ...]:
        return (EncoderConfig(kind="conv", model=TINY["encoder"]),)

    monkeypatch.setattr(Preset, "_encoders", frozen)
    plain = {**TINY, "encoder": {}}
    trained(sets, tmp_path / "heard", plain)
    trained(sets, tmp_path / "cached", plain, cache=str(tmp_path / "cache"))
    a, b = weights(tmp_path / "heard/model"), weights(tmp_path / "cached/model")
    assert all(torch.allclose(a[name], b[name], atol=5e-3) for name in a)
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == 36
    monkeypatch.setattr("urgentmos.training.cache.clip_states", None)  # nothing is made again
    monkeypatch.setattr("urgentmos.training.data.Reader.wave", None)  # and nothing is decoded
    trained(sets, tmp_path / "again", plain, cache=str(tmp_path / "cache"))
    assert same(weights(tmp_path / "again/model"), b)
    with pytest.raises(UsageError, match="whole clips as they are"):
        trained(sets, tmp_path / "varied", plain, cache=str(tmp_path / "cache"), speed=0.1)
    monkeypatch.undo()
    with pytest.raises(UsageError, match="cannot be cached"):
        trained(sets, tmp_path / "learning", cache=str(tmp_path / "cache"))


def test_urgent_pk_keeps_the_best_by_each_objective_and_chooses_by_ecs(sets, tmp_path) -> None:
    done = trained(sets, tmp_path / "run", PK, steps=8, valid_every=1, keep=2)
    result = json.loads((tmp_path / "run/run.json").read_text())["result"]
    logged = {int(row["step"]): row for row in rows(tmp_path / "run/valid.csv")}
    wanted = set()
    for objective in ("loss", "bce", "mse"):
        wanted |= set(sorted(logged, key=lambda step: (float(logged[step][objective]), step))[:2])
    assert {int(folder.name.split("-")[1]) for folder in (tmp_path / "run/best").iterdir()} == wanted
    ecs = {int(step): score for step, score in result["ecs"].items()}
    assert ecs.keys() == wanted and done.score == max(ecs.values()) == ecs[done.step]
    valid = both_sides(make_config({**PK, "data": [str(sets[0])], "valid": [str(sets[1])]}))[1]
    assert ecs_score(done.model, valid) == done.score


def test_urgent_pk_learns_which_sounds_better(sets, tmp_path) -> None:
    trained(sets, tmp_path / "run", PK, steps=60, valid_every=60, lr=3e-3)
    assert float(rows(tmp_path / "run/valid.csv")[-1]["accuracy"]) > 0.8


def test_native_pairs_alone_train_a_net(sets, tmp_path) -> None:
    folder = sets[0].parent
    pairs = [
        {"uids": ["x", "y"], "audio_paths": [f"s{a}_u{u}.wav", f"s{b}_u{u}.wav"], "verdict": "a" if a < b else "b"}
        for u in range(6)
        for a, b in ((0, 3), (3, 1), (1, 2))
    ]
    file = folder / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in pairs))
    config = {**TINY, "pairs": [str(file)], "valid": [str(sets[1])], "out": str(tmp_path / "run"), "steps": 40}
    fit(make_config({**config, "valid_every": 40}))
    assert float(rows(tmp_path / "run/valid.csv")[-1]["accuracy_0"]) > 0.7


# ---- data


def test_the_split_leaves_no_content_on_both_sides(sets) -> None:
    config = make_config({**TINY, "data": [str(sets[0]), str(sets[1])], "valid_share": 0.4})
    train, valid = both_sides(config)
    sides = [{clip.reference_id for clip in side.clips} for side in (train, valid)]
    assert all(sides) and not sides[0] & sides[1] and len(train.clips) + len(valid.clips) == 36


def test_recordings_on_both_sides_are_refused(sets) -> None:
    with pytest.raises(UsageError, match="24 recordings are in data and in valid"):
        both_sides(make_config({**TINY, "data": [str(sets[0])], "valid": [str(sets[0])]}))


def test_data_without_a_label_of_the_model_is_refused(sets, tmp_path) -> None:
    bare = sets[0].with_name("bare.jsonl")
    rows_ = [{**json.loads(line), "metrics": {"sdr": 3.0}} for line in sets[0].read_text().splitlines()]
    bare.write_text("".join(json.dumps(row) + "\n" for row in rows_))
    with pytest.raises(UsageError, match="none of the model's metrics has a label"):
        trained((bare, sets[1]), tmp_path / "run")


def test_nothing_to_train_on_is_said(tmp_path) -> None:
    with pytest.raises(UsageError, match="data=FILE"):
        fit(TrainConfig(out=str(tmp_path)))


# ---- every key does something


CHANGES = {
    "seed": 1,
    "optimizer": "muon",
    "lr": 1e-4,
    "weight_decay": 0.9,
    "schedule": "linear",
    "warmup": 3,
    "clip": 1e-3,
    "accumulate": 2,
    "batch_seconds": 2.0,
    "absolute": 2.0,
    "comparative": 2.0,
    "regression": 2.0,
    "verdict": 2.0,
    "delta": 2.5,
    "metric_weights": {"utmos": 9.0},
    "symmetric": False,
    "homologous": 2,
    "pairs_per_clip": 0.5,
    "max_seconds": 0.3,
    "scope": "any",
    "judge": "utmos",
    "steps": 3,
}


@pytest.fixture(scope="module")
def usual(sets, tmp_path_factory) -> dict:
    return weights(trained(sets, tmp_path_factory.mktemp("usual") / "run", keep=1, valid=[], valid_every=99).model)


@pytest.mark.parametrize("key", CHANGES)
def test_each_key_changes_what_is_learned(key, sets, usual, tmp_path) -> None:
    config = {**TINY, "data": [str(sets[0])], "out": str(tmp_path / "run"), "keep": 1, "valid_every": 99, key: CHANGES[key]}
    assert not same(weights(fit(make_config(config)).model), usual)


def test_workers_change_nothing(sets, usual, tmp_path) -> None:
    assert same(weights(trained(sets, tmp_path / "run", keep=1, valid=[], valid_every=99, workers=1).model), usual)


def test_standardised_heads_start_at_the_mean_of_their_labels(sets, tmp_path) -> None:
    far = sets[0].with_name("far.jsonl")
    rows_ = [json.loads(line) for line in sets[0].read_text().splitlines()]
    for k, row in enumerate(rows_):
        row["metrics"] = {"sdr": 20.0 + k, "lsd": 7.0 + k % 2}
    far.write_text("".join(json.dumps(row) + "\n" for row in rows_))
    five = {**TINY, "model": "f1c5m15-dref", "lr": 1e-9, "steps": 1, "valid": [], "standardise": True}
    done = trained((far, sets[1]), tmp_path / "run", five, judge="sdr")
    told = load(done.model).score(sets[0].parent / "s0_u0.wav").metrics
    assert abs(told["sdr"] - 31.5) < 3 and abs(told["lsd"] - 7.5) < 3


def test_a_preset_without_its_pretrained_encoder_is_refused(sets, tmp_path) -> None:
    with pytest.raises(UsageError, match="encoder_weights"):
        trained(sets, tmp_path / "run", size="base", encoder={}, net={})
