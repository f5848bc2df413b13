"""What does a smaller memory budget cost? From no budget down to the smallest feasible one."""

import sys
from pathlib import Path

import machine

CELLS = (("resnet20", 128), ("chain", 128))
POINTS = 9
QUICK_POINTS = 4
MIB = 2**20
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd")


def add_arguments(group):
    group.add_argument("--svg", metavar="FILE", type=Path, help="also draw peak against time")


def measure(options):
    """One row per model and number of threads, each from a process of its own."""
    points = QUICK_POINTS if options.quick else POINTS
    rows = []
    for model, batch in CELLS:
        for threads in options.threads:
            print(f"{model}, batch {batch}, threads {threads}", file=sys.stderr)
            rows += machine.rows("budget", model, batch, threads, points)
            yield rows[-1]
    if options.svg:
        options.svg.write_text(picture(rows))


def relative(row):
    """Peak and time of each point as shares of those without a budget."""
    plain = row["points"][0]
    for point in row["points"]:
        yield (
            point["arena_bytes"] / plain["arena_bytes"],
            point["step_us_p10_p50_p90"][1] / plain["step_us_p10_p50_p90"][1],
        )


def table(rows):
    lines = [
        "## budget\n",
        "| model | batch | threads | peak, MiB | of plain | computed again | "
        "step, µs: p50 (p10 to p90) | times plain | modelled | same losses |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        for point, (peak, time) in zip(row["points"], relative(row), strict=True):
            low, middle, high = point["step_us_p10_p50_p90"]
            line = [
                row["model"],
                str(row["batch"]),
                str(row["threads"]),
                f"{point['arena_bytes'] / MIB:.2f}",
                f"{100 * peak:.0f} %",
                str(point["made_again"]),
                f"{middle:,.0f} ({low:,.0f} to {high:,.0f})" + ("" if point["quiet"] else " ~"),
                f"{time:.3f}",
                f"{1 + point['modelled_extra_time']:.3f}",
                "yes" if point["same_losses"] else "NO",
            ]
            lines.append("| " + " | ".join(line) + " |")
    if any(not point["quiet"] for row in rows for point in row["points"]):
        lines.append("\n~ a window in which others used 4 % of a core or more: a doubt.")
    return "\n".join(lines)


def picture(rows):
    """Peak (across) against step time (up), both as shares of the plain program's."""
    width, height, margin = 640, 400, 56
    slowest = max(time for row in rows for _, time in relative(row))
    line = next(step for step in (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10) if 1 + 5 * step > slowest)
    top = 1 + 5 * line

    def x(peak):
        return margin + (width - 2 * margin) * peak

    def y(time):
        return height - margin - (height - 2 * margin) * (time - 1) / (top - 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for i in range(6):
        peak, time = i / 5, 1 + line * i
        parts += [
            f'<path d="M{x(peak):.1f} {y(1):.1f}V{y(top):.1f}M{x(0):.1f} {y(time):.1f}'
            f'H{x(1):.1f}" stroke="#ddd"/>',
            f'<text x="{x(peak):.1f}" y="{y(1) + 18:.1f}" text-anchor="middle">'
            f"{100 * peak:.0f} %</text>",
            f'<text x="{x(0) - 6:.1f}" y="{y(time) + 4:.1f}" text-anchor="end">{time:.2f}</text>',
        ]
    parts += [
        f'<text x="{width / 2}" y="{height - 14}" text-anchor="middle">'
        "peak, of that without a budget</text>",
        f'<text x="{margin}" y="{margin - 16}">step time, of that without a budget</text>',
    ]
    for i, row in enumerate(rows):
        colour = COLOURS[i % len(COLOURS)]
        points = [(x(peak), y(time)) for peak, time in relative(row)]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" fill="{colour}"/>' for px, py in points
        ]
        threads = "1 thread" if row["threads"] == 1 else f"{row['threads']} threads"
        parts.append(
            f'<text x="{x(1) - 150:.1f}" y="{y(top) + 18 + 18 * i:.1f}" fill="{colour}">'
            f"{row['model']} b{row['batch']}, {threads}</text>"
        )
    return "\n".join([*parts, "</svg>", ""])
