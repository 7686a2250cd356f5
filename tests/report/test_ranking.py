"""The page of a ranking: what it says of systems and contents, made of what the ranking rests on."""

import json
import re
from dataclasses import replace
from html import unescape

import numpy as np
import pytest

from urgentmos.clips.clip import Clip
from urgentmos.judges.base import Evidence, Score
from urgentmos.ranking.rank import rank
from urgentmos.ranking.result import SystemRank
from urgentmos.report import Options
from urgentmos.report import page as pages
from urgentmos.report.ranking import field_of, headline, listened, ranking_page

NASTY = "</script><script>alert('a')</script>\"x\""


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the chart library, which takes seconds to bundle and is tested on its own."""
    pytest.importorskip("jinja2")
    monkeypatch.setattr(pages, "chart_library", lambda: "")


def evidence(values, systems=None, judge="dnsmos_ovrl", pairs=None, human=None, extra=None):
    """(S, U) values -> (Evidence, clips); `human` (S, U), `extra` {metric: (S, U)} are labels of the manifest."""
    values = np.asarray(values, float)
    systems = systems or [f"s{k}" for k in range(len(values))]
    contents = [f"c{u}" for u in range(values.shape[1])]
    clips, rows = [], []
    for i, system in enumerate(systems):
        for u, content in enumerate(contents):
            labels = {name: float(table[i][u]) for name, table in (extra or {}).items()}
            if human is not None and np.isfinite(human[i][u]):
                labels["mos_overall"] = float(human[i][u])
            clip = Clip(f"{system}:{content}", f"{i}/{content}.wav", system, content, metrics=labels)
            value = float(values[i, u]) if np.isfinite(values[i, u]) else None
            clips.append(clip)
            rows.append(Score(replace(clip, metrics={judge: value}), judge, None if value is not None else "it is empty"))
    return Evidence(systems, contents, values, pairs, rows), clips


def made(tmp_path, found, clips, judge="dnsmos_ovrl", scoring="binary", human=None, **more):
    better = "lower" if judge == "lsd" else "higher"
    pairs = found.pairs
    ranking = rank(
        found.systems,
        found.contents,
        scores=found.scores,
        pairs=pairs,
        better=better,
        scoring=scoring,
        human=human,
        samples=100,
        model="m",
    )
    text = ranking_page(ranking, found, clips, judge, Options(tmp_path / "r.html", audio="none", **more))
    return ranking, text, data_of(text)


def data_of(text: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL).group(1))


def visible(text: str) -> str:
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", text, flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", body)))


VALUES = np.array([[3.0, 3.2, 3.1, 2.0], [2.0, 2.1, 2.2, 3.9], [1.0, 1.5, 1.1, 1.2]])


def test_the_table_holds_each_system_in_the_order_of_ranks(tmp_path):
    ranking, text, _ = made(tmp_path, *evidence(VALUES))
    table = text[text.index('<section id="table">') : text.index("</table>")]
    assert re.findall(r'<th scope="row">(.*?)</th>', table) == [s.system_id for s in ranking.systems]
    for s in ranking.systems:
        assert f'data-value="{s.score}"' in table
    assert "n = 4 contents" in visible(table)
    assert "default-src 'none'" in unescape(text)


def test_names_cannot_become_markup(tmp_path):
    found, clips = evidence(VALUES, systems=[NASTY, "a&b", "c<d"])
    _, text, data = made(tmp_path, found, clips)
    assert NASTY in data["deck"]["systems"]
    assert "<script>alert" not in text and "c<d" not in text
    assert text.count("</script>") == 3  # data, charts, script


def test_the_page_names_no_other_server(tmp_path):
    _, text, _ = made(tmp_path, *evidence(VALUES))
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", text)
    assert not re.search(r"@import|url\(", text)


def test_disagreement_is_the_share_of_pairs_ordered_the_other_way(tmp_path):
    _, _, data = made(tmp_path, *evidence(VALUES))
    items = {item["id"]: item for item in data["deck"]["contents"]}
    assert data["deck"]["systems"] == ["s0", "s1", "s2"]
    assert items["c0"]["disagreement"] == 0
    assert items["c3"]["disagreement"] == pytest.approx(1 / 3, abs=1e-3)  # s1 above s0
    assert items["c3"]["spread"] == pytest.approx(2.7)
    assert items["c0"]["listeners"] is None


def test_a_metric_of_which_less_is_better_is_turned(tmp_path):
    ranking, _, data = made(tmp_path, *evidence(VALUES, judge="lsd"), judge="lsd", scoring="mos")
    assert [s.system_id for s in ranking.systems] == ["s2", "s1", "s0"]
    items = {item["id"]: item for item in data["deck"]["contents"]}
    assert items["c0"]["disagreement"] == 0 and items["c0"]["wins"] == [1, 0.5, 0]


def test_listeners_are_held_against_the_judge(tmp_path):
    human = np.array([[1.0, 5, 5, 2], [3, 4, 4, 4], [5, 3, 3, np.nan]])
    found, clips = evidence(VALUES, human=human)
    ranking, text, data = made(tmp_path, found, clips, human=np.nanmean(human, axis=1))
    items = {item["id"]: item for item in data["deck"]["contents"]}
    assert items["c0"]["listeners"] == 1 and items["c1"]["listeners"] == 0
    assert items["c3"]["human"] == [2, 4, None]
    assert "mos" in data["charts"] and "n = 3 systems: KRCC" in visible(text)
    place = {s.system_id: k for k, s in enumerate(ranking.systems)}
    assert data["charts"]["mos"]["data"]["values"][place["s2"]]["n"] == 3


def test_a_judge_of_pairs_alone_shows_wins(tmp_path):
    pairs = np.full((3, 3, 4), np.nan)
    for i in range(3):
        for j in range(3):
            if i != j:
                pairs[i, j] = 0.8 if i < j else 0.2
    pairs[0, 1, 2], pairs[1, 0, 2] = 0.3, 0.7
    found, clips = evidence(np.full((3, 4), np.nan), pairs=pairs)
    found = replace(found, rows=[replace(row, error=None) for row in found.rows])
    _, _, data = made(tmp_path, found, clips)
    items = {item["id"]: item for item in data["deck"]["contents"]}
    assert "value" not in items["c0"] and items["c0"]["wins"] == [1, 0.5, 0] and items["c2"]["wins"] == [0.5, 1, 0]
    assert items["c2"]["disagreement"] == pytest.approx(1 / 3, abs=1e-3)


def test_wins_follow_the_order_of_ranks_when_names_do_not(tmp_path):
    pairs = np.full((2, 2, 3), 0.5)
    pairs[0, 1], pairs[1, 0] = 0.1, 0.9
    found, clips = evidence(np.full((2, 3), np.nan), systems=["z", "a"], pairs=pairs)
    ranking, _, _ = made(tmp_path, found, clips)
    field = field_of(ranking, found, clips, "dnsmos_ovrl")
    assert field.systems == ["a", "z"] and (field.wins[0] == 1).all() and (field.wins[1] == 0).all()


def test_strengths_are_told_against_the_field(tmp_path):
    extra = {"lsd": [[1.0] * 4, [2.0] * 4, [3.0] * 4], "pesq": [[2.0] * 4, [2.0] * 4, [4.0] * 4]}
    found, clips = evidence(VALUES, extra=extra)
    _, text, data = made(tmp_path, found, clips)
    z = {(row["system"], row["metric"]): row["z"] for row in data["charts"]["profile"]["data"]["values"]}
    assert z["s0", "LSD"] > 1 > 0 > z["s2", "LSD"] and z["s2", "PESQ"] > 1  # less LSD is better
    card = visible(text[text.index('<article class="card"><h3>s2') :].split("</article>")[0])
    assert re.search(r"strong PESQ 4\.00, 1 of 3, \+1\.4 SD, n = 4", card) and re.search(r"weak .*LSD 3\.00, 3 of 3", card)


def test_one_metric_makes_no_profile(tmp_path):
    _, text, data = made(tmp_path, *evidence(VALUES))
    assert "profile" not in data["charts"] and "urgentmos label" in text


def test_failed_clips_are_listed_with_their_reasons(tmp_path):
    values = VALUES.copy()
    values[1, 2] = np.nan
    _, text, data = made(tmp_path, *evidence(values))
    assert "1 of 12 clips have no score" in visible(text) and "1/c2.wav : it is empty" in visible(text)
    assert {item["id"]: item for item in data["deck"]["contents"]}["c2"]["value"][1] is None


def test_unknown_intervals_are_dashes(tmp_path):
    _, text, data = made(tmp_path, *evidence(VALUES[:, :1]))
    assert data["charts"]["forest"]["data"]["values"][0]["low"] is None
    assert "inf" not in visible(text).lower().replace("information", "")


def test_contents_to_hear_are_taken_from_both_ends_of_interest():
    order = {
        "spread": np.array([0.1, 0.9, 0.5, 0.2]),
        "disagreement": np.array([0.3, 0.1, 0.0, np.nan]),
        "listeners": np.full(4, np.nan),
    }
    assert listened(order, 2) == [1, 0]
    assert sorted(listened(order, 9)) == [0, 1, 2, 3]


def test_only_some_contents_are_heard(tmp_path, make_voice):
    import soundfile

    found, clips = evidence(VALUES)
    rows, own = [], []
    for clip, row in zip(clips, found.rows, strict=True):
        path = tmp_path / clip.audio_path
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, make_voice(1, 0.3), 16_000)
        own.append(replace(clip, audio_path=str(path)))
        rows.append(replace(row, clip=replace(row.clip, audio_path=str(path))))
    found = replace(found, rows=rows)
    ranking = rank(found.systems, found.contents, scores=found.scores, samples=100)
    text = ranking_page(ranking, found, own, "dnsmos_ovrl", Options(tmp_path / "r.html", listen=2))
    heard = [item for item in data_of(text)["deck"]["contents"] if "sound" in item]
    assert len(heard) == 2 and all(url.startswith("data:audio/ogg") for item in heard for url in item["sound"])


@pytest.mark.parametrize(
    ("alike", "sentence"),
    [
        ([(), ("s2",), ("s1",)], "is clearly ahead of all others"),
        ([("s1",), ("s0", "s2"), ("s1",)], "cannot be told apart from s1"),
        ([("s2",), (), ("s0",)], "cannot be told apart from s2"),  # it varies more than the second, and may be first
    ],
)
def test_the_first_line_names_what_the_first_is_not_distinguishable_from(alike, sentence):
    systems = [SystemRank(f"s{k}", k + 1, 1, 3, 3.0 - k, 2.0, 4.0, None, others) for k, others in enumerate(alike)]
    found = rank(["s0", "s1"], ["c0"], scores=np.ones((2, 1)), samples=2, model="m")
    ranking = replace(found, systems=tuple(systems))
    assert headline(ranking) == f"s0 comes first of 3 systems and {sentence}."
    assert headline(replace(ranking, systems=tuple(systems[:1]))) == "s0 is the only system."


def test_silent_clips_lose_on_the_page_as_in_the_ranking(tmp_path):
    found, clips = evidence(VALUES)
    quiet = [row.clip.system_id == "s0" for row in found.rows]
    rows = [replace(row, warnings=["silence: the level is digital zero"] * q) for row, q in zip(found.rows, quiet, strict=True)]
    found = replace(found, rows=rows)
    silent = np.zeros((3, 4), bool)
    silent[0] = True
    ranking = rank(found.systems, found.contents, scores=found.scores, silent=silent, samples=20)
    field = field_of(ranking, found, clips, "dnsmos_ovrl")
    assert field.systems[-1] == "s0" and (field.wins[-1] == 0).all() and (field.wins[:2].sum(0) == 1.5).all()


def test_intervals_of_opinions_stay_on_their_scale(tmp_path):
    human = np.array([[5.0, 5, 5, 4], [1, 1, 1, 2], [1, 5, 1, 5]])
    found, clips = evidence(np.array([[4.9, 5, 5, 3], [1, 1, 1, 4], [1, 5, 1, 5]]), human=human)
    _, text, data = made(tmp_path, found, clips, human=human.mean(1))
    for row in data["charts"]["mos"]["data"]["values"]:
        assert row["x_low"] >= 1 and row["x_low"] <= row["mos"] <= row["x_high"] <= 5
    table = visible(text[text.index('<section id="table">') : text.index("</table>")])
    assert all(float(low) >= 1 and float(high) <= 5 for low, high in re.findall(r"(\d\.\d+)[^\d]+(\d\.\d+) 4 ", table))


def test_the_first_line_does_not_name_hundreds(tmp_path):
    found = rank([f"s{k:02}" for k in range(12)], ["c0"], scores=np.arange(12.0)[:, None], samples=2, model="m")
    assert headline(found) == "s11 comes first of 12 systems and cannot be told apart from any of the 11 others."
    best = replace(found.systems[0], not_distinguishable_from=found.systems[0].not_distinguishable_from[:9])
    assert headline(replace(found, systems=(best, *found.systems[1:]))).endswith("from s10, s09, s08, s07, s06, s05, 3 others.")


@pytest.mark.parametrize("seed", range(3))
def test_the_page_says_what_table_and_json_say_of_what_is_not_distinguishable(seed, tmp_path):
    values = np.linspace(0, 3, 6)[:, None] + np.random.default_rng(seed).normal(size=(6, 9))
    ranking, text, _ = made(tmp_path, *evidence(values))
    table = text[text.index('<section id="table">') : text.index("</table>")]
    lines = ranking.table().splitlines()[1:]
    for line, s in zip(lines, ranking.systems, strict=True):
        shown = ranking.alike()[s.system_id]
        names = ", ".join(s.not_distinguishable_from)
        cell = f'data-value="{len(s.not_distinguishable_from)}" title="{names}">{shown}</td>'
        assert cell in table[table.index(f'<th scope="row">{s.system_id}<') :].split("</tr>")[0]
        assert line.endswith(shown) and (shown or line.rstrip().endswith(f"{s.rank}"))
    groups = re.findall(r"<li>(.*?)</li>", text[text.index('<section id="table">') : text.index('<section id="scores">')])
    assert groups == [", ".join(group) for group in ranking.ties]
