"""How long does a training step take, split among members and chunks, and which ops take it?"""

import sys

import machine

CELLS = (("mlp_small", 32), ("mlp_small", 128), ("mlp_big", 128), ("cnn", 32), ("cnn", 128))
CHUNKS = (0, 1, 4, 16)  # 0: as the sizes of activations suggest
QUICK_CHUNKS = (0,)
MIB = 2**20


def add_arguments(group):
    group.add_argument(
        "--scaling",
        nargs="+",
        metavar="MODEL",
        help="these models at batch 16 to 2048 instead, briefly: time per image, and 1 thread "
        "against 2",
    )
    group.add_argument(
        "--tuned",
        action="store_true",
        help="the step with kernels by rule beside that with kernels by measured times, in turns",
    )


def cells(options):
    if options.tuned:
        return (*CELLS, ("resnet_small", 128))
    if options.scaling:
        return [(model, 2**power) for model in options.scaling for power in range(4, 12)]
    return CELLS


def measure(options):
    """One row per cell, each from a process of its own."""
    brief = ["briefly"] if options.scaling else ["tuned"] if options.tuned else []
    for model, batch in cells(options):
        for threads in options.threads:
            for chunks in QUICK_CHUNKS if options.quick or brief else CHUNKS:
                if chunks > 1 and model != "cnn":
                    continue  # activations of an MLP fit any cache
                print(
                    f"{model}, batch {batch}, threads {threads}, chunks {chunks}", file=sys.stderr
                )
                yield from machine.rows("step_time", model, batch, threads, chunks, *brief)


def table(rows):
    if "tuned_us" in rows[0]:
        return tuned(rows)
    return details(rows) if "profile" in rows[0] else scaling(rows)


def tuned(rows):
    """Both steps, and where times chose otherwise than the rule, whose order lines keep."""
    lines = [
        "## step_time, tuned\n",
        "| model | batch | threads | by rule, µs | by times, µs | gain | timing, s | "
        "chosen otherwise |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        line = [
            row["model"],
            str(row["batch"]),
            str(row["threads"]),
            f"{middle(row):,.0f}" + ("" if row["quiet"] else " ~"),
            f"{row['tuned_us']:,.0f}",
            f"{100 * (middle(row) / row['tuned_us'] - 1):+.1f} %",
            f"{row['timing_seconds']:.1f}",
            "; ".join(overruled(row["table"])),
        ]
        lines.append("| " + " | ".join(line) + " |")
    return with_doubts(lines, rows)


def overruled(table):
    """'op problem: chosen instead of the rule's, -7 %' for each such line of a table of times."""
    for line in table.splitlines()[2:-1]:
        op, problem, chosen, *fields = line.split(" | ")
        times = {name: float(us) for name, us in map(str.split, fields) if us != "-"}
        by_rule = next(iter(times))
        if chosen != by_rule:
            gain = 100 * (times[chosen] / times[by_rule] - 1)
            yield f"{op} {problem}: {chosen} instead of {by_rule}, {gain:+.0f} %"


def scaling(rows):
    """Time per image by batch; where there are 1 and 2 threads, how much the second one brings."""
    lines = [
        "## step_time, scaling\n",
        "| model | batch | threads | step, µs | image, µs | 1 thread : this |",
        "|---|---|---|---|---|---|",
    ]
    one = {(r["model"], r["batch"]): middle(r) for r in rows if r["threads"] == 1}
    for row in rows:
        base = one.get((row["model"], row["batch"]))
        line = [
            row["model"],
            str(row["batch"]),
            str(row["threads"]),
            f"{middle(row):,.0f}" + ("" if row["quiet"] else " ~"),
            f"{middle(row) / row['batch']:.2f}",
            f"{base / middle(row):.2f}" if base else "",
        ]
        lines.append("| " + " | ".join(line) + " |")
    return with_doubts(lines, rows)


def middle(row):
    return row["step_us_p10_p50_p90"][1]


def with_doubts(lines, rows):
    if any(not row["quiet"] for row in rows):
        lines.append("\n~ fewer than 5 windows in which others used under 4 % of a core: a doubt.")
    return "\n".join(lines)


def details(rows):
    lines = [
        "## step_time\n",
        "| model | batch | threads | chunks | step, µs: p50 (p10 to p90) | from files, µs | "
        "scratch, MiB | "
        "lower bound, MiB | nodes | phases | loss at step 20 | slowest ops, µs on one member |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        low, middle, high = row["step_us_p10_p50_p90"]
        slowest = [f"{r['op']} {r['outputs']} {r['us']:.0f}" for r in row["profile"][:3]]
        line = [
            row["model"],
            str(row["batch"]),
            str(row["threads"]),
            str(row["chunks"] or "auto"),
            f"{middle:,.0f} ({low:,.0f} to {high:,.0f})" + ("" if row["quiet"] else " ~"),
            "-" if row["from_files_us"] is None else f"{row['from_files_us']:,.0f}",
            f"{row['scratch_bytes'] / MIB:.2f}",
            f"{row['scratch_lower_bound_bytes'] / MIB:.2f}",
            str(row["steps"]),
            str(row["phases"]),
            f"{row['loss_at_step_20']:.4f}",
            ", ".join(slowest),
        ]
        lines.append("| " + " | ".join(line) + " |")
    return with_doubts(lines, rows)
