import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from urgentmos.clips.clip import Clip
from urgentmos.common.steps import step
from urgentmos.judges.base import Predictor, Run, Score
from urgentmos.server.limits import Limits
from urgentmos.server.worker import BATCH_SECONDS, LONG_AT_ONCE, LONG_SECONDS, Abandoned, Item, Worker


@pytest.fixture
def clips(tmp_path, serving):
    made = []
    for i in range(6):
        path = tmp_path / f"{i}.wav"
        path.write_bytes(serving.sound(i, level=0.01 * (i + 1)))
        made.append(Clip(str(i), str(path)))
    return made


def started(judge, **limits):
    worker = Worker(judge, Limits(**limits))
    worker.start()
    return worker


def test_clips_that_wait_together_are_scored_together_and_each_gets_its_own(judge, clips, serving):
    judge.gate.clear()
    worker = started(judge, batch_ms=0)
    first = worker.score(clips[:1])
    assert judge.entered.wait(60)
    others = [worker.score([clip]) for clip in clips[1:4]]
    judge.gate.set()
    alone = [next(iter(serving.Loudness().score_clips([clip]))).metrics for clip in clips]
    assert [job.future.result(60)[0].metrics for job in (first, *others)] == alone[:4]
    assert judge.batches == [1, 3] and len({row["mos_overall"] for row in alone}) == len(clips)
    worker.stop()


def test_a_batch_has_no_more_clips_than_allowed_and_order_is_kept_between_kinds(judge, clips):
    judge.gate.clear()
    worker = started(judge, batch_ms=0, batch_clips=2)
    order = []
    jobs = [worker.score(clips[:1])]
    assert judge.entered.wait(60)
    jobs += [worker.score(clips[i : i + 1]) for i in (1, 2, 3)]
    jobs.append(worker.alone(lambda judge, run: order.append("alone")))
    jobs.append(worker.score(clips[4:5]))
    for i, job in enumerate(jobs):
        job.future.add_done_callback(lambda _, i=i: order.append(i))
    judge.gate.set()
    worker.stop()
    assert judge.batches == [1, 2, 1, 1] and order == [0, 1, 2, 3, "alone", 4, 5]


def test_a_request_of_many_clips_does_not_make_a_batch_too_large(judge, clips):
    judge.gate.clear()
    worker = started(judge, batch_ms=0, batch_clips=3)
    jobs = [worker.score(clips[:1])]
    assert judge.entered.wait(60)
    jobs += [worker.score(some) for some in (clips[:2], clips[2:4], clips[4:5], clips[:5])]
    judge.gate.set()
    worker.stop()
    assert judge.batches == [1, 3, 3, 3, 1]  # of what one request sends, a part in each
    assert [len(job.future.result(0)) for job in jobs] == [1, 2, 2, 1, 5]


def test_a_clip_waits_for_company_no_longer_than_its_budget(judge, clips):
    worker = started(judge, batch_ms=300)
    begun = time.monotonic()
    jobs = [worker.score(clips[:1])]
    time.sleep(0.02)
    jobs.append(worker.score(clips[1:2]))
    for job in jobs:
        job.future.result(60)
    assert judge.batches == [2] and time.monotonic() - begun >= 0.29
    worker.stop()


def test_one_bad_request_of_a_batch_does_not_take_the_others_with_it(judge, clips):
    judge.broken = "2"
    judge.gate.clear()
    worker = started(judge, batch_ms=0)
    jobs = [worker.score(clips[:1])]
    assert judge.entered.wait(60)
    jobs += [worker.score([clip]) for clip in clips[1:4]]
    judge.gate.set()
    worker.stop()
    assert [job.future.exception() is None for job in jobs] == [True, True, False, True]
    with pytest.raises(RuntimeError, match="a bug"):
        jobs[2].future.result()


def test_what_nobody_waits_for_is_dropped_before_it_begins_and_under_way(judge, clips):
    judge.gate.clear()
    worker = started(judge, batch_ms=0)
    running = worker.score(clips[:3])
    assert judge.entered.wait(60)
    waiting = worker.score(clips[3:4])
    running.abandon()
    waiting.abandon()
    judge.gate.set()
    worker.stop()
    with pytest.raises(Abandoned):
        running.future.result()
    assert waiting.future.cancelled() and judge.batches == [3]


