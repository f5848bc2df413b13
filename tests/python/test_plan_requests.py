"""plan() of requests, as lists and as NumPy columns."""

import numpy as np
import poolgrad as pg
import pytest

THREE = [(0, 2, 100), (1, 3, 50), (2, 4, 100)]


def test_a_list_of_requests_is_placed_at_the_bound():
    plan = pg.plan(THREE)
    assert plan.arena_bytes == plan.lower_bound_bytes == plan.proved_bytes == 192
    assert plan.optimal
    assert plan.stopped_by == "done"
    assert sorted(plan.witness) in ([0, 1], [1, 2])
    assert plan.offsets[1] >= 128 or plan.offsets[0] >= 64
    assert pg.plan([]).arena_bytes == 0


def test_columns_and_dicts_are_the_same_requests():
    lower, upper, size = map(np.array, zip(*THREE, strict=True))
    columns = pg.plan({"lower": lower, "upper": upper, "size": size})
    assert isinstance(columns.offsets, np.ndarray)
    assert columns.offsets.tolist() == pg.plan(THREE).offsets
    rows = [{"lower": a, "upper": b, "size": c} for a, b, c in THREE]
    assert pg.plan(rows) == pg.plan(THREE)


def test_no_two_random_requests_that_meet_share_a_byte():
    random = np.random.default_rng(0)
    lower = random.integers(0, 100, 200)
    upper = lower + random.integers(1, 20, 200)
    size = random.integers(1, 5000, 200)
    plan = pg.plan({"lower": lower, "upper": upper, "size": size}, alignment=1)
    low, high = plan.offsets, plan.offsets + size
    assert high.max() == plan.arena_bytes >= plan.lower_bound_bytes
    meet = (lower[:, None] < upper) & (lower < upper[:, None])
    share = (low[:, None] < high) & (low < high[:, None])
    assert not (meet & share & ~np.eye(200, dtype=bool)).any()


def test_a_capacity_is_reached_or_proved_too_small():
    assert pg.plan(THREE, capacity=192).stopped_by == "done"
    plan = pg.plan(THREE, capacity=191)
    assert plan.stopped_by == "proved"
    assert plan.arena_bytes == 192


def test_members_and_fixed_places():
    requests = {
        "lower": [0, 5], "upper": [1, 6], "size": [64, 64],
        "member": [0, 1], "first_phase": [0, 0], "end_phase": [1, 1],
    }  # fmt: skip
    assert pg.plan(requests).arena_bytes == 128  # no common step, but no order either
    fixed = [{"lower": 0, "upper": 2, "size": 64, "at": 128}]
    assert pg.plan(fixed).offsets == [128]


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        ([(0, 1)], "request 0 has 2 values"),
        ({"lower": [0], "upper": [1]}, "lack 'size'"),
        ({"lower": [0], "upper": [1], "size": [1], "colour": [1]}, "no 'colour'"),
        ({"lower": [0], "upper": [1, 2], "size": [1]}, "differ in length"),
        ([(3, 1, 64)], "request 0 ends at step 1 before it begins at step 3"),
        ([(0, 1, -1)], "request 0 has size -1"),
    ],
)
def test_bad_requests_are_refused_with_their_values(requests, message):
    with pytest.raises(ValueError, match=message):
        pg.plan(requests)
