"""What is compared: the cells, and who takes part in each."""

import functools
import json
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import machine
from pool_vs_naive import JEMALLOC_KEEPS, shared_library

from . import networks

CELLS = (
    ("mlp_small", 32),
    ("mlp_small", 128),
    ("mlp_big", 128),
    ("cnn", 32),
    ("cnn", 128),
    ("resnet_small", 128),
)
GPU_CELLS = tuple(product(("mlp_small", "mlp_big", "cnn", "resnet_small"), (32, 128, 1024)))
QUICK = Path(__file__).with_name("quick.json")
OURS, BY_HAND = "poolgrad", "hand-written"


@dataclass(frozen=True)
class Peer:
    """A way to train; `command` takes FOLDER NETWORK BATCH THREADS and `flags`."""

    name: str
    command: tuple
    flags: tuple = ()
    jemalloc: bool = False

    @property
    def library(self):
        return self.name.split("-")[0] if self.name != BY_HAND else BY_HAND

    def environment(self):
        if not self.jemalloc:
            return {}
        return {"LD_PRELOAD": jemalloc() or "", "MALLOC_CONF": JEMALLOC_KEEPS}

    def why_not(self):
        """What is missing here; "" when nothing is."""
        if self.jemalloc and jemalloc() is None:
            return "no jemalloc; apt-get install libjemalloc2"
        program = Path(self.command[0])
        if not program.exists():
            return f"no {program.name} in this build; it needs oneDNN 2 on x86-64"
        return ""


def jemalloc():
    return shared_library("libjemalloc.so")


@functools.cache
def instruction_set():
    """avx512, avx2 or baseline."""
    return machine.built()["instruction_set"]


def peers_of(network):
    """Everybody for that network, ours and the hand-written step first."""
    ours = Peer(OURS, (machine.PROGRAMS / "poolgrad_step",))
    jax = ("reduce_window", "reshape") if network == "cnn" else ("jit",)
    return [
        ours,
        *by_hand(network),
        *torch_variants(network),
        *(Peer(f"jax-{way}", python("jax_step"), jax_flags(way)) for way in jax),
        Peer("tf-function", python("tensorflow_step")),
    ]


def gpu_peers_of(network, numbers):
    """Everybody on a GPU; `numbers` are further flags for all: in what they compute."""
    flags = ("cuda", *numbers)
    layouts = ((), ("channels_last",)) if networks.has_images(network) else ((),)
    ways = ((), ("fused",), ("compile",), ("compile", "reduce_overhead"), ("graphs",))
    torch = [(*way, *layout) for way in (*ways, ("graphs", "fused")) for layout in layouts]
    jax = ("reduce_window", "reshape") if network == "cnn" else ("jit",)
    return [
        Peer(OURS, (machine.PROGRAMS / "poolgrad_step",), flags),
        *(Peer(torch_name(way), python("torch_step"), (*way, *flags)) for way in torch),
        *(Peer(f"jax-{way}", python("jax_step"), (*jax_flags(way), *flags)) for way in jax),
    ]


def quick_gpu_peers_of(network, numbers):
    """Ours, and of the others what is plain and what should be the fastest."""
    layout = ("channels_last",) if networks.has_images(network) else ()
    names = {
        OURS,
        "torch-eager",
        torch_name(("graphs", "fused", *layout)),
        "jax-jit",
        "jax-reshape",
    }
    return [peer for peer in gpu_peers_of(network, numbers) if peer.name in names]


def jax_flags(way):
    return () if way == "jit" else (way,)


def torch_name(words):
    return "-".join(["torch", *(words or ["eager"])])


def by_hand(network):
    """The step for the machine's instruction set; a resnet there is with AVX-512 only."""
    isa = instruction_set()
    if isa == "baseline" or (network, isa) == ("resnet_small", "avx2"):
        return []
    step = network.split("_")[0]
    return [Peer(BY_HAND, (machine.PROGRAMS / f"hand_{step}_{isa}",))]


def torch_variants(network):
    """Layouts and allocators matter where there are images; a compiled step fuses its optimizer."""
    images = networks.has_images(network)
    layouts = ((), ("channels_last",)) if images else ((),)
    for kind, layout, preload in product(
        ((), ("fused",), ("compile",)), layouts, (False, True) if images else (False,)
    ):
        flags = (*kind, *layout)
        words = [*flags, *(["jemalloc"] if preload else [])]
        yield Peer(torch_name(words), python("torch_step"), flags, preload)


def python(module):
    return (sys.executable, "-m", f"peers.{module}")


def each(threads):
    """(network, batch, threads) of each cell, told on standard error as its turn comes."""
    for count in threads:
        for network, batch in CELLS:
            print(f"{network}, batch {batch}, threads {count}", file=sys.stderr)
            yield network, batch, count


# --- the two fastest of the last full run ---------------------------------------------------------


def key(network, batch):
    return f"{network}-{batch}"


def quick_peers(network, batch):
    """Ours, the hand-written step, and the variants that quick.json names for this kind of CPU."""
    names = {OURS, BY_HAND, *remembered(network, batch)}
    return [peer for peer in peers_of(network) if peer.name in names]


def quickest(network, batch):
    """The first of those that quick.json names."""
    name = remembered(network, batch)[0]
    return next(peer for peer in peers_of(network) if peer.name == name)


def remembered(network, batch):
    names = json.loads(QUICK.read_text()).get(instruction_set(), {}).get(key(network, batch))
    return names or ("torch-fused", "jax-jit", "jax-reshape")


def save_quick(rows):
    """Writes down who came first and second in each cell with two threads; a cell that others
    disturbed keeps what it has."""
    everything = json.loads(QUICK.read_text())
    kind = everything.setdefault(instruction_set(), {})
    for network, batch in CELLS:
        cell = [r for r in rows if (r["model"], r["batch"], r["threads"]) == (network, batch, 2)]
        others = [r for r in cell if "step_us" in r and r["peer"] not in (OURS, BY_HAND)]
        others.sort(key=lambda row: row["step_us"])
        if others and all(row["quiet"] for row in others):
            kind[key(network, batch)] = [row["peer"] for row in others[:2]]
    QUICK.write_text(json.dumps(everything, indent=2) + "\n")
