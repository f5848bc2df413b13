"""How fast is a training step beside those of other libraries, and beside one written by hand?

Per cell, one process per peer; all train the same network from the same weights on the same batches
and take turns, one window at a time. Who takes part is cells.py; turns.py says what a peer does. On
a GPU (`--device cuda`) all data lies there before, on every side.
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
# convolutional network's losses part: a winner of a pool, decided by rounding. Where all round
# more, they part sooner: so many times as far.
LOSS_CHECK = {
    ("resnet_small", 32): ("2", 5e-3),
    ("resnet_small", 128): ("4", 5e-3),
    ("resnet_small", 1024): ("4", 5e-3),
}
USUAL_CHECK = ("20", 3e-3)
FURTHER = {"tf32": 4, "bf16": 20}

# Windows per peer and cell, and after how many seconds no further round is begun.
FULL, QUICK = (8, 600), (5, 45)


def add_arguments(group):
    every = dict.fromkeys(cells.key(*cell) for cell in (*cells.CELLS, *cells.GPU_CELLS))
    group.add_argument("--cells", nargs="+", choices=every, metavar="CELL", help="default: all")
    group.add_argument(
        "--peers", nargs="+", metavar="PEER", help="default: all, quick: the fastest"
    )
    group.add_argument("--picture", metavar="FILE", help="draw the ratios as SVG")
    group.add_argument("--save-quick", action="store_true", help="remember the fastest two")
    group.add_argument("--tf32", action="store_true", help="on a GPU: products round to TF32")
    group.add_argument("--bf16", action="store_true", help="on a GPU: activations in two bytes")


def measure(options):
    """One row per peer and cell."""
    networks.dump(DATA)
    rows = []
    for threads in options.threads:
        for network, batch in cells.GPU_CELLS if on_gpu(options) else cells.CELLS:
            if options.cells and cells.key(network, batch) not in options.cells:
                continue
            for row in compare(options, network, batch, threads):
                rows.append(row)
                yield row
    if options.save_quick:
        cells.save_quick(rows)
    if options.picture:
        report.draw(rows, options.picture)


def on_gpu(options):
    return options.device == "cuda"


def numbers(options):
    """Flags that say in what all compute."""
    if not on_gpu(options):
        return ()
    return tuple(name for name in FURTHER if getattr(options, name))


def chosen(options, network, batch):
    everybody = (
        cells.gpu_peers_of(network, numbers(options))
        if on_gpu(options)
        else cells.peers_of(network)
    )
    if options.peers:
        return [peer for peer in everybody if peer.name in options.peers]
    if not options.quick:
        return everybody
    if on_gpu(options):
        return cells.quick_gpu_peers_of(network, numbers(options))
    return cells.quick_peers(network, batch)


def compare(options, network, batch, threads):
    cell = {"bench": "peers", "model": network, "batch": batch, "threads": threads}
    if on_gpu(options):
        cell |= {"device": "cuda", "numbers": " ".join(numbers(options)) or "f32"}
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
    step, near = LOSS_CHECK.get((network, batch), USUAL_CHECK)
    near *= max((FURTHER[name] for name in numbers(options)), default=1)
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