def test_stop_finishes_what_was_submitted_and_takes_no_more(judge, clips):
    judge.gate.clear()
    worker = started(judge, batch_ms=0)
    jobs = [worker.score([clip]) for clip in clips] + [worker.alone(lambda judge, run: "done")]
    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    time.sleep(0.05)
    assert stopping.is_alive()
    with pytest.raises(RuntimeError):
        worker.score(clips[:1])
    judge.gate.set()
    stopping.join(60)
    assert all(job.future.done() for job in jobs) and jobs[-1].future.result() == ["done"] and not worker.alive


# ---- fairness


class Recorder(Predictor):
    """Writes down the order in which clips come."""

    name, version, metrics, ranks_by = "recorder", "1", ("mos_overall",), "mos_overall"

    def __init__(self):
        self.order, self.batches = [], []

    def score_clips(self, clips, run=Run()):
        self.batches.append(len(clips))
        for clip in clips:
            self.order.append(clip.uid)
            yield Score(clip, self.name)

    def score(self, source, *, sample_rate=None, reference=None):
        raise NotImplementedError

    def compare(self, a, b, *, sample_rate=None):
        raise NotImplementedError


@given(st.lists(st.integers(1, 12), min_size=1, max_size=8), st.integers(1, 6))
def test_no_request_has_its_next_clip_before_all_others_had_theirs(sizes, batch_clips):
    judge = Recorder()
    worker = Worker(judge, Limits(batch_ms=0, batch_clips=batch_clips))
    jobs = [worker.score([Clip(f"{k} {i}", "x") for i in range(size)]) for k, size in enumerate(sizes)]
    worker.start()
    worker.stop()
    rounds = [[f"{k} {i}" for k, size in enumerate(sizes) if i < size] for i in range(max(sizes))]
    assert judge.order == [uid for one in rounds for uid in one] and max(judge.batches) <= batch_clips
    assert [[score.uid for score in job.future.result(0)] for job in jobs] == [
        [f"{k} {i}" for i in range(size)] for k, size in enumerate(sizes)
    ]


def test_a_batch_holds_no_more_audio_than_allowed():
    judge = Recorder()
    worker = Worker(judge, Limits(batch_ms=0, batch_clips=32))
    worker.score([Clip(str(i), "x") for i in range(12)], [LONG_SECONDS] * 12)
    worker.start()
    worker.stop()
    assert judge.batches == [int(BATCH_SECONDS // LONG_SECONDS)] * 6


def endless(begun: threading.Event):
    """Work that takes its next step whenever it may."""

    def work(judge, run):
        while True:
            begun.set()
            step()

    return work


def test_long_work_waits_for_short_work_and_not_the_other_way(clips, judge):
    worker = started(judge, batch_ms=0)
    begun = [threading.Event() for _ in range(2)]
    long = [worker.alone(endless(event), LONG_SECONDS + 1) for event in begun]
    assert all(event.wait(60) for event in begun)  # they take turns with each other
    assert worker.score(clips[:3]).future.result(60)[2].uid == "2"
    for job in long:
        job.abandon()
        with pytest.raises(Abandoned):
            job.future.result(60)
    worker.stop()


def test_a_long_job_of_one_request_does_not_wait_for_all_those_of_another(judge):
    worker = started(judge, batch_ms=0)
    begun = threading.Event()
    greedy = worker.submit([Item(endless(begun), 600.0 + k) for k in range(3 * LONG_AT_ONCE)])
    assert begun.wait(60)
    modest = worker.alone(lambda judge, run: "done", 700.0)
    with worker._changed:
        assert worker._long == [] or min(worker._long, key=lambda part: part[0].taken)[0] is modest
    greedy.abandon()
    assert modest.future.result(60) == ["done"]
    worker.stop()


def test_the_end_gives_up_what_does_not_end(judge):
    worker = started(judge, batch_ms=0)
    begun = threading.Event()
    job = worker.alone(endless(begun), LONG_SECONDS + 1)
    waiting = worker.submit([Item(endless(begun), 600.0)] * (2 * LONG_AT_ONCE))
    assert begun.wait(60)
    worker.stop(0.05)
    assert not any(thread.is_alive() for thread in worker._threads) and waiting.future.done()
    with pytest.raises(Abandoned):
        job.future.result(0)


def test_nothing_is_kept_of_what_is_over(judge, clips):
    worker = started(judge, batch_ms=0)
    worker.score(clips).future.result(60)
    gone = worker.score(clips)
    gone.abandon()
    judge.broken = "1"
    with pytest.raises(RuntimeError):
        worker.score(clips).future.result(60)
    worker.stop()
    assert not worker._jobs and not worker._short and not worker._long
