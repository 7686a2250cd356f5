"""Trained models -> the folder that is shipped: the one that validation prefers, with weights of eight bits, calibrated on
validation contents, and an ONNX file beside it. Models of which one went on from the other are near enough to each other for
their mean to be a model (Wortsman et al. 2022, "Model soups"): with `--before`, the model that all went on from, validation
chooses among them, their mean, and the mean of that model and them; with `--mean` it is the mean of those that are named.

Intervals are split-conformal (urgentmos.models.calibration), a content counting once. Verdicts get the temperature at which the
validation pairs' labels (Eq. 6 on the pseudo-labels) are likeliest.
"""

import argparse
import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from evaluate import judged, pairs_of, predicted
from safetensors import safe_open
from safetensors.numpy import load_file, save
from targets import column, read

import urgentmos
from urgentmos.clips.verdicts import DELTA, A, verdicts
from urgentmos.common.packaged import PACKAGED
from urgentmos.judges.export import to_onnx
from urgentmos.judges.int8 import quantised
from urgentmos.judges.onnx import ONNX
from urgentmos.models.calibration import LEVEL, calibrate
from urgentmos.models.folder import CONFIG, load_any, seal
from urgentmos.training.tasks import correlations_of

WEIGHTS = "model.safetensors"
# In plain words, for whoever lists the models.
TRAINED_ON = (
    "simulated and real damage of clean speech; labels are measured metrics; no human scores: mos_overall is a pseudo-label, a "
    "consensus of Distill-MOS, PESQ, PESQc2 and PLCMOS put on the MOS scale by 78 human-scored P.835 clips"
)
LICENCE = "MIT; made from speech under CC0, CC BY, CC BY-SA, Apache-2.0 and the like, see MODEL_CARD.md"
FILES = ("model", "encoder_weights", "data", "pairs", "valid", "valid_pairs", "out")
TEMPERATURES = np.geomspace(0.5, 10.0, 91)


def best_temperature(p: np.ndarray, delta: np.ndarray) -> float:
    """p (P, 3) of a, tie, b at temperature 1, delta (P,) -> the temperature of the largest likelihood."""
    label = labels(delta)
    logits = np.log(np.maximum(p, 1e-12))

    def surprise(temperature: float) -> float:
        scaled = logits / temperature
        return float(np.mean(np.logaddexp.reduce(scaled, axis=1) - scaled[np.arange(len(label)), label]))

    return float(min(TEMPERATURES, key=surprise))


class Heard(NamedTuple):
    """What a model says of validation clips and of pairs of them, and what is known of them."""

    told: dict[str, np.ndarray]  # metric -> (B,)
    measured: dict[str, np.ndarray]
    p: np.ndarray  # (P, 3) of a, tie, b
    delta: np.ndarray  # (P,) of the pseudo-label


def heard(model: Path, rows: Sequence[dict]) -> Heard:
    """By onnxruntime, which takes a fraction of torch's time; so the folder gets an ONNX file."""
    to_onnx(load_any(model), model / ONNX, start="log-mel")
    loaded = urgentmos.load(model)
    told, pairs = predicted(loaded, rows), pairs_of(rows, "mos_overall")
    measured = {name: column(rows, name) for name in told}
    return Heard(told, measured, judged(loaded, rows, pairs)[:, :3], np.array([d for *_, d in pairs]))


def agreement(told: Mapping[str, np.ndarray], measured: Mapping[str, np.ndarray], p: np.ndarray, delta: np.ndarray) -> float:
    """The score of a training's validation: the mean SRCC with the metrics, each (B,), plus the accuracy of verdicts (P, 3)."""
    return float(correlation(told, measured) + np.mean(p.argmax(axis=1) == labels(delta)))


def correlation(told: Mapping[str, np.ndarray], measured: Mapping[str, np.ndarray]) -> float:
    """The mean SRCC with the metrics, each (B,), as validation counts it: of those that can be correlated."""
    found = correlations_of({name: [told[name]] for name in told}, {name: [measured[name]] for name in told})
    return float(np.mean([value for name, value in found.items() if name.startswith("srcc_")]))


def labels(delta: np.ndarray) -> np.ndarray:
    """Differences of opinion (P,) -> the columns of their verdicts: 0, 1, 2 for a, tie, b."""
    return (A - verdicts(delta, DELTA)).astype(int)


def chosen(models: Sequence[Path]) -> Path:
    """The model that did best on validation data, by the score that its training kept."""
    scores = [json.loads((model / CONFIG).read_text(encoding="utf-8"))["validation"]["score"] for model in models]
    for model, score in zip(models, scores, strict=True):
        print(f"{score:.4f} {model}")
    return models[int(np.argmax(scores))]


