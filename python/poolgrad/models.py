"""The models of the command line, by the same C++ functions: same seed, same weights."""

from . import _poolgrad
from .nn import Module

__all__ = ["cnn", "mlp"]


class _Mlp(Module):
    def __init__(self, hidden, classes):
        self.hidden, self.classes = list(hidden), classes

    def forward(self, x):
        return _poolgrad.mlp_model(x, self.hidden, self.classes, self._seed)

    def extra_repr(self):
        return f"hidden={self.hidden}, classes={self.classes}"


class _Cnn(Module):
    def __init__(self, classes):
        self.classes = classes

    def forward(self, x):
        return _poolgrad.cnn_model(x, self.classes, self._seed)

    def extra_repr(self):
        return f"classes={self.classes}"


def mlp(hidden=(128,), classes=10):
    """Samples [n, ...] -> logits [n, classes]: linear layers with ReLU between them."""
    return _Mlp(hidden, classes)


def cnn(classes=10):
    """Images [n, channels, h, w] -> logits [n, classes]: two convolutions, two linear layers."""
    return _Cnn(classes)
