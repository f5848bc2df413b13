"""What does it cost to train from files, gathering each batch, against finding it ready?"""

import machine
from peers import cells


def add_arguments(group):
    del group  # nothing of its own


def measure(options):
    """One row per cell, each from a process of its own in which both sides take turns."""
    for cell in cells.each(options.threads):
        yield from machine.rows("from_files", *cell)


def table(rows):
    lines = [
        "## from_files\n",
        "| cell | threads | batch ready, µs | from files, µs | rate, of the bare step's | "
        "gathering, µs of all members | phases: ready, from files |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        line = [
            f"{row['model']} b{row['batch']}{'' if row['quiet'] else ' ~'}",
            str(row["threads"]),
            f"{row['ready_us']:,.1f}",
            f"{row['files_us']:,.1f}",
            f"{row['rate']:.3f}",
            f"{row['gather_us']:,.1f}",
            ", ".join(map(str, row["phases"])),
        ]
        lines.append("| " + " | ".join(line) + " |")
    if any(not row["quiet"] for row in rows):
        lines.append("\n~ fewer than 5 turns in which others used under 4 % of a core: a doubt.")
    return "\n".join(lines)