def mean_of(models: Sequence[Path], out: Path) -> None:
    """A folder like the last model's, with the mean of all models' weights, running means of batch norm included."""
    shutil.copytree(models[-1], out, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.onnx"))
    states = [load_file(model / WEIGHTS) for model in models]
    with safe_open(out / WEIGHTS, "np") as file:
        said = file.metadata()
    mean = {name: np.mean([state[name] for state in states], axis=0, dtype=float) for name in states[0]}
    mean = {name: np.asarray(x, dtype=states[0][name].dtype) for name, x in mean.items()}
    (out / WEIGHTS).write_bytes(save(mean, metadata=said))  # `save_file` would let nobody else read it


def preferred(models: Sequence[Path], before: Path, rows: Sequence[dict], out: Path) -> None:
    """OUT becomes the model, or the mean of models, that agrees best with validation clips."""
    choice = [[model] for model in models] + [list(models)] * (len(models) > 1) + [[before, *models]]
    with tempfile.TemporaryDirectory() as work:
        scores = []
        for number, some in enumerate(choice):
            mean_of(some, folder := Path(work, str(number)))
            seal(folder)
            scores.append(agreement(*heard(folder, rows)))
            print(f"{scores[-1]:.4f} {'the mean of ' * (len(some) > 1)}{', '.join(map(str, some))}")
        best = int(np.argmax(scores))
        shutil.copytree(Path(work, str(best)), out, dirs_exist_ok=True)
    config = json.loads((out / CONFIG).read_text(encoding="utf-8"))
    seal(out, unfinished(config, len(choice[best]) > 1))


def unfinished(config: dict[str, object], mean: bool) -> dict[str, object]:
    """Without the temperature of a model that was finished before, and for a mean without the validation of one model."""
    return {key: value for key, value in config.items() if key != "verdict_temperature" and not (mean and key == "validation")}


def snap(model: Path) -> str:
    """Put the weights on a grid of eight bits (judges.int8), as in the ONNX file -> the version of what they are then."""
    file = model / WEIGHTS
    with safe_open(file, "np") as said:
        about = said.metadata()
    file.write_bytes(save({name: quantised(weight) for name, weight in load_file(file).items()}, metadata=about))
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]


def without_folders(settings: dict[str, object]) -> dict[str, object]:
    """Settings of a training, its files by their names alone: where they lay is nobody's business."""

    def name(value: object) -> object:
        return [name(inner) for inner in value] if isinstance(value, list) else Path(str(value)).name

    return {key: name(value) if key in FILES else value for key, value in settings.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", help="folders that training made")
    parser.add_argument("--valid", type=Path, required=True)
    parser.add_argument(
        "--level", type=float, default=LEVEL, help="of the intervals; each asks for enough contents [%(default)s]"
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--before", help="the model that MODELS went on from, by folder or name: means of them are considered, too"
    )
    how.add_argument("--mean", action="store_true", help="the mean of models that went on from one another, not the best")
    parser.add_argument("--card", type=Path, help="MODEL_CARD.md to go with it")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    rows = read([args.valid])
    if args.before:
        preferred(args.models, PACKAGED.get(args.before, Path(args.before)), rows, args.out)
    elif args.mean:
        mean_of(args.models, args.out)
    else:
        shutil.copytree(chosen(args.models), args.out, dirs_exist_ok=True)
    config = json.loads((args.out / CONFIG).read_text(encoding="utf-8"))
    config = unfinished(config, args.mean)
    config |= {"name": "pocket", "version": snap(args.out), "trained_on": TRAINED_ON, "licence": LICENCE}
    config["training"]["config"] = without_folders(config["training"]["config"])
    seal(args.out, config)
    told, measured, p, delta = heard(args.out, rows)
    intervals = calibrate(told, measured, level=args.level, groups=[row["reference_id"] for row in rows])
    temperature = best_temperature(p, delta)
    config |= {"intervals": rounded(intervals), "verdict_temperature": round(temperature, 3)}
    seal(args.out, config)
    if args.card:
        shutil.copy(args.card, args.out / "MODEL_CARD.md")
    error = to_onnx(load_any(args.out), args.out / ONNX, start="log-mel")  # again: it carries the intervals, too
    print(f"validation {agreement(told, measured, p, delta):.4f}, temperature {temperature:.2f}", end=", ")
    print(f"intervals of {len(intervals['metrics'])} metrics, ONNX within {error:.1e}: {args.out}")


def rounded(value: object) -> object:
    """Numbers with five digits, which is more than is known of them."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
