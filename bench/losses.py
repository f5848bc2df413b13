"""Is it the same training? Losses from equal weights on equal batches, beside PyTorch's.

Beside float32 stand a run in float64 and, on both sides, eight runs from weights that differ by
2e-7: how far rounding alone carries. One run inside the other side's spread says little where both
spread; compare the spreads. Where float32 and float64 part, two more runs say whether a few ReLUs
near zero are why: in their first step each ReLU decides as in the other precision.
"""

from peers import DATA, cells, networks
from peers.process import Process

NUDGES = tuple((f"nudge{seed}",) for seed in range(8))
OTHER_SIGNS = (("other_signs",), ("float64", "other_signs"))
STEPS = ("1", "2", "3", "4", "20")


def add_arguments(group):
    every = [cells.key(*cell) for cell in cells.CELLS]
    group.add_argument("--loss-cells", nargs="+", choices=every, default=every, metavar="CELL")


def measure(options):
    networks.dump(DATA)
    for network, batch in cells.CELLS:
        if cells.key(network, batch) not in options.loss_cells:
            continue
        ways = {cells.OURS: ()}
        if networks.has_images(network):
            ways[f"{cells.OURS}, plain convolutions"] = ("plain",)
        for name, flags in ways.items():
            for threads in options.threads:
                yield losses(ours(name, flags), network, batch, threads)
            for nudge in NUDGES:
                nudged = ours(f"{name}-{nudge[0]}", flags + nudge)
                yield losses(nudged, network, batch, max(options.threads))
        for flags in ((), ("float64",), *OTHER_SIGNS, *NUDGES):
            peer = cells.Peer("-".join(["torch", *flags]), cells.python("torch_step"), flags)
            yield losses(peer, network, batch, max(options.threads))


def ours(name, flags):
    return cells.Peer(name, (cells.machine.PROGRAMS / "poolgrad_step",), flags)


def losses(peer, network, batch, threads):
    process = Process(peer, DATA, network, batch, threads)
    process.kill()
    row = {"bench": "losses", "peer": peer.name, "model": network, "batch": batch}
    return row | {"threads": threads, "loss_at_step": process.facts["loss_at_step"]}


def table(rows):
    lines = [f"| network | batch | run | {' | '.join(f'step {s}' for s in STEPS)} |"]
    lines.append("|---|--:|---|" + "--:|" * len(STEPS))
    nudged = []
    for row in rows:
        values = [f"{row['loss_at_step'][s]:.6f}" for s in STEPS]
        if "-nudge" not in row["peer"]:
            lines.append(line(row, f"{row['peer']}, {row['threads']} threads", values))
            continue
        nudged.append(row)
        if len(nudged) == len(NUDGES):
            peer = row["peer"].rsplit("-", 1)[0]
            lines.append(line(row, f"{peer}, eight nudged runs", spread(nudged)))
            nudged = []
    return "\n".join(lines)


def spread(rows):
    """From the least to the most loss of these runs."""
    ends = [[row["loss_at_step"][step] for row in rows] for step in STEPS]
    return [f"{min(values):.6f} to {max(values):.6f}" for values in ends]


def line(row, run, values):
    return f"| {row['model']} | {row['batch']} | {run} | {' | '.join(values)} |"
