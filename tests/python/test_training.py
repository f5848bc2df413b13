"""Training from Python: the same losses as PyTorch's, from the same weights, on the same bytes."""

import array
import gc
import re
import signal

import numpy as np
import poolgrad as pg
import pytest
import torch


def mlp(nn):
    return nn.Sequential(nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10))


def cnn(nn):
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, stride=2, padding=1, groups=2), nn.ReLU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(144, 32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip


def pooled(nn):
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
    )


def batches(shape, count, seed=0):
    """Separable noise: the label is in the mean of the first numbers."""
    generator = np.random.default_rng(seed)
    for _ in range(count):
        y = generator.integers(0, 10, shape[0])
        x = generator.normal(size=shape).astype(np.float32)
        x.reshape(shape[0], -1)[:, :50] += y[:, None] / 5
        yield x, y


def to_torch(weights):
    return {name: torch.from_dlpack(weight) for name, weight in weights.items()}


def torch_losses(model, optimizer, data):
    losses = []
    for x, y in data:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(torch.from_numpy(x)), torch.from_numpy(y))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def compiled(make=mlp, batch=(16, 784), optimizer=None, **options):
    model = make(pg.nn)
    optimizer = optimizer or pg.optim.SGD(lr=0.1)
    return model, pg.compile(model, optimizer=optimizer, batch=batch, **options)


# ---- against PyTorch

OPTIMIZERS = [
    ("SGD", {"lr": 0.05}),
    ("SGD", {"lr": 0.02, "momentum": 0.9}),
    ("SGD", {"lr": 0.02, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    ("Adam", {"lr": 1e-3}),
    ("Adam", {"lr": 1e-3, "betas": (0.8, 0.99), "eps": 1e-6, "weight_decay": 0.01}),
    ("AdamW", {"lr": 1e-3, "weight_decay": 0.1}),
]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("name", "settings"), OPTIMIZERS)
@pytest.mark.parametrize(("make", "batch"), [(mlp, (16, 784)), (cnn, (8, 1, 28, 28))])
def test_twenty_steps_have_torchs_losses(make, batch, name, settings, threads):
    model, step = compiled(make, batch, getattr(pg.optim, name)(**settings), threads=threads)
    theirs = make(torch.nn)
    theirs.load_state_dict(to_torch(model.state_dict()))
    optimizer = getattr(torch.optim, name)(theirs.parameters(), **settings)
    expected = torch_losses(theirs, optimizer, batches(batch, 20))
    losses = [step(x, y) for x, y in batches(batch, 20)]
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    assert len(set(losses)) == 20


def test_short_batches_train_as_in_torch():
    model, step = compiled(cnn, (8, 1, 28, 28), pg.optim.SGD(lr=0.05, momentum=0.9))
    theirs = cnn(torch.nn)
    theirs.load_state_dict(to_torch(model.state_dict()))
    data = [(x[:n], y[:n]) for (x, y), n in zip(batches((8, 1, 28, 28), 6), (8, 3, 1, 8, 7, 2))]
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.05, momentum=0.9)
    expected = torch_losses(theirs, optimizer, data)
    np.testing.assert_allclose([step(x, y) for x, y in data], expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("make", "shape"), [(mlp, (784,)), (cnn, (1, 28, 28)), (pooled, (1, 28, 28))]
)
def test_evaluate_and_predict_take_any_number_of_samples(make, shape):
    model, step = compiled(make, (16, *shape))
    theirs = make(torch.nn)
    theirs.load_state_dict(to_torch(model.state_dict()))
    ((x, y),) = batches((41, *shape), 1)
    logits = theirs(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(step.predict(x), logits, rtol=1e-4, atol=1e-5)
    loss, accuracy = step.evaluate(x, y)
    expected = torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(y))
    assert loss == pytest.approx(expected.item(), rel=1e-4)
    assert accuracy == np.mean(logits.argmax(1) == y)


