"""How many images a second with the next batch gathered on a second stream, and without?

Whole runs of `poolgrad train`, which take turns; their weights must be the same bits.
"""

import filecmp
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

import machine

MODELS = {"mlp": (32, 128, 512), "cnn": (128,)}
RATES = {"mlp": "0.1", "cnn": "0.05"}


def add_arguments(group):
    group.add_argument("--runs", type=int, help="per cell and side; default: 7, quick: 3")


def measure(options):
    """One row per model, batch and threads."""
    rounds = options.runs or (3 if options.quick else 7)
    with tempfile.TemporaryDirectory() as folder:
        for threads in options.threads:
            for model, batches in MODELS.items():
                for batch in batches:
                    if options.quick and model == "cnn":
                        continue
                    yield cell(model, batch, threads, rounds, pathlib.Path(folder))


def cell(model, batch, threads, rounds, folder):
    print(f"{model} batch {batch} threads {threads}", file=sys.stderr)
    speeds = {False: [], True: []}
    for turn in range(rounds):
        for ahead in (False, True) if turn % 2 == 0 else (True, False):
            speeds[ahead].append(train(model, batch, threads, ahead, folder))
    same = filecmp.cmp(folder / "False", folder / "True", shallow=False)
    row = {"bench": "read_ahead", "model": model, "batch": batch, "threads": threads, "n": rounds}
    for ahead, name in ((False, "in_the_step"), (True, "ahead")):
        each = sorted(speeds[ahead])
        row[name] = [each[0], statistics.median(each), each[-1]]
    return row | {"same_bits": same}


def train(model, batch, threads, ahead, folder):
    """Images a second of one epoch."""
    command = [machine.PROGRAMS / "poolgrad", "train", "--model", model, "--epochs", "1", "--json"]
    command += ["--optimizer", "sgd", "--lr", RATES[model], "--batch", str(batch)]
    command += ["--threads", str(threads), "--save", str(folder / str(ahead))]
    command += ["--read-ahead"] if ahead else []
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    done = [json.loads(line) for line in lines if '"done"' in line]
    return done[0]["images_per_s"]


def table(rows):
    lines = [
        "| model | batch | threads | gathered in the step, images/s | ahead, images/s | times "
        "faster | same bits |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    for row in rows:
        plain, ahead = row["in_the_step"], row["ahead"]
        cells = [row["model"], row["batch"], row["threads"]]
        cells += [f"{x[1]:,.0f} ({x[0]:,.0f} to {x[2]:,.0f})" for x in (plain, ahead)]
        cells += [f"{ahead[1] / plain[1]:.3f}", "yes" if row["same_bits"] else "**no**"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n\n".join(["## read_ahead", DOC, "\n".join(lines)])


DOC = """Median (least to most) of whole epochs of Fashion-MNIST. Reading ahead takes a thread of
its own beside the team's."""
