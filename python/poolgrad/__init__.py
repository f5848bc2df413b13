"""Neural networks trained inside one preallocated arena, shared without copying."""

from . import amp, cuda, models, nn, ops, optim
from ._compile import compile, plan
from ._poolgrad import (
    DataLoader,
    Graph,
    Handle,
    Plan,
    Profile,
    Program,
    Step,
    Tensor,
    compile_graph,
    empty,
    from_dlpack,
    gradients,
    load_file,
    save_file,
    shares_memory,
)

__all__ = [
    "DataLoader",
    "Graph",
    "Handle",
    "Plan",
    "Profile",
    "Program",
    "Step",
    "Tensor",
    "amp",
    "compile",
    "compile_graph",
    "cuda",
    "empty",
    "from_dlpack",
    "gradients",
    "load_file",
    "models",
    "nn",
    "ops",
    "optim",
    "plan",
    "save_file",
    "shares_memory",
]
