"""From data to a page: templates, what is inlined, and how large it may become."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import numpy as np

from urgentmos import __version__
from urgentmos.errors import UsageError, need
from urgentmos.files import write_whole
from urgentmos.metrics import HUMAN, METRICS

Audio = Literal["embed", "link", "none"]
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Options:
    """The settings of a page."""

    file: Path  # where it will lie: links are relative to its folder
    audio: Audio = "embed"
    listen: int = 40  # contents of a ranking, or clips, that one can listen to
    limit_mb: float = 50.0  # largest page, in megabytes


def render(template: str, context: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    """The page of a template. `data` reaches the script as JSON. UsageError if the extra `report` is not installed."""
    jinja2 = need("jinja2", "report")
    loader = jinja2.FunctionLoader(_resource)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"number": number, "signed": signed, "title": metric_title}
    markup = need("markupsafe", "report").Markup
    page: str = environment.get_template(template).render(
        **context,
        data=markup(script_json(data)),
        style=markup(_resource("report.css")),
        script=markup(_resource("report.js")),
        charts=markup(chart_library() if data.get("charts") else ""),
        version=__version__,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    return page


def _resource(name: str) -> str:
    return (files("urgentmos.report") / "templates" / name).read_text(encoding="utf-8")


@cache
def chart_library() -> str:
    """Vega, Vega-Lite and Vega-Embed in one script. UsageError if vl-convert-python is not installed."""
    bundle: str = need("vl_convert", "report").javascript_bundle()
    for bad in ("</script", "<!--"):  # either would end the element, or change how the rest of the page is read
        if bad in bundle.lower():
            raise UsageError(f"the chart library holds {bad!r}. Install another version: pip install -U vl-convert-python")
    return bundle


def script_json(data: Any) -> str:
    """JSON that can stand in a <script> element whatever its strings hold; numbers that are not finite become null."""
    text = json.dumps(plain(data), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text.encode("utf-8", "backslashreplace").decode()


def plain(value: Any) -> Any:
    """Data without numpy, and None for what is not a finite number."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def write(page: str, options: Options) -> None:
    """Write the page. UsageError, saying what to do, if it is larger than `limit_mb`, or cannot be written."""
    content = page.encode("utf-8", "backslashreplace")
    size = len(content) / MEGABYTE
    if size > options.limit_mb:
        raise UsageError(too_large(options, size, f"--report-limit {int(size) + 1}"))
    write_whole(options.file, content)


def too_large(options: Options, size: float, *more: str) -> str:
    """The sentence for a page of `size` megabytes."""
    cures = ["--report-audio link (beside the audio) or none"] if options.audio == "embed" else []
    cures += [f"a --report-listen below {options.listen}"] if options.listen > 1 else []
    choices = ", or ".join([*cures, *more])
    return f"{options.file} would have {size:.1f} MB, and the limit is {options.limit_mb:g} MB. Choose {choices}."


# ---- numbers and names for readers


def number(value: float | None, digits: int = 2) -> str:
    """`digits` decimals; a dash for what is missing or not finite."""
    if value is None or not isfinite(value):
        return "-"
    return f"{round(value, digits) + 0.0:.{digits}f}"


def signed(value: float | None, digits: int = 2) -> str:
    text = number(value, digits)
    return f"+{text}" if value is not None and isfinite(value) and round(value, digits) > 0 else text


def interval_text(low: float | None, high: float | None, digits: int = 2) -> str:
    """'1.20 .. 3.40', or a dash where nothing is known."""
    if not any(x is not None and isfinite(x) for x in (low, high)):
        return "-"
    return f"{number(low, digits)} .. {number(high, digits)}"


def metric_title(name: str) -> str:
    """The name of a metric for a reader; a name that the table does not know stays as it is.

    The table calls `mos_overall` human, which a prediction of it is not: whose MOS it is, its place decides.
    """
    if name in HUMAN:
        return "MOS"
    return METRICS[name].title if name in METRICS else name


def scale_of(name: str) -> tuple[float, float]:
    """The ends of a metric's scale; infinite for a name that is not in the table of metrics."""
    return METRICS[name].range() if name in METRICS else (-np.inf, np.inf)


def percent(confidence: float) -> str:
    return f"{100 * confidence:g} %"


def counted(n: int, one: str, many: str | None = None) -> str:
    """'1 clip', '2 clips'."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def mean_interval(
    values: Sequence[float] | np.ndarray, confidence: float, bounds: tuple[float, float] = (-np.inf, np.inf)
) -> tuple[float, float, float, int]:
    """(N,) with NaN where missing -> mean, low, high, n; NaN ends for fewer than two.

    Student's t over the values, which stays inside the bounds of their scale (`resampling.scale_interval`).
    """
    x = np.asarray(values, dtype=float)
    x = x[np.isfinite(x)]
    n = len(x)
    if n < 2:
        return (float(x[0]) if n else np.nan), np.nan, np.nan, n
    from urgentmos.ranking.resampling import scale_interval

    ends = min(bounds[0], float(x.min())), max(bounds[1], float(x.max()))
    mean, error = x.mean(keepdims=True), x.std(ddof=1, keepdims=True) / np.sqrt(n)
    low, high = scale_interval(mean, error, np.array([n]), confidence, *ends)
    return float(mean[0]), float(low[0]), float(high[0]), n
