import threading

import pytest

from urgentmos.common.steps import idle, paced, step
from urgentmos.server.turns import SHORT_SHARE, Abandoned, LongPace, ShortPace, Turns


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_one_computes_at_a_time_and_each_lane_is_in_its_order():
    turns, inside, most = Turns(), [], []

    def work(short: bool) -> None:
        for _ in range(50):
            with turns.turn(short=short):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work, args=(k % 2 == 0,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(most) == 300 and max(most) == 1 and not turns.contested


@pytest.mark.parametrize(("short", "long"), [(1.0, 1.0), (0.1, 0.5), (2.0, 0.1)])
def test_short_work_has_its_share_and_long_work_never_starves(short, long):
    """The choice alone, with a clock of our own: both lanes wait at every choice."""
    clock = Clock()
    turns = Turns(clock)
    spent = {True: 0.0, False: 0.0}
    for _ in range(400):
        for lane in (True, False):
            while not turns._waiting[lane]:
                turns._waiting[lane].append(threading.Event())
        if not turns._taken:
            turns._hand_on()
        lane = turns._is_short
        clock.now += short if lane else long
        spent[lane] += short if lane else long
        turns._taken = True
        turns.release()
    assert spent[False] > 0 and spent[True] / spent[False] >= SHORT_SHARE * 0.9
    assert spent[True] / spent[False] <= SHORT_SHARE + short / long  # no more than a turn too much


def test_a_step_lets_others_in_and_ends_what_is_over():
    turns, over, events = Turns(), threading.Event(), []
    begun = threading.Event()

    def other() -> None:
        with turns.turn(short=True):
            events.append("other")

    thread = threading.Thread(target=other)
    with turns.turn(short=False), paced(LongPace(turns, over.is_set)):
        step()  # nobody waits
        thread.start()
        while not turns.contested:
            begun.wait(0.001)
        events.append("before")
        step()
        events.append("after")
        over.set()
        with pytest.raises(Abandoned):
            step()
    thread.join(60)
    assert events == ["before", "other", "after"]
    step()  # nobody listens outside


def test_idle_work_gives_its_turn_away_and_gets_it_back_even_if_it_is_over():
    turns, over = Turns(), threading.Event()
    with turns.turn(short=False), paced(LongPace(turns, over.is_set)):
        with idle():
            assert not turns._taken
        assert turns._taken
        with pytest.raises(ValueError), idle():
            raise ValueError
        assert turns._taken
        with pytest.raises(Abandoned), idle():
            over.set()
        assert turns._taken
    assert not turns._taken


def test_short_work_keeps_its_turn():
    turns, over = Turns(), threading.Event()
    with turns.turn(short=True), paced(ShortPace(over.is_set)):
        with idle():
            assert turns._taken
        step()
        over.set()
        with pytest.raises(Abandoned):
            step()
