from contextlib import ExitStack

from hypothesis import given
from hypothesis import strategies as st

from urgentmos.server.limits import Problem
from urgentmos.server.slots import LARGE_FILES, LARGE_SECONDS, Slots, is_large


@given(st.integers(1, 20), st.lists(st.booleans(), max_size=60))
def test_large_requests_leave_half_of_the_places_to_small_ones(limit, requests):
    slots, taken, refused = Slots(limit, lambda: 7), {True: 0, False: 0}, {True: 0, False: 0}
    with ExitStack() as stack:
        for large in requests:
            try:
                stack.enter_context(slots.take(large=large))
                taken[large] += 1
            except Problem as problem:
                assert problem.status == 503 and problem.headers["Retry-After"] == "7"
                refused[large] += 1
                assert sum(taken.values()) == limit or (large and taken[True] == max(1, limit // 2))
        assert sum(taken.values()) <= limit and taken[True] <= max(1, limit // 2)
        if not refused[False] and limit > 1:
            assert taken[False] == requests.count(False)
    with ExitStack() as stack:  # all places are free again
        for _ in range(limit):
            stack.enter_context(slots.take(large=False))


def test_what_is_large():
    assert not is_large(LARGE_FILES, LARGE_SECONDS)
    assert is_large(LARGE_FILES + 1, 0.0) and is_large(1, LARGE_SECONDS + 0.1)