def test_gradients_that_are_kept_are_torchs():
    model, step = compiled(keep_gradients=True, optimizer=pg.optim.SGD(lr=0.0))
    theirs = mlp(torch.nn)
    theirs.load_state_dict(to_torch(model.state_dict()))
    ((x, y),) = batches((16, 784), 1)
    step(x, y)
    torch.nn.functional.cross_entropy(theirs(torch.from_numpy(x)), torch.from_numpy(y)).backward()
    gradients = step.named("gradients")
    assert list(gradients) == [name for name, _ in theirs.named_parameters()]
    for name, parameter in theirs.named_parameters():
        np.testing.assert_allclose(gradients[name], parameter.grad, rtol=1e-4, atol=1e-6)


def test_dropout_trains_with_fresh_masks_and_predicts_without():
    def make(nn):
        return nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Dropout(0.4), nn.Linear(64, 10))

    ((x, y),) = batches((16, 784), 1)
    model, step = compiled(make, optimizer=pg.optim.SGD(lr=0.0))
    losses = [step(x, y) for _ in range(5)]
    assert len(set(losses)) == 5  # nothing was learnt: only the masks differ
    theirs = make(torch.nn).eval()
    theirs.load_state_dict(to_torch(model.state_dict()))
    logits = theirs(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(step.predict(x), logits, rtol=1e-4, atol=1e-5)
    for threads in (1, 2, 3):
        _, again = compiled(make, optimizer=pg.optim.SGD(lr=0.0), threads=threads)
        np.testing.assert_allclose([again(x, y) for _ in range(5)], losses, rtol=1e-5)
    assert repr(model[2]) == "Dropout(p=0.4)"
    with pytest.raises(ValueError, match=r"Dropout: p is -1; a probability is from 0 to 1"):
        pg.nn.Dropout(-1)


# ---- what a batch may be


def test_any_kind_of_array_gives_the_same_loss():
    ((x, y),) = batches((16, 784), 1)
    shifted = np.zeros(16 * 784 + 1, np.float32)[1:].reshape(16, 784)  # not on 64 bytes
    shifted[:] = x
    odd = np.frombuffer(bytes(1) + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(16, 784)
    samples = [
        x, torch.from_numpy(x), x.astype(np.float64), np.asfortranarray(x), shifted, odd,
        np.repeat(x, 2, axis=1)[:, ::2], x[::-1][::-1], pg.from_dlpack(x), memoryview(x),
    ]  # fmt: skip
    labels = [y, y.astype(np.int32), torch.from_numpy(y), np.repeat(y, 3)[::3], array.array("q", y)]
    _, step = compiled(optimizer=pg.optim.SGD(lr=0.0))
    losses = {step(a, y) for a in samples} | {step(x, b) for b in labels}
    assert len(losses) == 1


@pytest.mark.parametrize(
    ("x", "y", "error", "text"),
    [
        ((16, 783), (16,), ValueError, "x: [16, 783] does not fit [16, 784]; only the first axis"),
        ((17, 784), (17,), ValueError, "x: [17, 784] does not fit [16, 784]; only the first axis"),
        ((0, 784), (0,), ValueError, "x: [0, 784] does not fit [16, 784]"),
        ((16, 28, 28), (16,), ValueError, "x: [16, 28, 28] does not fit [16, 784]"),
        ((16, 784), (16, 1), ValueError, "y: [16, 1] does not fit [16]"),
        ((16, 784), (15,), ValueError, "x, y: 16 samples but 15 labels"),
    ],
)
def test_batches_that_do_not_fit_are_named(x, y, error, text):
    _, step = compiled()
    with pytest.raises(error, match=re.escape(text)):
        step(np.zeros(x, np.float32), np.zeros(y, np.int64))


def test_types_that_do_not_fit_are_named():
    _, step = compiled()
    x, y = np.zeros((16, 784), np.float32), np.zeros(16, np.int64)
    with pytest.raises(ValueError, match="x: samples of int64; convert them to float32"):
        step(x.astype(np.int64), y)
    with pytest.raises(ValueError, match="y: labels of float32; convert them to int64 or int32"):
        step(x, y.astype(np.float32))
    with pytest.raises(TypeError, match="x: 'list' has neither a buffer nor __dlpack__"):
        step(x.tolist(), y)
    with pytest.raises(BufferError, match="x: elements of format 'Zf' are unknown here"):
        step(x.astype(np.complex64), y)


@pytest.mark.parametrize("label", [10, -1])
def test_labels_out_of_range_are_refused(label):
    _, step = compiled()
    y = np.zeros(16, np.int64)
    y[5] = label
    with pytest.raises(ValueError, match=str(label)):
        step(np.zeros((16, 784), np.float32), y)
    y[5] = 9
    step(np.zeros((16, 784), np.float32), y)  # and goes on working


# ---- weights


def test_weights_are_torchs_by_name_and_shape_on_the_same_bytes():
    model, step = compiled(cnn, (8, 1, 28, 28))
    theirs = cnn(torch.nn)
    weights = model.state_dict()
    assert {name: weight.shape for name, weight in weights.items()} == {
        name: tuple(weight.shape) for name, weight in theirs.state_dict().items()
    }
    theirs.load_state_dict(to_torch(weights), assign=True)
    for name, weight in theirs.state_dict().items():
        assert weight.data_ptr() == weights[name].data_ptr()
        assert weight.data_ptr() % 64 == 0

    for x, y in batches((8, 1, 28, 28), 3):  # training goes on, torch sees it
        before = theirs(torch.from_numpy(x)).detach().numpy()
        step(x, y)
        after = theirs(torch.from_numpy(x)).detach().numpy()
        assert np.abs(after - before).max() > 1e-4
        np.testing.assert_allclose(step.predict(x), after, rtol=1e-4, atol=1e-5)
    with torch.no_grad():  # torch writes, the step sees it
        theirs[9].weight.zero_()
        theirs[9].bias.copy_(torch.arange(10.0))
    assert np.array_equal(np.asarray(step.predict(x))[0], np.arange(10.0))


def test_weights_go_from_torch_and_back():
    theirs = cnn(torch.nn)
    model = cnn(pg.nn)
    model.load_state_dict(theirs.state_dict())  # before compile: initial values
    step = pg.compile(model, optimizer=pg.optim.Adam(), batch=(8, 1, 28, 28))
    for name, weight in model.state_dict().items():
        assert np.array_equal(weight, theirs.state_dict()[name])
    others = cnn(torch.nn)
    model.load_state_dict({name: w.numpy() for name, w in others.state_dict().items()})
    ((x, _),) = batches((8, 1, 28, 28), 1)
    np.testing.assert_allclose(
        step.predict(x), others(torch.from_numpy(x)).detach(), rtol=1e-4, atol=1e-5
    )
    theirs.load_state_dict(to_torch(model.state_dict()))
    assert torch.equal(theirs[0].weight, others[0].weight)


def test_weights_survive_step_and_model():
    model, step = compiled()
    weight = torch.from_dlpack(model.state_dict()["0.weight"])
    expected = weight.clone()
    del step, model
    gc.collect()
    others = [compiled() for _ in range(3)]
    assert torch.equal(weight, expected)
    del others


def test_a_state_dict_needs_a_compile():
    with pytest.raises(RuntimeError, match="weights get their bytes at the first"):
        mlp(pg.nn).state_dict()


@pytest.mark.parametrize("before", [True, False])
def test_load_state_dict_names_what_does_not_fit(before):
    def load(changes, **options):
        model, _ = compiled()
        weights = {**model.state_dict(), **changes}
        weights = {name: value for name, value in weights.items() if value is not None}
        if not before:
            return model.load_state_dict(weights, **options)
        model = mlp(pg.nn)
        model.load_state_dict(weights, **options)
        pg.compile(model, optimizer=pg.optim.SGD(), batch=(16, 784))

    with pytest.raises(ValueError, match=r"missing \['0.bias'\], unexpected \['1.bias'\]"):
        load({"0.bias": None, "1.bias": np.zeros(3)})
    with pytest.raises(ValueError, match=r"'2.weight' is \[10, 31\] but the model's is \[10, 32\]"):
        load({"2.weight": np.zeros((10, 31), np.float32)})
    load({"0.bias": None, "1.bias": np.zeros(3)}, strict=False)


def test_a_failed_load_changes_nothing():
    model, _ = compiled()
    before = np.array(model.state_dict()["0.weight"])
    with pytest.raises(ValueError, match=r"2\.bias"):
        model.load_state_dict({"0.weight": before * 0, "2.bias": np.zeros(11)}, strict=False)
    assert np.array_equal(model.state_dict()["0.weight"], before)


def test_a_second_compile_keeps_weights_and_exports():
    model, step = compiled(optimizer=pg.optim.Adam())
    exported = torch.from_dlpack(model.state_dict()["0.weight"])
    ((x, y),) = batches((16, 784), 1)
    step(x, y)
    larger = pg.compile(model, optimizer=pg.optim.Adam(), batch=(64, 784))
    assert model.state_dict()["0.weight"].data_ptr() == exported.data_ptr()
    assert np.array_equal(step.predict(x), larger.predict(x))
    moments = step.named("adam.first")["0.weight"].data_ptr()
    assert larger.named("adam.first")["0.weight"].data_ptr() == moments
    assert np.asarray(larger.named("adam.first")["0.weight"]).any()  # an equal optimizer goes on

    del step
    before = exported.clone()
    larger(x, y)
    assert not torch.equal(exported, before)


def test_another_optimizer_begins_anew():
    model, step = compiled(optimizer=pg.optim.SGD(lr=0.05))
    data = list(batches((16, 784), 8))
    for x, y in data[:4]:
        step(x, y)
    theirs = mlp(torch.nn)
    theirs.load_state_dict(to_torch(model.state_dict()))
    adam = pg.compile(model, optimizer=pg.optim.Adam(lr=1e-3), batch=(16, 784))
    assert (step.lr, adam.lr) == (0.05, 0.001)
    expected = torch_losses(theirs, torch.optim.Adam(theirs.parameters(), lr=1e-3), data[4:])
    np.testing.assert_allclose([adam(x, y) for x, y in data[4:]], expected, rtol=1e-4)


def test_equal_seeds_give_equal_weights_whoever_builds_the_model():
    def weights(model, batch, seed):
        pg.compile(model, optimizer=pg.optim.SGD(), batch=batch, seed=seed)
        return {name: np.array(weight) for name, weight in model.state_dict().items()}

    by_hand = pg.nn.Sequential(pg.nn.Linear(784, 16), pg.nn.ReLU(), pg.nn.Linear(16, 10))
    first = weights(by_hand, (4, 784), 3)
    for again in (weights(pg.models.mlp([16]), (4, 784), 3),
                  weights(pg.models.mlp([16]), (9, 1, 28, 28), 3)):  # fmt: skip
        assert list(again) == list(first)
        assert all(np.array_equal(again[name], first[name]) for name in first)
    other = weights(pg.models.mlp([16]), (4, 784), 4)
    assert not np.array_equal(other["0.weight"], first["0.weight"])
    assert list(weights(pg.models.cnn(), (2, 1, 28, 28), 0)) == [
        "0.weight", "0.bias", "3.weight", "3.bias", "7.weight", "7.bias", "9.weight", "9.bias"
    ]  # fmt: skip
    assert np.abs(first["0.weight"]).max() <= 1 / 28
    assert np.abs(first["0.weight"]).mean() == pytest.approx(1 / 56, rel=0.02)


# ---- modules


class Residual(pg.nn.Module):
    def __init__(self, width):
        self.inner = pg.nn.Sequential(pg.nn.Linear(width, width), pg.nn.ReLU())

    def forward(self, x):
        return pg.ops.add(x, self.inner(x))


class Net(pg.nn.Module):
    def __init__(self):
        self.stem = pg.nn.Linear(784, 16)
        self.block = Residual(16)
        self.head = pg.nn.Linear(16, 10)

    def forward(self, x):
        return self.head(self.block(self.stem(x)))


class TorchNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Linear(784, 16)
        self.block = torch.nn.Module()
        self.block.inner = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.ReLU())
        self.head = torch.nn.Linear(16, 10)

    def forward(self, x):
        x = self.stem(x)
        return self.head(x + self.block.inner(x))


def test_a_module_of_ones_own_trains_as_torchs():
    model, theirs = Net(), TorchNet()
    model.load_state_dict(theirs.state_dict())
    step = pg.compile(model, optimizer=pg.optim.SGD(lr=0.05), batch=(16, 784))
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.05)
    expected = torch_losses(theirs, optimizer, batches((16, 784), 10))
    losses = [step(x, y) for x, y in batches((16, 784), 10)]
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    assert list(model.state_dict()) == list(theirs.state_dict())


