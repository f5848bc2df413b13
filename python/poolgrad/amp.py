"""Loss scales for training in float16, under torch.amp's names."""

from ._poolgrad import GradScaler

__all__ = ["GradScaler"]
