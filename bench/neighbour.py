"""How much does a team lose to one thread while a neighbour holds a core?

A process of another session spins, pinned to one core. Beside it steps run with 2 threads and with
1, one after the other: the median of 10 s after 1 s.
"""

import json
import os
import subprocess
import sys

import machine
import windows
from limits import CELLS

SPIN = """
import os, sys
core, parent = map(int, sys.argv[1:])
os.sched_setaffinity(0, {core})
while os.getppid() == parent:  # nobody is left with a core taken
    for _ in range(1_000_000):
        pass
"""
WARM, COUNTED = 2, 20  # windows, each of 0.25 s and with a team a lead-in of 0.25 s


def add_arguments(group):
    del group  # nothing of its own


def measure(options):
    """One row per cell; always 2 threads against 1."""
    for model, batch in CELLS[1:4] if options.quick else CELLS:
        print(f"{model}, batch {batch}", file=sys.stderr)
        alone = step_us(model, batch, 2)
        with Neighbour():
            one, two = step_us(model, batch, 1), step_us(model, batch, 2)
        yield {
            "bench": "neighbour",
            "model": model,
            "batch": batch,
            "two_threads_idle_us": alone,
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


def step_us(model, batch, threads):
    """Median over windows: what pool_vs_naive.cpp measures of its planned side."""
    command = [machine.PROGRAMS / "pool_vs_naive", model, str(batch), str(threads), "planned"]
    turns = "\n" * ((WARM + COUNTED) * (1 if threads > 1 else 2))
    done = subprocess.run(command, input=turns, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"bench: {' '.join(map(str, command))} failed")
    rows = [json.loads(line) for line in done.stdout.splitlines()[1:]]
    return round(windows.quantile([row["step_us"] for row in rows[WARM:]], 0.5), 2)


def table(rows):
    lines = [
        "## neighbour\n",
        "| cell | 2 threads, idle machine, µs | beside a neighbour: 1 thread, µs | 2 threads, µs | "
        "2 threads : 1 |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        times = [row[key] for key in ("two_threads_idle_us", "one_thread_us", "two_threads_us")]
        cell = f"{row['model']} b{row['batch']}"
        line = [cell, *(f"{time:,.1f}" for time in times), f"{row['ratio']:.2f}"]
        lines.append("| " + " | ".join(line) + " |")
    return "\n".join(lines)
