"""The papers' tables as data, to stand beside our numbers.

Transcribed from the tables of "UrgentMOS: Unified Multi-Metric and Preference Learning for Robust Speech Quality
Assessment" (Wang et al.) and "URGENT-PK: Perceptually-Aligned Ranking Model Designed for Speech Enhancement Competition"
(Wang et al., arXiv 2506.23874). Nothing was measured again.

Known oddities, kept as printed: NISQA-LIVE of Table 10 is NISQA-LIVETALK in Table 11; the row WavLM of Table 11 should be
the row f1c1m5-dref of Tables 5 and 10 but differs on SOMOS, BC19 and URGENT25-SQA; the accuracies of SpeechEval on
NISQA-P501 and URGENT25-SQA in Table 9 are marked as best although others are higher; with five systems KRCC 0.067 and
SRCC 0.371 (CHiME-7, Table II) are means, not values of one ranking. A few KRCC of Table II are left out ("-") because our
copy of the paper shows one number for two rows.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One table: rows[model][column] holds a number per statistic, in their order, or None where the paper has none."""

    source: str
    statistics: tuple[str, ...]
    columns: tuple[str, ...]
    rows: dict[str, dict[str, tuple[float | None, ...]]]


def _table(source: str, statistics: tuple[str, ...], text: str) -> Published:
    head, *lines = ([cell.strip() for cell in line.split("|")] for line in text.strip().splitlines())
    rows = {}
    for model, *cells in lines:
        values = [tuple(None if x == "-" else float(x) for x in cell.split("/")) for cell in cells]
        rows[model] = dict(zip(head[1:], values, strict=True))
    return Published(source, statistics, tuple(head[1:]), rows)


