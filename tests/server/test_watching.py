import io
import json
import logging

from hypothesis import given
from hypothesis import strategies as st

from urgentmos.server.watching import ERROR_SHARE, LOGGER, LONGEST_TEXT, Budget


def record(level=logging.INFO, text="x", error=None, name=LOGGER.name):
    exc_info = None if error is None else (type(error), error, error.__traceback__)
    return logging.LogRecord(name, level, "", 0, text, None, exc_info)


LINES = st.lists(st.tuples(st.floats(0, 2), st.sampled_from([logging.INFO, logging.ERROR]), st.integers(1, 6000)), max_size=80)


@given(LINES)
def test_a_log_grows_no_faster_than_its_budget_and_counts_what_it_leaves_out(lines):
    now, stream = [0.0], io.StringIO()
    rate, most, note = 500.0, 5000.0, 200
    budget = Budget(stream, rate, most, lambda: now[0])
    for seconds, level, length in lines:
        now[0] += seconds
        budget.emit(record(level, "x" * length))
    rows = [json.loads(line) for line in stream.getvalue().splitlines()]
    notes = [row for row in rows if row["event"].startswith("lines left out")]
    assert len(stream.getvalue()) <= (most + rate * now[0]) * (1 + ERROR_SHARE) + note * len(notes)
    assert len(rows) - len(notes) + sum(row["lines"] for row in notes) + budget._omitted == len(lines)


def test_a_flood_of_requests_hides_no_error():
    stream = io.StringIO()
    budget = Budget(stream, 100.0, 10_000.0, lambda: 0.0)
    for _ in range(10_000):
        budget.emit(record())
    budget.emit(record(logging.ERROR, "a bug"))
    assert json.loads(stream.getvalue().splitlines()[-1])["event"] == "a bug"


def test_a_trace_of_another_logger_is_one_line_of_bounded_length():
    def deep(n):
        return deep(n - 1) if n else 1 / 0

    stream = io.StringIO()
    try:
        deep(500)
    except ZeroDivisionError as e:
        Budget(stream).emit(record(logging.ERROR, "oops\n" * 2000, e, "asyncio"))
    row = json.loads(stream.getvalue())
    assert stream.getvalue().count("\n") == 1 and row["logger"] == "asyncio" and row["trace"].endswith("division by zero")
    assert max(len(row["event"]), len(row["trace"])) <= LONGEST_TEXT


def test_a_log_that_cannot_be_written_ends_nothing():
    stream = io.StringIO()
    stream.close()
    Budget(stream).emit(record())
