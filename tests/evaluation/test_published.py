"""The transcription: shapes, a few cells read from the paper by eye, and which corpus is which column."""

import pytest

from urgentmos.evaluation.published import TABLES, column_of

SIZES = {"4": (15, 5), "5": (12, 5), "8": (2, 2), "9": (15, 4), "10": (12, 5), "11": (4, 10), "12": (14, 2)}


@pytest.mark.parametrize("name", SIZES)
def test_each_table_is_whole(name: str) -> None:
    table = TABLES[name]
    assert (len(table.rows), len(table.columns)) == SIZES[name]
    assert all(set(row) == set(table.columns) for row in table.rows.values())


@pytest.mark.parametrize("name", TABLES)
def test_each_cell_has_a_number_per_statistic_in_its_range(name: str) -> None:
    table = TABLES[name]
    for row in table.rows.values():
        for cell in row.values():
            assert len(cell) == len(table.statistics)
            assert all(x is None or -1 <= x <= 1 for x in cell)


@pytest.mark.parametrize(
    ("table", "model", "column", "cell"),
    [
        ("4", "DNSMOS", "SpeechJudge", (0.07, 0.58)),
        ("4", "f4c1m5-dref", "SpeechEval", (0.83, 0.91)),
        ("5", "Distill-MOS", "SOMOS", (0.00, 0.01)),
        ("9", "f1c1m5-dany", "CHiME-7", (0.66, 0.78)),
        ("10", "NISQA-MOS", "BC19", (0.43, 0.33)),
        ("12", "LSD", "URGENT2024-SQA", (0.45, 0.35)),
        ("PK-III", "UG-PK_mel NBS", "urgent25_en", (0.853, 0.960, 0.935)),
        ("PK-IV", "UG-PK_mel", "[0.4,0.8)", (0.55,)),
        ("PK-V", "UG-PK_UTMOS(ft) replication", "urgent25_en", (0.905, 0.974, 0.987)),
    ],
)
def test_cells_of_the_papers(table: str, model: str, column: str, cell: tuple[float, ...]) -> None:
    assert TABLES[table].rows[model][column] == cell


@pytest.mark.parametrize(
    ("corpus", "column"),
    [("somos", "SOMOS"), ("tmhint_qi", "TMHINT-QI"), ("urgent2024_sqa", "URGENT24-SQA"), ("mine", None), ("", None)],
)
def test_corpora_find_their_column(corpus: str, column: str | None) -> None:
    assert column_of(corpus, TABLES["4"].columns) == column


def test_the_mean_column_of_table_iv_is_the_mean_of_its_bins() -> None:
    for row in TABLES["PK-IV"].rows.values():
        values = [cell[0] for cell in row.values()]
        assert sum(values[:5]) / 5 == pytest.approx(values[5], abs=0.0051)
