"""Train a CNN inside one arena and open its weights in PyTorch, without copying a byte.

Reads Fashion-MNIST from the folder given, or from where Debian's dataset-fashion-mnist puts it.
"""

import gzip
import pathlib
import sys
import time

import numpy as np
import poolgrad as pg
import torch

BATCH = 64


def images_and_labels(folder, part):
    """Pixels in [0, 1] as [n, 1, 28, 28] float32, labels as [n] int64."""
    with gzip.open(folder / f"{part}-images-idx3-ubyte.gz") as file:
        x = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    with gzip.open(folder / f"{part}-labels-idx1-ubyte.gz") as file:
        y = np.frombuffer(file.read(), np.uint8, offset=8)
    return x.astype(np.float32) / 255, y.astype(np.int64)


def train_an_epoch(step, x, y, seed):
    order = np.random.default_rng(seed).permutation(len(x))
    start, total = time.perf_counter(), 0.0
    for begin in range(0, len(x), BATCH):
        rows = order[begin : begin + BATCH]  # the last ones are fewer
        total += step(x[rows], y[rows]) * len(rows)
    seconds = time.perf_counter() - start
    print(f"  epoch {seed}: mean loss {total / len(x):.4f}, {len(x) / seconds:,.0f} images/s")


def torch_twin():
    from torch.nn import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential

    return Sequential(
        Conv2d(1, 32, 3, padding=1), ReLU(), MaxPool2d(2),
        Conv2d(32, 64, 3, padding=1), ReLU(), MaxPool2d(2),
        Flatten(), Linear(3136, 128), ReLU(), Linear(128, 10),
    )  # fmt: skip


def largest_difference(step, twin, x):
    with torch.no_grad():
        theirs = twin(torch.from_numpy(x))
    return (torch.from_dlpack(step.predict(x)) - theirs).abs().max().item()


def main(folder="/usr/share/datasets/fashion-mnist"):
    folder = pathlib.Path(folder)
    x, y = images_and_labels(folder, "train")
    test_x, test_y = images_and_labels(folder, "t10k")

    model = pg.models.cnn()
    step = pg.compile(model, optimizer=pg.optim.Adam(lr=1e-3), batch=(BATCH, 1, 28, 28))
    print(f"poolgrad trains in one {step.plan}")
    train_an_epoch(step, x, y, seed=1)
    print(f"  test accuracy {step.evaluate(test_x, test_y)[1]:.4f}")

    weights = model.state_dict()
    twin = torch_twin()
    twin.load_state_dict({name: torch.from_dlpack(w) for name, w in weights.items()}, assign=True)
    print("PyTorch opens the weights where they lie:")
    for name, weight in twin.state_dict().items():
        ours, theirs = weights[name].data_ptr(), weight.data_ptr()
        print(f"  {name:9} {list(weight.shape)!s:15} poolgrad {ours:#x}  torch {theirs:#x}")
        assert ours == theirs, f"{name} was copied"

    some = test_x[:1000]
    difference = largest_difference(step, twin, some)
    print(f"Logits of {len(some)} images differ by at most {difference:.1e} (tolerance 1e-3)")
    assert difference < 1e-3

    print("poolgrad trains on, and PyTorch sees it:")
    before = twin(torch.from_numpy(some)).detach()
    train_an_epoch(step, x[:6400], y[:6400], seed=2)
    moved = (twin(torch.from_numpy(some)).detach() - before).abs().max().item()
    difference = largest_difference(step, twin, some)
    print(f"  torch's logits moved by {moved:.2f} and differ from ours by at most {difference:.1e}")
    assert moved > 0.01
    assert difference < 1e-3

    del step, model, weights
    with torch.no_grad():
        right = (twin(torch.from_numpy(some)).argmax(1) == torch.from_numpy(test_y[:1000])).sum()
    print(f"Model and step are gone, the arena is not: torch's accuracy is {right / 1000:.3f}")
    assert right > 800


if __name__ == "__main__":
    main(*sys.argv[1:])
