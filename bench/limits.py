"""How near is a training step to its kernels alone, and those to what the machine can do?

Operations are those of the plain sums. Winograd's tiles do fewer, so a convolution's rate may
exceed the machine's, and plain sums at the machine's rate take longer than a step has to.
"""

import sys

import machine
from peers.cells import CELLS

SLOWEST = 12  # ops shown per cell


def add_arguments(group):
    group.add_argument("--ops", type=int, default=SLOWEST, help="lines of each per-op table")


def measure(options):
    """The machine's rates, then one row per cell; each from a process of its own."""
    for threads in options.threads:
        yield from machine.rows("roofline", threads)
        for model, batch in CELLS:
            print(f"{model}, batch {batch}, threads {threads}", file=sys.stderr)
            (row,) = machine.rows("limits", model, batch, threads)
            yield row | {"shown": options.ops}


def table(rows):
    parts = ["## limits"]
    for threads in dict.fromkeys(row["threads"] for row in rows):
        mine = [row for row in rows if row["threads"] == threads]
        rates = next(row for row in mine if row.get("machine"))
        cells = [row for row in mine if not row.get("machine")]
        parts += [
            f"### Threads: {threads}",
            f"The machine: {rates['gflops']:.0f} GFLOP/s in products, {rates['memory_gbs']:.1f} "
            f"GB/s of memory ({rates['how']}).",
            steps(cells, rates),
            *(ops(row) for row in cells),
        ]
    if any(not row.get("quiet", True) for row in rows):
        parts.append("~ others used 4 % of a core or more: a doubt.")
    return "\n\n".join(parts)


def steps(cells, rates):
    lines = [
        "| cell | step, µs | busiest member's kernels, µs | the same alone and warm, µs | "
        "step : alone | besides kernels, ns per node | GFLOP | "
        "plain sums at the machine's rate, µs |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in cells:
        at_rate = row["gflop"] / rates["gflops"] * 1e6
        besides = (row["step_us"] - row["kernels_us"]) / row["nodes"] * 1000
        line = [
            f"{row['model']} b{row['batch']}{'' if row['quiet'] else ' ~'}",
            f"{row['step_us']:,.1f}",
            f"{row['kernels_us']:,.1f}",
            f"{row['kernels_alone_us']:,.1f}",
            f"{row['step_us'] / row['kernels_alone_us']:.2f}",
            f"{besides:,.0f}",
            f"{row['gflop']:.3f}",
            f"{at_rate:,.1f}",
        ]
        lines.append("| " + " | ".join(line) + " |")
    return "\n".join(lines)


def ops(row):
    """Times of all members together."""
    lines = [
        f"#### {row['model']} b{row['batch']}, threads: {row['threads']}\n",
        "| op | shapes | calls | in the step, µs | alone, µs | share | rate |",
        "|---|---|---|---|---|---|---|",
    ]
    for op in row["ops"][: row["shown"]]:
        rate = f"{op['gflops']:.0f} GFLOP/s" if "gflops" in op else f"{op['gbs']:.1f} GB/s"
        lines.append(
            f"| {op['op']} | {op['shapes']} | {op['calls']} | {op['us']:,.1f} | "
            f"{op['alone_us']:,.1f} | {op['share']:.0%} | {rate} |"
        )
    return "\n".join(lines)
