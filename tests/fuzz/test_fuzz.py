"""A short, fixed search for inputs that kill, hang or lie; past failures; and that the harness notices what it should."""

import io
import json
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz import oracle, seeds
from fuzz.cases import Case, length_fields, mutated, repaired
from fuzz.search import Past, corpus, search
from fuzz.strategies import cases
from fuzz.worker import Worker

CASES = {"audio": 150, "manifest": 120, "archive": 100, "checkpoint": 100, "config": 120, "request": 80}
SECONDS = 120.0  # most of one kind; a busy machine tries fewer cases instead of failing
OPEN = {oracle.signature(past.case, past.note) for past in corpus() if past.open}


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    """Kind -> a child process that stays for all tests of this module."""
    running: dict[str, Worker] = {}

    def worker(kind: str) -> Worker:
        if kind not in running:
            running[kind] = Worker(kind, tmp_path_factory.mktemp(kind))
        return running[kind]

    yield worker
    for one in running.values():
        one.__exit__()


# ---- the search


@pytest.mark.parametrize("kind", seeds.KINDS)
def test_no_input_kills_hangs_or_gives_a_made_up_number(kind: str, tmp_path: Path) -> None:
    result = search(kind, CASES[kind], 1, SECONDS, OPEN, tmp_path / "work")
    assert result.failures == {}, "\n".join(json.dumps(failure) for failure in result.failures.values())
    assert result.counts["inputs"] > 0


@pytest.mark.parametrize("past", corpus(), ids=lambda past: f"{past.case.seed}-{past.note[:30]}")
def test_past_failures_stay_mended(past: Past, workers, request: pytest.FixtureRequest) -> None:
    worker = workers(past.kind)
    intact = worker.run(Case(past.case.seed)) if past.kind == "checkpoint" else None
    report = worker.run(past.case)
    if "missing" in report:
        pytest.skip(report["missing"])
    found = oracle.problems(past.case, report, intact)
    if found and past.open:
        pytest.xfail(f"open, see {past.open}: {found[0]}")
    assert found == []


def test_every_seed_is_read_as_what_it_is(workers) -> None:
    """Whole files give numbers, so that a search does not start from refusals."""
    for kind, least in (("manifest", 7), ("archive", 8)):
        reports = [workers(kind).run(Case(seed.name)) for seed in seeds.seeds(kind)]
        assert sum(any(row["error"] is None for row in report["rows"]) for report in reports) >= least, reports


# ---- the harness notices


@pytest.mark.parametrize(
    ("deed", "problem"),
    [
        ("nothing", ""),
        ("crash", "crash: SIGABRT"),
        ("hang", "hang: "),
        ("raise", "raised: ValueError"),
        ("memory", "memory: 1"),
        ("connect", "raised: PermissionError in : a connection to 192.0.2.1"),
        ("execute", "guard: os.system"),
        ("write", "guard: '/var/tmp/urgentmos-fuzz' opened for writing"),
    ],
)
def test_what_must_not_happen_is_noticed(deed: str, problem: str, tmp_path: Path) -> None:
    case = Case(f"selftest/{deed}")
    with Worker("selftest", tmp_path / "work", cpu_seconds=0.5 if deed == "hang" else 10.0) as worker:
        found = oracle.problems(case, worker.run(case))
        after = oracle.problems(Case("selftest/nothing"), worker.run(Case("selftest/nothing")))
    Path("/var/tmp/urgentmos-fuzz").unlink(missing_ok=True)
    assert [one[: len(problem)] for one in found] == ([problem] if problem else [])
    assert after == []  # the next case has a child again


