"""compile(): from a model to a step."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import overload

from . import _poolgrad, amp, nn, optim
from ._plan_requests import RequestPlan, plan_requests


def compile(
    model: nn.Module,
    *,
    optimizer: optim.SGD | optim.Adam | optim.AdamW,
    batch: Sequence[int],
    loss: nn.CrossEntropyLoss | None = None,
    threads: int | None = None,
    memory: str = "planned",
    device: object = "cpu",
    allow_tf32: bool = False,
    precision: str = "float32",
    seed: int = 0,
    memory_limit: int | None = None,
    budget: int | None = None,
    winograd: bool = True,
    tune: str | os.PathLike | None = None,
    grad_scaler: amp.GradScaler | None = None,
    clip_grad_norm: float | None = None,
    keep_gradients: bool = False,
    arena: object = None,
) -> _poolgrad.Step:
    """Plans training, evaluation and prediction of `model` in one arena, and takes the arena.

    batch: the shape of the largest batch, (128, 784) or (128, 1, 28, 28).
    loss: nn.CrossEntropyLoss(), which is also the default.
    threads: members of the team; as many as the process may use when None. Bits depend on it.
    memory: "planned" (one arena); for comparison "pooled" or "direct", which ask for each tensor.
    device: "cpu", "cuda" or "cuda:1", or torch.device of that name. RuntimeError, which says why,
        where it cannot be used. Exports are then of that GPU's memory: step.wait_for(stream) before
        the next step where another library has written to one on a stream of its own.
    allow_tf32: on a GPU, products may round their operands to TF32, as in PyTorch.
    precision: "bfloat16" or "float16" keeps activations and their gradients as such, and products
        read and make them; weights, their gradients and moments, losses and statistics stay
        float32. Inputs and outputs are as before. A deep network gains bytes; on a CPU all are
        slower.
    seed: of the initial weights.
    memory_limit: in bytes; what the machine, or the GPU, has free when None. A larger arena is a
        MemoryError that names the largest batch that fits.
    budget: in bytes; none when None. The arena stays within it: what the backward pass reads is
        computed again instead of kept, as far as needed and with the same bits. A budget that is
        too small is a MemoryError that names the smallest feasible one.
    winograd: 3 by 3 convolutions by Winograd's tiles where that is faster; plain sums, with False,
        are slower and round less.
    tune: a file with measured times, by which kernels of products and convolutions are chosen
        instead of by rules. What it lacks is timed first, and added; where there is no such file it
        is made. One file, one program: the same kernels, plan and bits. It holds for one kind of
        processor and one version of the libraries, and is refused elsewhere (OSError).
    grad_scaler: the loss scale, which is step.loss_scale; amp.GradScaler() with "float16", none
        otherwise, when None. A step with a gradient that is not finite changes no weight and no
        moment: step.skipped_steps counts them. The losses that a step answers are not scaled.
    clip_grad_norm: the norm that all gradients together are shortened to where theirs is larger, as
        by torch.nn.utils.clip_grad_norm_; none when None.
    keep_gradients: gradients stay after each step: step.named("gradients"). They are times the loss
        scale, and not clipped.
    arena: an array of yours to be the arena: dense, writable, on 64 bytes, of at least
        plan(...).arena_bytes, and on the device. It is kept as long as step or exports live.

    A second compile of the same model works on the same weights, so exports stay valid. With an
    equal optimizer it also goes on with the moments; with another one these begin anew. On another
    device it begins with copies of them all, and exports are still those of the first.
    """
    _check(model, loss)
    model._prepare(seed)
    gradients = _gradients(grad_scaler, clip_grad_norm, keep_gradients)
    step = _poolgrad.Step(
        model._build, batch, optimizer, gradients, model._step, arena,
        threads=threads, memory=memory, device=device, allow_tf32=allow_tf32, precision=precision,
        memory_limit=memory_limit, budget=budget, winograd=winograd, tune=tune,
    )  # fmt: skip
    model._compiled(step)
    return step


@overload
def plan(
    model: nn.Module,
    /,
    *,
    optimizer: optim.SGD | optim.Adam | optim.AdamW,
    batch: Sequence[int],
    loss: nn.CrossEntropyLoss | None = None,
    threads: int | None = None,
    memory: str = "planned",
    device: object = "cpu",
    allow_tf32: bool = False,
    precision: str = "float32",
    memory_limit: int | None = None,
    budget: int | None = None,
    winograd: bool = True,
    tune: str | os.PathLike | None = None,
    grad_scaler: amp.GradScaler | None = None,
    clip_grad_norm: float | None = None,
    keep_gradients: bool = False,
) -> _poolgrad.Plan: ...
@overload
def plan(
    requests: Sequence | Mapping,
    /,
    *,
    alignment: int = 64,
    capacity: int | None = None,
    nodes: int | None = None,
    seconds: float | None = None,
) -> RequestPlan: ...


def plan(subject, /, **settings):
    """The plan of a model's training step, or of any requests. Arithmetic only: takes no arena.

    Of a model, with the arguments of compile() but seed and arena: the plan of a first compile()
    with them. With tune, kernels that the file lacks are timed and added, as compile() does.

    Of requests: places them in one block, so that no two that are alive at once share a byte. They
    are a list of (lower, upper, size), alive in [lower, upper), or of dicts, or a dict of columns
    (NumPy arrays, too); they may also have alignment, member, first_phase, end_phase and at, a
    fixed offset, None or -1 for anywhere.
    alignment: of every offset and of the arena's size, in bytes.
    capacity: in bytes; stop at a plan within it, or when it is proved that there is none.
    nodes: trials of exact search; 4000 when neither this nor seconds is given.
    seconds: where the search is cut; the best plan found so far is the answer.
    """
    if isinstance(subject, Mapping | list | tuple):
        return plan_requests(subject, **settings)
    return _plan_model(subject, **settings)


def _plan_model(
    model, *, optimizer, batch, loss=None, threads=None, memory="planned", device="cpu",
    allow_tf32=False, precision="float32", memory_limit=None, budget=None, winograd=True, tune=None,
    grad_scaler=None, clip_grad_norm=None, keep_gradients=False,
):  # fmt: skip
    _check(model, loss)
    model._prepare(seed=0)
    return _poolgrad.plan_step(
        model._build, batch, optimizer, _gradients(grad_scaler, clip_grad_norm, keep_gradients),
        threads=threads, memory=memory, device=device, allow_tf32=allow_tf32, precision=precision,
        memory_limit=memory_limit, budget=budget, winograd=winograd, tune=tune,
    )  # fmt: skip


def _gradients(grad_scaler, clip_grad_norm, keep_gradients) -> dict:
    if grad_scaler is not None and not isinstance(grad_scaler, amp.GradScaler):
        raise TypeError(
            f"compile: grad_scaler is a '{type(grad_scaler).__name__}', not a GradScaler"
        )
    return {
        "grad_scaler": grad_scaler,
        "clip_grad_norm": clip_grad_norm,
        "keep_gradients": keep_gradients,
    }


def _check(model: nn.Module, loss: nn.CrossEntropyLoss | None) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"compile: the model is a '{type(model).__name__}', not an nn.Module")
    if loss is not None and not isinstance(loss, nn.CrossEntropyLoss):
        raise TypeError(f"compile: the loss is a '{type(loss).__name__}', not nn.CrossEntropyLoss")
