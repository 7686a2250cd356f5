import asyncio
import os
import time
from functools import partial
from types import SimpleNamespace

import pytest

from urgentmos.api import rank_with_evidence
from urgentmos.clips.clip import Clip
from urgentmos.errors import UsageError
from urgentmos.server.calculator import Calculator, CalculatorError, RankTask, Recorded

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals")


def task(function, *values):
    return SimpleNamespace(run=partial(function, *values))


def with_calculator(use, **options):
    async def run():
        calculator = Calculator(60.0, **options)
        try:
            return await asyncio.wait_for(use(calculator), 60)
        finally:
            calculator.close()

    return asyncio.run(run())


@pytest.fixture
def clips(tmp_path, serving):
    rows = []
    for s, level in enumerate((0.02, 0.1, 0.3)):
        for u in range(3):
            path = tmp_path / f"{s}{u}.wav"
            path.write_bytes(serving.sound(u, level=level))
            rows.append(Clip(f"s{s}:u{u}", str(path), f"s{s}", f"u{u}"))
    return rows


def test_a_ranking_is_that_of_the_same_process(judge, clips):
    resampling = {"confidence": 0.9, "samples": 200, "seed": 3}
    own, evidence = rank_with_evidence(clips, judge, "soft", **resampling)
    there = RankTask(Recorded(judge, evidence), clips, "soft", resampling)
    ranking, found = with_calculator(lambda calculator: calculator.result(there))
    assert ranking.to_dict() == own.to_dict()
    assert [row.clip.uid for row in found.rows] == [clip.uid for clip in clips]


def test_a_refusal_is_one_here_and_a_bug_has_its_trace(judge, clips):
    evidence = judge.evidence(clips[:3], "binary")  # one system
    alone = RankTask(Recorded(judge, evidence), clips[:3], "binary", {})

    async def use(calculator):
        with pytest.raises(UsageError, match="system"):
            await calculator.result(alone)
        with pytest.raises(CalculatorError, match="ZeroDivisionError"):
            await calculator.result(task(divmod, 1, 0))
        with pytest.raises(CalculatorError, match="status 3"):
            await calculator.result(task(os._exit, 3))
        return await calculator.result(task(divmod, 7, 2))  # and the next one is computed

    assert with_calculator(use) == (3, 1)


def test_cancelling_kills_the_process_and_another_one_takes_its_place():
    async def use(calculator):
        pid = await calculator.result(task(os.getpid))
        assert await calculator.result(task(os.getpid)) == pid  # it is kept
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await calculator.result(task(time.sleep, 1000))
        while True:  # until it is gone: nothing of the task runs on
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                break
            await asyncio.sleep(0.01)
        assert await calculator.result(task(os.getpid)) != pid

    with_calculator(use, processes=1)


def test_a_process_that_is_killed_in_the_middle_of_its_answer_is_gone_at_once():
    """asyncio's own processes wait for ever where an answer was not read to its end."""

    async def use(calculator):
        assert await calculator.result(task(bytes, 5_000_000)) == bytes(5_000_000)
        for delay in (0.0, 0.001, 0.01, 0.05):
            one = asyncio.create_task(calculator.result(task(bytes, 50_000_000)))
            await asyncio.sleep(delay)
            one.cancel()
            await asyncio.gather(one, return_exceptions=True)
            assert not calculator._busy
        return await calculator.result(task(divmod, 7, 2))

    assert with_calculator(use, processes=1) == (3, 1)


def test_large_tasks_leave_a_process_to_small_ones():
    async def use(calculator):
        large = [asyncio.create_task(calculator.result(task(time.sleep, 1000), large=True)) for _ in range(3)]
        result = await calculator.result(task(divmod, 7, 2))
        assert not any(one.done() for one in large)
        for one in large:
            one.cancel()
        await asyncio.gather(*large, return_exceptions=True)
        assert calculator._busy == set()
        return result

    assert with_calculator(use) == (3, 1)
