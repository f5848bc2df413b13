"""How near to the bound are plans, how fast, and are the proofs right?"""

import json
import subprocess
import sys
import time

import machine

MODELS = ("mlp", "cnn", "resnet", "resnet20")
BATCHES = (16, 32, 64, 100, 128, 256, 512, 900, 1000, 1024)
PLANS = machine.ROOT / "tests" / "data" / "plans"


def add_arguments(group):
    group.add_argument("--instances", type=int, help="hard ones per size; default 300, quick 20")
    group.add_argument("--limit", type=float, default=10.0, help="seconds for a hard one")


def measure(options):
    """Files of requests, the engine's models, then generated requests; one thread throughout."""
    for file in sorted(PLANS.glob("*.csv")):
        best = min((command("--input", file) for _ in range(3)), key=lambda row: row["ms"])
        yield {"bench": "planning", "question": "files", "file": file.name} | best
    for members in 1, 2, 4:
        for model in MODELS:
            for batch in (32, 128) if options.quick else BATCHES:
                began = time.perf_counter()
                row = command("--model", model, "--batch", batch, "--threads", members)
                ms = (time.perf_counter() - began) * 1e3
                keep = {name: row[f"{name}_bytes"] for name in ("sum", "lower_bound", "arena")}
                cell = {"model": model, "batch": batch, "members": members, "command_ms": ms}
                keep["gap_percent"] = 100 * (keep["arena"] / keep["lower_bound"] - 1)
                yield {"bench": "planning", "question": "models"} | cell | keep
    scale = 50 if options.quick else 1
    yield from program("random", 100_000 // scale)
    yield from program("small", 100_000 // scale)
    yield from program("large", 1_000_000)
    instances = options.instances or (20 if options.quick else 300)
    yield from program("hard", instances, options.limit)


def command(*arguments):
    return machine.rows("poolgrad", "plan", "--json", *arguments)[0]


def program(*arguments):
    """The rows as they come."""
    run = [machine.PROGRAMS / "planning", *map(str, arguments)]
    print(" ".join(map(str, run[1:])), file=sys.stderr)
    with subprocess.Popen(run, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            yield json.loads(line)
    if process.returncode != 0:
        raise SystemExit(f"bench: planning {' '.join(map(str, arguments))} failed")


def table(rows):
    parts = ["## planning"]
    for question in "files", "models", "random", "small", "large", "hard":
        mine = [row for row in rows if row["question"] == question]
        columns = [name for name in mine[0] if name not in ("bench", "question", "witness")]
        lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        lines += ["| " + " | ".join(cell(row[name]) for name in columns) + " |" for row in mine]
        parts.append(f"### {question}\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def cell(value):
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
