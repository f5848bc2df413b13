"""How much does a team lose to one thread while a neighbour holds a core?

A process of another session spins, pinned to one core. Beside it steps run with 1 thread and with
2, one after the other: medians over windows of 0.25 s, 20 with a lead-in of 0.25 s for a team, 40
for one thread, after 1 s that does not count. Then the same for the peer that was the fastest in
the last full run of `peers`.
"""

import os
import subprocess
import sys
import time
from contextlib import nullcontext

import machine
import windows
from peers import DATA, networks
from peers.cells import CELLS, OURS, quickest
from peers.process import Process

SPIN = """
import os, sys
core, parent = map(int, sys.argv[1:])
os.sched_setaffinity(0, {core})
while os.getppid() == parent:  # nobody is left with a core taken
    for _ in range(1_000_000):
        pass
"""
WARM, COUNTED = 2, 20  # windows of a team; without lead-ins, twice as many take the same time
WARM_OF_PEER, SECONDS_OF_PEER = 2, 11  # windows; of all of them


def add_arguments(group):
    del group  # nothing of its own


def measure(options):
    """Two rows per cell; always 2 threads against 1."""
    networks.dump(DATA)
    for model, batch in CELLS[1:4] if options.quick else CELLS:
        print(f"{model}, batch {batch}", file=sys.stderr)
        alone = summary(model, batch, 2)
        with Neighbour():
            beside = [summary(model, batch, n) for n in (1, 2)]
        yield row(OURS, model, batch, alone, beside)
        peer = quickest(model, batch)
        alone = of_peer(peer, model, batch, 2, nullcontext())
        beside = [of_peer(peer, model, batch, n, Neighbour()) for n in (1, 2)]
        yield row(peer.name, model, batch, alone, beside)


def row(peer, model, batch, alone, beside):
    one, two = (s["step_us_p50_of_all"] for s in beside)
    return {
        "bench": "neighbour",
        "peer": peer,
        "model": model,
        "batch": batch,
        "two_threads_without_us": alone["step_us_p50_of_all"],
        "quiet_without": alone["foreign_cpu"] < windows.QUIET,
        "one_thread_us": one,
        "two_threads_us": two,
        "ratio": round(two / one, 3),
    }


class Neighbour:
    """Spins on the last core that this process may use, in a session of its own."""

    def __enter__(self):
        core = max(os.sched_getaffinity(0))
        self.process = subprocess.Popen(
            [sys.executable, "-c", SPIN, str(core), str(os.getpid())], start_new_session=True
        )

    def __exit__(self, *error):
        if self.process.poll() is not None:
            raise SystemExit("bench: the neighbour ended early")
        self.process.kill()
        self.process.wait()


def of_peer(peer, model, batch, threads, beside):
    process = Process(peer, DATA, model, batch, threads)
    with beside:
        end = time.monotonic() + SECONDS_OF_PEER
        while len(process.windows) <= WARM_OF_PEER or time.monotonic() < end:
            process.window()
    process.kill()
    return windows.summary(process.windows[WARM_OF_PEER:])


def summary(model, batch, threads):
    """Of the windows that pool_vs_naive.cpp measures of its planned side."""
    as_many = 1 if threads > 1 else 2
    turns = "\n" * ((WARM + COUNTED) * as_many)
    facts_and_rows = machine.rows("pool_vs_naive", model, batch, threads, "planned", input=turns)
    return windows.summary(facts_and_rows[1 + WARM * as_many :])


def table(rows):
    lines = [
        "## neighbour\n",
        "| cell | peer | 2 threads without the neighbour, µs | beside it: 1 thread, µs | "
        "2 threads, µs | 2 threads : 1 |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        line = [
            f"{row['model']} b{row['batch']}",
            row["peer"],
            f"{row['two_threads_without_us']:,.1f}" + ("" if row["quiet_without"] else " ~"),
            f"{row['one_thread_us']:,.1f}",
            f"{row['two_threads_us']:,.1f}",
            f"{row['ratio']:.2f}",
        ]
        lines.append("| " + " | ".join(line) + " |")
    if any(not row["quiet_without"] for row in rows):
        lines.append("\n~ others used 4 % of a core or more: a doubt.")
    return "\n".join(lines)
