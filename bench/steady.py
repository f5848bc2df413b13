"""What does a steady training step do besides computing: faults, switches, allocations, calls?

System calls are those of a run of 2N steps less those of a run of N steps, counted by strace.
"""

import shutil
import tempfile
from pathlib import Path

import machine
from peers import cells

STEPS = {"mlp_small": 2000, "mlp_big": 400, "cnn": 200, "resnet_small": 40}
WAITING = {"futex", "sched_yield"}  # what waits that outlast the spin are made of


def add_arguments(group):
    del group  # nothing of its own


def measure(options):
    """One row per cell."""
    for cell in cells.each(options.threads):
        steps = STEPS[cell[0]]
        (row,) = machine.rows("steady", *cell, steps)
        yield row | system_calls(cell, steps // 4)


def system_calls(arguments, steps):
    """Those that are no waiting and those that are, in `steps` steps; null without strace."""
    names = ("traced_steps", "system_calls", "waiting_calls", "system_call_names")
    if shutil.which("strace") is None:
        return dict.fromkeys(names)
    once, twice = (counted(arguments, steps * times) for times in (1, 2))
    more = {name: twice.get(name, 0) - once.get(name, 0) for name in twice}
    others = {name: count for name, count in more.items() if name not in WAITING and count > 0}
    waiting = sum(max(more.get(name, 0), 0) for name in WAITING)
    return dict(zip(names, (steps, sum(others.values()), waiting, sorted(others)), strict=True))


def counted(arguments, steps):
    """Calls by name."""
    with tempfile.TemporaryDirectory() as folder:
        summary = Path(folder) / "summary"
        flags = ["-f", "-qq", "-c", "-U", "name,calls", "-o", summary]
        steady = [machine.PROGRAMS / "steady", *arguments, steps]
        machine.run(shutil.which("strace"), *flags, *steady)
        lines = [line.split() for line in summary.read_text().splitlines()]
    return {w[0]: int(w[1]) for w in lines if len(w) == 2 and w[1].isdigit() and w[0] != "total"}


def table(rows):
    lines = [
        "## steady\n",
        "| cell | threads | steps | page faults | switches: voluntary, forced | waits longer than "
        "the spin | allocations: ours, libraries' per step | system calls in steps traced | of "
        "waiting |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        calls, waiting = "no strace", ""
        if row["traced_steps"] is not None:
            names = f" ({', '.join(row['system_call_names'])})" if row["system_calls"] else ""
            calls = f"{row['system_calls']}{names} in {row['traced_steps']}"
            waiting = str(row["waiting_calls"])
        line = [
            f"{row['model']} b{row['batch']}",
            str(row["threads"]),
            str(row["steps"]),
            str(row["minor_faults"] + row["major_faults"]),
            f"{row['voluntary_switches']}, {row['involuntary_switches']}",
            str(row["long_waits"]),
            f"{row['allocations_ours']}, {row['allocations_library'] / row['steps']:.0f}",
            calls,
            waiting,
        ]
        lines.append("| " + " | ".join(line) + " |")
    return "\n".join(lines)
