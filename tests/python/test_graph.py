"""Graphs built by hand: handles, gradients, programs and what they refuse."""

import gc
import re

import numpy as np
import poolgrad as pg
import pytest
import torch
from poolgrad import ops


def values(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def small_net():
    """x [4, 6] -> relu(x w^T + b) -> logits [4, 3] -> mean cross-entropy."""
    graph = pg.Graph()
    x = graph.input((4, 6), "x")
    labels = graph.input(4, "labels", "int64")
    weights = [
        graph.parameter((5, 6), "w1", fan_in=6, seed=1),
        graph.parameter(5, "b1", value=0.5),
        graph.parameter((3, 5), "w2", fan_in=5, seed=1),
    ]
    hidden = ops.relu(ops.linear(x, weights[0], weights[1]))
    logits = ops.linear(hidden, weights[2])
    loss = ops.softmax_cross_entropy(logits, labels)
    return graph, x, labels, weights, hidden, logits, loss


def test_gradients_of_a_graph_are_torchs():
    graph, x, labels, weights, _, _, loss = small_net()
    gradients = pg.gradients(loss, [*weights, x])
    program = pg.compile_graph(graph, {"all": [loss, *gradients]})
    feeds = {x: values(4, 6), labels: np.array([0, 2, 1, 1])}
    program.run("all", feeds)

    w1, b1, w2 = (torch.from_dlpack(program.view(w)).clone().requires_grad_() for w in weights)
    tx = torch.from_numpy(feeds[x]).requires_grad_()
    logits = torch.relu(tx @ w1.T + b1) @ w2.T
    expected = torch.nn.functional.cross_entropy(logits, torch.from_numpy(feeds[labels]))
    expected.backward()
    assert program.view(loss).item() == pytest.approx(expected.item(), rel=1e-5)
    for ours, theirs in zip(gradients, (w1, b1, w2, tx)):
        assert ours.shape == tuple(theirs.shape)
        np.testing.assert_allclose(program.view(ours), theirs.grad, rtol=1e-4, atol=1e-6)


def test_a_gradient_that_does_not_exist_is_none():
    graph, x, _, _, _, _, loss = small_net()
    unused = graph.parameter(3, "unused")
    gradients = pg.gradients(loss, [unused, x])
    assert gradients[0] is None
    assert gradients[1].shape == x.shape


def test_handles_tell_what_they_stand_for():
    graph, x, labels, weights, hidden, _, loss = small_net()
    assert repr(x) == "Handle('x' [4, 6] float32)"
    assert (labels.shape, labels.dtype, labels.name) == ((4,), "int64", "labels")
    assert (hidden.shape, loss.shape) == ((4, 5), ())
    assert graph.column("parameters") == weights
    assert x == graph.column("inputs")[0]
    assert x != labels
    assert len({x, graph.column("inputs")[0]}) == 1
    assert len(graph) > 3


def test_handles_keep_their_graph():
    hidden = small_net()[4]
    gc.collect()
    assert ops.flatten(hidden).shape == (4, 5)


def test_only_bytes_of_ones_own_are_lent():
    graph, x, labels, _, hidden, logits, loss = small_net()
    program = pg.compile_graph(graph, {"loss": [loss]})
    with pytest.raises(BufferError, match=r"has bytes the plan reuses; call keep\("):
        program.view(hidden)
    graph.keep(hidden)
    program = pg.compile_graph(graph, {"loss": [loss], "predict": [logits]})
    program.run("loss", {x: values(4, 6), labels: np.zeros(4, np.int64)})
    kept = np.asarray(program.view(hidden))
    assert (kept >= 0).all()
    assert kept.any()
    del program
    gc.collect()
    assert (kept >= 0).all()


def test_options_do_not_change_a_bit():
    bits = set()
    for options in (
        {}, {"fuse": False}, {"layout": False}, {"schedule": False}, {"in_place": False},
        {"order": False},
        {"memory": "pooled"}, {"memory": "direct"}, {"memory_limit": 1 << 20},
    ):  # fmt: skip
        graph, x, labels, weights, _, _, loss = small_net()
        gradients = pg.gradients(loss, weights)
        program = pg.compile_graph(graph, {"all": [loss, *gradients]}, **options)
        program.run("all", {x: values(4, 6), labels: np.array([0, 2, 1, 1])})
        bits.add(b"".join(bytes(program.view(g)) for g in gradients))
    assert len(bits) == 1


def test_what_is_written_is_what_is_read():
    graph, x, _, weights, _, logits, _ = small_net()
    program = pg.compile_graph(graph, {"predict": [logits]})
    program.write(weights[0], np.zeros((5, 6)))  # float64: converted
    program.write(weights[1], np.full(5, 2.0, np.float32))
    program.write(weights[2], torch.ones(3, 5))
    program.run("predict", {x: values(4, 6)})
    assert np.array_equal(program.view(logits), np.full((4, 3), 10.0))
    program.run("predict", {x: values(2, 6)})
    assert program.column("parameters").shape == (48 + 16,)  # on 64 bytes each: 30, 5 and 15


def test_the_measured_peak_is_the_predicted_one():
    graph, x, labels, weights, _, _, loss = small_net()
    program = pg.compile_graph(graph, {"all": [loss, *pg.gradients(loss, weights)]})
    program.watch_peak()
    program.run("all", {x: values(4, 6), labels: np.array([0, 2, 1, 1])})
    assert program.measured_peak_bytes() == program.plan.predicted_peak_bytes


@pytest.mark.parametrize(
    ("act", "error", "text"),
    [
        (lambda g, x: ops.matmul(x, x), ValueError, "matmul: left [4, 6]"),
        (lambda g, x: ops.add(x, pg.Graph().input((4, 6))), ValueError, "another graph"),
        (lambda g, x: g.input((4, 0)), ValueError, "has an extent below 1"),
        (lambda g, x: ops.softmax_cross_entropy(x, x, "max"), ValueError, "reduction 'max'"),
        (lambda g, x: ops.relu(None), TypeError, "incompatible"),
        (lambda g, x: pg.gradients(x, [x]), ValueError, "loss [4, 6] is not a scalar"),
        (lambda g, x: pg.compile_graph(g, {}), ValueError, "no entries; name at least one"),
        (lambda g, x: pg.compile_graph(g, {"a": [x]}, colour=1), TypeError, "no option 'colour'"),
        (
            lambda g, x: pg.compile_graph(g, {"a": [ops.relu(x)]}).run("b"),
            ValueError,
            "no entry 'b'",
        ),
        (
            lambda g, x: pg.compile_graph(g, {"a": [ops.relu(x)]}).run("a", {x: values(5, 6)}),
            ValueError,
            "run: [5, 6] does not fit input 'x' [4, 6]",
        ),
        (
            lambda g, x: pg.compile_graph(g, {"a": [ops.relu(x)]}).run("a", {x: [1.0]}),
            TypeError,
            "x: 'list' has neither a buffer nor __dlpack__",
        ),
        (
            lambda g, x: pg.compile_graph(g, {"a": [ops.relu(x)]}).column("moments"),
            ValueError,
            "column: there is no 'moments'",
        ),
    ],
)
def test_mistakes_are_named(act, error, text):
    graph = pg.Graph()
    x = graph.input((4, 6), "x")
    with pytest.raises(error, match=re.escape(text)):
        act(graph, x)
