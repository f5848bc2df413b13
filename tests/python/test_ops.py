"""Every op, forward and every gradient, against PyTorch: float32, relative error at most 1e-4."""

import itertools

import numpy as np
import poolgrad as pg
import pytest
import torch
import torch.nn.functional as F
from poolgrad import ops

TOLERANCE = 1e-4


def distinct(*shape, seed=0):
    """Normal numbers of which no two are close: maxima and signs are the same in any arithmetic."""
    rng = np.random.default_rng(seed)
    count = int(np.prod(shape))
    values = np.sort(rng.normal(size=count)) + np.arange(count) * 1e-4
    values = np.where(np.abs(values) < 1e-4, 0.5, values)
    return rng.permutation(values).reshape(shape).astype(np.float32)


def assert_close(ours, theirs, what):
    """The largest gap, relative to the largest value of the tensor."""
    ours, theirs = np.asarray(ours), theirs.detach().numpy()
    assert ours.shape == theirs.shape, what
    scale = max(float(np.abs(theirs).max()), 1e-6)
    assert np.abs(ours - theirs).max() <= TOLERANCE * scale, what


def compare(ours, theirs, *shapes, **options):
    """Builds y = ours(*handles), and runs y and the gradients of sum(y * slopes) beside torch."""
    arrays = [distinct(*shape, seed=i + 1) for i, shape in enumerate(shapes)]
    expected = [torch.from_numpy(array).requires_grad_() for array in arrays]
    y_torch = theirs(*expected)
    slopes = distinct(y_torch.numel(), 1, seed=100)
    (y_torch.flatten() @ torch.from_numpy(slopes)).sum().backward()

    graph = pg.Graph()
    handles = [graph.parameter(shape, f"p{i}") for i, shape in enumerate(shapes)]
    y = ours(*handles)
    weights = graph.input(slopes.shape, "slopes", batched=False)
    loss = ops.reshape(ops.matmul(ops.reshape(y, (1, slopes.size)), weights), ())
    gradients = pg.gradients(loss, handles)
    program = pg.compile_graph(graph, {"all": [y, *gradients]}, **options)
    for handle, array in zip(handles, arrays):
        program.write(handle, array)
    program.run("all", {weights: slopes})
    assert_close(program.view(y), y_torch, "y")
    for i, (gradient, tensor) in enumerate(zip(gradients, expected)):
        assert_close(program.view(gradient), tensor.grad, f"gradient of operand {i}")


@pytest.mark.parametrize("shape", [(1,), (7, 5), (3, 4, 5, 6)])
def test_relu(shape):
    compare(ops.relu, torch.relu, shape)


@pytest.mark.parametrize("shape", [(1,), (7, 5), (3, 4, 5, 6)])
def test_add(shape):
    compare(ops.add, torch.add, shape, shape)
    compare(lambda x: ops.add(x, x), lambda x: x + x, shape)


def test_sum_rows_flatten_and_reshape():
    compare(ops.flatten, lambda x: x.flatten(1), (3, 4, 5))
    compare(lambda x: ops.reshape(x, (6, 10)), lambda x: x.reshape(6, 10), (3, 4, 5))
    graph = pg.Graph()
    x = graph.parameter((50, 17), "x")
    total = ops.sum_rows(x)
    program = pg.compile_graph(graph, {"all": [total]})
    values = distinct(50, 17)
    program.write(x, values)
    program.run("all")
    assert_close(program.view(total), torch.from_numpy(values).sum(0), "sum")


SIZES = [(1, 1, 1), (1, 9, 5), (8, 1, 3), (5, 7, 3), (33, 10, 128), (64, 128, 784), (100, 257, 300)]


@pytest.mark.parametrize(("m", "n", "k"), SIZES)
@pytest.mark.parametrize("threads", [1, 2])
def test_matmul_and_linear(m, n, k, threads):
    compare(ops.matmul, torch.matmul, (m, k), (k, n), threads=threads)
    compare(
        lambda a, b, c: ops.matmul(a, b, c, transpose=True),
        lambda a, b, c: a @ b.T + c,
        (m, k),
        (n, k),
        (n,),
        threads=threads,
    )
    compare(ops.linear, F.linear, (m, k), (n, k), (n,), threads=threads)
    compare(ops.linear, F.linear, (m, k), (n, k), threads=threads)
    compare(
        lambda *xs: ops.relu(ops.linear(*xs)),
        lambda *xs: torch.relu(F.linear(*xs)),
        (m, k),
        (n, k),
        (n,),
        threads=threads,
    )


def conv(settings, relu=False):
    def ours(*xs):
        y = ops.conv2d(*xs, **settings)
        return ops.relu(y) if relu else y

    def theirs(*xs):
        y = F.conv2d(*xs, **settings)
        return torch.relu(y) if relu else y

    return ours, theirs


