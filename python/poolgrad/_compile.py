"""compile(): from a model to a step."""

from . import _poolgrad, nn


def compile(model, *, optimizer, batch, loss=None, threads=None, memory="planned", seed=0,
            memory_limit=None, keep_gradients=False):  # fmt: skip
    """Plans training, evaluation and prediction of `model` in one arena, and takes the arena.

    batch: the shape of the largest batch, (128, 784) or (128, 1, 28, 28).
    loss: nn.CrossEntropyLoss(), which is also the default.
    threads: members of the team, as many as the process may use when None. The bits depend on it.
    memory: "planned" (one arena), or for comparison "pooled" or "direct" (bytes asked for each step).
    seed: of the initial weights.
    memory_limit: in bytes; what the machine has free when None. A larger arena is a MemoryError that
        names the largest batch that fits.
    keep_gradients: gradients stay after each step: step.named("gradients").

    A second compile of the same model works on the same weights, so exports stay valid; with an equal
    optimizer it also goes on with its moments, with another one these begin anew.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"compile: the model is a '{type(model).__name__}', not a poolgrad.nn.Module")
    if loss is not None and not isinstance(loss, nn.CrossEntropyLoss):
        raise TypeError(f"compile: the loss is a '{type(loss).__name__}', not nn.CrossEntropyLoss")
    model._prepare(seed)
    step = _poolgrad.Step(
        model._build, batch, optimizer, keep_gradients, model._step,
        threads=threads, memory=memory, memory_limit=memory_limit,
    )  # fmt: skip
    model._compiled(step)
    return step
