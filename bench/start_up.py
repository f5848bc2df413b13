"""How long until compiling, the first step, `poolgrad plan` and `import poolgrad` are done?"""

import json
import statistics
import subprocess
import sys
import time

import machine

MODELS = ("mlp_big", "cnn", "resnet20", "chain", "unet")
BATCH = 128
RUNS = 5


def add_arguments(group):
    del group  # nothing of its own


def measure(options):
    """Medians of whole processes: what their caches hold after the first run, they hold."""
    for threads in options.threads:
        for model in MODELS:
            yield {**of_model(model, threads), "threads": threads}
    yield {"bench": "start_up", **of_package()}


def of_model(model, threads):
    program = [machine.PROGRAMS / "start_up", model, str(BATCH), str(threads)]
    runs = [json.loads(timed(program)[1]) for _ in range(RUNS)]
    row = {key: runs[0][key] for key in ("bench", "model", "batch", "nodes")}
    for key in "draft_ms", "compile_ms", "first_step_ms":
        row[key] = statistics.median(run[key] for run in runs)
    row["process_ms"] = statistics.median(timed(program)[0] for _ in range(RUNS))
    named = ["mlp", "--hidden", "1024,1024"] if model == "mlp_big" else [model]
    flags = ["--model", *named, "--batch", str(BATCH), "--threads", str(threads), "--json"]
    plan = [machine.PROGRAMS / "poolgrad", "plan", *flags]
    row["plan_ms"] = statistics.median(timed(plan)[0] for _ in range(RUNS))
    return row


def of_package():
    nothing, package = (
        statistics.median(timed([sys.executable, "-c", code])[0] for _ in range(RUNS))
        for code in ("pass", "import poolgrad")
    )
    numpy = timed([sys.executable, "-c", "import poolgrad, sys; print('numpy' in sys.modules)"])[1]
    return {"import_ms": package - nothing, "imports_numpy": numpy.strip() == "True"}


def timed(command):
    """Milliseconds of a process from its start to its end, and what it printed."""
    begin = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    ms = 1e3 * (time.perf_counter() - begin)
    if done.returncode != 0:
        raise SystemExit(f"bench: {' '.join(map(str, command))} failed")
    return ms, done.stdout


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