GRID = list(
    itertools.product(
        [(1, 1), (2, 1), (3, 2)],  # stride
        [(0, 0), (1, 2)],  # padding
        [(1, 1), (2, 1)],  # dilation
        [1, 2, 4],  # groups
    )
)


@pytest.mark.parametrize(("stride", "padding", "dilation", "groups"), GRID)
def test_conv2d(stride, padding, dilation, groups):
    settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    image, weight = (3, 8, 11, 10), (12, 8 // groups, 3, 3)
    compare(*conv(settings), image, weight, (12,))
    compare(*conv(settings), image, weight)
    compare(*conv(settings, relu=True), image, weight, (12,), threads=2, chunks=2)


@pytest.mark.parametrize("channels", [1, 3, 16, 31, 32, 33])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (2, 5)])
def test_conv2d_channels(channels, kernel):
    compare(*conv({"padding": 1}), (2, channels, 7, 6), (channels, channels, *kernel), (channels,))
    depthwise = conv({"padding": 1, "groups": channels})
    compare(*depthwise, (2, channels, 7, 6), (channels, 1, *kernel), (channels,))
    compare(*conv({"stride": 2}), (5, 1, 9, 9), (channels, 1, *kernel), (channels,))


POOLS = [
    {"kernel_size": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": (2, 3), "stride": (1, 2), "padding": (1, 0)},
    {"kernel_size": 2, "stride": 3},
    {"kernel_size": 1, "stride": 2},
    {"kernel_size": (7, 6)},
]


@pytest.mark.parametrize("settings", POOLS)
@pytest.mark.parametrize("channels", [1, 3, 16, 21])
def test_pools(settings, channels):
    shape = (3, channels, 7, 6)
    compare(lambda x: ops.max_pool2d(x, **settings), lambda x: F.max_pool2d(x, **settings), shape)
    compare(lambda x: ops.avg_pool2d(x, **settings), lambda x: F.avg_pool2d(x, **settings), shape)
    compare(
        lambda x: ops.max_pool2d(ops.relu(x), **settings),
        lambda x: F.max_pool2d(torch.relu(x), **settings),
        shape,
    )


@pytest.mark.parametrize("factor", [1, 2, 3, (2, 5)])
@pytest.mark.parametrize("channels", [1, 3, 16, 21])
def test_upsample_nearest2d(factor, channels):
    compare(
        lambda x: ops.upsample_nearest2d(x, factor),
        lambda x: F.interpolate(x, scale_factor=factor, mode="nearest"),
        (3, channels, 5, 4),
    )


@pytest.mark.parametrize("dim", [0, 1, 2, 3, -1, -3])
@pytest.mark.parametrize("threads", [1, 2])
def test_concat(dim, threads):
    shapes = [[6, 4, 5, 3] for _ in range(3)]
    for shape, extent in zip(shapes, (1, 16, 7)):
        shape[dim] = extent
    compare(
        lambda *xs: ops.concat(xs, dim), lambda *xs: torch.concat(xs, dim), *shapes, threads=threads
    )
    compare(
        lambda x, y: ops.cat([x, ops.max_pool2d(y, 3, 1, 1), x], 1),
        lambda x, y: torch.cat([x, F.max_pool2d(y, 3, 1, 1), x], 1),
        (5, 3, 6, 7),
        (5, 16, 6, 7),
        threads=threads,
    )
    compare(lambda x, y: ops.cat([x, y]), lambda x, y: torch.cat([x, y]), (3, 4), (5, 4))


def test_global_avg_pool2d():
    compare(ops.global_avg_pool2d, lambda x: F.adaptive_avg_pool2d(x, 1), (3, 5, 9, 4))


@pytest.mark.parametrize("shape", [(7, 5), (6, 16, 9, 8)])
@pytest.mark.parametrize("p", [0.0, 0.2, 0.5])
def test_dropout_is_torchs_with_the_mask_that_it_drew(shape, p):
    graph = pg.Graph()
    x = graph.parameter(shape, "x", value=1.0)
    y = ops.dropout(x, p, seed=5)
    program = pg.compile_graph(graph, {"all": [y]})
    program.run("all")
    mask = np.array(program.view(y))
    keep = 1 - p
    np.testing.assert_allclose(np.unique(mask), [1 / keep] if p == 0 else [0, 1 / keep], rtol=1e-6)
    compare(lambda x: ops.dropout(x, p, seed=5), lambda x: x * torch.from_numpy(mask), shape)
    compare(
        lambda x: ops.dropout(ops.relu(x), p, seed=5),
        lambda x: torch.relu(x) * torch.from_numpy(mask),
        shape,
        threads=2,
    )


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_drops_as_often_as_torch(p):
    shape = (512, 1024)
    graph = pg.Graph()
    y = ops.dropout(graph.parameter(shape, "x", value=1.0), p)
    program = pg.compile_graph(graph, {"all": [y]})
    program.run("all")
    ours, theirs = np.array(program.view(y)), F.dropout(torch.ones(shape), p).numpy()
    sigma = (p * (1 - p)) ** 0.5
    for axis in (None, 0, 1):  # in all, by column, by row
        count = ours.size if axis is None else shape[axis]
        share = np.mean(ours == 0, axis)
        assert np.abs(share - p).max() < 5 * sigma / count**0.5
        assert share.std() == pytest.approx(np.mean(theirs == 0, axis).std(), rel=0.2)
    np.testing.assert_array_equal(np.unique(ours), np.unique(theirs))


@pytest.mark.parametrize("classes", [1, 2, 10, 100])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("rows", [1, 6, 9])
def test_softmax_cross_entropy_and_count_correct(classes, reduction, rows):
    """Of a batch of 9 only the first rows count."""
    logits, labels = distinct(9, classes), np.arange(9) * 7 % classes
    expected = torch.from_numpy(logits).requires_grad_()
    loss_torch = F.cross_entropy(
        expected[:rows], torch.from_numpy(labels[:rows]), reduction=reduction
    )
    loss_torch.backward()

    graph = pg.Graph()
    x, y = graph.input((9, classes), "x"), graph.input(9, "y", "int64")
    loss = ops.softmax_cross_entropy(x, y, reduction)
    correct = ops.count_correct(x, y)
    (gradient,) = pg.gradients(loss, [x])
    program = pg.compile_graph(graph, {"all": [loss, correct, gradient]})
    program.run("all", {x: logits[:rows], y: labels[:rows]})
    assert program.view(loss).item() == pytest.approx(loss_torch.item(), rel=TOLERANCE, abs=1e-6)
    assert_close(np.asarray(program.view(gradient))[:rows], expected.grad[:rows], "gradient")
    assert not np.asarray(program.view(gradient))[rows:].any()
    assert program.view(correct).item() == (logits[:rows].argmax(1) == labels[:rows]).sum()


def test_a_label_out_of_range_is_an_error_of_the_run():
    graph = pg.Graph()
    x, y = graph.input((4, 3), "x"), graph.input(4, "y", "int64")
    loss = ops.softmax_cross_entropy(x, y)
    program = pg.compile_graph(graph, {"loss": [loss]})
    with pytest.raises(ValueError, match=r"label 3 in row 2 is not in \[0, 3\); use labels from 0"):
        program.run("loss", {x: distinct(4, 3), y: np.array([0, 1, 3, 2])})
    program.run("loss", {x: distinct(4, 3), y: np.array([0, 1, 2, 2])})  # and goes on


@pytest.mark.parametrize("batch", [1, 5, 8])
@pytest.mark.parametrize(
    "options", [{}, {"threads": 2}, {"threads": 2, "chunks": 3}, {"fuse": False}]
)
def test_a_cnn_with_short_batches(batch, options):
    """Conv, ReLU, pools, linear and loss together, in a program for 8 rows."""
    shapes = [(6, 2, 3, 3), (6,), (8, 3, 3, 3), (8,), (10, 32), (10,)]
    arrays = [distinct(*shape, seed=i) * 0.3 for i, shape in enumerate(shapes)]
    images, labels = distinct(batch, 2, 9, 8, seed=9), np.arange(batch) % 10
    parameters = [torch.from_numpy(array).requires_grad_() for array in arrays]
    w1, b1, w2, b2, w3, b3 = parameters
    h = F.max_pool2d(torch.relu(F.conv2d(torch.from_numpy(images), w1, b1, padding=1)), 2)
    h = F.avg_pool2d(torch.relu(F.conv2d(h, w2, b2, padding=1, groups=2)), 2)
    loss_torch = F.cross_entropy(F.linear(h.flatten(1), w3, b3), torch.from_numpy(labels))
    loss_torch.backward()

    graph = pg.Graph()
    x, y = graph.input((8, 2, 9, 8), "x"), graph.input(8, "y", "int64")
    w = [graph.parameter(shape, f"p{i}") for i, shape in enumerate(shapes)]
    z = ops.max_pool2d(ops.relu(ops.conv2d(x, w[0], w[1], padding=1)), 2)
    z = ops.avg_pool2d(ops.relu(ops.conv2d(z, w[2], w[3], padding=1, groups=2)), 2)
    loss = ops.softmax_cross_entropy(ops.linear(ops.flatten(z), w[4], w[5]), y)
    gradients = pg.gradients(loss, w)
    program = pg.compile_graph(graph, {"all": [loss, *gradients]}, **options)
    for handle, array in zip(w, arrays):
        program.write(handle, array)
    program.run("all", {x: images, y: labels})
    assert program.view(loss).item() == pytest.approx(loss_torch.item(), rel=TOLERANCE)
    for i, (gradient, parameter) in enumerate(zip(gradients, parameters)):
        assert_close(program.view(gradient), parameter.grad, f"gradient {i}")
