"""An exported UrgentMOS as a judge: numpy and onnxruntime, no torch.

The graph runs clip by clip, one thread each and several clips at once, so that a clip's numbers depend neither on its company
nor on the number of threads. A pair needs no graph: the file keeps of each clip what makes a pair's answer a few products.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from urgentmos.audio.samples import collate
from urgentmos.common.untrusted import parse_json, reason, shown
from urgentmos.errors import UsageError
from urgentmos.judges.logmel import LogMel
from urgentmos.models import checksums
from urgentmos.models.folder import AGAIN, CONFIG, ONNX, WEIGHTS, check_info, notes_of, read_info, verdict_temperature

Start = Literal["waves", "log-mel"]  # where a graph begins
INPUTS: dict[Start, tuple[str, ...]] = {"waves": ("wave", "n_samples"), "log-mel": ("log_mel",)}
MAX_BYTES = 1 << 31  # protobuf reads no more
LOOPS = (b'"\x04Loop', b'"\x04Scan')  # nodes of these types (onnx.proto: NodeProto.op_type), which may never end
MAX_RATE = 768_000  # Hz; and samples of the shortest clip
MAX_FRONT_END = 8192  # bands, window lengths, as in nets.urgentmos
MAX_WINDOW_SECONDS = 3600.0
LARGEST_EXPONENT = 60.0  # float32 has room to 88

T = TypeVar("T")


@dataclass(frozen=True)
class OnnxModel:
    """An opened file of `urgentmos export`, with its metadata."""

    session: Any  # onnxruntime.InferenceSession
    rate: int  # Hz
    metrics: tuple[str, ...]
    ranges: dict[str, tuple[float, float]]  # of the metrics' heads, +-inf where there is no bound
    min_samples: int
    window_seconds: float
    front: LogMel | None  # None: the graph takes samples
    info: dict[str, Any]  # name, version, licence, ...: config.json of the model, less its sizes
    notes: tuple[str, ...] = ()  # warnings of every result: the model has no checksums

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple(output.name for output in self.session.get_outputs())


class OnnxFeatures(NamedTuple):
    """An encoded clip of F frames: its metrics, and the arrays that pairs need."""

    metrics: dict[str, float]
    query: np.ndarray | None  # (heads, F, d); None: the model judges no pairs
    key: np.ndarray | None  # (heads, F, d)
    answer: np.ndarray | None  # (heads, F, 4)


class OnnxBackend:
    """The backend of an exported UrgentMOS: onnxruntime on the CPU."""

    metrics_with_encoding = True
    batch_invariant = True  # each pair is computed alone
    padding_costs = False
    max_length_difference = inf  # frames of both clips attend to each other, wherever they are
    batch_seconds = 240.0  # clips at once cost no padding and keep all threads at work

    def __init__(self, model: OnnxModel, *, temperature: float = 1.0, threads: int | None = None) -> None:
        """temperature: the logits of verdicts are divided by it. threads: clips at once; None: see `thread_count`."""
        self.model = model
        self.rate, self.min_samples, self.window_seconds = model.rate, model.min_samples, model.window_seconds
        self.metrics, self.ranges = model.metrics, model.ranges
        self.compares = "query" in model.outputs
        self.temperature = temperature
        self.threads = threads or thread_count()

    def encode(self, waves: Sequence[np.ndarray]) -> list[OnnxFeatures]:
        """(T_i,) float32 at `rate` each -> features."""
        return _each(self._encode, waves, self.threads)

    def _encode(self, wave: np.ndarray) -> OnnxFeatures:
        (outputs,) = run_graph(self.model, [wave])
        metrics = dict(zip(self.metrics, outputs["metrics"].tolist(), strict=True))
        return OnnxFeatures(metrics, **{name: outputs.get(name) for name in OnnxFeatures._fields[1:]})

    def absolute(self, features: Sequence[OnnxFeatures]) -> list[dict[str, float]]:
        """Metrics of each clip."""
        return [clip.metrics for clip in features]

    def frame_logits(self, wave: np.ndarray) -> dict[str, np.ndarray] | None:
        """(T,) -> {metric: (F,)}, whose mean is the clip's logit; None if the model does not pool by the mean."""
        logits = run_graph(self.model, [wave])[0].get("frame_logits")
        return None if logits is None else dict(zip(self.metrics, logits, strict=True))

    def judge(self, features: Sequence[OnnxFeatures], pairs: Sequence[tuple[int, int]]) -> np.ndarray:
        """Ordered pairs of indices -> (P, 4): p_a, p_tie, p_b, CMOS, in the order given only."""
        raw = self.raw(features, pairs)
        logits = raw[:, :3] / self.temperature
        chances = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.concatenate([chances / chances.sum(axis=1, keepdims=True), raw[:, 3:]], axis=1)

    def raw(self, features: Sequence[OnnxFeatures], pairs: Sequence[tuple[int, int]]) -> np.ndarray:
        """Ordered pairs of indices -> (P, 4): logits of a, tie and b before any temperature, CMOS."""
        if not self.compares:
            raise UsageError(f"{self.model.info['name']} does not judge pairs. Rank by its scores.")
        answers = [judged_pair(features[a].query, features[b].key, features[b].answer) for a, b in pairs]
        return np.array(answers, dtype=np.float64).reshape(-1, 4)


