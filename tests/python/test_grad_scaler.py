"""Loss scales and clipped norms beside PyTorch's GradScaler and clip_grad_norm_, and f16."""

import json
import subprocess

import numpy as np
import poolgrad as pg
import pytest
import torch
from poolgrad import nn
from test_cli import COMMAND, read_safetensors, write_data
from test_precision import IMAGES, LABELS, losses, step_of

OPTIMIZERS = {
    "sgd": (
        lambda: pg.optim.SGD(lr=0.05, momentum=0.9),
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    ),
    "adam": (lambda: pg.optim.Adam(lr=2e-3), lambda p: torch.optim.Adam(p, lr=2e-3)),
    "adamw": (
        lambda: pg.optim.AdamW(lr=2e-3, weight_decay=0.1),
        lambda p: torch.optim.AdamW(p, lr=2e-3, weight_decay=0.1),
    ),
}
STEPS = 12


def batches():
    """Two of them overflow: what is fed is infinite, so the loss and all gradients are NaN."""
    rng = np.random.default_rng(3)
    for k in range(STEPS):
        x = rng.normal(size=(16, 20)).astype(np.float32)
        if k in (5, 6):
            x[3, 4] = np.inf
        yield x, rng.integers(0, 4, 16)


def mlp(lib):
    return lib.Sequential(lib.Linear(20, 32), lib.ReLU(), lib.Linear(32, 4))


def pair():
    ours, theirs = mlp(nn), mlp(torch.nn)
    ours.load_state_dict({k: v.detach().numpy() for k, v in theirs.state_dict().items()})
    return ours, theirs


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("clip", [None, 0.3])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_are_pytorchs_through_an_overflow(name, clip, threads):
    torch.manual_seed(1)
    ours, theirs = pair()
    mine, make = OPTIMIZERS[name]
    optimizer = make(theirs.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=3)
    step = pg.compile(
        ours,
        optimizer=mine(),
        batch=(16, 20),
        threads=threads,
        grad_scaler=pg.amp.GradScaler(init_scale=1024.0, growth_interval=3),
        clip_grad_norm=clip,
    )
    for x, y in batches():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(theirs(torch.from_numpy(x)), torch.from_numpy(y))
        scaler.scale(loss).backward()
        if clip is not None:
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(theirs.parameters(), clip)
        scaler.step(optimizer)
        scaler.update()
        np.testing.assert_allclose(step(x, y), loss.item(), rtol=1e-5)
        assert step.loss_scale == scaler.get_scale()
    assert step.skipped_steps == 2
    for key, value in theirs.state_dict().items():
        np.testing.assert_allclose(
            np.asarray(ours.state_dict()[key]), value.numpy(), atol=2e-6, rtol=2e-5
        )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_clipped_steps_are_pytorchs(name):
    torch.manual_seed(2)
    ours, theirs = pair()
    mine, make = OPTIMIZERS[name]
    optimizer = make(theirs.parameters())
    step = pg.compile(ours, optimizer=mine(), batch=(16, 20), clip_grad_norm=0.3)
    norms = []
    for x, y in batches():
        if not np.isfinite(x).all():
            continue
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(theirs(torch.from_numpy(x)), torch.from_numpy(y))
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.3)))
        optimizer.step()
        np.testing.assert_allclose(step(x, y), loss.item(), rtol=1e-5)
    assert max(norms) > 0.3
    assert (step.loss_scale, step.skipped_steps) == (1.0, 0)


def test_a_skipped_step_changes_nothing_but_the_scale():
    step = step_of(threads=2, grad_scaler=pg.amp.GradScaler())
    step(IMAGES, LABELS)
    before = {k: np.array(v) for k, v in step.state_dict().items()}
    bad = IMAGES.copy()
    bad[0] = np.nan
    step(bad, LABELS)
    for key, value in step.state_dict().items():
        if "scale" in key or "skipped" in key or "growth" in key or "running" in key:
            continue
        if "num_batches" in key:  # a forward pass has seen it, as in PyTorch
            continue
        assert np.array_equal(before[key], value), key
    assert step.loss_scale == 0.5 * 65536
    assert step.skipped_steps == 1


