import threading
import time

import pytest

from urgentmos.clips import Clip
from urgentmos.server.limits import Limits
from urgentmos.server.worker import Abandoned, Worker


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
