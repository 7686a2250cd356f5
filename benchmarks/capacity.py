"""Simulate how long a corpus takes on a cluster, by number of nodes, from measured service times.

    python benchmarks/capacity.py [--labeller dnsmos] [--nodes 1,2,4,8] [--hours 100000] [--storage-gbit 10] ...

Core-seconds of labellers are those of docs/benchmarks.md (benchmarks/labellers.py measured them); decoding and writing are
measured here, on this machine, with one thread. The simulation: each core requests the next batch while it computes, storage
serves requests one after the other at its bandwidth, each node receives at its own, one process writes all outcomes.
"""

import argparse
import heapq
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

BATCH_SECONDS = 240.0  # of audio, as urgentmos.cluster.run sends them
DOCS = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"


@dataclass(frozen=True)
class Load:
    """The cost of one second of audio."""

    bytes: float  # in storage
    decoding: float  # core-seconds
    computing: float  # core-seconds, or seconds of a GPU
    writing: float  # seconds of the one process that writes
    on_gpu: bool = False


@dataclass(frozen=True)
class Site:
    """The hardware of the cluster."""

    cores: int  # a node
    gpus: int  # a node
    node_bandwidth: float  # bytes/s that one node can receive
    storage_bandwidth: float  # bytes/s that storage can send to all nodes together


@dataclass(frozen=True)
class Throughput:
    """Throughput, and the share of the time that each resource is busy."""

    hours_per_hour: float
    storage: float  # share of the time
    network: float
    decoding: float
    computing: float
    writing: float

    @property
    def limit(self) -> str:
        shares = {name: getattr(self, name) for name in ("storage", "network", "decoding", "computing", "writing")}
        return max(shares, key=lambda name: shares[name])


class Server:
    """Serves one request after the other; `units` of them at a time."""

    def __init__(self, units: int = 1) -> None:
        self._free = [0.0] * units
        self.busy = 0.0

    def serve(self, ready: float, seconds: float) -> float:
        """The time at which a request that arrives at `ready` is done."""
        start = max(ready, heapq.heappop(self._free))
        heapq.heappush(self._free, start + seconds)
        self.busy += seconds
        return start + seconds

    def share(self, end: float) -> float:
        return self.busy / (len(self._free) * end)


def simulate(
    load: Load, site: Site, nodes: int, *, batches_per_core: int = 40, spread: float = 0.3, seed: int = 0
) -> Throughput:
    """`nodes` nodes at work until each core has done some batches; service times scatter log-normally by `spread`."""
    rng = np.random.default_rng(seed)
    on_gpu = load.on_gpu and site.gpus > 0
    places = site.gpus if on_gpu else site.cores
    storage, writer = Server(), Server()
    networks = [Server() for _ in range(nodes)]
    cores = [Server(site.cores) for _ in range(nodes)]
    gpus = [Server(max(site.gpus, 1)) for _ in range(nodes)]
    ahead = 2 * (site.cores if on_gpu else places)  # batches of a node that are on their way
    asking = [(0.0, node) for node in range(nodes) for _ in range(ahead)]
    heapq.heapify(asking)
    total = batches_per_core * nodes * site.cores
    ends = []
    for _ in range(total):
        ready, node = heapq.heappop(asking)
        scatter = rng.lognormal(-(spread**2) / 2, spread, 3) if spread else np.ones(3)
        size, decoding, computing = BATCH_SECONDS * scatter * [load.bytes, load.decoding, load.computing]
        there = networks[node].serve(storage.serve(ready, size / site.storage_bandwidth), size / site.node_bandwidth)
        if on_gpu:
            done = gpus[node].serve(cores[node].serve(there, decoding), computing)
        else:
            done = cores[node].serve(there, decoding + computing)
        ends.append(writer.serve(done, BATCH_SECONDS * load.writing))
        heapq.heappush(asking, (done, node))
    end = max(ends)
    compute_share = sum(gpu.share(end) for gpu in gpus) / nodes if on_gpu else sum(core.share(end) for core in cores) / nodes
    decoding = (
        sum(core.share(end) for core in cores) / nodes
        if on_gpu
        else compute_share * load.decoding / (load.decoding + load.computing)
    )
    computing = compute_share if on_gpu else compute_share - decoding
    network = sum(server.share(end) for server in networks) / nodes
    return Throughput(total * BATCH_SECONDS / end, storage.share(end), network, decoding, computing, writer.share(end))


