"""How fast is a training step beside those of other libraries, and beside one written by hand?

Per cell, one process per peer; all train the same network from the same weights on the same batches
and take turns, one window at a time. Who takes part is cells.py; turns.py says what a peer does.
"""

import random
import sys
import time

import machine
import windows

from . import cells, networks, report
from .process import Failed, Process
from .report import table

__all__ = ["add_arguments", "measure", "table"]

DATA = machine.ROOT / "build" / "peers"

# Which loss tells whether a peer does the same, and how near it must be. After many steps a
# convolutional network's losses part: a winner of a pool, decided by rounding.
LOSS_CHECK = {"resnet_small": ("4", 5e-3)}
USUAL_CHECK = ("20", 3e-3)

# Windows per peer and cell, and after how many seconds no further round is begun.
FULL, QUICK = (8, 600), (5, 45)


def add_arguments(group):
    every = [cells.key(*cell) for cell in cells.CELLS]
    group.add_argument("--cells", nargs="+", choices=every, default=every, metavar="CELL")
    group.add_argument(
        "--peers", nargs="+", metavar="PEER", help="default: all, quick: the fastest"
    )
    group.add_argument("--picture", metavar="FILE", help="draw the ratios as SVG")
    group.add_argument("--save-quick", action="store_true", help="remember the fastest two")


def measure(options):
    """One row per peer and cell."""
    networks.dump(DATA)
    rows = []
    for threads in options.threads:
        for network, batch in cells.CELLS:
            if cells.key(network, batch) not in options.cells:
                continue
            for row in compare(options, network, batch, threads):
                rows.append(row)
                yield row
    if options.save_quick:
        cells.save_quick(rows)
    if options.picture:
        report.draw(rows, options.picture)


def chosen(options, network, batch):
    if options.peers:
        return [peer for peer in cells.peers_of(network) if peer.name in options.peers]
    if options.quick:
        return cells.quick_peers(network, batch)
    return cells.peers_of(network)


def compare(options, network, batch, threads):
    cell = {"bench": "peers", "model": network, "batch": batch, "threads": threads}
    running, skipped = [], {}
    try:
        for peer in chosen(options, network, batch):
            print(f"{network}, batch {batch}, threads {threads}: {peer.name}", file=sys.stderr)
            reason = peer.why_not()
            try:
                if not reason:
                    running.append(Process(peer, DATA, network, batch, threads))
            except Failed as failure:
                reason = str(failure)
            if reason:
                skipped[peer.name] = reason
        take_turns(running, *QUICK if options.quick else FULL)
        for process in running:
            process.finish()
    finally:
        for process in running:
            process.kill()
    rows = [
        {"bench": "peers", "peer": process.peer.name}
        | cell
        | {"images_per_s": 0}
        | process.row(others=len(running) - 1)
        for process in running
    ]
    step, near = LOSS_CHECK.get(network, USUAL_CHECK)
    for row in rows:
        row["images_per_s"] = round(batch / row["step_us"] * 1e6)
        wanted, loss = reference(rows)["loss_at_step"][step], row["loss_at_step"][step]
        row["same_loss"] = abs(loss - wanted) < near * wanted
    yield from rows
    for name, reason in skipped.items():
        yield {"bench": "peers", "peer": name} | cell | {"skipped": reason}


def take_turns(running, rounds, seconds):
    """Windows in turn, in an order that changes; further ones for those whom others disturbed. Two
    rounds are taken however long they last."""
    order = random.Random(0)
    end = time.monotonic() + seconds
    for turn in range(2 * rounds):
        waiting = running
        if turn >= rounds:
            waiting = [p for p in running if len(windows.quiet(p.windows)) < windows.ENOUGH]
        if not waiting or (turn >= 2 and time.monotonic() > end):
            return
        for process in order.sample(waiting, len(waiting)):
            process.window()


def reference(rows):
    """Whose loss is taken for right: PyTorch's, or another library's where it takes no part."""
    order = ("torch", "tf", "jax", "")
    return min(rows, key=lambda row: next(i for i, o in enumerate(order) if o in row["peer"]))
