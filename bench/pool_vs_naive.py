"""What does a training step cost when its bytes are planned, pooled, or asked for one by one?

Per model, batch and number of threads, one process per side; they take turns, one window at a time.
"""

import glob
import json
import os
import random
import subprocess
import sys
from dataclasses import dataclass, field

import machine
import windows

MODELS = ("mlp_small", "cnn")
MIB = 2**20


@dataclass
class Side:
    """One way to come by bytes: a memory mode of the program, and the malloc below it."""

    name: str
    memory: str
    preload: str = ""  # name of a shared library
    package: str = ""  # Debian's, which brings it
    environment: dict = field(default_factory=dict)

    def library(self):
        """The library to preload: "" for none needed, None for not installed."""
        if not self.preload:
            return ""
        return shared_library(self.preload)


def shared_library(name):
    """Its path, links followed; None where it is not installed."""
    folders = ("/usr/local/lib", "/usr/lib/*", "/usr/lib64", "/usr/lib")
    found = [path for folder in folders for path in glob.glob(f"{folder}/{name}*")]
    return os.path.realpath(found[0]) if found else None


# Nothing is given back to the system, and nothing comes from mmap: the best that glibc can do.
GLIBC_TUNED = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=17179869184"
JEMALLOC_KEEPS = "dirty_decay_ms:-1,muzzy_decay_ms:-1"

SIDES = (
    Side("planned", "planned"),
    Side("planned, huge pages", "planned_huge"),
    Side("pooled", "pooled"),
    Side("direct, glibc", "direct"),
    Side("direct, glibc tuned", "direct", environment={"GLIBC_TUNABLES": GLIBC_TUNED}),
    Side("direct, mimalloc", "direct", "libmimalloc.so", "libmimalloc2.0"),
    Side("direct, jemalloc", "direct", "libjemalloc.so", "libjemalloc2"),
    Side(
        "direct, jemalloc tuned",
        "direct",
        "libjemalloc.so",
        "libjemalloc2",
        {"MALLOC_CONF": JEMALLOC_KEEPS},
    ),
)


def add_arguments(group):
    group.add_argument("--models", nargs="+", default=MODELS)
    group.add_argument("--batches", nargs="+", type=int, help="default: 32 128 512, quick: 128 512")
    group.add_argument("--rounds", type=int, help="windows per cell; more where others disturb")
    group.add_argument(
        "--chunks",
        nargs="+",
        type=int,
        help="goes in which a member takes its rows; 0: as the program chooses, 1: the whole "
        "batch at once, as most frameworks do. Default: 0 1 (an mlp: 0, there they are the same)",
    )


def measure(options):
    """One row per cell."""
    rounds = options.rounds or (5 if options.quick else 10)
    most = max(rounds, 8) if options.quick else 2 * rounds
    batches = options.batches or ([128, 512] if options.quick else [32, 128, 512])
    for model in options.models:
        for chunks in options.chunks or ((0, 1) if model == "cnn" else (0,)):
            for threads in options.threads:
                for batch in batches:
                    cell = {"model": model, "batch": batch, "threads": threads, "chunks": chunks}
                    print(" ".join(f"{key} {cell[key]}" for key in cell), file=sys.stderr)
                    yield from compare(cell, rounds, most)


def compare(cell, rounds, most):
    """The sides of one cell."""
    runners = {}
    try:
        for side in SIDES:
            if side.library() is not None:
                runners[side.name] = Runner(side, cell)
        turns(list(runners.values()), rounds, most)
    finally:
        for runner in runners.values():
            runner.stop()
    losses = {runner.facts["loss_at_step_20"] for runner in runners.values()}
    for side in SIDES:
        row = {"bench": "pool_vs_naive"} | cell | {"side": side.name, "memory": side.memory}
        if side.name in runners:
            yield row | {"same_loss": len(losses) == 1} | runners[side.name].row()
        else:
            yield row | {"skipped": f"not installed; apt-get install {side.package}"}


def turns(runners, rounds, most):
    """Windows in turn, in an order that changes; then up to `most` where others disturbed."""
    order = random.Random(0)
    waiting = runners
    for turn in range(most):
        if turn >= rounds:
            waiting = [r for r in runners if len(windows.quiet(r.windows)) < windows.ENOUGH]
        for runner in order.sample(waiting, len(waiting)):
            runner.window()


