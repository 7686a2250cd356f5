"""The models that come with the package: a folder each in weights/."""

from pathlib import Path

WEIGHTS = Path(__file__).with_name("weights")
PACKAGED = {path.parent.name: path.parent for path in sorted(WEIGHTS.glob("*/config.json"))}
