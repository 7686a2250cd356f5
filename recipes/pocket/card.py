"""The numbers of `evaluate.py` as the tables of MODEL_CARD.md, between its two marks."""

import argparse
import json
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- made by recipes/pocket/card.py -->", "<!-- end of what it made -->"
GROUPS = (
    ("unseen degradations", "damage never heard"),
    ("Real enhancers", "real enhancers"),
    ("Real enhancers never heard", "enhancers never heard"),
    ("Neural vocoder", "the neural vocoder"),
    ("Speech never heard", "speech never heard"),
)
JUDGES = {"this model, compare": "pocket, `compare`", "this model, mos_overall": "pocket, `mos_overall`"}


def tables(found: dict[str, Any]) -> str:
    """The tables in Markdown."""
    parts = [heads(found), pairs(found)]
    parts += [orders(found)] if "orders" in found or "Neural vocoder" in found else []
    parts += [listeners(found["human"])] if "human" in found else []
    parts += [enhancers(found["Real enhancers"])] if "Real enhancers" in found else []
    parts += [robustness(found)] if "robustness" in found else []
    return "\n\n".join(parts)


def heads(found: dict[str, Any]) -> str:
    held = found["held-out contents"]
    others = [(found[key].get("heads", found[key]), title) for key, title in GROUPS if key in found]
    others = [(rows, title) for rows, title in others if rows]  # some had too few clips
    sizes = [max(row["n"] for row in rows.values()) for rows, _ in others]
    titles = [f"SRCC, {n} clips of {title}" for n, (_, title) in zip(sizes, others, strict=True)]
    lines = [_row("metric", "n", "LCC", "SRCC (95 %)", *titles, "RMSE", "90 % interval holds"), _rule(6 + len(others))]
    for metric, row in held.items():
        srcc = f"{row['srcc']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
        elsewhere = [f"{rows[metric]['srcc']:.2f}" if metric in rows else "" for rows, _ in others]
        covered = found["coverage"].get(metric)
        holds = "" if covered is None else f"{covered:.2f}"
        lines.append(_row(f"`{metric}`", row["n"], f"{row['lcc']:.3f}", srcc, *elsewhere, f"{row['rmse']:.2g}", holds))
    return "Scores of held-out contents; `mos_overall` is compared with its pseudo-label:\n\n" + "\n".join(lines)


def pairs(found: dict[str, Any]) -> str:
    sets = [("held-out contents", found["pairs"])]
    sets += [("speech never heard", found["Speech never heard"]["pairs"])] if "Speech never heard" in found else []
    signs = [name for name in found["pairs"] if name.startswith("sign of ")]
    lines = [_row("pairs", "n", "acc_0", "acc_0.5", "ECE", *(name.removeprefix("sign of ") for name in signs))]
    lines.append(_rule(5 + len(signs)))
    for title, p in sets:
        values = [p["acc_0"], p["acc_0.5"], p["calibration error"], *(p.get(name) for name in signs)]
        lines.append(_row(title, p["pairs"], *("" if x is None else f"{x:.3f}" for x in values)))
    text = "Pairs within a content, agreement of `compare` with the pseudo-label and with the sign of measured metrics; ECE: "
    return f"{text}calibration error:\n\n" + "\n".join(lines)


def orders(found: dict[str, Any]) -> str:
    sets = [(f"held-out contents ({found['orders']['pairs']})", found["orders"])] if "orders" in found else []
    vocoder = found.get("Neural vocoder", {}).get("orders")
    sets += [(f"the neural vocoder ({vocoder['pairs']})", vocoder)] if vocoder else []
    judges = ["this model, compare", *list(sets[0][1])[3:]]
    shares = [" and ".join(f"{row[name]:.3f}" for _, row in sets if name in row) for name in judges]
    values = "; ".join(f"{name.removeprefix('this model, ')} {x}" for name, x in zip(judges, shares, strict=True))
    on = " and on ".join(title for title, _ in sets)
    return f"Pairs of known order, share in the right order on {on}: {values}."


def listeners(found: dict[str, dict[str, float]]) -> str:
    lines = [_row("judge", "LCC", "SRCC", "pairs within a talker"), _rule(4)]
    for name, row in found.items():
        lcc, srcc = (f"{row[key]:.3f}" if key in row else "" for key in ("lcc", "srcc"))
        lines.append(_row(JUDGES.get(name, f"`{name}`"), lcc, srcc, f"{row['pair accuracy']:.3f}"))
    return "Listeners: clips of a P.835 test (noise and MNRU):\n\n" + "\n".join(lines)


def enhancers(found: dict[str, Any]) -> str:
    gains = {name.split(" minus noisy")[0]: v for name, v in found.items() if "minus noisy" in name}
    worse = [name for name, gain in gains.items() if gain <= 0]
    every = f"not better than noisy on average: {', '.join(worse)}" if worse else "every enhancer beats noisy on average"
    return (
        f"Real enhancers on held-out contents: clean beats noisy in {found['clean beats noisy, by score']:.1%} of contents by "
        f"score, in {found['clean beats noisy, by compare']:.1%} by `compare`; {every}. SRCC over clips with Distill-MOS "
        f"{found['SRCC with distill_mos over clips']:.2f}, with PESQ {found['SRCC with pesq over clips']:.2f}."
    )


def robustness(found: dict[str, Any]) -> str:
    changes = ", ".join(f"{name} {value:.2f}" for name, value in found["robustness"].items())
    return f"Mean absolute change of `mos_overall` on the P.835 clips: {changes}."


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _rule(columns: int) -> str:
    return "|" + "---|" * columns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("evaluation", type=Path, help="what evaluate.py --out wrote")
    parser.add_argument("card", type=Path, help="MODEL_CARD.md with the two marks")
    args = parser.parse_args()
    card = args.card.read_text(encoding="utf-8")
    before, rest = card.split(BEGIN)
    after = rest.split(END)[1]
    made = tables(json.loads(args.evaluation.read_text(encoding="utf-8")))
    args.card.write_text(f"{before}{BEGIN}\n\n{made}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
