"""One pool of GPU memory for several libraries: PyTorch, CuPy and RMM ask poolgrad's for theirs.

Each part says what it lacks and leaves the rest alone; none has run on a GPU yet.
"""

import ctypes
import importlib

import poolgrad as pg


def entry_points():
    """poolgrad_cuda_alloc(size, device, stream) and _free(data, size, device, stream)."""
    library = ctypes.CDLL(pg.cuda.allocator_library())
    take, give = library.poolgrad_cuda_alloc, library.poolgrad_cuda_free
    take.restype, take.argtypes = ctypes.c_void_p, (ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p)
    give.restype = None
    give.argtypes = (ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p)
    return take, give


def pytorch(torch):
    """Tensors made within the block come from the pool, all others from PyTorch's own."""
    allocator = torch.cuda.memory.CUDAPluggableAllocator(
        pg.cuda.allocator_library(), "poolgrad_cuda_alloc", "poolgrad_cuda_free"
    )
    with torch.cuda.use_mem_pool(torch.cuda.MemPool(allocator.allocator())):
        return torch.ones(1 << 20, device="cuda").sum().item()


def cupy(cupy):
    take, give = entry_points()
    sizes = {}  # CuPy does not say how much it gives back

    def malloc(size, device):
        data = take(size, device, None)
        if data is None and size > 0:
            raise MemoryError(f"the pool has no {size} bytes")
        sizes[data] = size
        return data

    def free(data, device):
        give(data, sizes.pop(data), device, None)

    allocator = cupy.cuda.PythonFunctionAllocator(malloc, free)
    with cupy.cuda.using_allocator(allocator.malloc):
        return float(cupy.ones(1 << 20).sum())


def rmm(rmm):
    take, give = entry_points()

    def allocate(size, stream):
        data = take(size, 0, stream.__cuda_stream__()[1])
        if data is None and size > 0:
            raise MemoryError(f"the pool has no {size} bytes")
        return data

    def deallocate(data, size, stream):
        give(data, size, 0, stream.__cuda_stream__()[1])

    resource = rmm.mr.CallbackMemoryResource(allocate, deallocate)
    buffer = rmm.DeviceBuffer(size=1 << 22, mr=resource)
    return buffer.size


def main():
    for module, part in (("torch", pytorch), ("cupy", cupy), ("rmm", rmm)):
        if not pg.cuda.is_available():
            print(f"{module}: no GPU that this build of poolgrad can use")
            continue
        try:
            library = importlib.import_module(module)
        except ImportError:
            print(f"{module}: not installed")
            continue
        print(f"{module}: {part(library)}")


if __name__ == "__main__":
    main()
