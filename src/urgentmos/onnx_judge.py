"""An exported UrgentMOS as a judge: numpy and onnxruntime, no torch.

The graph runs clip by clip, one thread each and several clips at once, so that a clip's numbers depend neither on its company
nor on the number of threads. A pair needs no graph: the file keeps of each clip what makes a pair's answer a few products.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from urgentmos.audio import collate
from urgentmos.checkpoints import CONFIG, read_info, verdict_temperature
from urgentmos.errors import UsageError
from urgentmos.logmel import LogMel

ONNX = "model.onnx"  # beside model.safetensors
Start = Literal["waves", "log-mel"]  # where a graph begins
INPUTS: dict[Start, tuple[str, ...]] = {"waves": ("wave", "n_samples"), "log-mel": ("log_mel",)}
MAX_BYTES = 1 << 31  # protobuf reads no more
LARGEST_EXPONENT = 60.0  # float32 has room to 88

T = TypeVar("T")


@dataclass(frozen=True)
class OnnxModel:
    """A file that `urgentmos export` wrote, opened, and what its metadata say."""

    session: Any  # onnxruntime.InferenceSession
    rate: int  # Hz
    metrics: tuple[str, ...]
    ranges: dict[str, tuple[float, float]]  # of the metrics' heads, +-inf where there is no bound
    min_samples: int
    window_seconds: float
    front: LogMel | None  # None: the graph takes samples
    info: dict[str, Any]  # name, version, licence, ...: config.json of the model, less its sizes

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple(output.name for output in self.session.get_outputs())


class Spoken(NamedTuple):
    """What is kept of a clip of F frames: its metrics, and what pairs need of it."""

    metrics: dict[str, float]
    query: np.ndarray | None  # (heads, F, d); None: the model judges no pairs
    key: np.ndarray | None  # (heads, F, d)
    answer: np.ndarray | None  # (heads, F, 4)


class OnnxJudge:
    """What `network.Network` asks of an architecture, answered by onnxruntime on the CPU."""

    cheap_metrics = True
    alike_in_company = True  # each pair is computed alone
    pads = False
    length_gap = inf  # frames of both clips attend to each other, wherever they are
    batch_seconds = 240.0  # clips at once cost no padding and keep all threads at work

    def __init__(self, model: OnnxModel, *, temperature: float = 1.0, threads: int | None = None) -> None:
        """temperature: the logits of verdicts are divided by it. threads: clips at once; None: see `thread_count`."""
        self.model = model
        self.rate, self.min_samples, self.window_seconds = model.rate, model.min_samples, model.window_seconds
        self.metrics, self.ranges = model.metrics, model.ranges
        self.compares = "query" in model.outputs
        self.temperature = temperature
        self.threads = threads or thread_count()

    def encode(self, waves: Sequence[np.ndarray]) -> list[Spoken]:
        """(T_i,) float32 at `rate` each -> features."""
        return _each(self._encode, waves, self.threads)

    def _encode(self, wave: np.ndarray) -> Spoken:
        (told,) = run_graph(self.model, [wave])
        metrics = dict(zip(self.metrics, told["metrics"].tolist(), strict=True))
        return Spoken(metrics, **{name: told.get(name) for name in Spoken._fields[1:]})

    def absolute(self, features: Sequence[Spoken]) -> list[dict[str, float]]:
        """Metrics of each clip."""
        return [clip.metrics for clip in features]

    def frame_logits(self, wave: np.ndarray) -> dict[str, np.ndarray] | None:
        """(T,) -> {metric: (F,)}, whose mean is the clip's logit; None if the model does not pool by the mean."""
        told = run_graph(self.model, [wave])[0].get("frame_logits")
        return None if told is None else dict(zip(self.metrics, told, strict=True))

    def judge(self, features: Sequence[Spoken], pairs: Sequence[tuple[int, int]]) -> np.ndarray:
        """Ordered pairs of indices -> (P, 4): p_a, p_tie, p_b, CMOS, in the order given only."""
        raw = self.raw(features, pairs)
        logits = raw[:, :3] / self.temperature
        chances = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.concatenate([chances / chances.sum(axis=1, keepdims=True), raw[:, 3:]], axis=1)

    def raw(self, features: Sequence[Spoken], pairs: Sequence[tuple[int, int]]) -> np.ndarray:
        """Ordered pairs of indices -> (P, 4): logits of a, tie and b before any temperature, CMOS."""
        if not self.compares:
            raise UsageError(f"{self.model.info['name']} does not judge pairs. Rank by its scores.")
        answers = [judged_pair(features[a].query, features[b].key, features[b].answer) for a, b in pairs]
        return np.array(answers, dtype=np.float64).reshape(-1, 4)


