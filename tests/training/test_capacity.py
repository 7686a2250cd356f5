"""benchmarks/capacity.py: where nothing queues the simulation gives what arithmetic gives; limits limit."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "capacity.py"
spec = importlib.util.spec_from_file_location("capacity", SCRIPT)
capacity = importlib.util.module_from_spec(spec)
sys.modules["capacity"] = capacity
spec.loader.exec_module(capacity)

LOAD = capacity.Load(bytes=20_000, decoding=0.001, computing=0.1, writing=1e-7)
SITE = capacity.Site(cores=4, gpus=1, node_bandwidth=1e12, storage_bandwidth=1e12)


def test_cores_alone_limit_a_small_site():
    found = capacity.simulate(LOAD, SITE, 3, spread=0.0)
    assert found.hours_per_hour == pytest.approx(3 * 4 / 0.101, rel=0.01)
    assert found.limit == "computing" and found.computing + found.decoding == pytest.approx(1.0, abs=0.02)


def test_throughput_grows_until_storage_limits_it():
    site = replace(SITE, storage_bandwidth=20_000 * 200.0)  # 200 hours per hour
    found = [capacity.simulate(LOAD, site, n) for n in (1, 2, 4, 16)]
    assert [f.limit for f in found] == ["computing", "computing", "computing", "storage"]
    assert found[1].hours_per_hour == pytest.approx(2 * found[0].hours_per_hour, rel=0.1)
    assert found[3].hours_per_hour == pytest.approx(200.0, rel=0.05)


def test_one_writer_and_the_cores_behind_a_gpu_limit_too():
    assert capacity.simulate(replace(LOAD, writing=0.01), SITE, 8).hours_per_hour == pytest.approx(100.0, rel=0.05)
    fast = replace(LOAD, decoding=0.02, computing=0.001, on_gpu=True)
    found = capacity.simulate(fast, SITE, 2)
    assert found.limit == "decoding" and found.hours_per_hour == pytest.approx(2 * 4 / 0.02, rel=0.1)
    slow = replace(LOAD, computing=0.01, on_gpu=True)
    assert capacity.simulate(slow, SITE, 2).hours_per_hour == pytest.approx(2 / 0.01, rel=0.1)


def test_costs_are_those_of_the_documents():
    costs = capacity.documented(capacity.DOCS.read_text(encoding="utf-8"))
    assert {"pesq", "dnsmos", "all"} <= costs.keys()
    parts = sum(cost for name, cost in costs.items() if name != "all")
    assert costs["all"] == pytest.approx(parts, rel=0.02)