def test_modules_print_as_a_tree():
    assert repr(mlp(pg.nn)) == repr(mlp(torch.nn))
    assert "(inner): Sequential(" in repr(Net())


def test_mistakes_in_models_are_named():
    layer = pg.nn.Linear(784, 10)
    with pytest.raises(TypeError, match="Linear: a model is not called on data; step = "):
        layer(np.zeros((1, 784)))
    with pytest.raises(TypeError, match="Sequential: part 1 is a 'nb_func', no module"):
        pg.nn.Sequential(layer, pg.ops.relu)
    shared = pg.nn.Linear(784, 784)
    with pytest.raises(ValueError, match="a Linear stands at two places of the model"):
        compiled(lambda nn: nn.Sequential(shared, shared))
    with pytest.raises(NotImplementedError, match="Module: write forward"):
        compiled(lambda nn: nn.Module())
    with pytest.raises(ValueError, match=r"linear: .* \(in layer '2'\)"):
        compiled(lambda nn: nn.Sequential(nn.Linear(784, 5), nn.ReLU(), nn.Linear(6, 10)))

    class Wrong(pg.nn.Module):
        def forward(self, x):
            return 3

    with pytest.raises(TypeError, match=r"Wrong: forward\(\) answered a 'int', not a handle"):
        compiled(lambda nn: Wrong())


