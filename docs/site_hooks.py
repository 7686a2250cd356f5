"""What the site adds to the pages when it is built: the model cards, and what a page of the repository links to."""

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CARDS = "<!-- model cards -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """MkDocs calls this with every page before it is rendered."""
    if CARDS not in markdown:
        return markdown
    return markdown.replace(CARDS, "\n\n".join(cards(ROOT / "src/urgentmos/weights")) or "*No model is packaged here.*")


def cards(weights: Path) -> list[str]:
    """The model cards below `weights`, ready to stand in a page of their own: headings one level down, no dead links."""
    return [card(path.parent.name, path.read_text(encoding="utf-8")) for path in sorted(weights.glob("*/MODEL_CARD.md"))]


def card(name: str, text: str) -> str:
    """One card. Links to files beside it lead nowhere on a site, so only their text stays; what looks like a heading in a
    block of code is none. Without a heading of its own a card gets its model's name.
    """
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)  # what hubs read, not people
    parts = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r"^(#+ )", r"#\1", parts[i], flags=re.MULTILINE)
        parts[i] = re.sub(r"\[([^\]]+)\]\((?!https?://)[^)]*\)", r"\1", parts[i])
    shown = "".join(parts).strip()
    return shown if shown.startswith("## ") else f"## {name}\n\n{shown}"
