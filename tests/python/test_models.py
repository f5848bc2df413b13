"""chain and unet against PyTorch, from the same weights. The resnet is in test_batch_norm.py."""

import numpy as np
import poolgrad as pg
import pytest
import torch
from torch import nn
from torch.nn import functional

IMAGES = (1, 12, 16)


def stage(inputs, outputs):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1), nn.ReLU(),
    )  # fmt: skip


class UNet(nn.Module):
    """pg.models.unet."""

    def __init__(self, width=16, classes=10):
        super().__init__()
        self.down1, self.down2 = stage(1, width), stage(width, 2 * width)
        self.middle = stage(2 * width, 4 * width)
        self.up2, self.up1 = stage(6 * width, 2 * width), stage(3 * width, width)
        self.fc = nn.Linear(width, classes)

    def forward(self, x):
        down1 = self.down1(x)
        down2 = self.down2(functional.max_pool2d(down1, 2))
        y = self.middle(functional.max_pool2d(down2, 2))
        y = self.up2(torch.cat([down2, functional.interpolate(y, scale_factor=2)], 1))
        y = self.up1(torch.cat([down1, functional.interpolate(y, scale_factor=2)], 1))
        return self.fc(y.mean((2, 3)))


def chain(depth, width=16, classes=10):
    convolutions = [nn.Conv2d(width if i else 1, width, 3, padding=1) for i in range(depth)]
    layers = [layer for conv in convolutions for layer in (conv, nn.ReLU())]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


class Across(pg.nn.Module):
    """A unet in Python: what a module writes with ops.cat and nn.Upsample."""

    def __init__(self):
        self.down = pg.nn.Conv2d(1, 6, 3, padding=1)
        self.pool, self.upsample = pg.nn.MaxPool2d(2), pg.nn.Upsample(scale_factor=2)
        self.middle = pg.nn.Conv2d(6, 8, 3, padding=1)
        self.fc = pg.nn.Linear(14 * 12 * 16, 10)
        self.dropout = pg.nn.Dropout(0.2)

    def forward(self, x):
        across = pg.ops.relu(self.down(x))
        y = self.upsample(self.middle(self.pool(across)))
        return self.fc(self.dropout(pg.ops.flatten(pg.ops.cat([across, y], 1))))


def batches(count, rows, seed=0):
    generator = np.random.default_rng(seed)
    for _ in range(count):
        yield (
            generator.normal(size=(rows, *IMAGES)).astype(np.float32),
            generator.integers(0, 10, rows),
        )


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda: pg.models.unet(8), lambda: UNet(8)),
        (lambda: pg.models.chain(8, 16), lambda: chain(8)),
        (pg.models.chain, lambda: chain(32)),
    ],
    ids=["unet", "chain8", "chain32"],
)
def test_losses_of_three_steps_are_torchs(ours, theirs, threads):
    ours, theirs = ours(), theirs()
    step = pg.compile(
        ours, optimizer=pg.optim.SGD(lr=0.01), batch=(12, *IMAGES), threads=threads, seed=2
    )
    theirs.load_state_dict({n: torch.from_dlpack(v) for n, v in ours.state_dict().items()})
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.01)
    for (x, y), rows in zip(batches(3, 12), (12, 5, 12)):
        optimizer.zero_grad()
        loss = functional.cross_entropy(
            theirs(torch.from_numpy(x[:rows])), torch.from_numpy(y[:rows])
        )
        loss.backward()
        optimizer.step()
        assert step(x[:rows], y[:rows]) == pytest.approx(loss.item(), rel=1e-3)


def test_a_module_of_ones_own_joins_upsamples_and_drops():
    model = Across()
    step = pg.compile(model, optimizer=pg.optim.Adam(lr=3e-3), batch=(12, *IMAGES))
    ((x, y),) = batches(1, 12)
    losses = [step(x, y) for _ in range(40)]
    assert losses[-1] < 0.5 * losses[0]
    assert step.evaluate(x, y)[0] < 0.5 * losses[0]


def test_initial_values_keep_their_size_through_the_chain():
    model = pg.models.chain()
    step = pg.compile(model, optimizer=pg.optim.SGD(lr=0.0), batch=(12, *IMAGES))
    ((x, _),) = batches(1, 12)
    assert np.asarray(step.predict(x)).std(0).mean() > 1e-3
    assert repr(model) == "_Chain(depth=32, width=16, classes=10)"


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r"unet: x \[4, 1, 10, 12\] is halved twice"):
        pg.compile(pg.models.unet(), optimizer=pg.optim.Adam(), batch=(4, 1, 10, 12))
    with pytest.raises(ValueError, match=r"chain: x \[4, 784\] are no images"):
        pg.compile(pg.models.chain(), optimizer=pg.optim.Adam(), batch=(4, 784))
    with pytest.raises(ValueError, match="Upsample: mode 'bilinear'; only 'nearest' is possible"):
        pg.nn.Upsample(2, mode="bilinear")