# ---- service times


def documented(text: str) -> dict[str, float]:
    """Labeller -> core-seconds per second of audio: the last column of the table of labellers."""
    section = text.split("## Labellers", 1)[1].split("\n## ", 1)[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith(("| `", "| all "))
    ]
    return {row[0].strip("`"): float(row[-1]) for row in rows}


def measured_decoding(seconds: float = 10.0, rate: int = 16_000, repeats: int = 5) -> tuple[float, float]:
    """(core-seconds, bytes) of a second of noisy 16-bit FLAC, from a file to samples at its rate."""
    import soundfile

    from urgentmos.audio.samples import load

    rng = np.random.default_rng(0)
    wave = 0.05 * np.convolve(rng.standard_normal(int(seconds * rate)), np.ones(8) / 8, mode="same")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.flac"
        soundfile.write(path, wave, rate)
        load(path)
        began = time.process_time()
        for _ in range(repeats):
            load(path)
        return (time.process_time() - began) / repeats / seconds, path.stat().st_size / seconds


def measured_writing(clip_seconds: float, clips: int = 2_000) -> float:
    """Seconds per second of audio that the writing process takes: unpacking outcomes, keys, Parquet."""
    import json

    from urgentmos.clips.journal import Outcome, Shards, Task

    packed = json.dumps([[i, Outcome({"a": 1.0, "b": 2.0}, duration=10.0, rate=16_000).to_dict()] for i in range(clips)])
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        with Shards.append(Path(folder), "stage", 1_000, 1e9) as out:
            for i, outcome in json.loads(packed):
                out.add(Task(f"/data/{i}.flac", None), Outcome(**outcome))
        return (time.process_time() - began) / clips / clip_seconds


# ---- the table


def table(load: Load, site: Site, nodes: Sequence[int], hours: float) -> None:
    print("| nodes | hours per hour | per node | days | storage | network | decoding | computing | writing | limit |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for n in nodes:
        result = simulate(load, site, n)
        shares = (result.storage, result.network, result.decoding, result.computing, result.writing)
        days = hours / result.hours_per_hour / 24
        cells = [
            f"{result.hours_per_hour:.0f}",
            f"{result.hours_per_hour / n:.0f}",
            f"{days:.2g}",
            *(f"{s:.0%}" for s in shares),
        ]
        print(f"| {n} | {' | '.join(cells)} | {result.limit} |")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--labeller", default="all", help="a row of the table in docs/benchmarks.md")
    options.add_argument("--cost", type=float, help="core-seconds (or GPU-seconds) per second of audio, instead of --labeller")
    options.add_argument("--gpu", action="store_true", help="the model computes on GPUs: --cost is in their seconds")
    options.add_argument("--nodes", default="1,2,4,8,16,32,64,128,256")
    options.add_argument("--cores", type=int, default=16)
    options.add_argument("--gpus", type=int, default=1, help="with --gpu")
    options.add_argument("--storage-gbit", type=float, default=10.0, help="what storage sends to all nodes together")
    options.add_argument("--node-gbit", type=float, default=10.0)
    options.add_argument("--clip-seconds", type=float, default=10.0)
    options.add_argument("--hours", type=float, default=100_000.0)
    args = options.parse_args()
    if args.gpu and args.cost is None:
        options.error("--gpu needs --cost, in seconds of a GPU per second of audio.")
    costs = documented(DOCS.read_text(encoding="utf-8"))
    if args.cost is None and args.labeller not in costs:
        options.error(f"{args.labeller} is not in {DOCS.name}. Give --cost, or one of: {', '.join(costs)}.")
    decoding, size = measured_decoding()
    cost = costs[args.labeller] if args.cost is None else args.cost
    load = Load(size, decoding, cost, measured_writing(args.clip_seconds), args.gpu)
    site = Site(args.cores, args.gpus if args.gpu else 0, args.node_gbit * 1e9 / 8, args.storage_gbit * 1e9 / 8)
    print(f"A second of audio: {load.bytes:.0f} bytes, {load.decoding:.2g} core-s decoding (measured here), ", end="")
    print(f"{load.computing:.2g} {'GPU' if args.gpu else 'core'}-s computing, {load.writing:.2g} s writing (measured here).\n")
    table(load, site, [int(n) for n in args.nodes.split(",")], args.hours)


if __name__ == "__main__":
    main()
