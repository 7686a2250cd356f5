"""ONNX sessions for labellers: one CPU thread each, since labelling runs in parallel over clips."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from urgentmos.errors import UsageError, need


def session(path: Path) -> Any:
    """An onnxruntime session whose numbers do not depend on how many cores the machine has."""
    runtime = need("onnxruntime", "label")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as e:  # onnxruntime raises its own classes, which share no public base
        reason = str(e).splitlines()[0]
        raise UsageError(f"{path} cannot be loaded as an ONNX model: {reason}. Check the file, and get it again") from e


def packaged(package: str, file: str) -> Path:
    """A model file that lies inside an installed package, found without importing the package."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise UsageError(f"{package} is not installed. Install it with: pip install 'urgentmos[label]'")
    return Path(spec.origin).parent / file