# ---- compile


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("make", "batch"), [(mlp, (16, 784)), (cnn, (8, 1, 28, 28))])
def test_the_three_memory_modes_have_the_same_bits(make, batch, threads):
    bits = set()
    for memory in ("planned", "pooled", "direct"):
        model, step = compiled(make, batch, pg.optim.Adam(), threads=threads, memory=memory)
        for x, y in batches(batch, 20):
            step(x, y)
        assert step.plan.memory == memory
        bits.add(b"".join(bytes(weight) for weight in model.state_dict().values()))
    assert len(bits) == 1


def test_the_plan_adds_up():
    _, step = compiled(cnn, (8, 1, 28, 28))
    plan = step.plan
    assert plan.arena_bytes == plan.persistent_bytes + plan.scratch_bytes
    assert plan.lower_bound_bytes <= plan.arena_bytes <= plan.sum_bytes
    assert plan.predicted_peak_bytes == plan.arena_bytes
    assert {"parameter", "activation", "gradient", "input"} <= {row.role for row in plan.rows}
    assert "0" in {row.layer for row in plan.rows}
    for row in plan.rows:
        assert row.offset + row.bytes <= plan.arena_bytes
        assert row.offset % 64 == 0
    assert str(plan).startswith("arena ")
    assert "lower bound" in str(plan)


