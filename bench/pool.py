"""What does a block cost, taken and given back, from the pool and from other allocators?

One process per side; they take turns, one window at a time, each cell in an order that changes.
"""

import json
import os
import random
import statistics
import subprocess
import sys

import machine
from pool_vs_naive import GPU_SIDES, Side

KIB = 1024
SIZES = [KIB << shift for shift in (0, 2, 4, 6, 8, 10, 12, 14, 16)]  # 1 KiB to 64 MiB
ALIVE = (1, 16)

SIDES = (
    Side("pool", "pool"),
    Side("mimalloc", "malloc", "libmimalloc.so", "libmimalloc2.0"),
    Side("jemalloc", "malloc", "libjemalloc.so", "libjemalloc2"),
    Side("glibc", "malloc"),
)
BESIDE, GPU_BESIDE = "mimalloc", "cudaMallocAsync"
ON_GPU = (  # those of pool_vs_naive that take block by block, ours first
    Side("pool", "cuda_pool"),
    *(
        Side(side.name.removesuffix(" per tensor"), side.memory)
        for side in GPU_SIDES
        if side.memory.startswith("cuda_malloc")
    ),
)


def add_arguments(group):
    group.add_argument("--windows", type=int, help="per cell and side; default: 15, quick: 7")


def measure(options):
    """One row per size, number alive and threads."""
    windows = options.windows or (7 if options.quick else 15)
    on_gpu = options.device == "cuda"
    sides = ON_GPU if on_gpu else SIDES
    runners = {side.name: Runner(side) for side in sides if side.library() is not None}
    try:
        for threads in (1,) if on_gpu else options.threads:
            for bytes_ in SIZES:
                for alive in ALIVE:
                    row = cell(runners, bytes_, alive, threads, windows)
                    yield row | ({"device": "cuda"} if on_gpu else {})
    finally:
        for runner in runners.values():
            runner.stop()


def cell(runners, bytes_, alive, threads, windows):
    print(f"{bytes_ // KIB} KiB, {alive} alive, {threads} threads", file=sys.stderr)
    order = random.Random(0)
    times = {name: [] for name in runners}
    rounds = {name: runner.rounds(bytes_, alive, threads) for name, runner in runners.items()}
    for _ in range(windows):
        for name in order.sample(list(runners), len(runners)):
            times[name].append(runners[name].window(bytes_, alive, threads, rounds[name]))
    row = {"bench": "pool", "bytes": bytes_, "alive": alive, "threads": threads, "n": windows}
    for name, each in times.items():
        each.sort()
        ten = len(each) // 10
        row[name] = [each[ten], statistics.median(each), each[-1 - ten]]
    return row


class Runner:
    """A process of pool.cpp."""

    def __init__(self, side):
        environment = os.environ | ({"LD_PRELOAD": side.library()} if side.preload else {})
        self.process = subprocess.Popen(
            [machine.PROGRAMS / "pool", side.memory],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def window(self, *numbers):
        """Nanoseconds per block."""
        self.process.stdin.write(" ".join(map(str, numbers)) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())["ns"]

    def rounds(self, bytes_, alive, threads):
        """As many as fill about a millisecond and a half."""
        first = self.window(bytes_, alive, threads, 50)
        return max(5, min(100_000, int(1.5e6 / (first * alive))))

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def table(rows):
    on_gpu = "device" in rows[0]
    sides, beside = (ON_GPU, GPU_BESIDE) if on_gpu else (SIDES, BESIDE)
    names = [side.name for side in sides if any(side.name in row for row in rows)]
    parts = ["## pool on a GPU", GPU_DOC] if on_gpu else ["## pool", DOC]
    for threads in dict.fromkeys(row["threads"] for row in rows):
        lines = [
            "| size | alive | " + " | ".join(f"{name}, ns" for name in names) + f" | vs {beside} |",
            "|--:|--:" + "|--:" * (len(names) + 1) + "|",
        ]
        for row in rows:
            if row["threads"] == threads:
                lines.append(line(row, names, beside))
        parts += [f"### threads: {threads}", "\n".join(lines)]
    for side in sides:
        if side.library() is None:
            parts.append(f"{side.name}: not installed; apt-get install {side.package}")
    return "\n\n".join(parts)


def line(row, names, beside):
    times = [f"{row[name][1]:,.1f} ({row[name][0]:,.1f} to {row[name][2]:,.1f})" for name in names]
    ratio = f"{row['pool'][1] / row[beside][1]:.3f}" if beside in row else ""
    size = row["bytes"] // KIB
    name = f"{size} KiB" if size < KIB else f"{size // KIB} MiB"
    return "| " + " | ".join([name, str(row["alive"]), *times, ratio]) + " |"


DOC = """Median time of one block, taken and given back, with its first byte written: p50 (p10 to
p90) of the windows. Alive: so many are taken before the first of them is given back. With several
threads each does this by itself, and the time is the mean of theirs."""

GPU_DOC = """For how long one block, taken and given back in the order of a stream of GPU 0, holds
the calling thread: p50 (p10 to p90) of the windows. Nothing else is on the GPU, so a cudaFree has
nothing to wait for. Alive: so many are taken before the first of them is given back. Keeping: from
a pool of the driver's that gives nothing back."""
