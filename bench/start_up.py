"""How long until compiling, the first step, `poolgrad plan` and `import poolgrad` are done?

Drafting, compiling and the first step are counted from make_task() on; processes from outside, from
their start to their end.
"""

import statistics
import sys
import time

import machine

# As `poolgrad plan` is told of the same training; its optimizer is Adam unless told.
SGD = ("--optimizer", "sgd", "--momentum", "0.9")
MODELS = {
    "mlp_big": ("mlp", "--hidden", "1024,1024"),
    "cnn": ("cnn", *SGD),
    "resnet20": ("resnet20", *SGD),
    "chain": ("chain", *SGD),
    "unet": ("unet", *SGD),
}
BATCH = 128
RUNS = 5


def add_arguments(group):
    del group  # nothing of its own


def measure(options):
    """Medians over processes, whose files the system's caches hold after the first."""
    for threads in options.threads:
        for model in MODELS:
            yield {**of_model(model, threads), "threads": threads}
    yield {"bench": "start_up", **of_package()}


def of_model(model, threads):
    program = ("start_up", model, BATCH, threads)
    runs = [machine.rows(*program)[0] for _ in range(RUNS)]
    row = {key: runs[0][key] for key in ("bench", "model", "batch", "nodes")}
    for key in "draft_ms", "compile_ms", "first_step_ms":
        row[key] = statistics.median(run[key] for run in runs)
    row["process_ms"] = statistics.median(milliseconds(*program) for _ in range(RUNS))
    flags = ("--batch", BATCH, "--threads", threads, "--json")
    plan = ("poolgrad", "plan", "--model", *MODELS[model], *flags)
    row["plan_ms"] = statistics.median(milliseconds(*plan) for _ in range(RUNS))
    return row


def of_package():
    nothing, package = (
        statistics.median(milliseconds(sys.executable, "-c", code) for _ in range(RUNS))
        for code in ("pass", "import poolgrad")
    )
    asks = "import poolgrad, sys; print('numpy' in sys.modules)"
    numpy = machine.run(sys.executable, "-c", asks)
    return {"import_ms": package - nothing, "imports_numpy": numpy.strip() == "True"}


def milliseconds(*command):
    """Of a process from its start to its end."""
    begin = time.perf_counter()
    machine.run(*command)
    return 1e3 * (time.perf_counter() - begin)


def table(rows):
    *models, package = rows
    lines = [
        f"## start_up: ms at batch {BATCH}, medians of {RUNS} processes\n",
        "| model | threads | nodes | draft | compiled | first step done | the whole process | "
        "`poolgrad plan` |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in models:
        keys = ("draft_ms", "compile_ms", "first_step_ms", "process_ms", "plan_ms")
        cells = [row["model"], str(row["threads"]), f"{row['nodes']:,}"]
        lines.append("| " + " | ".join([*cells, *(f"{row[key]:.0f}" for key in keys)]) + " |")
    numpy = "with" if package["imports_numpy"] else "without"
    lines.append(f"\n`import poolgrad` takes {package['import_ms']:.0f} ms, {numpy} NumPy.")
    return "\n".join(lines)
