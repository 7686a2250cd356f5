"""The page of an evaluation: the report's numbers in the papers' layout, scatter plots, residuals."""

import json
import re
from html import unescape

import numpy as np
import pytest

from urgentmos.evaluation.agreement import Resampling
from urgentmos.evaluation.options import Options as Asked
from urgentmos.evaluation.predictions import ClipRow, Source, match_clips
from urgentmos.evaluation.summary import evaluate
from urgentmos.report import Options, evaluation_page
from urgentmos.report import page as pages
from urgentmos.report.evaluation import POINTS


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the chart library, which takes seconds to bundle and is tested on its own."""
    pytest.importorskip("jinja2")
    monkeypatch.setattr(pages, "chart_library", lambda: "")


def data_of(text: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL).group(1))


def visible(text: str) -> str:
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", text, flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", body)))


def rows(n_systems=3, n_contents=5, corpora=("bvcc", "somos"), shift=0.0, noise=0.3):
    rng = np.random.default_rng(1)
    labels, said = [], []
    for corpus in corpora:
        for s in range(n_systems):
            for c in range(n_contents):
                mos = 1.5 + s + 0.2 * rng.standard_normal()
                place = (f"{corpus}:{s}:{c}", f"sys{s}", f"{c}", corpus)
                labels.append(ClipRow(*place, {"mos_overall": mos, "utmos": mos + 0.5 * rng.standard_normal()}))
                bias = shift if s == 0 else 0.0
                said.append(
                    ClipRow(*place, {"mos_overall": mos + bias + noise * rng.standard_normal()}, path=f"/none/{place[0]}.wav")
                )
    return Source("preds.jsonl", said), Source("refs.jsonl", labels)


def made(tmp_path, said, known, efficiency=(), **asked):
    report = evaluate(said, known, Asked(resampling=Resampling(20), **asked))
    return report, evaluation_page(report, match_clips(said, known), said, Options(tmp_path / "e.html"), efficiency)


def test_each_corpus_has_a_scatter_with_its_n_and_systems_with_intervals(tmp_path):
    report, text = made(tmp_path, *rows())
    data = data_of(text)
    for corpus in ("bvcc", "somos"):
        layers = data["charts"][f"scatter:mos_overall:{corpus}"]
        assert len(layers["layer"][0]["data"]["values"]) == 15
        means = layers["data"]["values"]
        assert [m["n"] for m in means] == [5, 5, 5] and all(m["x_low"] < m["x"] < m["x_high"] for m in means)
        lcc = report["corpora"][corpus]["utterance"]["mos_overall"]["lcc"]
        assert f"{corpus} n = 15 clips , 3 systems: LCC {lcc:.2f}" in visible(text).replace("clips,", "clips ,")


def test_the_tables_hold_the_reports_numbers(tmp_path):
    report, text = made(tmp_path, *rows())
    for level in ("utterance", "system"):
        for name in ("mse", "lcc", "srcc", "ktau"):
            assert f'data-value="{report[level]["mos_overall"][name]}"' in text
    part = report["corpora"]["bvcc"]["utterance"]["mos_overall"]
    assert f"{part['lcc']:.2f} / {part['srcc']:.2f} n = {part['n']}" in visible(text)
    found = report["preference"]["mos_overall"]
    assert f'data-value="{found["acc_delta"]}"' in text and f"(n = {found['n']} pairs)" in visible(text)


def test_residuals_find_the_system_that_the_predictor_is_too_kind_to(tmp_path):
    _, text = made(tmp_path, *rows(shift=1.0, noise=0.05))
    points = data_of(text)["charts"]["residuals:mos_overall"]["data"]["values"]
    assert points[0]["system"] == "sys0" and points[0]["value"] == pytest.approx(1.0, abs=0.1) and points[0]["low"] > 0.8
    assert all(abs(p["value"]) < 0.1 for p in points[1:]) and points[0]["n"] == 10
    farthest = re.search(r"Farthest from the listeners.*?</table>", text, re.DOTALL).group(0)
    listed = re.findall(r'<th scope="row">(\w+:\d):', farthest)
    assert len(listed) == 12 and sum(uid.endswith(":0") for uid in listed) == 10 and all(u.endswith(":0") for u in listed[:10])
    assert "does not exist" in farthest


def test_the_sweep_and_its_best_are_those_of_the_report(tmp_path):
    report, text = made(tmp_path, *rows())
    found = report["preference"]["mos_overall"]
    chart = data_of(text)["charts"]["sweep"]
    assert [r["accuracy"] for r in chart["data"]["values"]] == found["sweep"]["accuracy"]
    assert chart["layer"][1]["data"]["values"][0]["threshold"] == found["best"]["threshold"]


def test_the_metrics_of_the_references_are_correlated(tmp_path):
    report, text = made(tmp_path, *rows())
    cells = {(r["a"], r["b"]): r for r in data_of(text)["charts"]["spearman"]["data"]["values"]}
    assert len(cells) == 4 and {r["n"] for r in cells.values()} == {30}
    off = [r["srcc"] for (a, b), r in cells.items() if a != b]
    assert off == pytest.approx([report["metric_spearman"]["srcc"][0][1]] * 2)


def test_many_clips_are_drawn_in_part_and_said_so(tmp_path):
    report, text = made(tmp_path, *rows(n_systems=12, n_contents=100, corpora=("bvcc",)), limit=100)
    layers = data_of(text)["charts"]["scatter:mos_overall:bvcc"]
    assert len(layers["layer"][0]["data"]["values"]) == POINTS
    assert "n = 1200 clips (1000 drawn at random)" in visible(text) and report["utterance"]["mos_overall"]["n"] == 1200


def test_published_tables_and_efficiency_are_shown_when_known(tmp_path):
    said, known = rows(corpora=("somos",))
    _, text = made(
        tmp_path, said, known, [{"model": "pocket", "real-time factor": 0.01, "parameters": "1.9 M"}], published=True
    )
    assert "UrgentMOS paper, Table 4" in text and "mos_overall (here)" in text and "f1c5m15-dref" in text
    assert re.search(r"pocket 0\.01 1\.9 M", visible(text))
    _, without = made(tmp_path, said, known)
    assert 'id="efficiency"' not in without


def test_names_cannot_become_markup(tmp_path):
    said, known = rows(corpora=("a<img src=x>",))
    _, text = made(tmp_path, said, known)
    assert "<img" not in text and "a&lt;img src=x&gt;" in text
    assert "scatter:mos_overall:a<img src=x>" in data_of(text)["charts"]


def test_pairs_alone_make_a_page(tmp_path):
    from urgentmos.evaluation.predictions import PairRow

    pairs = [PairRow(f"a{k}", f"b{k}", {}, 1.0 if k % 2 else -1.0, True, content=str(k)) for k in range(8)]
    _, text = made(tmp_path, Source("p", pairs=pairs), Source("r", pairs=pairs))
    assert "n pairs" in text and 'id="scatter"' not in text