ROW = {"path": "a.wav", "error": None, "warnings": [], "metrics": {"mos_overall": 3.0}, "duration": 0.8}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, ""),
        ({"metrics": {"mos_overall": float("nan")}}, "made-up number"),
        ({"metrics": {"mos_overall": 7.0}}, "made-up number"),
        ({"metrics": {}}, "unexplained"),
        ({"duration": 0.0}, "made-up number"),
        ({"error": "ValueError: x"}, "sentence"),
        ({"error": ""}, "sentence"),
        ({"error": "a.wav " * 300}, "sentence"),
        ({"error": "a.wav: Traceback (most recent call last)"}, "sentence"),
        ({"warnings": ["cut off: a\nb\nc"]}, "sentence"),
    ],
)
def test_rows_have_a_number_or_a_sentence(changes: dict, problem: str) -> None:
    found = list(oracle.row_problems({**ROW, **changes}))
    assert [one.split(":")[0] for one in found[:1]] == ([problem] if problem else []), found


def test_a_cut_that_nobody_mentions_is_unexplained() -> None:
    case = Case("audio/pcm_16-1ch.wav", (("cut", 8000),))
    short = {**ROW, "duration": 0.2}
    report = {"rows": [short], "again": short, "refusal": None, "names": ["a.wav"]}
    assert [one.split(":")[0] for one in oracle.problems(case, report)] == ["unexplained"]
    warned = {**short, "warnings": ["cut off: 9 bytes are missing"]}
    assert oracle.problems(case, {**report, "rows": [warned], "again": warned}) == []
    assert [one.split(":")[0] for one in oracle.problems(case, {**report, "again": warned})] == ["unequal", "unexplained"]


def test_a_model_with_other_numbers_needs_another_version() -> None:
    case = Case("checkpoint/torch/model.safetensors", (("flip", 9, 1),))
    before = {"rows": [ROW], "model": ["tiny", "1"], "refusal": None}
    other = {**ROW, "metrics": {"mos_overall": 2.0}}
    (problem,) = oracle.problems(case, {**before, "rows": [other]}, before)
    assert problem.startswith("made-up number")
    assert oracle.problems(case, {**before, "rows": [other], "model": ["tiny", "2"]}, before) == []


# ---- mutations

names = [seed.name for seed in seeds.seeds("archive") if "parquet" not in seed.name]


@settings(max_examples=60)
@given(cases(names))
def test_cases_are_plain_data_and_the_same_bytes_each_time(case: Case) -> None:
    again = Case.from_plain(json.loads(case.to_json()))
    assert again == case and seeds.bytes_of(again) == seeds.bytes_of(case)


@settings(max_examples=100)
@given(st.binary(max_size=60), cases(["archive/pax.tar"], ["archive/pax.tar"]))
def test_any_mutation_fits_any_bytes(data: bytes, case: Case) -> None:
    assert isinstance(mutated(data, case.mutations, lambda _: b"other"), bytes)


def test_repairing_whole_files_changes_nothing_and_mends_damaged_ones() -> None:
    for name in ("archive/pax.tar", "archive/gnu.tar", "audio/vorbis-1ch.ogg"):
        assert repaired(seeds.content(name)) == seeds.content(name)
    damaged = seeds.bytes_of(Case("archive/gnu.tar", (("write", 110, 1, False, 0x37),)))  # the user's number
    with pytest.raises(tarfile.ReadError), tarfile.open(fileobj=io.BytesIO(damaged)):
        pass
    with tarfile.open(fileobj=io.BytesIO(repaired(damaged))) as archive:
        assert "x/1.wav" in archive.getnames()


def test_lengths_of_chunks_are_found() -> None:
    fields = {position for position, _, _ in length_fields(seeds.content("audio/pcm_16-1ch.wav"))}
    assert {4, 40} <= fields  # of the file, of the samples


def test_recordings_cover_what_is_read() -> None:
    from urgentmos.audio.formats import AUDIO_SUFFIXES

    endings = {f".{seed.name.rsplit('.', 1)[-1]}" for seed in seeds.seeds("audio")}
    assert AUDIO_SUFFIXES - endings <= {".aif", ".oga"}  # other names of the same
