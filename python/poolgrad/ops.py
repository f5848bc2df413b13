"""The engine's ops, for graphs built by hand and for forward() of a module."""

from ._poolgrad.ops import *  # noqa: F403
