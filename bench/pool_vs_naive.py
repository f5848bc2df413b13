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
GPU_MODELS = ("mlp_small", "mlp_big", "cnn", "resnet_small")
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

ARENA = "arena"
GPU_SIDES = (
    Side("cudaMalloc per tensor", "cuda_malloc"),
    Side("cudaMallocAsync per tensor", "cuda_malloc_async"),
    Side("cudaMallocAsync, keeping", "cuda_malloc_async_keeps"),
    Side("pool", "cuda_pool"),
    Side(ARENA, "cuda_arena"),
    Side("arena + graph", "cuda_arena_graph"),
)


def add_arguments(group):
    group.add_argument("--models", nargs="+", help="default: mlp_small cnn; on a GPU two more")
    group.add_argument(
        "--batches",
        nargs="+",
        type=int,
        help="default: 32 128 512, quick: 128 512; on a GPU 32 128 1024",
    )
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
    if options.device == "cuda":
        yield from measure_gpu(options, rounds, most)
        return
    batches = options.batches or ([128, 512] if options.quick else [32, 128, 512])
    for model in options.models or MODELS:
        for chunks in options.chunks or ((0, 1) if model == "cnn" else (0,)):
            for threads in options.threads:
                for batch in batches:
                    cell = {"model": model, "batch": batch, "threads": threads, "chunks": chunks}
                    print(" ".join(f"{key} {cell[key]}" for key in cell), file=sys.stderr)
                    yield from compare(SIDES, cell, rounds, most)


def measure_gpu(options, rounds, most):
    for model in options.models or GPU_MODELS:
        for batch in options.batches or (32, 128, 1024):
            print(f"model {model} batch {batch} on a GPU", file=sys.stderr)
            cell = {"model": model, "batch": batch, "device": "cuda"}
            yield from compare(GPU_SIDES, cell, rounds, most)


def compare(sides, cell, rounds, most):
    """The sides of one cell."""
    runners = {}
    try:
        for side in sides:
            if side.library() is not None:
                runners[side.name] = Runner(side, cell)
        turns(list(runners.values()), rounds, most)
    finally:
        for runner in runners.values():
            runner.stop()
    losses = {runner.facts["loss_at_step_20"] for runner in runners.values()}
    for side in sides:
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
        arguments = [cell["model"], cell["batch"], cell.get("threads", 1), side.memory]
        if "chunks" in cell:
            arguments.append(cell["chunks"])
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
            | medians(self.windows)
            | self.facts
            | {"library": os.path.basename(self.library)}
            | environment
        )

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def medians(measured):
    """Of what only windows on a GPU have."""
    names = ("requests_per_step", "driver_calls_per_step", "in_requests_us")
    return {
        name: round(windows.quantile([w[name] for w in measured], 0.5), 3)
        for name in names
        if name in measured[0]
    }


def table(rows):
    if "device" in rows[0]:
        return gpu_table(rows)
    return cpu_table(rows)


def cpu_table(rows):
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
    parts += doubts(measured)
    for skipped in dict.fromkeys((r["side"], r["skipped"]) for r in rows if "skipped" in r):
        parts.append(f"{skipped[0]}: {skipped[1]}")
    libraries = [row["library"] for row in measured if row["library"]]
    parts.append(
        f"Preloaded: {', '.join(dict.fromkeys(libraries)) or 'nothing'}. `glibc tuned` is "
        f"GLIBC_TUNABLES={GLIBC_TUNED}, `jemalloc tuned` MALLOC_CONF={JEMALLOC_KEEPS}."
    )
    return "\n\n".join(parts)


def doubts(measured):
    if not all(row["same_loss"] for row in measured):
        yield "**Losses differ between sides of one cell: these are not the same steps.**"
    if any(not row["quiet"] for row in measured):
        yield (
            "~ fewer than 5 windows in which others used under 4 % of a core, so all are taken. "
            "They took turns under the same neighbour, but a doubt remains."
        )


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
            line += [
                step_time(row, digits=0),
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


def step_time(row, digits):
    low, middle, high = (f"{us:,.{digits}f}" for us in row["step_us_p10_p50_p90"])
    return f"{middle} ({low} to {high})" + ("" if row["quiet"] else " ~")


# --- on a GPU -------------------------------------------------------------------------------------

GPU_DOC = """The same nodes on GPU 0 in float32 (no TF32), on batches that lie there; windows of
steps, each ended by one wait for the GPU. `arena` puts a step on the stream node by node, as the
sides above it do, so it differs from them in nothing but where bytes come from; `arena + graph`
replays it.

- beyond the arena: the side's step less the arena's, and as a share of the side's step: what memory
  costs, with all that a call makes others wait for. The figure for "up to 90 % of a step".
- in requests: how long allocations and frees hold the calling thread, per step, in windows of their
  own; a reading of the clock (about 25 ns a request) is in it. A cudaFree that waits for the GPU is
  counted here though the step might have waited anyway, and what hides behind the GPU's work costs
  nothing: so both shares stand here.
- requests: allocations and frees that a step asks for; driver calls: those of them, and of the
  pool's, that reach cudaMalloc, cudaMallocAsync and the like (`memory::cuda_memory_calls()`).
- peak: requested bytes alive at most. Held: the GPU's memory in use between steps, by
  cudaMemGetInfo, less the data and what was in use before; what libraries and recorded graphs take
  is in it.
- keeping: from a pool of the driver's that gives nothing back (release threshold), as tuned users
  have it. The default pool gives memory back whenever somebody waits, here between windows."""


def gpu_table(rows):
    parts = ["## pool_vs_naive on a GPU", GPU_DOC]
    for (model,), part in grouped(rows, "model").items():
        parts += [f"### {model}", gpu_cells(part)]
    return "\n\n".join([*parts, *doubts(rows)])


def gpu_cells(rows):
    lines = [
        "| batch | memory | step, µs: p50 (p10 to p90) | vs arena | beyond the arena, µs | "
        "in requests, µs | requests | driver calls | peak, MiB | held, MiB | others, cores |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    arenas = {row["batch"]: row for row in rows if row["side"] == ARENA}
    for row in rows:
        middle = row["step_us_p10_p50_p90"][1]
        arena = arenas[row["batch"]]
        line = [
            str(row["batch"]),
            row["side"],
            step_time(row, digits=1),
            ratio(row, arena),
            share(middle - arena["step_us_p10_p50_p90"][1], middle),
            share(row["in_requests_us"], middle),
            f"{row['requests_per_step']:,.6g}",
            f"{row['driver_calls_per_step']:,.6g}",
            f"{row['peak_bytes'] / MIB:.2f}",
            f"{row['held_bytes'] / MIB:.1f}",
            f"{row['foreign_cpu']:.2f}",
        ]
        lines.append("| " + " | ".join(line) + " |")
    return "\n".join(lines)


def share(part_us, step_us):
    return f"{part_us:,.1f} ({100 * part_us / step_us:.0f} %)"
