"""Rows of the comparison as Markdown tables and as a picture."""

from .cells import BY_HAND, OURS

MIB = 2**20


def table(rows):
    """What matters first; then every step time."""
    parts = gpu_parts(rows) if "device" in rows[0] else cpu_parts(rows)
    measured = [row for row in rows if "skipped" not in row]
    if any(not row["quiet"] for row in measured):
        parts.append("~ fewer than 5 windows in which others used under 4 % of a core: a doubt.")
    if any(not row["same_loss"] for row in measured):
        parts.append("≠ the loss is not PyTorch's: this is not the same training.")
    skipped = dict.fromkeys((r["peer"], r["model"], r["skipped"]) for r in rows if "skipped" in r)
    parts += [f"{peer}, {model}: {reason}" for peer, model, reason in skipped]
    versions = dict.fromkeys(v for row in measured for v in row["versions"])
    parts.append(f"Versions: {', '.join(versions)}.")
    return "\n\n".join(parts)


def cpu_parts(rows):
    parts = ["## peers"]
    for threads in dict.fromkeys(row["threads"] for row in rows):
        part = [row for row in rows if row["threads"] == threads]
        parts += [f"### Against the fastest of the others, threads: {threads}", ratios(part)]
        parts += [f"### Step, ms (page faults per step), threads: {threads}", times(part, faults)]
    return parts


def by_cell(rows):
    """Measured rows of each cell, by peer."""
    groups = {}
    for row in rows:
        if "skipped" not in row:
            groups.setdefault((row["model"], row["batch"]), {})[row["peer"]] = row
    return groups


def fastest(cell):
    """Of the other libraries; None where none took part."""
    others = [row for name, row in cell.items() if name not in (OURS, BY_HAND)]
    return min(others, key=lambda row: row["step_us"], default=None)


