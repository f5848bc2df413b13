"""Optimizers with torch.optim's names and arithmetic. The learning rate of a step is step.lr."""

from ._poolgrad import SGD, Adam, AdamW

__all__ = ["SGD", "Adam", "AdamW"]
