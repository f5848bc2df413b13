"""Neural networks trained inside one preallocated arena, shared without copying."""

from . import models, nn, ops, optim
from ._compile import compile, plan
from ._poolgrad import (
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
    shares_memory,
)

__all__ = [
    "Graph",
    "Handle",
    "Plan",
    "Profile",
    "Program",
    "Step",
    "Tensor",
    "compile",
    "compile_graph",
    "empty",
    "from_dlpack",
    "gradients",
    "models",
    "nn",
    "ops",
    "optim",
    "plan",
    "shares_memory",
]
