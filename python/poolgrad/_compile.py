"""compile(): from a model to a step."""

from __future__ import annotations

from collections.abc import Sequence

from . import _poolgrad, nn, optim


def compile(
    model: nn.Module,
    *,
    optimizer: optim.SGD | optim.Adam | optim.AdamW,
    batch: Sequence[int],
    loss: nn.CrossEntropyLoss | None = None,
    threads: int | None = None,
    memory: str = "planned",
    seed: int = 0,
    memory_limit: int | None = None,
    budget: int | None = None,
    keep_gradients: bool = False,
    arena: object = None,
) -> _poolgrad.Step:
    """Plans training, evaluation and prediction of `model` in one arena, and takes the arena.

    batch: the shape of the largest batch, (128, 784) or (128, 1, 28, 28).
    loss: nn.CrossEntropyLoss(), which is also the default.
    threads: members of the team; as many as the process may use when None. Bits depend on it.
    memory: "planned" (one arena); for comparison "pooled" or "direct", which ask for each tensor.
    seed: of the initial weights.
    memory_limit: in bytes; what the machine has free when None. A larger arena is a MemoryError
        that names the largest batch that fits.
    budget: in bytes; none when None. The arena stays within it: what the backward pass reads is
        computed again instead of kept, as far as needed and with the same bits. A budget that is
        too small is a MemoryError that names the smallest feasible one.
    keep_gradients: gradients stay after each step: step.named("gradients").
    arena: an array of yours to be the arena: dense, writable, on 64 bytes, of at least
        plan(...).arena_bytes. It is kept as long as step or exports live.

    A second compile of the same model works on the same weights, so exports stay valid. With an
    equal optimizer it also goes on with the moments; with another one these begin anew.
    """
    _check(model, loss)
    model._prepare(seed)
    step = _poolgrad.Step(
        model._build, batch, optimizer, keep_gradients, model._step, arena,
        threads=threads, memory=memory, memory_limit=memory_limit, budget=budget,
    )  # fmt: skip
    model._compiled(step)
    return step


def plan(
    model: nn.Module,
    *,
    optimizer: optim.SGD | optim.Adam | optim.AdamW,
    batch: Sequence[int],
    loss: nn.CrossEntropyLoss | None = None,
    threads: int | None = None,
    memory: str = "planned",
    memory_limit: int | None = None,
    budget: int | None = None,
    keep_gradients: bool = False,
) -> _poolgrad.Plan:
    """The plan of a first compile() with these arguments: arithmetic only, no arena is taken."""
    _check(model, loss)
    model._prepare(seed=0)
    return _poolgrad.plan_step(
        model._build, batch, optimizer, keep_gradients,
        threads=threads, memory=memory, memory_limit=memory_limit, budget=budget,
    )  # fmt: skip


def _check(model: nn.Module, loss: nn.CrossEntropyLoss | None) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"compile: the model is a '{type(model).__name__}', not an nn.Module")
    if loss is not None and not isinstance(loss, nn.CrossEntropyLoss):
        raise TypeError(f"compile: the loss is a '{type(loss).__name__}', not nn.CrossEntropyLoss")