class Runner:
    """A process of pool_vs_naive.cpp."""

    def __init__(self, side, cell):
        environment = os.environ | side.environment
        self.library = side.library()
        if self.library:
            environment["LD_PRELOAD"] = self.library
        arguments = [cell["model"], cell["batch"], cell["threads"], side.memory, cell["chunks"]]
        self.process = subprocess.Popen(
            [machine.PROGRAMS / "pool_vs_naive", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.side = side
        self.windows = []
        self.facts = self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"bench: '{self.side.name}' stopped with {self.process.wait()}")
        return json.loads(line)

    def window(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.windows.append(self.read())

    def row(self):
        environment = {"environment": self.side.environment} if self.side.environment else {}
        return (
            windows.summary(self.windows)
            | self.facts
            | {"library": os.path.basename(self.library)}
            | environment
        )

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def table(rows):
    """A summary of ratios, then every cell."""
    measured = [row for row in rows if "n" in row]
    parts = ["## pool_vs_naive", DOC]
    for part in grouped(rows, "model", "chunks", "threads").values():
        parts.append(title(part[0]))
        parts.append(ratios(part))
    parts.append("### All cells")
    for part in grouped(rows, "model", "chunks", "threads").values():
        parts.append(title(part[0], "####"))
        parts.append(cells(part))
    if not all(row["same_loss"] for row in measured):
        parts.append("**Losses differ between sides of one cell: these are not the same steps.**")
    if any(not row["quiet"] for row in measured):
        parts.append(
            "~ fewer than 5 windows in which others used under 4 % of a core, so all are taken. "
            "They took turns under the same neighbour, but a doubt remains."
        )
    for skipped in dict.fromkeys((r["side"], r["skipped"]) for r in rows if "skipped" in r):
        parts.append(f"{skipped[0]}: {skipped[1]}")
    libraries = [row["library"] for row in measured if row["library"]]
    parts.append(
        f"Preloaded: {', '.join(dict.fromkeys(libraries)) or 'nothing'}. `glibc tuned` is "
        f"GLIBC_TUNABLES={GLIBC_TUNED}, `jemalloc tuned` MALLOC_CONF={JEMALLOC_KEEPS}."
    )
    return "\n\n".join(parts)


DOC = """Time: median step time as a multiple of `planned` in the same cell (below 1.00 is faster
than planned). Faults: minor page faults per step. Resident: MiB that the process came to hold in
memory for compiling and training, kernel library included. With several threads, pooled and direct
may peak below the lower bound, since members need not be at their worst together."""


def title(row, marks="###"):
    whole = {0: "", 1: ", whole batch at once"}.get(row["chunks"], f", {row['chunks']} chunks")
    return f"{marks} {row['model']}{whole}, threads: {row['threads']}"


def grouped(rows, *keys):
    groups = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups


def ratios(rows):
    by_batch = {
        batch: {row["side"]: row for row in part}
        for (batch,), part in grouped(rows, "batch").items()
    }
    head = [f"b{batch} {what}" for batch in by_batch for what in ("time", "faults", "resident")]
    lines = ["| memory | " + " | ".join(head) + " |", "|---" + "|--:" * len(head) + "|"]
    for side in SIDES:
        line = [side.name]
        for batch in by_batch.values():
            line += figures(batch[side.name], batch["planned"])
        lines.append("| " + " | ".join(line) + " |")
    return "\n".join(lines)


def figures(row, planned):
    if "skipped" in row:
        return ["skipped", "", ""]
    return [
        ratio(row, planned),
        f"{row['faults_per_step']:,.0f}",
        f"{row['resident_bytes'] / MIB:,.0f}",
    ]


def ratio(row, planned):
    """Quiet windows are compared with quiet ones only."""
    if row["quiet"] and planned["quiet"]:
        return f"{row['step_us_p10_p50_p90'][1] / planned['step_us_p10_p50_p90'][1]:.2f}"
    return f"{row['step_us_p50_of_all'] / planned['step_us_p50_of_all']:.2f} ~"


def cells(rows):
    lines = [
        "| batch | memory | step, µs: p50 (p10 to p90) | vs planned | faults per step | "
        "in the kernel, µs | peak, MiB | lower bound, MiB | resident, MiB | others, cores |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    planned = {row["batch"]: row for row in rows if row["side"] == "planned"}
    for row in rows:
        line = [str(row["batch"]), row["side"]]
        if "skipped" in row:
            line += ["skipped"] + [""] * 7
        else:
            low, middle, high = row["step_us_p10_p50_p90"]
            line += [
                f"{middle:,.0f} ({low:,.0f} to {high:,.0f})" + ("" if row["quiet"] else " ~"),
                ratio(row, planned[row["batch"]]),
                f"{row['faults_per_step']:,.1f}",
                f"{row['system_us_per_step']:,.0f}",
                f"{row['peak_bytes'] / MIB:.2f}",
                f"{row['lower_bound_bytes'] / MIB:.2f}",
                f"{row['resident_bytes'] / MIB:.1f}",
                f"{row['foreign_cpu']:.2f}",
            ]
        lines.append("| " + " | ".join(line) + " |")
    return "\n".join(lines)
