"""What holds for every corpus module, and what they share."""

from pathlib import Path

import pytest

from urgentmos import corpora
from urgentmos.corpora import NAMES, NotOnDisk, get, hub, reading
from urgentmos.errors import UsageError


@pytest.mark.parametrize("name", NAMES)
def test_a_corpus_says_what_it_is(name: str) -> None:
    corpus = get(name)
    text = __import__(f"urgentmos.corpora.{name}", fromlist=["x"]).__doc__
    assert "licence" in text.lower() and ("Cite" in text or "citation" in text)
    about = corpus.about
    assert about.title and about.licence and about.cite and about.page
    assert corpus.clips or corpus.pairs
    assert set(corpus.counts) <= set(corpus.splits) and corpus.unlabelled <= set(corpus.splits)
    for source in about.sources:
        assert bool(source.hub) != bool(source.url and source.file)


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_folder_is_no_corpus(name: str, tmp_path: Path) -> None:
    corpus = get(name)
    options = {"audio_path": "a", "mos": "b"} if name == "custom" else {}
    for split in corpus.splits:
        for reader in (corpus.clips, corpus.pairs):
            if reader is not None:
                with pytest.raises(NotOnDisk):
                    list(reader(tmp_path, split, **options))


def test_every_module_is_listed() -> None:
    here = {path.stem for path in Path(corpora.__file__).parent.glob("[a-z]*.py")}
    assert here - {"hub", "reading", "prepare", "recordings", "download"} == set(NAMES)
    with pytest.raises(UsageError, match="bvcc"):
        get("bvc")


# ---- reading


def test_a_table_may_begin_with_a_bom_and_a_row_may_end_early(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("Filename,ConditionID,MOS\nC_01, 01 \n\n,,\n", encoding="utf-8-sig")
    assert list(reading.rows_of(path, ("Filename",))) == [{"Filename": "C_01", "ConditionID": "01", "MOS": ""}]
    with pytest.raises(UsageError, match="no column 'filename'"):
        list(reading.rows_of(path, ("filename",)))


def test_a_file_that_is_not_utf8_and_a_row_that_is_too_short_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"a,\xff\n")
    with pytest.raises(UsageError, match="not UTF-8"):
        list(reading.bare_rows_of(path, 2))
    path.write_text("a,b,c\na,b\n")
    with pytest.raises(UsageError, match="line 2: 2 cells"):
        list(reading.bare_rows_of(path, 3))


# ---- Parquet


def test_a_locator_finds_its_sound_whatever_the_path(disk, sound) -> None:
    disk.parquet("a #1[2]/train-0.parquet", [{"id": i, "audio": sound(str(i))} for i in range(5)])
    (file,) = hub.files_of(disk.root, "train")
    located = {labels["id"]: place["audio"] for labels, place in hub.rows_of(file, ("audio",))}
    found = dict(hub.sounds([located[4], located[1]]))
    assert found == {located[i]: sound(str(i))["bytes"] for i in (1, 4)}


def test_reading_labels_does_not_read_the_sound(disk, sound, monkeypatch) -> None:
    import pyarrow.parquet as pq

    disk.parquet("train-0.parquet", [{"id": 1, "audio": sound("1")}])
    read = []
    real = pq.ParquetFile.iter_batches
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", lambda self, **how: read.append(how["columns"]) or real(self, **how))
    assert len(list(hub.rows_of(disk.root / "train-0.parquet", ("audio",)))) == 1
    assert read == [["id"]]


def test_sound_beside_the_file_is_found_but_not_above_it(disk, sound) -> None:
    disk.wav("data/x.wav", "y.wav")
    cells = [{"bytes": None, "path": "x.wav"}, {"bytes": None, "path": "../y.wav"}]
    disk.parquet("data/train-0.parquet", [{"id": i, "audio": cell} for i, cell in enumerate(cells)])
    places = [place["audio"] for _, place in hub.rows_of(disk.root / "data/train-0.parquet", ("audio",))]
    found = dict(hub.sounds(places))
    assert found[places[0]] == (disk.root / "data/x.wav").read_bytes() and found[places[1]] is None


def test_what_is_no_parquet_file_is_named(disk) -> None:
    disk.text("train-0.parquet", "<html>not found</html>")
    with pytest.raises(UsageError, match=r"train-0\.parquet: is not a Parquet file"):
        list(hub.rows_of(disk.root / "train-0.parquet", ("audio",)))
