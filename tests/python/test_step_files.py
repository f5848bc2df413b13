"""Checkpoints from Python: the same files as the command's, with the same bits."""

import numpy as np
import poolgrad as pg
import pytest
import torch
from test_checkpoints import raw_parts, text_of
from test_checkpoints import rewrite as rewritten
from test_cli import idx, lines, run, write_data

NET = pg.nn


def net():
    return NET.Sequential(
        NET.Conv2d(1, 4, 3, padding=1),
        NET.BatchNorm2d(4),
        NET.ReLU(),
        NET.Flatten(),
        NET.Dropout(0.3),
        NET.Linear(4 * 64, 10),
    )


OPTIMIZERS = {
    "momentum": lambda: pg.optim.SGD(lr=0.05, momentum=0.9),
    "adam": pg.optim.Adam,
    "adamw": pg.optim.AdamW,
}


@pytest.fixture(params=OPTIMIZERS)
def optimizer(request):
    return OPTIMIZERS[request.param]()


def problem(optimizer, make=net, **options):
    generator = np.random.default_rng(2)
    x = generator.integers(0, 256, (100, 1, 8, 8), np.uint8)
    y = generator.integers(0, 10, 100)
    step = pg.compile(make(), optimizer=optimizer, batch=(16, 1, 8, 8), threads=2, **options)
    return step, pg.DataLoader(x, y, batch_size=16, seed=4)


def train(step, loader, epochs, stop=None):
    losses = []
    for _ in range(loader.epochs, epochs):
        for x, y in loader:
            losses.append(step(x, y))
            if len(losses) == stop:
                return losses
    return losses


def bits(step):
    return {name: np.array(tensor).tobytes() for name, tensor in step.state_dict().items()}


@pytest.mark.parametrize("stop", [1, 7, 10])
def test_a_step_goes_on_from_a_file_with_the_same_bits(tmp_path, optimizer, stop):
    file = tmp_path / "file"
    whole, loader = problem(optimizer)
    losses = train(whole, loader, 3)
    part, loader = problem(optimizer)
    begun = train(part, loader, 3, stop)
    part.save(file, loader)
    other, loader = problem(optimizer)
    train(other, loader, 1)  # forgotten
    _, loader = problem(optimizer)
    other.load(str(file), loader)
    assert loader.epochs == stop // 8  # the 7th of 7 steps: the loop has not seen its end
    assert begun + train(other, loader, 3) == losses
    assert bits(other) == bits(whole)


def test_a_state_dict_carries_it_over_without_a_file(optimizer):
    step, loader = problem(optimizer)
    train(step, loader, 1)
    state = {name: torch.from_dlpack(t).clone() for name, t in step.state_dict().items()}
    other, _ = problem(optimizer)
    other.load_state_dict(state)
    assert bits(other) == bits(step)
    x, y = next(iter(loader))
    assert step(x, y) == other(x, y)
    assert bits(other) == bits(step)


def test_the_state_dict_is_the_models_and_the_optimizers():
    model = net()
    step = pg.compile(model, optimizer=pg.optim.Adam(), batch=(16, 1, 8, 8))
    weights, state = model.state_dict(), step.state_dict()
    assert {name for name in state if not name.startswith("optimizer.")} == set(weights)
    assert all(pg.shares_memory(state[name], weights[name]) for name in weights)
    step.lr = 0.5
    assert np.asarray(state["optimizer.rate"]) == 0.5


def test_a_model_takes_the_weights_out_of_a_checkpoint(tmp_path):
    file = tmp_path / "file"
    step, loader = problem(pg.optim.Adam())
    train(step, loader, 1)
    step.save(file)
    for compiled_first in False, True:
        model = net()
        if not compiled_first:
            model.load_state_dict(pg.load_file(file))
        other = pg.compile(model, optimizer=pg.optim.SGD(), batch=(16, 1, 8, 8), threads=2)
        if compiled_first:
            model.load_state_dict(pg.load_file(file))
        x, y = next(iter(loader))
        assert other.evaluate(x, y) == step.evaluate(x, y)


def test_files_hold_arrays_of_any_library(tmp_path):
    file = tmp_path / "file"
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": torch.arange(3)}
    pg.save_file(tensors, file, metadata={"made": "here"})
    read = pg.load_file(file)
    assert set(read) == {"a", "b"}
    assert (np.asarray(read["a"]) == tensors["a"]).all()
    assert read["b"].dtype == "int64"
    about = raw_parts(file)[0]["__metadata__"]
    assert about.pop("made") == "here"
    assert set(about) == {"poolgrad.crc32"}
    with pytest.raises(OSError, match="cannot be read"):
        pg.load_file(tmp_path / "none")


# ---- with the command


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


