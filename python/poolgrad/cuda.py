"""The GPUs, and memory of them for other libraries."""

from __future__ import annotations

from . import _poolgrad

__all__ = ["allocator_library", "device_count", "is_available"]


def is_available() -> bool:
    """Whether compile(device="cuda") can work: a build with CUDA, a driver and a GPU."""
    return device_count() > 0


def device_count() -> int:
    """How many GPUs there are; 0 where none can be used."""
    return _poolgrad.cuda_device_count()


def allocator_library() -> str:
    """The shared library with poolgrad_cuda_alloc and poolgrad_cuda_free (memory/cuda.h).

    torch.cuda.memory.CUDAPluggableAllocator loads it; examples/05_shared_pool.py shows that and
    others. It is the extension itself, so nothing is loaded twice. RuntimeError in a build without
    CUDA.
    """
    if not hasattr(_poolgrad, "cuda_allocator"):
        raise RuntimeError("allocator_library: this build has no CUDA")
    return _poolgrad.__file__