def ratios(rows):
    lines = [
        "| cell | poolgrad, ms | fastest peer, ms | peer : poolgrad | hand-written, ms | "
        "poolgrad : hand-written | peak above parameters, MiB (lower bound) | of that peer, MiB | "
        "loss at step 20, of that peer |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (model, batch), cell in by_cell(rows).items():
        ours, peer, hand = cell.get(OURS), fastest(cell), cell.get(BY_HAND)
        lines.append(
            "| "
            + " | ".join(
                [
                    f"{model} b{batch}",
                    time(ours),
                    f"{time(peer)} {peer['peer']}" if peer else "",
                    ratio(peer, ours),
                    time(hand),
                    ratio(ours, hand),
                    peak(ours),
                    peak(peer),
                    ", ".join(f"{r['loss_at_step']['20']:.4f}" for r in (ours, peer) if r),
                ]
            )
            + " |"
        )
    return "\n".join(lines)


def times(rows, aside):
    """One line per peer; `aside(row)` stands in brackets."""
    groups = by_cell(rows)
    head = [f"{model} b{batch}" for model, batch in groups]
    lines = ["| peer | " + " | ".join(head) + " |", "|---" * (len(head) + 1) + "|"]
    for peer in dict.fromkeys(row["peer"] for row in rows if "skipped" not in row):
        line = [peer]
        for cell in groups.values():
            row = cell.get(peer)
            line.append(f"{time(row)} ({aside(row)})" if row else "")
        lines.append("| " + " | ".join(line) + " |")
    return "\n".join(lines)


def faults(row):
    return f"{row['faults_per_step']:,.0f}"


def time(row):
    if row is None:
        return ""
    doubts = ("" if row["quiet"] else "~") + ("" if row["same_loss"] else "≠")
    return f"{row['step_us'] / 1000:.3g}{doubts}"


def ratio(row, unit):
    if row is None or unit is None:
        return ""
    doubt = "" if row["quiet"] and unit["quiet"] else "~"
    return f"{row['step_us'] / unit['step_us']:.2f}{doubt}"


def peak(row):
    if row is None or row.get("peak_bytes") is None:
        return ""
    bound = row.get("lower_bound_bytes")
    return f"{row['peak_bytes'] / MIB:.2f}" + (f" ({bound / MIB:.2f})" if bound else "")


# --- on a GPU -------------------------------------------------------------------------------------

GROUPS = ("PyTorch eager", "torch.compile", "PyTorch with CUDA graphs", "JAX")

GPU = """Numbers: {numbers}, on every side. All data lies on the GPU before, on every side: steps
take views of it (PyTorch eager and compiled), arrays cut before (JAX), or copies of a batch into
inputs that stay (CUDA graphs, poolgrad). A window is a run of steps without a pause, ended by one
wait for the last of them. PyTorch looks for the fastest convolutions (cudnn.benchmark). Of each
kind the fastest variant stands here; in brackets, its step as a multiple of poolgrad's. The
targets, on the small ones: 3 beside PyTorch eager and 1.2 beside CUDA graphs; on the large ones 1.

Peaks: {peaks}. Held: the data set, 180 MiB, and all else that the library's allocator has taken
(PyTorch: reserved; JAX: in use at most, tuning included; poolgrad: the arena)."""


def gpu_parts(rows):
    groups = by_cell(rows)
    peaks = dict.fromkeys(r["peak_how"] for r in rows if r.get("peak_bytes") is not None)
    parts = ["## peers on a GPU", GPU.format(numbers=rows[0]["numbers"], peaks="; ".join(peaks))]
    parts += ["### Step, ms", gpu_lines(groups, gpu_time)]
    parts += ["### Peak above parameters, MiB (held in all)", gpu_lines(groups, gpu_memory)]
    parts += ["### Loss at step 20", gpu_lines(groups, gpu_loss)]
    return [*parts, "### Every variant: step, ms (p10 to p90)", times(rows, spread)]


def group_of(peer):
    words = peer.split("-")
    if words[0] == "jax":
        return "JAX"
    if "graphs" in words:
        return "PyTorch with CUDA graphs"
    return "torch.compile" if "compile" in words else "PyTorch eager"


def gpu_lines(groups, figure):
    """A line per cell: figure(row, ours) of poolgrad, then of the fastest of each kind."""
    lines = [f"| cell | poolgrad | {' | '.join(GROUPS)} |", "|---" * (2 + len(GROUPS)) + "|"]
    for (model, batch), cell in groups.items():
        ours = cell.get(OURS)
        line = [f"{model} b{batch}", figure(ours, ours)]
        for group in GROUPS:
            some = [row for peer, row in cell.items() if peer != OURS and group_of(peer) == group]
            line.append(figure(min(some, key=lambda row: row["step_us"], default=None), ours))
        lines.append("| " + " | ".join(line) + " |")
    return "\n".join(lines)


def gpu_time(row, ours):
    if row is None or row is ours:
        return time(row)
    return f"{time(row)} ({ratio(row, ours)}) {row['peer']}"


def gpu_memory(row, _):
    if row is None:
        return ""
    return f"{peak(row) or '-'} ({row['held_bytes'] / MIB:.0f})"


def gpu_loss(row, _):
    return f"{row['loss_at_step']['20']:.4f}" if row else ""


def spread(row):
    low, _, high = row["step_us_p10_p50_p90"]
    return f"{low / 1000:.3g} to {high / 1000:.3g}"


# --- the picture ----------------------------------------------------------------------------------

COLOURS = {
    OURS: "#1f6feb",
    BY_HAND: "#9aa4af",
    "torch": "#ee4c2c",
    "jax": "#8e44ad",
    "tf": "#f2a900",
}
NAMES = {"torch": "PyTorch", "jax": "JAX", "tf": "TensorFlow"}
WIDTH, LEFT, RIGHT, BAR, GAP, TOP = 860, 190, 290, 14, 12, 44
MOST = 6.0  # times poolgrad's; longer bars are cut there


def draw(rows, path):
    """Step times as multiples of poolgrad's, the fastest variant of each library per cell, with
    the most threads there are."""
    threads = max(row["threads"] for row in rows)
    groups = by_cell(row for row in rows if row["threads"] == threads)
    body, y = [], TOP
    for (model, batch), cell in groups.items():
        if OURS not in cell:
            continue
        bars = best_of_each(cell)
        middle = y + len(bars) * BAR / 2 + 4
        body.append(text(10, middle, f"{model}, batch {batch}", "font-weight='bold'"))
        for library, row in bars:
            body += bar(y, library, row, cell[OURS])
            y += BAR
        y += GAP
    title = (
        f"Time of a training step, as a multiple of poolgrad's ({threads} threads; less is faster)"
    )
    line = f"<line x1='{at(1)}' y1='{TOP - 6}' x2='{at(1)}' y2='{y - GAP + 4}' stroke='#57606a'/>"
    with open(path, "w") as file:
        file.write(
            f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{y}' "
            f"viewBox='0 0 {WIDTH} {y}' font-family='sans-serif' font-size='11'>\n"
            f"<rect width='{WIDTH}' height='{y}' fill='white'/>\n"
            + "\n".join([text(10, 22, title, "font-size='14'"), *body, line])
            + "\n</svg>\n"
        )


def best_of_each(cell):
    """(library, its fastest row), ours first, then by time."""
    best = {}
    for name, row in cell.items():
        library = name if name in (OURS, BY_HAND) else name.split("-")[0]
        if library not in best or row["step_us"] < best[library]["step_us"]:
            best[library] = row
    return sorted(best.items(), key=lambda item: (item[0] != OURS, item[1]["step_us"]))


def bar(y, library, row, ours):
    times = row["step_us"] / ours["step_us"]
    name = NAMES.get(library, library)
    label = f"{name} {times:.2f}" + (f" ({row['peer']})" if library in NAMES else "")
    width = at(min(times, MOST)) - LEFT
    return [
        f"<rect x='{LEFT}' y='{y}' width='{width:.1f}' height='{BAR - 2}' "
        f"fill='{COLOURS[library]}'/>",
        text(LEFT + width + 4, y + BAR - 4, label),
    ]


def at(times):
    return LEFT + times / MOST * (WIDTH - LEFT - RIGHT)


def text(x, y, words, more=""):
    return f"<text x='{x:.1f}' y='{y:.1f}' fill='#24292f' {more}>{words}</text>"