def test_a_profile_says_where_the_time_goes_and_changes_nothing():
    model, step = compiled(cnn, (8, 1, 28, 28), pg.optim.Adam(), threads=2)
    x, y = next(iter(batches((8, 1, 28, 28), 1)))
    step(x, y)
    before = [bytes(weight) for weight in model.state_dict().values()]
    profile = step.profile(x, y, steps=3)
    assert [bytes(weight) for weight in model.state_dict().values()] == before
    assert profile.steps == 3
    assert profile.step_us > 0
    assert {"conv2d", "matmul", "adam"} <= {op["op"] for op in profile.ops}
    for op in profile.ops:
        assert (op["gflops"] is None) != (op["gbs"] is None)
        assert set(op) == {"op", "layer", "calls", "us", "share", "gflops", "gbs"}
    assert sum(op["share"] for op in profile.ops) == pytest.approx(1)
    for member in profile.members:
        assert set(member) == {"busy_us", "wait_us", "rest_us"}
        assert sum(member.values()) > 0
    assert str(profile).startswith("step ")
    with pytest.raises(ValueError, match="profile: 0 steps; take 1 or more"):
        step.profile(x, y, steps=0)


@pytest.mark.parametrize("winograd", [True, False])
def test_a_plan_is_known_before_there_is_an_arena(winograd):
    model = cnn(pg.nn)
    settings = {"optimizer": pg.optim.Adam(), "batch": (8, 1, 28, 28), "winograd": winograd}
    before = pg.plan(model, **settings)
    with pytest.raises(RuntimeError, match="weights get their bytes"):
        model.state_dict()
    after = pg.compile(model, **settings).plan
    assert before.arena_bytes == after.arena_bytes
    assert str(before) == str(after)