TABLES: dict[str, Published] = {
    "4": _table(
        "UrgentMOS paper, Table 4: preference accuracy",
        ("acc_0.5", "acc_0"),
        """
Model          | SOMOS     | TMHINT-QI | URGENT24-SQA | SpeechEval | SpeechJudge
DNSMOS         | 0.49/0.51 | 0.43/0.62 | 0.54/0.63    | 0.52/0.73  | 0.07/0.58
UTMOS          | 0.52/0.64 | 0.46/0.68 | 0.55/0.67    | 0.68/0.76  | 0.23/0.60
SCOREQ         | 0.51/0.61 | 0.48/0.63 | 0.58/0.68    | 0.65/0.76  | 0.12/0.58
Distill-MOS    | 0.48/0.51 | 0.47/0.63 | 0.54/0.66    | 0.64/0.74  | 0.07/0.58
NISQA-MOS      | 0.47/0.51 | 0.46/0.60 | 0.55/0.67    | 0.58/0.71  | 0.18/0.58
SpeechEval     | 0.35/0.68 | 0.57/0.84 | 0.43/0.67    | 0.79/0.87  | 0.45/0.55
SpeechJudge    | 0.28/0.56 | 0.50/0.70 | 0.29/0.54    | 0.48/0.59  | 0.74/0.74
Random         | 0.34/0.50 | 0.34/0.50 | 0.33/0.50    | 0.33/0.50  | 0.30/0.52
f1c1m1-dref    | 0.57/0.71 | 0.60/0.77 | 0.57/0.67    | 0.80/0.87  | 0.67/0.67
f1c1m5-dref    | 0.58/0.72 | 0.63/0.77 | 0.58/0.69    | 0.81/0.89  | 0.68/0.68
f1c1m5-dcorpus | 0.59/0.72 | 0.62/0.77 | 0.58/0.68    | 0.81/0.89  | 0.63/0.63
f1c1m5-dany    | 0.58/0.71 | 0.62/0.77 | 0.59/0.69    | 0.81/0.91  | 0.69/0.69
f4c1m5-dref    | 0.60/0.73 | 0.63/0.78 | 0.59/0.69    | 0.83/0.91  | 0.75/0.75
f1c1m15-dref   | 0.57/0.69 | 0.58/0.75 | 0.57/0.68    | 0.78/0.90  | 0.65/0.65
f1c5m15-dref   | 0.57/0.70 | 0.62/0.76 | 0.59/0.69    | 0.82/0.89  | 0.71/0.71
""",
    ),
    "5": _table(
        "UrgentMOS paper, Table 5: correlation on utterances",
        ("lcc", "srcc"),
        """
Model          | SOMOS     | TMHINT-QI | URGENT24-SQA | BVCC      | NISQA-FOR
DNSMOS         | 0.01/0.01 | 0.41/0.37 | 0.65/0.64    | 0.49/0.50 | 0.54/0.54
UTMOS          | 0.44/0.42 | 0.60/0.48 | 0.72/0.74    | 0.88/0.88 | 0.80/0.77
SCOREQ         | 0.32/0.31 | 0.62/0.47 | 0.79/0.79    | 0.81/0.82 | 0.93/0.93
Distill-MOS    | 0.00/0.01 | 0.57/0.46 | 0.76/0.75    | 0.82/0.81 | 0.82/0.83
NISQA-MOS      | 0.02/0.03 | 0.53/0.35 | 0.71/0.70    | 0.62/0.63 | 0.89/0.88
f1c1m1-dref    | 0.64/0.63 | 0.79/0.74 | 0.75/0.75    | 0.83/0.83 | 0.91/0.90
f1c1m5-dref    | 0.68/0.67 | 0.80/0.76 | 0.78/0.78    | 0.84/0.85 | 0.92/0.91
f1c1m5-dcorpus | 0.65/0.63 | 0.80/0.76 | 0.77/0.77    | 0.86/0.86 | 0.93/0.92
f1c1m5-dany    | 0.65/0.64 | 0.80/0.76 | 0.78/0.77    | 0.85/0.85 | 0.91/0.90
f4c1m5-dref    | 0.68/0.67 | 0.82/0.78 | 0.80/0.79    | 0.86/0.86 | 0.93/0.94
f1c1m15-dref   | 0.57/0.55 | 0.78/0.72 | 0.76/0.76    | 0.82/0.82 | 0.90/0.90
f1c5m15-dref   | 0.62/0.61 | 0.80/0.75 | 0.79/0.78    | 0.85/0.85 | 0.93/0.92
""",
    ),
    "8": _table(
        "UrgentMOS paper, Table 8: f1c1m5-dref with and without symmetric pairs",
        ("acc_0.5", "acc_0"),
        """
Setting   | SpeechEval | SpeechJudge
w/ symm.  | 0.81/0.89  | 0.68/0.68
w/o symm. | 0.79/0.85  | 0.63/0.63
""",
    ),
    "9": _table(
        "UrgentMOS paper, Table 9: preference accuracy, further test sets",
        ("acc_0.5", "acc_0"),
        """
Model          | NISQA-P501 | NISQA-FOR | CHiME-7   | URGENT25-SQA
DNSMOS         | 0.46/0.78  | 0.47/0.69 | 0.37/0.51 | 0.52/0.63
UTMOS          | 0.72/0.85  | 0.67/0.79 | 0.49/0.57 | 0.50/0.66
SCOREQ         | 0.81/0.90  | 0.79/0.88 | 0.60/0.75 | 0.57/0.69
Distill-MOS    | 0.75/0.86  | 0.69/0.82 | 0.55/0.67 | 0.55/0.67
NISQA-MOS      | 0.74/0.87  | 0.74/0.85 | 0.51/0.59 | 0.52/0.65
SpeechEval     | 0.68/0.91  | 0.53/0.77 | 0.46/0.74 | 0.50/0.78
SpeechJudge    | 0.54/0.71  | 0.42/0.65 | 0.30/0.58 | 0.33/0.57
Random         | 0.33/0.50  | 0.33/0.50 | 0.34/0.51 | 0.33/0.50
f1c1m1-dref    | 0.78/0.90  | 0.76/0.86 | 0.56/0.69 | 0.57/0.69
f1c1m5-dref    | 0.79/0.89  | 0.77/0.87 | 0.64/0.76 | 0.59/0.70
f1c1m5-dcorpus | 0.79/0.90  | 0.79/0.88 | 0.64/0.77 | 0.58/0.70
f1c1m5-dany    | 0.80/0.90  | 0.76/0.86 | 0.66/0.78 | 0.58/0.70
f4c1m5-dref    | 0.81/0.91  | 0.81/0.89 | 0.60/0.80 | 0.59/0.74
f1c1m15-dref   | 0.76/0.88  | 0.75/0.86 | 0.60/0.76 | 0.58/0.69
f1c5m15-dref   | 0.80/0.90  | 0.79/0.88 | 0.62/0.77 | 0.59/0.70
""",
    ),
    "10": _table(
        "UrgentMOS paper, Table 10: correlation on utterances, further test sets",
        ("lcc", "srcc"),
        """
Model          | BC19      | NISQA-LIVE | NISQA-P501 | CHiME-7   | URGENT25-SQA
DNSMOS         | 0.48/0.47 | 0.60/0.59  | 0.65/0.70  | 0.28/0.28 | 0.65/0.65
UTMOS          | 0.61/0.65 | 0.77/0.77  | 0.85/0.88  | 0.26/0.33 | 0.65/0.69
SCOREQ         | 0.69/0.66 | 0.76/0.74  | 0.93/0.94  | 0.75/0.75 | 0.74/0.74
Distill-MOS    | 0.84/0.81 | 0.86/0.84  | 0.90/0.90  | 0.72/0.71 | 0.71/0.70
NISQA-MOS      | 0.43/0.33 | 0.78/0.76  | 0.90/0.91  | 0.48/0.47 | 0.68/0.66
f1c1m1-dref    | 0.81/0.77 | 0.83/0.81  | 0.92/0.93  | 0.64/0.63 | 0.74/0.74
f1c1m5-dref    | 0.87/0.84 | 0.83/0.82  | 0.93/0.93  | 0.76/0.75 | 0.76/0.76
f1c1m5-dcorpus | 0.80/0.77 | 0.82/0.79  | 0.93/0.94  | 0.76/0.75 | 0.74/0.74
f1c1m5-dany    | 0.81/0.76 | 0.83/0.80  | 0.92/0.94  | 0.79/0.78 | 0.74/0.73
f4c1m5-dref    | 0.83/0.77 | 0.87/0.87  | 0.93/0.94  | 0.77/0.76 | 0.75/0.74
f1c1m15-dref   | 0.74/0.69 | 0.87/0.85  | 0.90/0.92  | 0.68/0.67 | 0.75/0.74
f1c5m15-dref   | 0.82/0.78 | 0.86/0.84  | 0.93/0.94  | 0.76/0.75 | 0.76/0.75
""",
    ),
    "11": _table(
        "UrgentMOS paper, Table 11: f1c1m5-dref with other encoders",
        ("lcc", "srcc"),
        """
Encoder|SOMOS|TMHINT-QI|URGENT24-SQA|BVCC|NISQA-FOR|BC19|NISQA-LIVETALK|NISQA-P501|CHiME-7|URGENT25-SQA
WavLM|0.64/0.63|0.80/0.76|0.78/0.78|0.84/0.85|0.92/0.91|0.81/0.77|0.83/0.81|0.93/0.93|0.76/0.75|0.74/0.74
Kimi-Audio|0.68/0.67|0.81/0.77|0.77/0.78|0.85/0.85|0.93/0.93|0.86/0.83|0.88/0.87|0.92/0.92|0.77/0.76|0.73/0.73
Qwen3Omni|0.60/0.59|0.78/0.74|0.78/0.77|0.82/0.83|0.90/0.89|0.62/0.46|0.85/0.84|0.92/0.92|0.78/0.78|0.77/0.76
AF-Whisper|0.65/0.64|0.80/0.76|0.77/0.77|0.82/0.81|0.90/0.90|0.72/0.59|0.84/0.82|0.89/0.91|0.78/0.78|0.72/0.72
""",
    ),
    "12": _table(
        "UrgentMOS paper, Table 12: other metrics of f1c5m15-dref, predicted against measured",
        ("lcc", "srcc"),
        """
Metric          | URGENT2024-SQA | URGENT2025-SQA
UTMOS           | 0.99/0.98      | 0.98/0.98
Distill-MOS     | 0.93/0.92      | 0.93/0.93
SCOREQ          | 0.95/0.96      | 0.95/0.95
NISQA-MOS       | 0.90/0.90      | 0.87/0.86
DNSMOS          | 0.91/0.87      | 0.89/0.88
LSD             | 0.45/0.35      | 0.48/0.47
SDR             | 0.81/0.88      | 0.70/0.77
PESQ            | 0.85/0.86      | 0.85/0.84
PESQc2          | 0.90/0.90      | 0.86/0.86
LPS             | 0.92/0.91      | 0.87/0.89
SpeechBERTScore | 0.91/0.92      | 0.89/0.89
ESTOI           | 0.87/0.91      | 0.89/0.90
SpeakerSim      | 0.72/0.73      | 0.76/0.76
MCD             | 0.73/0.66      | 0.68/0.69
""",
    ),
    "PK-II": _table(
        "URGENT-PK paper, Table II: ranking of systems outside of the training domain",
        ("krcc", "srcc", "lcc"),
        """
Model               | urgent25_zh       | urgent25_jp       | urgent25_de       | CHiME-7
DNSMOS              | 0.472/0.606/0.831 | 0.446/0.598/0.816 | 0.489/0.612/0.795 | 0.000/-0.100/-0.140
UTMOS               | 0.524/0.666/0.665 | 0.602/0.775/0.822 | 0.671/0.857/0.854 | 0.200/0.200/0.267
UTMOS_ft            | 0.655/0.824/0.899 | 0.686/0.842/0.914 | 0.760/0.891/0.920 | 0.067/0.371/0.316
UTMOS_pk            | 0.567/0.718/0.734 | 0.576/0.743/0.773 | 0.671/0.829/0.821 | 0.000/-0.100/0.100
UG-PK_mel BS        | 0.619/0.815/0.895 | -/0.857/0.920     | 0.749/0.905/0.929 | -/0.300/0.289
UG-PK_mel NBS       | 0.593/0.791/0.896 | -/0.870/0.921     | 0.740/0.902/0.932 | -/0.300/0.283
UG-PK_UTMOS(fix) BS  | -/0.778/0.825    | 0.703/0.852/0.849 | 0.810/0.944/0.905 | 0.400/0.500/0.402
UG-PK_UTMOS(fix) NBS | -/0.797/0.850    | 0.714/0.875/0.878 | 0.810/0.940/0.922 | 0.400/0.500/0.382
UG-PK_UTMOS(ft) BS   | 0.706/0.888/0.929 | 0.706/0.880/0.891 | 0.835/0.951/0.933 | 0.400/0.500/0.489
UG-PK_UTMOS(ft) NBS  | 0.723/0.893/0.930 | 0.732/0.896/0.895 | 0.835/0.951/0.934 | 0.400/0.500/0.485
""",
    ),
    "PK-III": _table(
        "URGENT-PK paper, Table III: ranking of systems on urgent25_en",
        ("krcc", "srcc", "lcc"),
        """
Model                | urgent25_en
DNSMOS               | 0.602/0.713/0.847
UTMOS                | 0.835/0.951/0.894
UTMOS_ft             | 0.814/0.944/0.939
UTMOS_pk             | 0.766/0.928/0.842
UG-PK_mel BS         | 0.835/0.955/0.930
UG-PK_mel NBS        | 0.853/0.960/0.935
UG-PK_UTMOS(fix) BS  | 0.827/0.954/0.938
UG-PK_UTMOS(fix) NBS | 0.853/0.957/0.965
UG-PK_UTMOS(ft) BS   | 0.879/0.971/0.955
UG-PK_UTMOS(ft) NBS  | 0.879/0.972/0.959
""",
    ),
    "PK-IV": _table(
        "URGENT-PK paper, Table IV: A/B accuracy by MOS difference on urgent25_en, 20 pairs a bin",
        ("accuracy",),
        """
Model            | [0,0.4) | [0.4,0.8) | [0.8,1.2) | [1.2,1.6) | [1.6,2) | Avg
MOS_cp           | 0.70    | 0.80      | 0.95      | 1.00      | 1.00    | 0.89
UG-PK_mel        | 0.75    | 0.55      | 0.85      | 0.85      | 0.95    | 0.79
UG-PK_UTMOS(fix) | 0.85    | 0.70      | 0.80      | 0.95      | 1.00    | 0.86
UG-PK_UTMOS(ft)  | 0.80    | 0.65      | 0.90      | 0.95      | 1.00    | 0.86
""",
    ),
    "PK-V": _table(
        "URGENT-PK paper, Table V: MOS of a clip from the model of pairs, systems of urgent25_en",
        ("krcc", "srcc", "lcc"),
        """
Model                        | urgent25_en
DNSMOS                       | 0.602/0.713/0.847
UTMOS                        | 0.835/0.951/0.894
UG-PK_mel replication        | 0.706/0.886/0.928
UG-PK_mel noisy              | 0.766/0.914/0.937
UG-PK_UTMOS(fix) replication | 0.844/0.950/0.950
UG-PK_UTMOS(fix) noisy       | 0.861/0.962/0.960
UG-PK_UTMOS(ft) replication  | 0.905/0.974/0.987
UG-PK_UTMOS(ft) noisy        | 0.887/0.971/0.966
""",
    ),
}

PREFERENCE = ("4", "9")  # the tables of test sets
CORRELATION = ("5", "10")

# Letters and digits of a column -> those of a corpus as we or its authors call it.
_ALSO = {
    "urgent24sqa": ("urgent2024sqa", "urgent2024mos"),
    "urgent25sqa": ("urgent2025sqa",),
    "chime7": ("chime7udase", "chime7udaseeval"),
    "nisqalive": ("nisqalivetalk", "nisqatestlivetalk"),
    "nisqafor": ("nisqatestfor",),
    "nisqap501": ("nisqatestp501",),
    "speechjudge": ("speechjudgedata", "speechjudgeeval"),
}


def column_of(corpus: str, columns: tuple[str, ...]) -> str | None:
    """The column of a table that reports on a corpus, by its name; None if there is none."""
    name = _letters(corpus)
    return next((c for c in columns if name == _letters(c) or name in _ALSO.get(_letters(c), ())), None)


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
