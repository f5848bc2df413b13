"""plan() of requests: buffers of any kind, without tensors."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from . import _poolgrad

_NEEDED = ("lower", "upper", "size")
_OPTIONAL = ("alignment", "member", "first_phase", "end_phase", "at")


@dataclass(frozen=True)
class RequestPlan:
    """Where each request lies in one block, and how good that is."""

    offsets: Sequence[int]  #: in bytes, one per request; an array where columns were arrays
    arena_bytes: int
    lower_bound_bytes: int
    proved_bytes: int  #: no plan is smaller: the bound, or more where a search showed it
    optimal: bool  #: proved that no plan is smaller
    witness: list[int]  #: requests that may all be alive at once, and make up the bound
    nodes: int  #: trials of the search
    stopped_by: str  #: "done", "proved" (nothing fits the capacity), "nodes" or "time"


def plan_requests(
    requests: Sequence | Mapping,
    *,
    alignment: int = 64,
    capacity: int | None = None,
    nodes: int | None = None,
    seconds: float | None = None,
) -> RequestPlan:
    """See poolgrad.plan()."""
    for name, limit in (("capacity", capacity), ("seconds", seconds)):
        if limit is not None and not limit > 0:
            raise ValueError(f"plan: {name} is {limit}; give more than 0, or None for no limit")
    if nodes is not None and nodes < 0:
        raise ValueError(f"plan: nodes is {nodes}; give 0 or more, or None")
    columns = requests if isinstance(requests, Mapping) else _columns(requests)
    unknown = [name for name in columns if name not in _NEEDED + _OPTIONAL]
    if unknown:
        raise ValueError(
            f"plan: requests have no '{unknown[0]}'; known are {', '.join(_NEEDED + _OPTIONAL)}"
        )
    missing = [name for name in _NEEDED if name not in columns]
    if missing:
        raise ValueError(f"plan: requests lack '{missing[0]}'; they need {', '.join(_NEEDED)}")
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(
            f"plan: columns differ in length: {lengths}; give one value for each request"
        )
    array = hasattr(columns["size"], "__array__")
    result = _poolgrad.plan_requests(
        {name: _whole(name, column) for name, column in columns.items()},
        alignment=alignment,
        capacity=capacity or 0,
        nodes=nodes if nodes is not None else 4000 if seconds is None else -1,
        seconds=seconds or 0.0,
    )
    if array:
        import numpy

        result["offsets"] = numpy.array(result["offsets"], dtype=numpy.int64)
    return RequestPlan(**result)


def _whole(name: str, column: Sequence) -> list[int]:
    """The column as ints, nothing rounded; of places -1 for None."""
    if name == "at":
        column = [-1 if value is None else value for value in column]
    result = []
    for index, value in enumerate(column):
        try:
            number = operator.index(value)
        except TypeError:
            raise TypeError(
                f"plan: request {index} has {name} {value!r}; give a whole number"
            ) from None
        if abs(number) >= 1 << 63:
            raise ValueError(f"plan: request {index} has {name} {number}; give less than 2**63")
        result.append(number)
    return result


def _columns(requests: Sequence) -> dict:
    """Of (lower, upper, size) triples, or of mappings with equal keys."""
    if not requests:
        return {name: [] for name in _NEEDED}
    if isinstance(requests[0], Mapping):
        names = list(requests[0])
        for index, request in enumerate(requests):
            if list(request) != names:
                raise ValueError(
                    f"plan: request {index} has {list(request)} but the first has {names};"
                    " give all the same, and 'at': None for anywhere"
                )
        return {name: [request[name] for request in requests] for name in names}
    for index, request in enumerate(requests):
        if len(request) != len(_NEEDED):
            raise ValueError(
                f"plan: request {index} has {len(request)} values; give (lower, upper, size)"
            )
    return dict(zip(_NEEDED, zip(*requests, strict=True), strict=True))