def test_a_table_of_times_is_made_and_then_decides(tmp_path):
    table = tmp_path / "table"
    settings = {"optimizer": pg.optim.Adam(), "batch": (32, 1, 28, 28), "threads": 2}

    def trained(**more):
        step = pg.compile(cnn(pg.nn), **settings, **more)
        return [step(x, y) for x, y in batches((32, 1, 28, 28), 5)], step.plan.arena_bytes

    planned = pg.plan(cnn(pg.nn), **settings, tune=table)
    text = table.read_text()
    losses, arena_bytes = trained(tune=str(table))
    assert arena_bytes == planned.arena_bytes
    assert trained(tune=table) == (losses, arena_bytes)
    np.testing.assert_allclose(losses, trained()[0], rtol=1e-4)
    assert table.read_text() == text
    table.write_text(text[:-2])
    with pytest.raises(OSError, match=r"tune: '.*table': line \d+ is missing"):
        trained(tune=table)
    with pytest.raises(TypeError, match="PathLike"):
        trained(tune=3)


def test_an_arena_can_be_lent():
    settings = {"optimizer": pg.optim.Adam(), "batch": (16, 784), "threads": 1}
    needed = pg.plan(mlp(pg.nn), **settings).arena_bytes
    block = pg.empty(needed, "uint8")
    model, other = mlp(pg.nn), mlp(pg.nn)
    step, usual = pg.compile(model, arena=block, **settings), pg.compile(other, **settings)
    for x, y in batches((16, 784), 3):
        assert step(x, y) == usual(x, y)
    weight = np.asarray(model.state_dict()["0.weight"])
    assert pg.shares_memory(block, weight)

    expected = weight.copy()
    del step, model, block
    gc.collect()
    others = [pg.empty(needed, "uint8") for _ in range(20)]
    assert np.array_equal(weight, expected)  # the view keeps the block
    del others


@pytest.mark.parametrize(
    ("block", "error", "text"),
    [
        (lambda: pg.empty(1000, "uint8"), MemoryError, "the array lent has 1000; lend a larger"),
        (lambda: np.zeros(2_000_001, np.uint8)[1:], ValueError, "does not begin on 64 bytes"),
        (lambda: memoryview(bytes(2_000_000)), ValueError, "read-only or not dense"),
        (lambda: 5, TypeError, "arena: 'int' has neither a buffer nor __dlpack__"),
    ],
)
def test_an_arena_that_does_not_do_is_refused(block, error, text):
    with pytest.raises(error, match=text):
        compiled(arena=block())
    with pytest.raises(ValueError, match="an arena can be lent to planned memory only"):
        compiled(arena=pg.empty(1000, "uint8"), memory="pooled")