@pytest.mark.parametrize("threads", [1, 2])
def test_training_in_float16_stays_beside_float32(threads):
    wide, half = (losses(threads=threads, precision=p) for p in ("float32", "float16"))
    assert half[-1] < 0.2 * half[0]
    assert np.abs(half[:5] - wide[:5]).max() < 3e-3  # of 11 bits
    assert not np.array_equal(half, wide)


def test_memory_modes_give_the_same_bits_in_float16():
    planned = losses(threads=2, precision="float16", clip_grad_norm=1.0)
    for memory in ("pooled", "direct"):
        again = losses(threads=2, precision="float16", clip_grad_norm=1.0, memory=memory)
        assert np.array_equal(again, planned)


def test_small_gradients_vanish_in_float16_without_a_scale():
    def moved(scale):
        scaler = pg.amp.GradScaler(init_scale=scale, growth_factor=1.0, backoff_factor=1.0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(144, 4, bias=False))
        model.load_state_dict({"1.weight": np.repeat([[1.0], [0], [0], [0]], 144, axis=1)})
        step = pg.compile(
            model,
            optimizer=pg.optim.SGD(lr=1e6),
            batch=(8, 144),
            precision="float16",
            grad_scaler=scaler,
        )
        before = np.array(model.state_dict()["1.weight"])
        step(np.full((8, 144), 0.125, np.float32), np.zeros(8, np.int64))
        return np.abs(np.asarray(model.state_dict()["1.weight"]) - before).max()

    assert moved(1.0) == 0.0  # a gradient of exp(-18) / 8 per row
    assert moved(2.0**16) > 0.0


def test_an_overflow_on_purpose_recovers():
    step = step_of(
        threads=2, precision="float16", grad_scaler=pg.amp.GradScaler(init_scale=2.0**60)
    )
    got = [float(step(IMAGES, LABELS)) for _ in range(90)]
    assert 30 < step.skipped_steps < 60
    assert step.loss_scale == 2.0 ** (60 - step.skipped_steps)
    assert got[-1] < 0.3 * got[0]


def test_a_second_compile_goes_on_with_the_scale_and_another_scaler_begins_anew():
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 4))
    options = {"optimizer": pg.optim.SGD(lr=0.01), "precision": "float16"}
    first = pg.compile(
        model, batch=IMAGES.shape, grad_scaler=pg.amp.GradScaler(init_scale=2.0**60), **options
    )
    first(IMAGES, LABELS)
    same = pg.compile(
        model, batch=(8, 1, 12, 12), grad_scaler=pg.amp.GradScaler(init_scale=2.0**60), **options
    )
    assert (same.loss_scale, same.skipped_steps) == (2.0**59, 1)
    other = pg.compile(model, batch=(8, 1, 12, 12), **options)
    assert (other.loss_scale, other.skipped_steps) == (65536.0, 0)


def test_a_checkpoint_has_the_scale_and_goes_on_with_the_same_bits(tmp_path):
    options = {
        "threads": 2,
        "precision": "float16",
        "grad_scaler": pg.amp.GradScaler(init_scale=2.0**40, growth_interval=4),
        "clip_grad_norm": 0.5,
    }
    whole = step_of(**options)
    expected = [float(whole(IMAGES, LABELS)) for _ in range(60)]
    first = step_of(**options)
    assert [float(first(IMAGES, LABELS)) for _ in range(25)] == expected[:25]
    first.save(tmp_path / "at.safetensors")
    second = step_of(**options)
    second.load(tmp_path / "at.safetensors")
    assert second.loss_scale == first.loss_scale
    assert [float(second(IMAGES, LABELS)) for _ in range(35)] == expected[25:]
    assert second.skipped_steps == whole.skipped_steps > 0
    assert second.loss_scale == whole.loss_scale

    plain = step_of(threads=2)
    with pytest.raises(ValueError, match="it was saved with loss scale from 1099511627776, times"):
        plain.load(tmp_path / "at.safetensors")
    unclipped = step_of(**{**options, "clip_grad_norm": None})
    with pytest.raises(ValueError, match=r"it was saved with clip_grad_norm 0\.5 but here is none"):
        unclipped.load(tmp_path / "at.safetensors")