def judged_pair(query: Any, key: Any, answer: Any) -> np.ndarray:
    """A asks (heads, F, d), B answers (heads, G, d) and (heads, G, 4) -> (4,): logits of a, tie, b, and CMOS.

    NCPM (UrgentMOS section 3.1) with all that is linear done before: softmax(query key^T) answer, mean over A's frames, sum
    over heads.
    """
    dots = query @ key.swapaxes(1, 2)  # (heads, F, G)
    if not np.abs(dots).max() < LARGEST_EXPONENT:
        dots -= dots.max(axis=2, keepdims=True)
    weights = np.exp(dots, out=dots)
    share = 1 / weights.sum(axis=2)
    mean = share[:, None, :] @ weights / np.float32(dots.shape[1])  # (heads, 1, G): the weights of A's mean frame
    return np.asarray((mean @ answer).sum(axis=(0, 1)))


def run_graph(model: OnnxModel, waves: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
    """Clips (T_i,) -> the graph's outputs for each: in one padded batch, or one by one where it takes one clip only."""
    if model.front is not None:
        runs = [model.session.run(None, {"log_mel": model.front(wave)[None]}) for wave in waves]
        return [{name: value[0] for name, value in zip(model.outputs, run, strict=True)} for run in runs]
    batch = collate(waves, [""] * len(waves))
    run = model.session.run(None, {"wave": batch.wave, "n_samples": batch.n_samples})
    told = dict(zip(model.outputs, run, strict=True))
    return [
        {name: value[i] if value.ndim < 3 else value[i, :, :n] for name, value in told.items()}
        for i, n in enumerate(told["n_frames"].tolist())
    ]


def thread_count() -> int:
    """What OMP_NUM_THREADS says, or else all cores that this process may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _each(work: Callable[[np.ndarray], T], items: Sequence[np.ndarray], threads: int) -> list[T]:
    if min(len(items), threads) < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(min(len(items), threads)) as pool:
        return list(pool.map(work, items))


# ---- files


def light_file(model: str | Path) -> Path | None:
    """The ONNX file that can stand for `model` without torch: a file of that ending, or the one in a model folder."""
    path = Path(model)
    if path.suffix.lower() == ".onnx" and path.is_file():
        return path
    return path / ONNX if (path / ONNX).is_file() and (path / CONFIG).is_file() else None


def open_judge(file: Path) -> tuple[OnnxJudge, dict[str, Any]]:
    """The judge of an ONNX file, and what is known of the model: config.json where there is one beside the file.

    UsageError if the file was not made by `urgentmos export`, or of another model than its folder holds.
    """
    model = open_model(file)
    info = model.info
    if file.name == ONNX and (file.parent / CONFIG).is_file():
        info = read_info(file.parent)
        for key in ("name", "version"):
            if info[key] != model.info[key]:
                raise UsageError(
                    f"{file} was made of {key} {model.info[key]!r:.60} and {CONFIG} says {info[key]!r:.60}. Make it anew with: "
                    f"urgentmos export {file.parent} -o {file}"
                )
    return OnnxJudge(model, temperature=verdict_temperature(info, file)), info


def open_model(file: Path) -> OnnxModel:
    """UsageError if it cannot be read or was not written by `urgentmos export`."""
    session = _session(file)
    said: Mapping[str, str] = session.get_modelmeta().custom_metadata_map
    try:
        metrics = tuple(said["metrics"].split(","))
        ends = [(-inf if low is None else low, inf if high is None else high) for low, high in json.loads(said["ranges"])]
        ranges = dict(zip(metrics, ends, strict=True))
        info = {**json.loads(said["info"]), "name": said["name"], "version": said["version"]}
        front = LogMel(**json.loads(said["log_mel"])) if "log_mel" in said else None
        sizes = int(said["rate"]), metrics, ranges, int(said["min_samples"]), float(said["window_seconds"])
        model = OnnxModel(session, *sizes, front, info)
        _check(model)
    except (KeyError, TypeError, ValueError) as e:
        raise UsageError(
            f"{file} is not what this version of `urgentmos export` writes ({type(e).__name__}: {e}). Export the model again."
        ) from e
    return model


def _check(model: OnnxModel) -> None:
    inputs = [x.name for x in model.session.get_inputs()]
    wanted = INPUTS["waves" if model.front is None else "log-mel"]
    if inputs != list(wanted):
        raise ValueError(f"its inputs are {inputs} and should be {list(wanted)}")
    if (
        "metrics" not in model.outputs
        or ("n_frames" in model.outputs) != (model.front is None)
        or len({"query", "key", "answer"} & {*model.outputs}) not in (0, 3)
    ):
        raise ValueError(f"its outputs are {list(model.outputs)}")


def _session(file: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # clips are shared among threads, not products
    options.enable_mem_pattern = False  # plans memory for one length, and clips have many
    options.log_severity_level = 3
    try:
        if file.stat().st_size > MAX_BYTES:
            raise ValueError("it is too large")
        # from memory: then the graph cannot name other files
        return onnxruntime.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as e:  # onnxruntime has a class for each status
        reason = str(e).splitlines()[0] if str(e) else type(e).__name__
        raise UsageError(f"{file} cannot be read by onnxruntime ({reason:.200}). Export the model again.") from e
