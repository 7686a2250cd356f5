"""Scores as other tools write them: which column names the clip, and which columns are which metric.

NISQA (`run_predict.py`): deg, mos_pred, ... DNSMOS (`dnsmos_local.py`): filename, OVRL, SIG, BAK, P808_MOS. The answer file
of the VoiceMOS challenges: `utterance,score` without a header. Any other table with a column of file names.
"""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from urgentmos.clips.clip import without_suffix
from urgentmos.clips.records import is_metric_name, label, named, names_a_file
from urgentmos.metrics import canonical

ANSWER = ("uid", "score")  # the columns of a file without a header
_TOOLS = (  # columns that only this tool writes -> their metrics
    ({"mos_pred", "noi_pred", "dis_pred"}, {"mos_pred": "nisqa_mos"}),
    ({"deg", "mos_pred"}, {"mos_pred": "nisqa_mos"}),  # its model of synthetic speech has no dimensions
    (
        {"OVRL", "SIG", "BAK"},
        {"OVRL": "dnsmos_ovrl", "SIG": "dnsmos_sig", "BAK": "dnsmos_bak", "P808_MOS": "dnsmos_p808"},
    ),
)


def metrics_of(record: Mapping[str, Any]) -> dict[str, float | None]:
    """The metrics in a row of another tool, under our names; {} if it has none that we know."""
    columns = next((names for marks, names in _TOOLS if marks <= record.keys()), None)
    if columns is None:  # UTMOS, MOS, ...
        columns = {key: canonical(key.lower()) for key in record if is_metric_name(key.lower())}
    values: dict[str, float | None] = {}
    for theirs, ours in columns.items():
        try:
            values |= {ours: label(record[theirs])} if theirs in record else {}
        except ValueError as e:
            raise ValueError(f"{theirs}: {e}") from None
    return values


def file_of(record: Mapping[str, Any]) -> str | None:
    """The name of the file that a row is about, under any of the known keys; None if there is none."""
    keys = sorted(filter(names_a_file, record), key=lambda key: key != "audio_path")
    return next((name for key in keys if (name := named(record, key))), None)


def parts_of(name: str) -> tuple[str, ...]:
    """The parts of the path of a file without its ending, the last first: "x/utt1.wav" -> ("utt1", "x")."""
    parts = PurePosixPath(without_suffix(name.replace("\\", "/"))).parts
    return tuple(part for part in reversed(parts) if part != "/") or (name,)


def same_file(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two names (`parts_of`) can be of one file: the shorter is the end of the longer."""
    return all(a == b for a, b in zip(one, other, strict=False))
