"""What does the engine itself cost, per node, per run, per dispatch and meeting of a team?

What the steps of real networks take besides their kernels is in `./dev bench limits`.
"""

import machine


def add_arguments(group):
    del group  # nothing of its own


def measure(options):
    """One row per number of threads."""
    for threads in options.threads:
        yield from machine.rows("overhead", threads)


def table(rows):
    lines = [
        "## overhead: ns\n",
        "| threads | a tiny node in a step | in a plain loop | the engine's share | a run of one "
        "node | a team's dispatch | a meeting |",
        "|--:|--:|--:|--:|--:|--:|--:|",
    ]
    keys = ("step_ns", "loop_ns", "engine_ns", "run_ns", "dispatch_ns", "meeting_ns")
    for row in rows:
        cells = [str(row["threads"]), *(f"{row[key]:,.1f}" for key in keys)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
