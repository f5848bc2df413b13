"""Is it the same training? Losses from equal weights on equal batches, beside PyTorch's.

Beside float32 stand a run in float64 and eight runs from weights that differ by 2e-7: how far
rounding alone carries.
"""

from peers import DATA, cells, networks
from peers.process import Process

STEPS = ("1", "2", "3", "4", "20")


def add_arguments(group):
    every = [cells.key(*cell) for cell in cells.CELLS]
    group.add_argument("--loss-cells", nargs="+", choices=every, default=every, metavar="CELL")


def measure(options):
    networks.dump(DATA)
    for network, batch in cells.CELLS:
        if cells.key(network, batch) not in options.loss_cells:
            continue
        program = (cells.machine.PROGRAMS / "poolgrad_step",)
        ours = [cells.Peer(cells.OURS, program)]
        if networks.has_images(network):
            ours.append(cells.Peer(f"{cells.OURS}, plain convolutions", program, ("plain",)))
        for peer in ours:
            for threads in options.threads:
                yield losses(peer, network, batch, threads)
        for flags in ((), ("float64",), *((f"nudge{seed}",) for seed in range(8))):
            peer = cells.Peer("-".join(["torch", *flags]), cells.python("torch_step"), flags)
            yield losses(peer, network, batch, max(options.threads))


def losses(peer, network, batch, threads):
    process = Process(peer, DATA, network, batch, threads)
    process.kill()
    row = {"bench": "losses", "peer": peer.name, "model": network, "batch": batch}
    return row | {"threads": threads, "loss_at_step": process.facts["loss_at_step"]}


def table(rows):
    lines = [f"| network | batch | run | {' | '.join(f'step {s}' for s in STEPS)} |"]
    lines.append("|---|--:|---|" + "--:|" * len(STEPS))
    for row in rows:
        if "nudge" in row["peer"]:
            continue
        run = f"{row['peer']}, {row['threads']} threads"
        lines.append(line(row, run, [f"{row['loss_at_step'][s]:.6f}" for s in STEPS]))
        if row["peer"] == "torch-float64":
            lines.append(line(row, "torch, eight nudged runs", spread(rows, row)))
    return "\n".join(lines)


def spread(rows, cell):
    """From the least to the most loss of the nudged runs of that cell."""
    same = [
        r
        for r in rows
        if "nudge" in r["peer"] and (r["model"], r["batch"]) == (cell["model"], cell["batch"])
    ]
    ends = [[r["loss_at_step"][step] for r in same] for step in STEPS]
    return [f"{min(values):.6f} to {max(values):.6f}" for values in ends]


def line(row, run, values):
    return f"| {row['model']} | {row['batch']} | {run} | {' | '.join(values)} |"
