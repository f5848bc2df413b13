"""How a peer takes part: it tells facts, then measures one window for each line it is given.

A peer is a process of its own. It trains 20 steps and prints a JSON line of facts, among them the
losses. Then each line on standard input says how many seconds the next window shall last, and is
answered by a JSON line. When there are no more lines, a last JSON line says what the peer knows of
its memory. turns.h is the same for peers in C++.
"""

import argparse
import json
import os
import resource
import sys
import time

LOSS_STEPS = (1, 2, 3, 4, 20)
# Where all peers of a run compute, and in what: on GPU 0; with products that round to TF32; with
# activations in two bytes.
COMMON_FLAGS = ("cuda", "tf32", "bf16")
WARM_SECONDS = 0.3


def arguments(flags):
    parser = argparse.ArgumentParser()
    parser.add_argument("data", help="networks.dump()'s folder")
    parser.add_argument("network")
    parser.add_argument("batch", type=int)
    parser.add_argument("threads", type=int)
    parser.add_argument("flags", nargs="*", help="one of: " + " ".join(flags))
    given = parser.parse_args()
    flags = (*COMMON_FLAGS, *flags)
    for flag in given.flags:
        if flag not in flags:
            parser.error(f"no flag '{flag}'; there are {' '.join(flags)}")
    os.environ["OMP_NUM_THREADS"] = str(given.threads)
    return given


def serve(step, value, memory, versions, wait=lambda: None):
    """step(i) does training step i, counted from 0, and answers its loss in any form; value(loss)
    is the number; wait() returns once all steps are done; memory() answers {"peak_bytes",
    "peak_how"}."""
    losses = {}
    for i in range(max(LOSS_STEPS)):
        loss = step(i)
        if i + 1 in LOSS_STEPS:
            losses[i + 1] = value(loss)
    windows = Windows(step, value, wait, done=max(LOSS_STEPS))
    windows.measure(0.0)
    windows.measure(WARM_SECONDS)
    say({"loss_at_step": losses, "versions": versions})
    for line in sys.stdin:
        say(windows.measure(float(line)))
    say(memory())


def say(line):
    print(json.dumps(line), flush=True)


class Windows:
    def __init__(self, step, value, wait, done):
        self.step, self.value, self.wait = step, value, wait
        self.done = done
        self.seconds_per_step = None

    def measure(self, seconds):
        """About so many seconds, at least three steps; the count comes from the window before."""
        count = max(3, round(seconds / self.seconds_per_step)) if seconds else 3
        before, foreign = resource.getrusage(resource.RUSAGE_SELF), foreign_seconds()
        begin = time.perf_counter()
        for i in range(self.done, self.done + count):
            loss = self.step(i)
        self.value(loss)
        self.wait()
        spent = time.perf_counter() - begin
        foreign = foreign_seconds() - foreign
        after = resource.getrusage(resource.RUSAGE_SELF)
        self.done += count
        self.seconds_per_step = spent / count
        switches = after.ru_nvcsw + after.ru_nivcsw - before.ru_nvcsw - before.ru_nivcsw
        return {
            "steps": count,
            "step_us": spent / count * 1e6,
            "faults_per_step": (after.ru_minflt - before.ru_minflt) / count,
            "switches_per_step": switches / count,
            "system_us_per_step": (after.ru_stime - before.ru_stime) / count * 1e6,
            "foreign_cpu": foreign / spent,
        }


def foreign_seconds():
    """Core-seconds used on this machine by everybody but this process, since it started."""
    with open("/proc/stat") as file:
        ticks = [int(word) for word in file.readline().split()[1:9]]
    busy = sum(ticks) - ticks[3] - ticks[4]  # without idle and iowait
    own = time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID)
    return busy / os.sysconf("SC_CLK_TCK") - own