def judged_pair(query: Any, key: Any, answer: Any) -> np.ndarray:
    """A's queries (heads, F, d), B's keys (heads, G, d) and values (heads, G, 4) -> (4,): logits of a, tie, b, and CMOS.

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
        runs = [_run(model, {"log_mel": model.front(wave)[None]}) for wave in waves]
        return [{name: value[0] for name, value in zip(model.outputs, run, strict=True)} for run in runs]
    batch = collate(waves, [""] * len(waves))
    run = _run(model, {"wave": batch.wave, "n_samples": batch.n_samples})
    outputs = dict(zip(model.outputs, run, strict=True))
    return [
        {name: value[i] if value.ndim < 3 else value[i, :, :n] for name, value in outputs.items()}
        for i, n in enumerate(outputs["n_frames"].tolist())
    ]


def _run(model: OnnxModel, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    try:
        run: list[np.ndarray] = model.session.run(None, inputs)
    except Exception as e:  # onnxruntime has a class for each status
        raise UsageError(f"{model.info['name']:.200} cannot be computed ({reason(e)}). Export the model again.") from e
    metrics = run[model.outputs.index("metrics")]
    if metrics.shape[1:] != (len(model.metrics),):
        raise UsageError(f"{model.info['name']:.200} computes other metrics than it names. Export the model again.")
    return run


def thread_count() -> int:
    """OMP_NUM_THREADS, or else all cores that this process may use."""
    setting = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if setting.isdigit() and int(setting) > 0:
        return int(setting)
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


def open_backend(file: Path) -> tuple[OnnxBackend, dict[str, Any]]:
    """The judge of an ONNX file, and what is known of the model: config.json where there is one beside the file.

    UsageError if the file is damaged, was not made by `urgentmos export`, or is of another model than its folder holds.
    """
    if file.name != ONNX or not (file.parent / CONFIG).is_file():
        model = open_model(file)
        return OnnxBackend(model, temperature=verdict_temperature(model.info, file)), model.info
    info = read_info(file.parent)
    again = f"Make it again with: urgentmos export {file.parent} -o {file}"
    cure = again if (file.parent / WEIGHTS).is_file() else AGAIN
    content = _read(file)
    listed = checksums.files_of(info).get(file.name)
    if listed is not None:
        checksums.check_file(info, file, checksums.sha256_of(content), cure)
    model = _opened(file, content, trusted=listed is not None)
    for key in ("name", "version"):
        if info[key] != model.info[key]:
            made_of = f"{file} was made of {key} {shown(model.info[key], 60)}"
            raise UsageError(f"{made_of} and {CONFIG} says {shown(info[key], 60)}. {cure}")
    if checksums.is_sealed(info) and model.notes:
        raise UsageError(f"{file} has no checksum and {CONFIG} does not name it, so that it may be any file. {cure}")
    model = replace(model, notes=notes_of(info, file.parent))
    return OnnxBackend(model, temperature=verdict_temperature(info, file)), info


def open_model(file: Path) -> OnnxModel:
    """UsageError if it cannot be read, is damaged, or was not written by `urgentmos export`."""
    return _opened(file, _read(file))


def _opened(file: Path, content: bytes, trusted: bool = False) -> OnnxModel:
    """trusted: its bytes were compared with a checksum elsewhere."""
    whole = True if trusted else checksums.onnx_is_whole(content)
    session = _session(file, content) if whole is not False else None
    facts = {} if session is None else _facts_of(session, file)
    if session is None or (whole is None and checksums.SEALED in facts):
        raise UsageError(f"{file} is damaged: its checksum does not fit. Export the model again.")
    try:
        model = replace(_model_of(session, facts), notes=(checksums.unchecked(file),) if whole is None else ())
        check_info(model.info, file)
        _check(model)
    except (ArithmeticError, LookupError, TypeError, ValueError) as e:
        raise UsageError(
            f"{file} is not what this version of `urgentmos export` writes ({reason(e)}). Export the model again."
        ) from e
    return model


def _facts_of(session: Any, file: Path) -> Mapping[str, str]:
    """The metadata of a file."""
    try:
        facts: Mapping[str, str] = session.get_modelmeta().custom_metadata_map
    except UnicodeDecodeError:
        raise UsageError(f"{file} is damaged: its metadata are no text. Export the model again.") from None
    return facts


def _model_of(session: Any, facts: Mapping[str, str]) -> OnnxModel:
    metrics = tuple(facts["metrics"].split(","))
    ends = [(-inf if low is None else low, inf if high is None else high) for low, high in parse_json(facts["ranges"])]
    ranges = dict(zip(metrics, ends, strict=True))
    info = {"architecture": "urgentmos", **parse_json(facts["info"]), "name": facts["name"], "version": facts["version"]}
    front = LogMel(**parse_json(facts["log_mel"])) if "log_mel" in facts else None
    sizes = int(facts["rate"]), metrics, ranges, int(facts["min_samples"]), float(facts["window_seconds"])
    return OnnxModel(session, *sizes, front, info)


def _check(model: OnnxModel) -> None:
    _check_numbers(model)
    inputs = [x.name for x in model.session.get_inputs()]
    wanted = INPUTS["waves" if model.front is None else "log-mel"]
    if inputs != list(wanted):
        raise ValueError(f"its inputs are {shown(inputs)} and should be {list(wanted)}")
    if (
        "metrics" not in model.outputs
        or ("n_frames" in model.outputs) != (model.front is None)
        or len({"query", "key", "answer"} & {*model.outputs}) not in (0, 3)
    ):
        raise ValueError(f"its outputs are {shown(list(model.outputs))}")
    shape = next(output.shape for output in model.session.get_outputs() if output.name == "metrics")
    if len(shape) != 2 or (isinstance(shape[1], int) and shape[1] != len(model.metrics)):
        raise ValueError(f"it computes metrics of shape {shown(shape)} and names {len(model.metrics)}")


def _check_numbers(model: OnnxModel) -> None:
    """ValueError unless the numbers of the metadata are of a size that a model may have."""
    if len(set(model.metrics)) < len(model.metrics) or not all(model.metrics):
        raise ValueError(f"its metrics are {shown(list(model.metrics))}, one of them twice or without a name")
    front = model.front
    sizes = {"rate": (model.rate, MAX_RATE), "min_samples": (model.min_samples, MAX_RATE)}
    if front is not None:
        sizes |= {"n_fft": (front.n_fft, MAX_FRONT_END), "hop": (front.hop, MAX_FRONT_END)}
        sizes |= {"bands": (front.bands, MAX_FRONT_END), "the log-mel's rate": (front.rate, MAX_RATE)}
    for name, (value, most) in sizes.items():
        if type(value) is not int or not 1 <= value <= most:
            raise ValueError(f"{name} is {shown(value, 40)} and should be a whole number from 1 to {most}")
    if front is not None and (front.rate != model.rate or front.min_samples > model.min_samples or front.n_fft < 2):
        raise ValueError("its log-mel does not suit its rate or its shortest clip")
    if front is not None and type(front.normalise) is not bool:
        raise ValueError(f"normalise is {shown(front.normalise, 40)} and should be true or false")
    if not model.min_samples / model.rate <= model.window_seconds <= MAX_WINDOW_SECONDS:
        raise ValueError(f"window_seconds is {model.window_seconds} and should hold the shortest clip")
    for metric, ends in model.ranges.items():
        if any(isinstance(end, bool) for end in ends) or not ends[0] < ends[1]:
            raise ValueError(f"{shown(metric, 40)} ranges from {shown(ends[0], 40)} to {shown(ends[1], 40)}")


def _read(file: Path) -> bytes:
    try:
        if file.stat().st_size > MAX_BYTES:
            raise UsageError(f"{file} is too large for an ONNX file. Export the model again.")
        return file.read_bytes()
    except OSError as e:
        raise UsageError(f"{file} cannot be read ({reason(e)}). Check the path and its permissions.") from e


def _session(file: Path, content: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # clips are shared among threads, not products
    options.enable_mem_pattern = False  # plans memory for one length, and clips have many
    options.log_severity_level = 3
    try:
        if any(loop in content for loop in LOOPS):
            raise ValueError("it has loops, which no exported model has")
        # from memory: then the graph cannot name other files
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as e:  # onnxruntime has a class for each status
        raise UsageError(f"{file} cannot be read by onnxruntime ({reason(e)}). Export the model again.") from e
