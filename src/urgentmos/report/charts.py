"""Charts as plain data: Vega-Lite specifications without colours of their own, which the page's script adds for light and dark.

Every chart fills its column ("container") and has names and numbers in its tooltips. A mark names its colour by role (`GOOD`,
`BAD`, `MAIN`, `QUIET`, `INK`), and the script puts the colour of the theme in its place; see `colours` in report.js.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

Spec = dict[str, Any]
Row = Mapping[str, Any]

MAIN, QUIET, INK, GOOD, BAD = "@main", "@quiet", "@ink", "@good", "@bad"
ROW_HEIGHT = 24  # pixels per system in a chart with a row each; not Vega-Lite's "step", which bars the width from filling
TIME_AXIS = 56  # pixels: charts below each other share their time axis only if their other axes are equally wide
LABEL_LIMIT = 150  # pixels of a system's name


def _chart(height: int, rows: Sequence[Row], **more: Any) -> Spec:
    return {"width": "container", "height": height, "data": {"values": list(rows)}, **more}


def _tip(*fields: tuple[str, str, str | None]) -> list[Spec]:
    """(field, title, number format or None for text)."""
    return [
        {"field": name, "title": title, "type": "quantitative" if form else "nominal", **({"format": form} if form else {})}
        for name, title, form in fields
    ]


def _names(field: str, title: str | None = None, **axis: Any) -> Spec:
    """A nominal axis in the order of the rows."""
    return {"field": field, "type": "nominal", "sort": None, "title": title, "axis": {"labelLimit": LABEL_LIMIT, **axis}}


def _number(field: str, title: str | None = None, *, zero: bool = False, **more: Any) -> Spec:
    return {"field": field, "type": "quantitative", "title": title, "scale": {"zero": zero, **more.pop("scale", {})}, **more}


def _intervals(
    rows: Sequence[Row], side: str, ends: tuple[str, str], title: str, look: Spec, encoding: Mapping[str, Any] | None = None
) -> list[Spec]:
    """The layer of the rows' intervals along `side`; none if no row has one, since Vega complains about an empty scale."""
    if not any(all(_known(row.get(end)) for end in ends) for row in rows):
        return []
    both = {"filter": " && ".join(f"isValid(datum.{end})" for end in ends)}
    sides = {side: _number(ends[0], title), f"{side}2": {"field": ends[1]}, **(encoding or {})}
    return [{"transform": [both], "mark": {"type": "rule", **look}, "encoding": sides}]


def _known(value: Any) -> bool:
    return value is not None and isfinite(value)


def forest(rows: Sequence[Row], title: str, tips: Sequence[tuple[str, str, str | None]], zero: float | None = None) -> Spec:
    """Rows {system, value, low, high, ...}: a dot and its interval per row, in their order; a line at `zero`."""
    y = _names("system")
    layers: list[Spec] = [
        *_intervals(rows, "x", ("low", "high"), title, {"strokeWidth": 3, "color": QUIET}),
        {
            "mark": {"type": "point", "filled": True, "size": 90, "color": MAIN, "opacity": 1},
            "encoding": {"x": _number("value", title)},
        },
    ]
    if zero is not None:
        layers.insert(
            0,
            {"mark": {"type": "rule", "color": INK, "strokeDash": [4, 3]}, "encoding": {"x": {"datum": zero, "title": title}}},
        )
        layers[0]["encoding"]["y"] = None
    return _chart(
        ROW_HEIGHT * max(1, len({row["system"] for row in rows})), rows, encoding={"y": y, "tooltip": _tip(*tips)}, layer=layers
    )


