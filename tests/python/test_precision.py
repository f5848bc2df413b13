"""Training with activations in bfloat16: beside float32, in every memory mode, and refusals."""

import json
import subprocess

import numpy as np
import poolgrad as pg
import pytest
from poolgrad import nn
from test_cli import COMMAND

BATCH, STEPS = 64, 30
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 4, BATCH)
IMAGES = RNG.normal(0, 0.3, (BATCH, 1, 12, 12)).astype(np.float32)
for image, label in zip(IMAGES, LABELS, strict=True):  # which quarter is bright
    image[0, label // 2 * 6 :][:6, label % 2 * 6 :][:, :6] += 1


def network():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(576, 4),
    )


def step_of(**options):
    return pg.compile(
        network(), optimizer=pg.optim.SGD(lr=0.05, momentum=0.9), batch=IMAGES.shape, **options
    )


def losses(**options):
    step = step_of(**options)
    return np.array([float(step(IMAGES, LABELS)) for _ in range(STEPS)])


@pytest.mark.parametrize("threads", [1, 2])
def test_training_in_bfloat16_stays_beside_float32(threads):
    wide, half = (losses(threads=threads, precision=p) for p in ("float32", "bfloat16"))
    assert half[-1] < 0.2 * half[0]
    # Of 8 bits; a loss is a mean over the batch of what they are made of.
    assert np.abs(half[:5] - wide[:5]).max() < 0.02
    assert not np.array_equal(half, wide)


def test_memory_modes_give_the_same_bits_in_bfloat16():
    planned = losses(threads=2, precision="bfloat16")
    for memory in ("pooled", "direct"):
        assert np.array_equal(losses(threads=2, precision="bfloat16", memory=memory), planned)


def test_weights_stay_float32():
    step = step_of(precision="bfloat16")
    step(IMAGES, LABELS)
    assert {np.asarray(v).dtype for k, v in step.named("parameters").items()} == {np.dtype("f4")}


def test_the_arena_of_a_deep_network_is_smaller_in_bfloat16():
    def arena(precision):
        words = f"plan --model resnet20 --batch 128 --threads 1 --json --precision {precision}"
        shown = subprocess.run(
            [COMMAND, *words.split()], capture_output=True, check=True, timeout=60
        )
        return json.loads(shown.stdout.splitlines()[0])["arena_bytes"]

    assert arena("bf16") < 0.6 * arena("f32")


def test_other_precisions_are_refused():
    known = "'float32', 'bfloat16' or 'float16'"
    with pytest.raises(ValueError, match=f"precision 'half' is unknown; {known}"):
        step_of(precision="half")
