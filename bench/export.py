"""What does it cost to open a tensor in another library, and does it depend on its size?"""

import importlib
import timeit

SIZES = (4_096, 64 * 2**20)  # bytes: when nothing is copied, both take the same time


def routes(pg, array):
    """Triples of library, way and a function that goes it once, for what is installed."""
    import numpy as np

    yield "NumPy", "np.from_dlpack(t)", lambda: np.from_dlpack(array)
    yield "NumPy", "np.asarray(t)", lambda: np.asarray(array)
    theirs = np.asarray(array)
    yield "NumPy", "poolgrad.from_dlpack(a)", lambda: pg.from_dlpack(theirs)
    yield "NumPy", "np.array(t), a copy", lambda: np.array(array)
    if torch := installed("torch"):
        tensor = torch.from_dlpack(array)
        yield "PyTorch", "torch.from_dlpack(t)", lambda: torch.from_dlpack(array)
        yield "PyTorch", "poolgrad.from_dlpack(x)", lambda: pg.from_dlpack(tensor)
    if jax := installed("jax.dlpack"):
        view = jax.from_dlpack(array, copy=False)
        yield "JAX", "jax.dlpack.from_dlpack(t)", lambda: jax.from_dlpack(array, copy=False)
        yield "JAX", "poolgrad.from_dlpack(x)", lambda: pg.from_dlpack(view)


def installed(name):
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def add_arguments(group):
    del group  # nothing of its own


def measure(options):
    """One row per route and size: microseconds, the median of several repeats."""
    import poolgrad as pg

    repeats = 5 if options.quick else 15
    for size in SIZES:
        array = pg.empty(size // 4)
        for library, way, go in routes(pg, array):
            timer = timeit.Timer(go)
            calls, seconds = timer.autorange()
            if seconds > 0.5:
                calls = 1
            times = sorted(t / calls * 1e6 for t in timer.repeat(repeats, calls))
            yield {
                "bench": "export",
                "library": library,
                "way": way,
                "bytes": size,
                "n": repeats * calls,
                "us_p10_p50_p90": [times[len(times) * p // 100] for p in (10, 50, 90)],
                "same_bytes": pg.shares_memory(go(), array),
            }


def table(rows):
    lines = [
        "## export\n",
        "| library | way | 4 KiB, µs | 64 MiB, µs | same bytes |",
        "|---|---|---|---|---|",
    ]
    small, large = (
        {(row["library"], row["way"]): row for row in rows if row["bytes"] == size}
        for size in SIZES
    )
    for key, row in small.items():
        times = [f"{r['us_p10_p50_p90'][1]:,.1f}" for r in (row, large[key])]
        same = "yes" if row["same_bytes"] and large[key]["same_bytes"] else "no"
        lines.append(f"| {' | '.join([key[0], f'`{key[1]}`', *times, same])} |")
    return "\n".join(lines)