def images(folder):
    import gzip

    def read(name, header):
        return np.frombuffer(gzip.decompress((folder / name).read_bytes()), np.uint8)[header:]

    x = read("train-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28)
    y = read("train-labels-idx1-ubyte.gz", 8)
    assert len(idx(y)) == len(y) + 8
    return x, y


@pytest.mark.parametrize("ahead", [False, True])
def test_python_and_the_command_go_on_from_each_other(folder, tmp_path, ahead):
    both, ours, theirs, whole = (tmp_path / name for name in ("both", "ours", "theirs", "whole"))
    flags = ["--data", folder, "--model", "cnn", "--threads", 1, "--seed", 3, "--batch", 50]
    lines("train", *flags, "--epochs", 1, "--save", theirs, "--json")
    lines("train", *flags, "--epochs", 2, "--save", whole, "--json")

    def compiled(seed):
        return pg.compile(
            pg.models.cnn(), optimizer=pg.optim.Adam(), batch=(50, 1, 28, 28), threads=1, seed=seed
        )

    loader = pg.DataLoader(*images(folder), batch_size=50, seed=3, read_ahead=ahead)
    step = compiled(seed=0)
    step.load(theirs, loader)
    assert train(step, loader, 2)
    expected = pg.load_file(whole)
    assert bits(step) == {name: np.array(t).tobytes() for name, t in expected.items()}

    loader = pg.DataLoader(*images(folder), batch_size=50, seed=3, read_ahead=ahead)
    step = compiled(seed=3)
    train(step, loader, 1)
    step.save(ours, loader)
    resume = ["--model", "cnn", "--seed", 3, "--batch", 50, "--threads", 1, "--resume", ours]
    lines("train", "--data", folder, *resume, "--epochs", 2, "--save", both, "--json")
    assert raw_parts(both)[1] == raw_parts(whole)[1]


@pytest.mark.parametrize("stop", [4, 12])
def test_the_command_reports_what_it_saw_of_an_epoch_that_python_began(folder, tmp_path, stop):
    file = tmp_path / "file"

    def begun(stop):
        loader = pg.DataLoader(*images(folder), batch_size=50, seed=3)
        step = pg.compile(
            pg.models.cnn(), optimizer=pg.optim.Adam(), batch=(50, 1, 28, 28), threads=1, seed=3
        )
        losses = train(step, loader, 1, stop)
        step.save(file, loader)
        return losses

    rest = begun(None)[stop:]
    assert len(rest) == 12 - stop
    begun(stop)
    resume = ["train", "--data", folder, "--model", "cnn", "--seed", 3, "--batch", 50]
    resume += ["--threads", 1, "--resume", file, "--epochs", 1]
    loss = lines(*resume, "--json")[2]["train_loss"]
    assert loss == (pytest.approx(np.mean(rest)) if rest else None)
    assert ("trained elsewhere" in run(*resume).stdout) == (not rest)


# ---- what is refused


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    file = tmp_path_factory.mktemp("saved") / "file"
    step, loader = problem(pg.optim.Adam())
    train(step, loader, 1, 3)
    step.save(file, loader)
    return file


def tamer():
    model = net()
    model[4].p = 0.2
    return model


def narrow():
    return NET.Sequential(NET.Flatten(), NET.Linear(64, 10))


@pytest.mark.parametrize(
    ("optimizer", "make", "message"),
    [
        (pg.optim.SGD, net, "it was saved with adam with betas 0.9 and 0.999.*but here is sgd"),
        (lambda: pg.optim.Adam(betas=(0.8, 0.99)), net, "but here is adam with betas 0.8 and 0.99"),
        (pg.optim.Adam, narrow, "'1.weight' is .4. of float32 in it but .10, 64. of float32 here"),
        (pg.optim.Adam, tamer, "it was saved with dropout 0.3 .seed 0. but here is 0.2 .seed 0."),
    ],
)
def test_another_training_is_refused_and_nothing_is_changed(saved, optimizer, make, message):
    step, loader = problem(optimizer(), make)
    before, place = bits(step), loader.state_dict()
    with pytest.raises(ValueError, match=message):
        step.load(saved, loader)
    assert bits(step) == before
    assert loader.state_dict() == place


def test_a_state_dict_of_another_training_is_refused_and_nothing_is_changed(saved):
    state = pg.load_file(saved)
    for step in problem(pg.optim.SGD())[0], problem(pg.optim.Adam(), narrow)[0]:
        before = bits(step)
        with pytest.raises(ValueError, match="load_state_dict: '"):
            step.load_state_dict(state)
        assert bits(step) == before


def test_another_seed_of_dropout_is_refused(saved):
    step, loader = problem(pg.optim.Adam(), seed=1)
    with pytest.raises(ValueError, match=r"dropout 0.3 \(seed 0\) but here is 0.3 \(seed 1\)"):
        step.load(saved, loader)


def test_another_loader_is_refused_and_nothing_is_changed(saved):
    step, _ = problem(pg.optim.Adam())
    x, y = np.zeros((90, 1, 8, 8), np.uint8), np.zeros(90, np.int64)
    loader = pg.DataLoader(x, y, batch_size=16, seed=4)
    before = bits(step)
    with pytest.raises(ValueError, match=r"through 100 samples in batches of 16 .* here are 90 in"):
        step.load(saved, loader)
    assert bits(step) == before
    step.load(saved)  # an order of one's own


def test_a_file_without_a_place_in_the_data_needs_no_loader(tmp_path):
    file = tmp_path / "file"
    step, loader = problem(pg.optim.Adam())
    step.save(file)
    with pytest.raises(ValueError, match="it does not say which samples come next"):
        step.load(file, loader)
    step.load(file)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (text_of("poolgrad.checkpoint", "9"), "format 9"),
        (text_of("poolgrad.steps", "9"), "at step 9 of 7"),
        (lambda header: header["__metadata__"].pop("poolgrad.checkpoint"), "no training to go on"),
        (lambda header: header["5.bias"].update(dtype="I32"), "'5.bias' is .10. of int32 in it"),
    ],
)
def test_a_damaged_file_is_refused_and_nothing_is_changed(saved, tmp_path, change, error):
    file = tmp_path / "file"
    rewritten(saved, change, file)
    step, loader = problem(pg.optim.Adam())
    before = bits(step)
    with pytest.raises((OSError, ValueError), match=error):
        step.load(file, loader)
    file.write_bytes(saved.read_bytes()[:-1])
    with pytest.raises(OSError, match="safetensors: "):
        step.load(file, loader)
    assert bits(step) == before
