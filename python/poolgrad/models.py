"""The models of the command line, by the same C++ functions: same seed, same weights."""

from __future__ import annotations

from collections.abc import Sequence

from . import _poolgrad
from ._poolgrad import Handle
from .nn import Module

__all__ = ["chain", "cnn", "mlp", "resnet", "resnet20", "unet"]


class _Mlp(Module):
    def __init__(self, hidden: Sequence[int], classes: int) -> None:
        self.hidden, self.classes = list(hidden), classes

    def forward(self, x: Handle) -> Handle:
        return _poolgrad.mlp_model(x, self.hidden, self.classes, self._seed)

    def extra_repr(self) -> str:
        return f"hidden={self.hidden}, classes={self.classes}"


class _Cnn(Module):
    def __init__(self, classes: int) -> None:
        self.classes = classes

    def forward(self, x: Handle) -> Handle:
        return _poolgrad.cnn_model(x, self.classes, self._seed)

    def extra_repr(self) -> str:
        return f"classes={self.classes}"


class _Resnet(Module):
    def __init__(self, blocks: int, width: int, classes: int) -> None:
        self.blocks, self.width, self.classes = blocks, width, classes

    def forward(self, x: Handle) -> Handle:
        return _poolgrad.resnet_model(
            x, self.blocks, self.width, self.classes, self._seed, self.training
        )

    def extra_repr(self) -> str:
        return f"blocks={self.blocks}, width={self.width}, classes={self.classes}"


class _Chain(Module):
    def __init__(self, depth: int, width: int, classes: int) -> None:
        self.depth, self.width, self.classes = depth, width, classes

    def forward(self, x: Handle) -> Handle:
        return _poolgrad.chain_model(x, self.depth, self.width, self.classes, self._seed)

    def extra_repr(self) -> str:
        return f"depth={self.depth}, width={self.width}, classes={self.classes}"


class _Unet(Module):
    def __init__(self, width: int, classes: int) -> None:
        self.width, self.classes = width, classes

    def forward(self, x: Handle) -> Handle:
        return _poolgrad.unet_model(x, self.width, self.classes, self._seed)

    def extra_repr(self) -> str:
        return f"width={self.width}, classes={self.classes}"


def mlp(hidden: Sequence[int] = (128,), classes: int = 10) -> Module:
    """Samples [n, ...] -> logits [n, classes]: linear layers with ReLU between them."""
    return _Mlp(hidden, classes)


def cnn(classes: int = 10) -> Module:
    """Images [n, channels, h, w] -> logits [n, classes]: two convolutions, two linear layers."""
    return _Cnn(classes)


def resnet(blocks: int = 2, width: int = 16, classes: int = 10) -> Module:
    """Images [n, channels, h, w] -> logits [n, classes]: three stages of residual blocks.

    Names are torchvision's: conv1, bn1, layer1 to layer3, fc. 3 blocks of width 16 are ResNet-20.
    """
    return _Resnet(blocks, width, classes)


def resnet20(classes: int = 10) -> Module:
    """resnet(blocks=3, width=16): 20 layers."""
    return _Resnet(3, 16, classes)


def chain(depth: int = 32, width: int = 16, classes: int = 10) -> Module:
    """Images [n, channels, h, w] -> logits [n, classes]: equal convolutions in a row.

    Names are those of Sequential(Conv2d, ReLU, ..., AdaptiveAvgPool2d, Flatten, Linear).
    """
    return _Chain(depth, width, classes)


def unet(width: int = 16, classes: int = 10) -> Module:
    """Images [n, channels, h, w] -> logits [n, classes]: two stages down, two up, ways across.

    Names are down1, down2, middle, up2, up1 (each Conv2d, ReLU, Conv2d, ReLU) and fc; height and
    width are multiples of 4.
    """
    return _Unet(width, classes)