def test_columns_are_one_flat_tensor():
    model, step = compiled(optimizer=pg.optim.SGD(momentum=0.9))
    flat = np.asarray(step.program.column("parameters"))
    first = np.asarray(model.state_dict()["0.weight"])
    assert np.array_equal(flat[: first.size], first.ravel())
    assert pg.shares_memory(flat, model.state_dict()["2.bias"])
    assert step.program.column("momentum").shape == flat.shape


def test_the_learning_rate_can_be_set():
    model, step = compiled(optimizer=pg.optim.SGD(lr=0.1))
    assert step.lr == 0.1
    step.lr = 0
    before = np.array(model.state_dict()["0.weight"])
    ((x, y),) = batches((16, 784), 1)
    step(x, y)
    assert np.array_equal(model.state_dict()["0.weight"], before)
    for wrong in (-1, float("nan")):
        with pytest.raises(ValueError, match="rate"):
            step.lr = wrong
    assert step.lr == 0


def test_accuracy_is_that_of_the_last_batch():
    _, step = compiled()
    assert np.isnan(step.accuracy)
    ((x, y),) = batches((5, 784), 1)
    expected = np.mean(np.asarray(step.predict(x)).argmax(1) == y)
    step(x, y)
    assert step.accuracy == expected


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"batch": (0, 784)}, ValueError, "task: batch 0 is below 1"),
        ({"batch": 784}, ValueError, "batch [784] has no axis beside the first; give the whole"),
        ({"memory": "malloc"}, ValueError, "memory 'malloc' is unknown; 'planned', 'pooled' or"),
        ({"threads": 0}, ValueError, "compile: 0 threads; choose 1 to 256"),
        ({"memory_limit": 0}, ValueError, "compile: memory_limit 0 is below one byte"),
        ({"memory_limit": 300_000}, MemoryError, "the largest batch that fits is"),
        ({"memory_limit": 1000}, MemoryError, "not even batch 1 fits"),
        ({"budget": -1}, ValueError, "compile: budget -1 is below one byte"),
        ({"budget": 1000}, MemoryError, "is below the smallest that is feasible, "),
        ({"loss": lambda x, y: x}, TypeError, "the loss is a 'function', not nn.CrossEntropyLoss"),
    ],
)
def test_compile_names_what_is_wrong(options, error, text):
    with pytest.raises(error, match=re.escape(text)):
        compiled(**options)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: pg.optim.SGD(lr=-1), "rate"),
        (lambda: pg.optim.SGD(lr=float("nan")), "rate"),
        (lambda: pg.optim.SGD(nesterov=True), "nesterov"),
        (lambda: pg.optim.Adam(betas=(1.0, 0.9)), "beta1"),
        (lambda: pg.optim.AdamW(weight_decay=-1), "weight decay"),
    ],
)
def test_impossible_optimizers_are_refused(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_optimizers_tell_their_settings():
    adam = pg.optim.Adam(betas=(0.8, 0.99))
    assert (adam.lr, adam.betas, adam.eps, adam.weight_decay) == (0.001, (0.8, 0.99), 1e-8, 0.0)
    assert pg.optim.AdamW().weight_decay == 0.01
    assert repr(pg.optim.SGD(lr=0.1, momentum=0.9)) == (
        "SGD(lr=0.1, momentum=0.9, weight_decay=0, nesterov=False)"
    )


def test_an_interrupt_comes_between_steps():
    _, step = compiled()
    data = list(batches((16, 784), 5))

    def train():
        for i, (x, y) in enumerate(data):
            if i == 2:
                signal.raise_signal(signal.SIGINT)
            step(x, y)

    # Python heeds no interrupt where it was started with them ignored, as in the background.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            train()
    finally:
        signal.signal(signal.SIGINT, before)
    assert np.isfinite(step(*data[0]))
