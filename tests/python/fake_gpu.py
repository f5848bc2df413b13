"""Runs a peer of the benches as on a GPU, which the CPU plays: `fake_gpu.py MODULE ARGUMENTS`.

What is asked of torch.cuda and of JAX's device is answered here; a captured step is called again
for each replay, after the capture's own effect has been undone.
"""

import copy
import gc
import os
import runpy
import sys
from contextlib import contextmanager


def play_torch():
    import torch

    class Stream:
        def wait_stream(self, other):
            assert isinstance(other, Stream)

    current = [Stream()]
    capturing = []

    @contextmanager
    def stream(chosen):
        current.append(chosen)
        yield
        current.pop()

    class Graph:
        """Knows the step by who captures it."""

        def replay(self):
            owner = self.owner
            owner.loss.copy_(owner.step(owner.x, owner.y))

    @contextmanager
    def graph(made, stream):
        made.owner = sys._getframe(2).f_locals["self"]
        assert made.owner.graph is made
        assert stream is not current[0], "the default stream cannot be captured"
        optimizer = next(o for o in gc.get_objects() if isinstance(o, torch.optim.Optimizer))
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        before = [p.detach().clone() for p in parameters], copy.deepcopy(optimizer.state_dict())
        capturing.append(made)
        yield
        capturing.pop()
        with torch.no_grad():
            for parameter, value in zip(parameters, before[0], strict=True):
                parameter.copy_(value)
        optimizer.load_state_dict(before[1])

    def synchronize():
        assert not capturing, "nobody may wait while a step is captured"

    answers = {
        "Stream": Stream,
        "CUDAGraph": Graph,
        "graph": graph,
        "stream": stream,
        "current_stream": lambda: current[-1],
        "synchronize": synchronize,
        "reset_peak_memory_stats": lambda: None,
        "max_memory_allocated": lambda: 400 << 20,
        "max_memory_reserved": lambda: 500 << 20,
    }
    for name, answer in answers.items():
        setattr(torch.cuda, name, answer)
    for kind in (torch.Tensor, torch.nn.Module):
        kind.to = on_cpu(kind.to)
    torch.Tensor.is_cuda = True
    torch.autocast = lambda device, dtype, made=torch.autocast: made(on_the_cpu(device), dtype)


def on_the_cpu(device):
    return "cpu" if device == "cuda" else device


def on_cpu(to):
    return lambda self, *where, **how: to(self, *map(on_the_cpu, where), **how)


def play_jax():
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax

    class Device:
        def memory_stats(self):
            return {"peak_bytes_in_use": 500 << 20}

    jax.devices()  # from now on the platform is settled
    jax.devices = lambda: [Device()]


if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    play_jax() if sys.argv[0].endswith("jax_step") else play_torch()
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
