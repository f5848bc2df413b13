"""Batch norm and the resnet against PyTorch, from the same weights."""

import numpy as np
import poolgrad as pg
import pytest
import torch
from torch.nn import functional

IMAGES = (1, 28, 28)


class Block(torch.nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(outputs)
        self.conv2 = torch.nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = torch.nn.BatchNorm2d(outputs)
        self.downsample = torch.nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.downsample.append(torch.nn.Conv2d(inputs, outputs, 1, stride, bias=False))
            self.downsample.append(torch.nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class ResNet(torch.nn.Module):
    """pg.models.resnet with torchvision's names."""

    def __init__(self, blocks=2, width=16, classes=10):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(1, width, 3, 1, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(width)
        inputs = width
        for i in range(3):
            stage = torch.nn.Sequential()
            for block in range(blocks):
                stage.append(Block(inputs, width << i, 2 if i > 0 and block == 0 else 1))
                inputs = width << i
            setattr(self, f"layer{i + 1}", stage)
        self.fc = torch.nn.Linear(inputs, classes)

    def forward(self, x):
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


def small(nn):
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, stride=2, bias=False), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Conv2d(6, 20, 3, stride=2), nn.BatchNorm2d(20, eps=1e-3, momentum=0.3),
        nn.Flatten(), nn.Linear(720, 10),
    )  # fmt: skip


def batches(sizes, seed=0):
    generator = np.random.default_rng(seed)
    for size in sizes:
        y = generator.integers(0, 10, size)
        x = generator.random((size, *IMAGES), np.float32)
        x[:, :, :5] += y[:, None, None, None] / 5
        yield x, y


def pair(ours, theirs, batch, **options):
    """A compiled model, and torch's in float64 with the same weights."""
    optimizer = pg.optim.SGD(lr=0.05, momentum=0.9)
    step = pg.compile(ours, optimizer=optimizer, batch=(batch, *IMAGES), **options)
    weights = {name: torch.from_dlpack(w) for name, w in ours.state_dict().items()}
    theirs.load_state_dict(weights)
    return step, theirs.double()


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


def torch_losses(model, optimizer, data, dtype=torch.float64):
    losses = []
    for x, y in data:
        optimizer.zero_grad()
        logits = model(torch.from_numpy(x).to(dtype))
        loss = functional.cross_entropy(logits, torch.from_numpy(y))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def assert_same_state(ours, theirs, rtol):
    state = ours.state_dict()
    assert set(state) == set(theirs.state_dict())
    for name, expected in theirs.state_dict().items():
        assert state[name].shape == tuple(expected.shape), name
        scale = max(expected.abs().max().item(), 1e-3)
        assert np.abs(np.asarray(state[name]) - expected.numpy()).max() < rtol * scale, name


@pytest.mark.parametrize("threads", [1, 2])
def test_resnet_small_is_within_a_thousandth_of_a_float64_run(threads):
    model = pg.models.resnet(blocks=2, width=16)
    step, theirs = pair(model, ResNet(), 32, threads=threads, seed=1)
    expected = torch_losses(theirs, sgd(theirs), batches([32] * 4))
    losses = [step(x, y) for x, y in batches([32] * 4)]
    np.testing.assert_allclose(losses, expected, rtol=1e-3)
    assert losses[-1] < losses[0]
    shapes = {name: tuple(value.shape) for name, value in theirs.state_dict().items()}
    assert {name: value.shape for name, value in model.state_dict().items()} == shapes


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("sizes", [[16] * 3, [16, 5, 1]])
def test_values_gradients_and_running_statistics_are_torchs(sizes, threads):
    model = small(pg.nn)
    step, theirs = pair(model, small(torch.nn), 16, threads=threads, keep_gradients=True)
    optimizer = sgd(theirs)
    for x, y in batches(sizes):
        (expected,) = torch_losses(theirs, optimizer, [(x, y)])
        assert step(x, y) == pytest.approx(expected, rel=1e-4)
        for name, gradient in step.named("gradients").items():
            their = theirs.get_parameter(name).grad.numpy()
            gap = np.abs(np.asarray(gradient) - their).max()
            assert gap < 1e-4 * max(np.abs(their).max(), 1e-2), name
        assert_same_state(model, theirs, rtol=1e-4)


def test_evaluation_takes_the_running_statistics():
    model = pg.models.resnet(blocks=1, width=8)
    step, theirs = pair(model, ResNet(1, 8), 16)
    for x, y in batches([16] * 3):
        step(x, y)
    theirs = ResNet(1, 8)
    theirs.load_state_dict({n: torch.from_dlpack(v) for n, v in model.state_dict().items()})
    theirs.eval()
    ((x, y),) = batches([21], seed=5)
    before = {name: np.array(v) for name, v in step.named("statistics").items()}
    with torch.no_grad():
        logits = theirs(torch.from_numpy(x))
    np.testing.assert_allclose(step.predict(x), logits, rtol=1e-4, atol=1e-4)
    loss, _ = step.evaluate(x, y)
    assert loss == pytest.approx(
        functional.cross_entropy(logits, torch.from_numpy(y)).item(), rel=1e-4
    )
    for name, value in step.named("statistics").items():
        assert np.array_equal(value, before[name]), name


def test_a_second_compile_and_another_optimizer_keep_the_statistics():
    model = small(pg.nn)
    step = pg.compile(model, optimizer=pg.optim.SGD(lr=0.1), batch=(16, *IMAGES))
    for x, y in batches([16, 16]):
        step(x, y)
    before = {name: np.array(v) for name, v in step.named("statistics").items()}
    again = pg.compile(model, optimizer=pg.optim.Adam(), batch=(4, *IMAGES))
    assert before["1.num_batches_tracked"] == 2
    for name, value in again.named("statistics").items():
        assert np.array_equal(value, before[name]), name


def test_state_goes_from_torch_before_compile():
    theirs = small(torch.nn)
    torch_losses(theirs, sgd(theirs), batches([16, 16]), torch.float32)
    model = small(pg.nn)
    model.load_state_dict(theirs.state_dict())
    step = pg.compile(model, optimizer=pg.optim.SGD(lr=0.1), batch=(16, *IMAGES))
    assert_same_state(model, theirs, rtol=1e-7)
    theirs.eval()
    ((x, _),) = batches([16], seed=3)
    with torch.no_grad():
        logits = theirs(torch.from_numpy(x))
    np.testing.assert_allclose(step.predict(x), logits, rtol=1e-4, atol=1e-4)


def test_batch_norm_is_an_op_too():
    graph = pg.Graph()
    x = graph.input((4, 3, 2, 2), name="x")
    weight, bias = (graph.parameter((3,), name=name) for name in ("weight", "bias"))
    y = pg.ops.batch_norm(x, weight, bias, eps=1e-3)
    program = pg.compile_graph(graph, {"run": [y]})
    values = np.random.default_rng(0).normal(size=(4, 3, 2, 2)).astype(np.float32)
    program.write(weight, np.array([1, 2, 3], np.float32))
    program.write(bias, np.array([0, 1, 2], np.float32))
    program.run("run", {x: values})
    expected = functional.batch_norm(
        torch.from_numpy(values), None, None, torch.tensor([1.0, 2, 3]), torch.tensor([0.0, 1, 2]),
        training=True, eps=1e-3,
    )  # fmt: skip
    np.testing.assert_allclose(program.view(y), expected, rtol=1e-4, atol=1e-5)


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r"resnet: x \[4, 784\] are no images"):
        pg.compile(pg.models.resnet(), optimizer=pg.optim.Adam(), batch=(4, 784))
    with pytest.raises(ValueError, match="resnet: 0 blocks of width 16"):
        pg.compile(pg.models.resnet(blocks=0), optimizer=pg.optim.Adam(), batch=(4, *IMAGES))
    model = pg.nn.Sequential(pg.nn.BatchNorm2d(3), pg.nn.Flatten(), pg.nn.Linear(784, 10))
    with pytest.raises(ValueError, match=r"running mean \[3\] .* with 1 channels.*in layer '0'"):
        pg.compile(model, optimizer=pg.optim.Adam(), batch=(4, *IMAGES))
    assert repr(pg.nn.BatchNorm2d(3)) == "BatchNorm2d(3, eps=1e-05, momentum=0.1)"
