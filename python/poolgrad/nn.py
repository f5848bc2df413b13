"""Modules with torch.nn's names. Weights get their bytes at the first compile()."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Union

from . import _poolgrad
from ._poolgrad import Handle, Tensor, ops

__all__ = [
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BatchNorm2d",
    "Conv2d",
    "CrossEntropyLoss",
    "Dropout",
    "Flatten",
    "Linear",
    "MaxPool2d",
    "Module",
    "ReLU",
    "Sequential",
    "Upsample",
]


class Module:
    """A part of a model: a subclass says in forward(x) what becomes of a handle of the graph.

    Modules that are attributes are its children; weights are named as in torch, "conv1.weight".
    """

    training: bool = True  # while the training entry is built
    _name: str = ""  # inside the module around it
    _seed: int = 0
    _step: _poolgrad.Step | None = None  # the latest compiled: its columns hold the weights
    _initial: dict[str, Tensor] | None = None  # given to load_state_dict() before that

    def forward(self, x: Handle) -> Handle:
        raise NotImplementedError(f"{type(self).__name__}: write forward(self, x)")

    def __call__(self, x: Handle) -> Handle:
        if not isinstance(x, Handle):
            raise TypeError(
                f"{type(self).__name__}: a model is not called on data; "
                "step = poolgrad.compile(model, ...), then step.predict(x)"
            )
        if not self._name:
            return self.forward(x)
        with _poolgrad.layer_of(x, self._name):
            return self.forward(x)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Pairs of name and module, in the order in which they were set."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def modules(self) -> Iterator[Module]:
        """This module and all below it."""
        yield self
        for _, child in self.named_children():
            yield from child.modules()

    def state_dict(self) -> dict[str, Tensor]:
        """Weights and running statistics by name, on their own bytes: training changes them."""
        if self._step is None:
            raise RuntimeError(
                "state_dict: weights get their bytes at the first poolgrad.compile(model, ...); "
                "call it first"
            )
        return _state(self._step)

    def load_state_dict(self, state_dict: Mapping[str, object], strict: bool = True) -> None:
        """Copies weights in: arrays or tensors of any library, by name.

        Before the first compile() they become the initial values. With strict every name must be
        there and no other, but for a checkpoint's "optimizer. ...": load_file() of one will do.
        Raises ValueError, before anything is changed, naming what is missing,
        unexpected or of another shape.
        """
        if self._step is None:
            self._initial = {name: _poolgrad.copied(v, name) for name, v in state_dict.items()}
            self._initial_is_strict = strict
        else:
            _load(self.state_dict(), state_dict, strict)

    def _compiled(self, step: _poolgrad.Step) -> None:
        if self._initial is not None:
            _load(_state(step), self._initial, self._initial_is_strict)
            self._initial = None
        self._step = step

    def _prepare(self, seed: int) -> None:
        """Names every module below after its place."""
        seen = set()
        for module in self.modules():
            if id(module) in seen:
                raise ValueError(
                    f"compile: a {type(module).__name__} stands at two places of the model; "
                    "make one for each"
                )
            seen.add(id(module))
            module._seed = seed
            for name, child in module.named_children():
                child._name = name
        self._name = ""

    def _build(self, x: Handle, training: bool) -> Handle:
        """The model as the graph's builder calls it: once for training, once for use."""
        for module in self.modules():
            module.training = training
        y = self(x)
        if not isinstance(y, Handle):
            raise TypeError(
                f"{type(self).__name__}: forward() answered a '{type(y).__name__}', "
                "not a handle of the graph"
            )
        return y

    def __repr__(self) -> str:
        children = list(self.named_children())
        if not children:
            return f"{type(self).__name__}({self.extra_repr()})"
        lines = [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in children]
        return "\n  ".join([f"{type(self).__name__}(", *lines]) + "\n)"

    def extra_repr(self) -> str:
        """The settings, for print()."""
        return ""


def _load(weights: dict[str, Tensor], given: Mapping[str, object], strict: bool) -> None:
    missing = [name for name in weights if name not in given]
    unexpected = [
        name for name in given if name not in weights and not name.startswith("optimizer.")
    ]
    if strict and (missing or unexpected):
        raise ValueError(
            f"load_state_dict: missing {missing}, unexpected {unexpected}; "
            "make the names equal or pass strict=False"
        )
    values = {name: _poolgrad.array(given[name], name) for name in weights if name in given}
    for name, value in values.items():
        if value.shape != weights[name].shape:
            raise ValueError(
                f"load_state_dict: '{name}' is {list(value.shape)} "
                f"but the model's is {list(weights[name].shape)}"
            )
    for name, value in values.items():
        _poolgrad.assign(weights[name], value)


def _state(step: _poolgrad.Step) -> dict[str, Tensor]:
    return {**step.named("parameters"), **step.named("statistics")}