def test_what_is_no_scaler_and_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="grad scaler: backoff_factor is 2; it must be above 0"):
        pg.amp.GradScaler(backoff_factor=2)
    with pytest.raises(TypeError, match="grad_scaler is a 'float', not a GradScaler"):
        step_of(grad_scaler=2.0)
    with pytest.raises(ValueError, match="clipped to a norm of -1; it must be above 0"):
        step_of(clip_grad_norm=-1.0)
    assert repr(pg.amp.GradScaler()) == (
        "GradScaler(init_scale=65536, growth_factor=2, backoff_factor=0.5, growth_interval=2000)"
    )


# ---- the command


def run(words, **how):
    return subprocess.run(
        [COMMAND, *words.split()], capture_output=True, text=True, timeout=300, **how
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


def trained(data, words):
    shown = run(f"train --data {data} --threads 2 --json {words}", check=True)
    return [json.loads(line) for line in shown.stdout.splitlines()]


def test_the_command_learns_in_float16_and_tells_of_the_scale(data):
    wide, half = (trained(data, f"--epochs 4 --precision {p}") for p in ("f32", "f16"))
    assert half[-1]["test_accuracy"] > 0.9
    assert abs(half[-1]["test_accuracy"] - wide[-1]["test_accuracy"]) < 0.05
    for line in half[1:]:
        assert (line["loss_scale"], line["skipped_steps"]) == (65536, 0)
    assert not any("loss_scale" in line for line in wide)
    assert half[-1]["allocations_in_loop"] in (0, None)
    assert half[-1]["measured_peak_bytes"] <= half[-1]["predicted_peak_bytes"]


def test_the_command_counts_skipped_steps(data):
    *_, done = trained(data, "--epochs 2 --precision f16 --loss-scale 1e30")
    assert (done["skipped_steps"], done["loss_scale"]) == (20, pytest.approx(1e30))
    shown = run(f"train --data {data} --epochs 2 --precision f16 --loss-scale 1e30", check=True)
    assert "skipped 10 steps so far" in shown.stdout
    assert "loss scale 1.00000002e+30 at the end; 20 steps were skipped" in shown.stdout


def test_the_command_goes_on_with_scale_and_clipping_of_the_file(data, tmp_path):
    flags = f"train --data {data} --threads 2 --precision f16 --clip-grad-norm 0.5"
    run(f"{flags} --epochs 2 --save {tmp_path}/whole.safetensors", check=True)
    run(f"{flags} --epochs 1 --save {tmp_path}/half.safetensors", check=True)
    resume = f"train --data {data} --resume {tmp_path}/half.safetensors --epochs 2"
    run(f"{resume} --save {tmp_path}/rest.safetensors", check=True)
    whole, rest = (read_safetensors(tmp_path / f"{n}.safetensors") for n in ("whole", "rest"))
    assert whole["optimizer.growth_tracker"] == 20
    assert whole.keys() == rest.keys()
    assert all(np.array_equal(value, rest[name]) for name, value in whole.items())
    for other, message in {
        "--clip-grad-norm 2": "--clip-grad-norm: '2', but",
        "--precision f32": "it was saved with loss scale from 65536, times 2 after 2000 steps",
    }.items():
        refused = run(f"{resume} {other}")
        assert refused.returncode != 0
        assert message in refused.stderr


def test_the_plan_shows_the_bytes_of_gradients_that_wait_for_each_other():
    def scratch(words):
        shown = run(
            f"plan --model mlp --optimizer sgd --batch 8 --threads 1 --json {words}", check=True
        )
        entries = json.loads(shown.stdout.splitlines()[0])["entries"]
        return next(entry["scratch_bytes"] for entry in entries if entry["name"] == "train")

    gradients = 4 * (784 * 128 + 128 * 10)
    assert scratch("") < 0.5 * gradients
    assert gradients < scratch("--clip-grad-norm 1") < 1.2 * gradients


def test_wrong_flags_of_the_command():
    for words, message in {
        "--loss-scale 8": "--loss-scale: f32 needs none; leave it out or take --precision f16",
        "--precision f16 --loss-scale 0": "grad scaler: init_scale is 0; it must be above 0",
        "--precision f8": "--precision: no 'f8'; choose f32, bf16 or f16",
        "--clip-grad-norm -1": "gradients clipped to a norm of -1; it must be above 0",
    }.items():
        done = run(f"plan {words}")
        assert done.returncode != 0
        assert message in done.stderr
