"""DataLoader: whose turn it is, on whose bytes, and with which bits."""

import gc

import numpy as np
import poolgrad as pg
import pytest


def samples(count=100, shape=(6,), dtype=np.float32):
    """Each is its own number, over and over; its label is that number modulo 3."""
    numbers = np.arange(count)
    x = np.empty((count, *shape), dtype)
    x[...] = numbers.reshape(-1, *[1] * len(shape))
    return x, numbers % 3


def numbers_of(batches):
    return [[int(v) for v in np.asarray(x)[:, 0]] for x, _ in batches]


def flat(batches):
    return [number for batch in numbers_of(batches) for number in batch]


@pytest.fixture(params=[False, True], ids=["in the loop", "read ahead"])
def ahead(request):
    return request.param


def test_every_sample_comes_once_an_epoch_each_in_an_order_of_its_own(ahead):
    loader = pg.DataLoader(*samples(), batch_size=16, seed=3, read_ahead=ahead)
    assert len(loader) == 7
    epochs = []
    for epoch in range(3):
        assert loader.epochs == epoch
        batches = [(np.array(x), np.array(y)) for x, y in loader]
        for x, y in batches:
            assert x.dtype == np.float32
            assert y.dtype == np.int64
            assert (x[:, 0] % 3 == y).all()
        assert [len(y) for _, y in batches] == [16] * 6 + [4]
        epochs.append(flat(batches))
        assert sorted(epochs[-1]) == list(range(100))
    assert epochs[0] != epochs[1] != epochs[2]
    again = pg.DataLoader(*samples(), batch_size=16, seed=3, read_ahead=not ahead)
    assert [flat(again) for _ in range(3)] == epochs
    other = pg.DataLoader(*samples(), batch_size=16, seed=4, read_ahead=ahead)
    assert flat(other) != epochs[0]


def test_unshuffled_they_come_as_they_lie(ahead):
    loader = pg.DataLoader(*samples(7), batch_size=3, shuffle=False, read_ahead=ahead)
    for _ in range(2):
        assert numbers_of(loader) == [[0, 1, 2], [3, 4, 5], [6]]


def test_bytes_become_0_to_1(ahead):
    x, y = samples(10, (1, 4, 4), np.uint8)
    loader = pg.DataLoader(25 * x, y.astype(np.uint8), batch_size=10, read_ahead=ahead)
    ((images, _),) = loader
    assert images.shape == (10, 1, 4, 4)
    values = np.asarray(images)[:, 0, 0, 0]
    assert sorted(values) == [np.float32(25 * i) / np.float32(255) for i in range(10)]


def test_batches_that_are_held_keep_their_values(ahead):
    loader = pg.DataLoader(*samples(), batch_size=8, read_ahead=ahead)
    held, copies = [], []
    for _ in range(2):
        for x, y in loader:
            held.append((np.asarray(x), y))
            copies.append((np.array(x), np.array(y)))
    for (x, y), (was_x, was_y) in zip(held, copies, strict=True):
        assert (x == was_x).all()
        assert (np.asarray(y) == was_y).all()
    del held, x, y
    gc.collect()
    places = set()
    for x, _ in loader:
        places.add(x.data_ptr())
    assert len(places) <= 3


def test_a_step_reads_batches_in_place(ahead):
    loader = pg.DataLoader(*samples(96), batch_size=16, read_ahead=ahead)
    for x, y in loader:
        assert x.data_ptr() % 64 == 0
        assert y.data_ptr() % 64 == 0


@pytest.mark.parametrize("threads", [1, 2])
def test_reading_ahead_changes_no_bit(threads):
    generator = np.random.default_rng(2)
    x = generator.integers(0, 256, (150, 1, 8, 8), np.uint8)
    y = generator.integers(0, 10, 150)
    results = []
    for ahead in False, True:
        model = pg.models.cnn()
        step = pg.compile(
            model, optimizer=pg.optim.Adam(), batch=(32, 1, 8, 8), threads=threads, seed=1
        )
        loader = pg.DataLoader(x, y, batch_size=32, seed=1, read_ahead=ahead)
        losses = [step(*batch) for _ in range(3) for batch in loader]
        state = {name: np.array(t).tobytes() for name, t in step.state_dict().items()}
        results.append((losses, state))
    assert results[0] == results[1]


def test_a_loop_that_is_left_is_done_and_a_second_one_ends_it(ahead):
    loader = pg.DataLoader(*samples(), batch_size=16, read_ahead=ahead)
    for _ in loader:
        break
    assert loader.epochs == 0
    first, second = iter(loader), None
    next(first)
    assert loader.epochs == 1
    second = iter(loader)
    with pytest.raises(RuntimeError, match="another loop over it has begun"):
        next(first)
    assert sum(1 for _ in second) == 7
    with pytest.raises(StopIteration):
        next(second)


def test_state_goes_on_with_the_next_batch(ahead):
    whole = pg.DataLoader(*samples(), batch_size=16, seed=5, read_ahead=ahead)
    expected = [numbers_of(whole) for _ in range(2)]
    for stop in 1, 3, 7:
        loader = pg.DataLoader(*samples(), batch_size=16, seed=5, read_ahead=ahead)
        for at, _ in enumerate(loader, 1):
            if at == stop:
                break
        state = loader.state_dict()
        assert state == {"epochs": 0, "steps": stop, "seed": 5, "samples": 100, "batch_size": 16}
        other = pg.DataLoader(*samples(), batch_size=16, seed=5, read_ahead=ahead)
        other.load_state_dict(state)
        assert numbers_of(other) == expected[0][stop:]
        assert numbers_of(other) == expected[1]


def test_what_does_not_fit_is_refused():
    x, y = samples(10)
    for arguments, message in (
        ((x.astype(np.float64), y), "x: samples of float64; convert them to float32 or uint8"),
        ((x[:, 0], y), r"x: \[10\] are no samples; give \[n, ...\]"),
        ((x, y[:9]), r"x, y: 10 samples but labels \[9\]; give one label for each"),
        ((x, y.astype(np.float32)), "y: labels of float32; convert them to int64"),
    ):
        with pytest.raises(ValueError, match=message):
            pg.DataLoader(*arguments, batch_size=2)
    for size in 0, -1, 11:
        with pytest.raises(ValueError, match=f"batches: batch {size} of a data set of 10 samples"):
            pg.DataLoader(x, y, batch_size=size)
    loader = pg.DataLoader(x, y, batch_size=2)
    state = loader.state_dict()
    for key, value in ("samples", 11), ("batch_size", 3), ("seed", 1), ("steps", 6), ("epochs", -1):
        with pytest.raises(ValueError, match="load_state_dict: it is "):
            loader.load_state_dict({**state, key: value})
    with pytest.raises(ValueError, match="there is no 'steps'"):
        loader.load_state_dict({"epochs": 1})


def test_arrays_that_are_not_dense_are_taken_and_kept_alive(ahead):
    x, y = samples(20)
    loader = pg.DataLoader(x[::2], y[::2], batch_size=4, shuffle=False, read_ahead=ahead)
    del x, y
    gc.collect()
    assert numbers_of(loader) == [[0, 2, 4, 6], [8, 10, 12, 14], [16, 18]]


def test_a_loader_may_die_with_a_batch_on_its_way():
    for _ in range(20):
        batches = iter(pg.DataLoader(*samples(1000, (500,)), batch_size=400, read_ahead=True))
        next(batches)
        del batches