def heat(
    rows: Sequence[Row],
    x: str,
    y: str,
    value: str,
    *,
    domain: tuple[float, float, float],
    form: str,
    tips: Sequence[tuple[str, str, str | None]],
    legend: str,
    order: tuple[Sequence[str], Sequence[str]],
    text: bool = True,
    cell: int = ROW_HEIGHT,
) -> Spec:
    """Rows {x, y, value}: a diverging heat map, `domain` being its low end, middle and high end; numbers in the cells.

    `order` names columns and rows in their order: cells may be missing, so that the data does not determine it.
    """
    low, middle, high = domain
    colour = {
        "field": value,
        "type": "quantitative",
        "scale": {"domain": [low, middle, high], "range": "diverging", "clamp": True},
        "legend": {"title": legend, "orient": "top", "gradientLength": 160, "format": form, "titleLimit": 400},
    }
    sides = {
        "x": {**_names(x, labelAngle=-60, orient="top", labelLimit=170), "sort": list(order[0])},
        "y": {**_names(y), "sort": list(order[1])},
        "tooltip": _tip(*tips),
    }
    layers: list[Spec] = [{"mark": {"type": "rect", "tooltip": True}, "encoding": {"color": colour}}]
    if text:
        shown = {"field": value, "type": "quantitative", "format": form}
        layers.append({"mark": {"type": "text", "color": INK, "fontSize": 11}, "encoding": {"text": shown}})
    return _chart(cell * max(1, len(order[1])), rows, encoding=sides, layer=layers)


def named_scatter(
    rows: Sequence[Row], x: tuple[str, str], y: tuple[str, str], name: str, tips: Sequence[tuple[str, str, str | None]]
) -> Spec:
    """Rows with x, y, their ends `low`/`high` (of y) and `x_low`/`x_high`, and a name that stands beside its dot."""
    look = {"color": QUIET, "strokeWidth": 2}
    layers: list[Spec] = [
        *_intervals(rows, "y", ("low", "high"), y[1], look),
        *_intervals(rows, "x", ("x_low", "x_high"), x[1], look, {"y": _number(y[0], y[1])}),
        {
            "mark": {"type": "point", "filled": True, "size": 80, "color": MAIN, "opacity": 1},
            "encoding": {"y": _number(y[0], y[1])},
        },
        {
            "mark": {"type": "text", "dy": -10, "color": INK, "fontSize": 11, "limit": 120},
            "encoding": {"text": {"field": name, "type": "nominal"}, "y": _number(y[0], y[1])},
        },
    ]
    return _chart(320, rows, encoding={"x": _number(x[0], x[1]), "tooltip": _tip(*tips)}, layer=layers)


def clip_scatter(
    clips: Sequence[Row], systems: Sequence[Row], label: str, predicted: str, diagonal: tuple[float, float] | None
) -> Spec:
    """Clips {x, y, uid, system} as faint dots, means of systems {system, x, y, x_low.., n} as large ones with intervals."""
    x, y = _number("x", label), _number("y", predicted)
    tips = _tip(("uid", "clip", None), ("system", "system", None), ("x", label, ".2f"), ("y", predicted, ".2f"))
    means = _tip(("system", "system", None), ("n", "clips", "d"), ("x", label, ".2f"), ("y", predicted, ".2f"))
    layers: list[Spec] = [
        {
            "data": {"values": list(clips)},
            "mark": {"type": "circle", "size": 18, "color": QUIET, "opacity": 0.55},
            "encoding": {"x": x, "y": y, "tooltip": tips},
        }
    ]
    if diagonal is not None:
        ends = [{"x": end, "y": end} for end in diagonal]
        line = {"type": "line", "color": INK, "strokeDash": [4, 3], "strokeWidth": 1}
        layers.append({"data": {"values": ends}, "mark": line, "encoding": {"x": x, "y": y}})
    if systems:
        look = {"color": MAIN, "strokeWidth": 2}
        layers += [
            *_intervals(systems, "x", ("x_low", "x_high"), label, look, {"y": y}),
            *_intervals(systems, "y", ("y_low", "y_high"), predicted, look, {"x": x}),
            {
                "mark": {"type": "point", "filled": True, "size": 70, "color": MAIN, "opacity": 1},
                "encoding": {"x": x, "y": y, "tooltip": means},
            },
        ]
    return _chart(300, systems, layer=layers)


def lines(rows: Sequence[Row], x: tuple[str, str], y: tuple[str, str], series: str, marks: Sequence[Row]) -> Spec:
    """Rows {x, y, series}: a line per series; `marks` are single points on them."""
    names = list(dict.fromkeys(row[series] for row in rows))
    colour = {"field": series, "type": "nominal", "sort": names, "title": None, "legend": {"orient": "top", "columns": 3}}
    tips = _tip((series, series, None), (x[0], x[1], ".2f"), (y[0], y[1], ".3f"))
    encoding = {"x": _number(x[0], x[1]), "y": _number(y[0], y[1]), "color": colour, "strokeDash": {**colour}, "tooltip": tips}
    dots = {
        "data": {"values": list(marks)},
        "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1},
        "encoding": {key: value for key, value in encoding.items() if key != "strokeDash"},
    }
    return _chart(280, rows, layer=[{"mark": {"type": "line", "strokeWidth": 2}, "encoding": encoding}, dots])


