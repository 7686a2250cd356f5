"""The models that come with the package: a folder each in weights/."""

from pathlib import Path

WEIGHTS = Path(__file__).parents[1] / "weights"
PACKAGED = {path.parent.name: path.parent for path in sorted(WEIGHTS.glob("*/config.json"))}
DEFAULT_MODEL = "pocket"
