"""What does each pass do for memory, and what does PyTorch take for the same step?"""

import sys
from pathlib import Path

import machine

MODELS = ("mlp_big", "cnn", "resnet20", "chain", "unet")
BATCH = 128
MIB = 2**20


def add_arguments(group):
    group.add_argument("--no-torch", action="store_true", help="without PyTorch's peak beside it")


def measure(options):
    """Per model: one row for each pass, then PyTorch's. Nothing is timed."""
    for model in MODELS:
        yield from machine.rows("passes", model, BATCH)
        if not options.no_torch:
            script = Path(__file__).with_name("passes_torch.py")
            yield from machine.rows(sys.executable, script, model, BATCH)


def table(rows):
    ours = [row for row in rows if "up_to" in row]
    theirs = {row["model"]: row for row in rows if "torch" in row}
    lines = [
        f"## passes: MiB of a step at batch {BATCH}, beside parameters, momentum and inputs\n",
        "Each row has the passes of the rows above it too. Sum: without reuse.\n",
        "| model | up to the pass | sum | lower bound | arena |",
        "|---|---|--:|--:|--:|",
    ]
    for row in ours:
        sizes = [
            f"{row[key] / MIB:,.2f}" for key in ("sum_bytes", "lower_bound_bytes", "arena_bytes")
        ]
        lines.append("| " + " | ".join([row["model"], row["up_to"], *sizes]) + " |")
    if not theirs:
        return "\n".join(lines)
    version = next(iter(theirs.values()))["torch"]
    lines += [
        f"\n| model | arena | PyTorch {version} | ratio |",
        "|---|--:|--:|--:|",
    ]
    for row in ours:
        if row["up_to"] != ours[-1]["up_to"]:
            continue
        peak = theirs[row["model"]]["peak_bytes"]
        sizes = [f"{size / MIB:,.2f}" for size in (row["arena_bytes"], peak)]
        cells = [row["model"], *sizes, f"{row['arena_bytes'] / peak:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
