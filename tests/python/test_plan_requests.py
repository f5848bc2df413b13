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


def test_some_requests_have_a_place_and_others_none():
    rows = [{"lower": 0, "upper": 2, "size": 64, "at": at} for at in (128, None, -1)]
    offsets = pg.plan(rows).offsets
    assert offsets[0] == 128
    assert sorted(offsets) == [0, 64, 128]
    columns = {"lower": [0] * 3, "upper": [2] * 3, "size": [64] * 3, "at": np.array([128, -1, -1])}
    assert sorted(pg.plan(columns).offsets) == [0, 64, 128]


@pytest.mark.parametrize("name", ["seconds", "capacity"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_a_limit_of_nothing_is_refused(name, value):
    message = f"plan: {name} is {value}; give more than 0, or None for no limit"
    with pytest.raises(ValueError, match=message):
        pg.plan(THREE, **{name: value})


def test_numbers_of_trials_below_0_are_refused():
    with pytest.raises(ValueError, match="plan: nodes is -1; give 0 or more, or None"):
        pg.plan(THREE, nodes=-1)


@pytest.mark.parametrize("size", [64.5, "64", None])
def test_nothing_is_rounded_to_a_whole_number(size):
    message = f"plan: request 1 has size {size!r}; give a whole number"
    with pytest.raises(TypeError, match=message):
        pg.plan([(0, 1, 64), (0, 1, size)])


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        ([(0, 1)], "request 0 has 2 values"),
        ({"lower": [0], "upper": [1]}, "lack 'size'"),
        ({"lower": [0], "upper": [1], "size": [1], "colour": [1]}, "no 'colour'"),
        (
            {"lower": [0], "upper": [1, 2], "size": [1]},
            "differ in length: .*; give one value for each request",
        ),
        ([(3, 1, 64)], "request 0 ends at step 1 before it begins at step 3"),
        ([(0, 1, -1)], "request 0 has size -1; give 0 or more"),
        (
            [(1 << 31, 1 << 32, 1)],
            "request 0 has lower 2147483648; give a number that fits into 32",
        ),
        ([(0, 1, 1 << 63)], r"request 0 has size 9223372036854775808; give less than 2\*\*63"),
        (
            [{"lower": 0, "upper": 1, "size": 1, "at": -2}],
            "has at -2; give 0 or more, or -1 or None",
        ),
    ],
)
def test_bad_requests_are_refused_with_their_values(requests, message):
    with pytest.raises(ValueError, match=message):
        pg.plan(requests)
