"""Training says which labels are predictions, keeps listeners' labels before them, and records all sources."""

import json
from pathlib import Path
from typing import Any

import soundfile

from urgentmos.training.data import read_data

POCKET = "predicted by pocket c19abcda1728"


def test_predictions_among_labels_are_said_and_recorded(tmp_path: Path, make_voice: Any) -> None:
    rows = []
    for k, own in enumerate(
        ({"sources": {"mos_overall": POCKET}}, {"model": "pocket", "meta": {"version": "c19abcda1728"}}, {})
    ):
        soundfile.write(tmp_path / f"{k}.wav", make_voice(k, 0.3), 16_000)
        rows.append({"audio_path": f"{k}.wav", "metrics": {"mos_overall": 2.0 + k}, **own})
    rows[0]["meta"] = {"other_values": {"mos_overall": {"listeners": 4.0}}}
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pair = {"audio_paths": ["0.wav", "1.wav"], "metrics": {"mos_overall": 1.0}, "verdict": "a"}
    pairs = [pair, {**pair, "audio_paths": ["1.wav", "2.wav"], "sources": {"mos_overall": POCKET}}]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    notes: list[str] = []
    data = read_data([str(tmp_path / "m.jsonl")], [str(tmp_path / "p.jsonl")], notes.append)
    assert list(data.label("mos_overall")) == [4.0, 3.0, 4.0]
    assert data.label_sources() == {"mos_overall": {"listeners": 2, POCKET: 1}, "pairs": {"listeners": 1, POCKET: 1}}
    assert notes == [
        f"Warning: mos_overall of 1 of 3 clips is {POCKET}, not a label: a model is taught by a model",
        f"Warning: 1 of 2 pairs are {POCKET}, not judged by listeners: a model is taught by a model",
    ]
