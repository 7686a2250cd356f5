"""The RUN steps of a Dockerfile's first stage as one script of sh, with /src and /opt moved below a folder.

python packaging/steps.py Dockerfile FOLDER > steps.sh
"""

import re
import sys
from pathlib import Path


def instructions(text: str) -> list[tuple[str, str]]:
    """(instruction, rest) in their order; lines that end in a backslash are joined, comments left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    return [(line.split(None, 1)[0].upper(), line.split(None, 1)[-1].strip()) for line in joined.splitlines() if line.strip()]


def stages(text: str) -> list[list[tuple[str, str]]]:
    """The instructions of each stage, from its FROM on."""
    found: list[list[tuple[str, str]]] = []
    for instruction in instructions(text):
        if instruction[0] == "FROM":
            found.append([])
        if found:
            found[-1].append(instruction)
    return found


def script(text: str, folder: str) -> str:
    """What the first stage runs. The second installs nothing; its user needs root."""
    steps = [rest for name, rest in stages(text)[0] if name == "RUN"]
    return "\n".join(re.sub(r"(?<![\w.])/(src|opt)\b", rf"{folder}/\1", step) for step in steps) + "\n"


if __name__ == "__main__":
    print(script(Path(sys.argv[1]).read_text(encoding="utf-8"), sys.argv[2]), end="")