class Sequential(Module):
    """Modules one after the other, named "0", "1", ..."""

    def __init__(self, *modules: Module) -> None:
        for i, module in enumerate(modules):
            if not isinstance(module, Module):
                raise TypeError(f"Sequential: part {i} is a '{type(module).__name__}', no module")
        self._modules = list(modules)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        return ((str(i), module) for i, module in enumerate(self._modules))

    def forward(self, x: Handle) -> Handle:
        for module in self._modules:
            x = module(x)
        return x

    def __len__(self) -> int:
        return len(self._modules)

    def __getitem__(self, index: int) -> Module:
        return self._modules[index]

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules)


class Linear(Module):
    """[n, in_features] -> [n, out_features]."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        self.in_features, self.out_features, self.bias = in_features, out_features, bias

    def forward(self, x: Handle) -> Handle:
        return _poolgrad.linear_layer(x, self.in_features, self.out_features, self.bias, self._seed)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias}"


Size = Union[int, "tuple[int, int]"]


def _pair(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


class Conv2d(Module):
    """Images [n, in_channels, h, w] -> [n, out_channels, oh, ow].

    Sizes are one number, or (height, width).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride = _pair(kernel_size), _pair(stride)
        self.padding, self.dilation = _pair(padding), _pair(dilation)
        self.groups, self.bias = groups, bias

    def forward(self, x: Handle) -> Handle:
        return _poolgrad.conv2d_layer(
            x, self.in_channels, self.out_channels, self.kernel_size, self.stride, self.padding,
            self.dilation, self.groups, self.bias, self._seed
        )  # fmt: skip

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, padding={self.padding}"
        )


class BatchNorm2d(Module):
    """Images [n, num_features, h, w]: each channel with mean 0 and variance 1, then scaled.

    Training takes the statistics of the batch, of the rows that count only, and moves running ones
    by `momentum`; evaluate() and predict() take those.
    """

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        self.num_features, self.eps, self.momentum = num_features, eps, momentum

    def forward(self, x: Handle) -> Handle:
        return _poolgrad.batch_norm2d_layer(
            x, self.num_features, self.eps, self.momentum, self.training
        )

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"


class Dropout(Module):
    """Training drops each element with probability p and scales the others; use passes x through.

    What is dropped follows from the seed of compile(), the place and the step: the same on any
    number of threads. No mask is stored.
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout: p is {p}; a probability is from 0 to 1")
        self.p = p

    def forward(self, x: Handle) -> Handle:
        return ops.dropout(x, self.p, self._seed) if self.training else x

    def extra_repr(self) -> str:
        return f"p={self.p}"


class ReLU(Module):
    def forward(self, x: Handle) -> Handle:
        return ops.relu(x)


class Flatten(Module):
    """[n, a, b, ...] -> [n, a*b*...]."""

    def forward(self, x: Handle) -> Handle:
        return ops.flatten(x)


class MaxPool2d(Module):
    """The largest of each window; stride is kernel_size where not given."""

    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0) -> None:
        self.kernel_size, self.padding = _pair(kernel_size), _pair(padding)
        self.stride = self.kernel_size if stride is None else _pair(stride)

    def forward(self, x: Handle) -> Handle:
        return ops.max_pool2d(x, self.kernel_size, self.stride, self.padding)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool2d(MaxPool2d):
    """The mean of each window; padding counts as zeros."""

    def forward(self, x: Handle) -> Handle:
        return ops.avg_pool2d(x, self.kernel_size, self.stride, self.padding)


class Upsample(Module):
    """Upsample(scale_factor=2): images grow by repeating values; a factor is a whole number."""

    def __init__(self, scale_factor: Size, mode: str = "nearest") -> None:
        if mode != "nearest":
            raise ValueError(f"Upsample: mode '{mode}'; only 'nearest' is possible")
        self.scale_factor = _pair(scale_factor)

    def forward(self, x: Handle) -> Handle:
        return ops.upsample_nearest2d(x, self.scale_factor)

    def extra_repr(self) -> str:
        return f"scale_factor={self.scale_factor}"


class AdaptiveAvgPool2d(Module):
    """AdaptiveAvgPool2d(1): the mean of each channel."""

    def __init__(self, output_size: Size) -> None:
        if output_size not in (1, (1, 1)):
            raise ValueError(f"AdaptiveAvgPool2d: output_size {output_size}; only 1 is possible")

    def forward(self, x: Handle) -> Handle:
        return ops.global_avg_pool2d(x)


class CrossEntropyLoss:
    """The mean over the batch of -log softmax(logits)[label]."""

    def __init__(self, reduction: str = "mean") -> None:
        if reduction != "mean":
            raise ValueError(f"CrossEntropyLoss: reduction '{reduction}'; compile() takes 'mean'")
        self.reduction = reduction