def histogram(rows: Sequence[Row], title: str) -> Spec:
    """Rows {value}: how many clips have which value."""
    encoding = {
        "x": {"field": "value", "bin": {"maxbins": 30}, "type": "quantitative", "title": title},
        "y": {"aggregate": "count", "type": "quantitative", "title": "clips"},
        "tooltip": [
            {"field": "value", "bin": {"maxbins": 30}, "type": "quantitative", "title": title},
            {"aggregate": "count", "type": "quantitative", "title": "clips"},
        ],
    }
    return _chart(180, rows, mark={"type": "bar", "color": MAIN}, encoding=encoding)


# ---- a clip in time; the script puts the clip's data in


def _time(title: str | None) -> Spec:
    scale = {"domain": {"expr": "[0, seconds]"}, "nice": False, "zero": False}
    return {
        "field": "start",
        "type": "quantitative",
        "title": title,
        "scale": scale,
        "axis": {"grid": False, "tickCount": 12, "labelOverlap": True},
    }


def spectrogram() -> Spec:
    """Data sets `picture` {start, end, low, high, url}; parameters `seconds`."""
    wide = {"minExtent": TIME_AXIS, "maxExtent": TIME_AXIS, "grid": False}
    y = {"field": "low", "type": "quantitative", "title": "kHz", "scale": {"nice": False}, "axis": wide}
    mark = {
        "type": "image",
        "aspect": False,
        "width": {"expr": "width"},
        "height": {"expr": "height"},
        "align": "left",
        "baseline": "bottom",
    }
    return {
        "width": "container",
        "height": 160,
        "params": [{"name": "seconds", "value": 1}, {"name": "top", "value": 8}],
        "data": {"name": "picture"},
        "mark": mark,
        "encoding": {
            "x": _time(None),
            "y": {**y, "scale": {"domain": {"expr": "[0, top]"}, "nice": False}},
            "url": {"field": "url", "type": "nominal"},
        },
    }


def timeline() -> Spec:
    """Data sets `frames` {start, end, value, clip, score}: bars from the clip's logit to its frames'; parameter `seconds`.

    The axis is linear in the logit, so that the areas above and below the line are equal; its labels are scores: the script
    puts the bend of the metric's range into `labelExpr`.
    """
    wide = {"minExtent": TIME_AXIS, "maxExtent": TIME_AXIS, "labelExpr": "datum.label", "tickCount": 5}
    tips = _tip(
        ("start", "from (s)", ".2f"),
        ("end", "to (s)", ".2f"),
        ("score", "score if all were like this", ".2f"),
        ("value", "logit", ".3f"),
    )
    better = {"condition": {"test": "datum.value >= datum.clip", "value": GOOD}, "value": BAD}
    bars = {
        "mark": {"type": "rect", "tooltip": True},
        "encoding": {
            "x": _time("seconds"),
            "x2": {"field": "end"},
            "y": {"field": "value", "type": "quantitative", "title": "score", "scale": {"zero": False}, "axis": wide},
            "y2": {"field": "clip"},
            "color": better,
            "tooltip": tips,
        },
    }
    middle = {
        "mark": {"type": "rule", "color": INK, "strokeWidth": 1.5},
        "encoding": {"y": {"aggregate": "min", "field": "clip", "type": "quantitative"}},
    }
    return {
        "width": "container",
        "height": 160,
        "params": [{"name": "seconds", "value": 1}],
        "data": {"name": "frames"},
        "layer": [bars, middle],
    }


def bend(low: float, high: float, logit: str) -> str:
    """The Vega expression of the range-constraining activation (UrgentMOS, Eqs. 1-3) of the expression `logit`."""
    if isfinite(low) and isfinite(high):
        return f"{low} + {high - low} / (1 + exp(-({logit})))"
    if isfinite(low):
        return f"{low} + log(1 + exp(({logit}) - {low}))"
    return f"{high} - log(1 + exp({high} - ({logit})))" if isfinite(high) else logit
