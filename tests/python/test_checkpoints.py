"""Checkpoints of the command: what is saved goes on with the same bits, and what does not fit is
refused before anything is done."""

import json
import signal
import subprocess
import zlib

import numpy as np
import pytest
from test_cli import COMMAND, lines, read_safetensors, run, write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


def raw_parts(path):
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + size]), raw[8 + size :]


def rewrite(path, change, to=None):
    """The file with its header changed, by someone who knows of the checksum."""
    header, body = raw_parts(path)
    del header["__metadata__"]["poolgrad.crc32"]
    change(header)
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % 64)
    (to or path).write_bytes(len(text).to_bytes(8, "little") + text + body)


def same(left, right):
    """Equal in all arrays, and in the position."""
    (a, a_bytes), (b, b_bytes) = raw_parts(left), raw_parts(right)
    for header in a, b:
        for key in "poolgrad.flag.epochs", "poolgrad.crc32":  # which is of the other, too
            header["__metadata__"].pop(key)
    return a == b and a_bytes == b_bytes


MODELS = {
    "mlp, momentum": ["--optimizer", "sgd", "--lr", "0.1", "--momentum", "0.9"],
    "mlp, momentum, nesterov, two hidden": [
        *("--optimizer", "sgd", "--momentum", "0.5", "--nesterov", "--hidden", "32,16"),
        *("--weight-decay", "0.01", "--seed", "3"),
    ],
    "cnn, adam": ["--model", "cnn"],
    "cnn, adamw, by plain sums": ["--model", "cnn", "--optimizer", "adamw", "--no-winograd"],
    "resnet, adam": ["--model", "resnet", "--blocks", "1", "--width", "4"],
    "mlp, read ahead": ["--read-ahead", "--threads", "1"],
}


@pytest.mark.parametrize("flags", MODELS.values(), ids=MODELS.keys())
def test_an_epoch_and_one_more_are_two(data, tmp_path, flags):
    one, two, more = (tmp_path / name for name in ("one", "two", "more"))
    train = ["train", "--data", data, "--batch", 64, *flags, "--json"]
    whole = lines(*train, "--epochs", 2, "--save", two)
    lines(*train, "--epochs", 1, "--save", one)
    again = ["--read-ahead"] if "--read-ahead" in flags else []  # this run's own business
    plan, resumed, *rest = lines(
        *("train", "--data", data, *again, "--resume", one, "--epochs", 2, "--save", more),
        "--json",
    )
    assert plan == whole[0]
    assert resumed == {"event": "resumed", "epochs": 1, "steps": 0}
    for now, then in zip(rest[:-1], whole[2:-1], strict=True):
        now.pop("seconds"), then.pop("seconds")
        assert now == then
    assert same(more, two)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("model", ["cnn", "resnet"])
def test_stopped_by_ctrl_c_within_an_epoch_it_goes_on_at_that_step(tmp_path, model, threads):
    write_data(tmp_path, 800, 50)
    part, whole, more = (tmp_path / name for name in ("part", "whole", "more"))
    small = ["--blocks", 1, "--width", 8] if model == "resnet" else []
    flags = ["--model", model, *small, "--batch", 8, "--threads", threads, "--epochs", 3]
    flags = list(map(str, ["train", "--data", tmp_path, *flags, "--json", "--save"]))
    lines(*flags, whole)
    process = subprocess.Popen([COMMAND, *flags, part], stdout=subprocess.PIPE, text=True)
    for _ in range(2):  # the plan and an epoch: the next one has begun
        process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    steps = json.loads(out.splitlines()[-1])["steps"]
    assert 100 <= steps < 300
    about = raw_parts(part)[0]["__metadata__"]
    assert 100 * int(about["poolgrad.epochs"]) + int(about["poolgrad.steps"]) == steps
    result = run("train", "--data", tmp_path, "--resume", part, "--save", more)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert f"goes on after {steps // 100} epochs and {steps % 100} steps" in result.stdout
    assert same(more, whole)


def test_killed_between_two_saves_it_leaves_the_last_file_whole(data, tmp_path):
    file, more, whole = (tmp_path / name for name in ("file", "more", "whole"))
    flags = ["train", "--data", data, "--batch", "16", "--epochs", "100000", "--json"]
    process = subprocess.Popen(
        [COMMAND, *map(str, flags), "--save", file, "--save-every", "2"],
        stdout=subprocess.PIPE,
        text=True,
    )
    for _ in range(6):  # the plan and five epochs: two files
        process.stdout.readline()
    process.kill()
    process.communicate()
    epochs = int(raw_parts(file)[0]["__metadata__"]["poolgrad.epochs"])
    assert epochs >= 4
    assert epochs % 2 == 0
    goes_on = ["--resume", file, "--epochs", epochs + 1, "--save", more]
    assert run("train", "--data", data, *goes_on).returncode == 0
    lines("train", "--data", data, "--batch", 16, "--epochs", epochs + 1, "--save", whole, "--json")
    assert same(more, whole)


def test_a_file_appears_after_every_epoch_unless_told_otherwise(data, tmp_path):
    file = tmp_path / "file"
    for flags, wanted in ([], 2), (["--save-every", "3"], 3), (["--save-every", "0"], None):
        file.unlink(missing_ok=True)
        train = [COMMAND, "train", "--data", data, "--epochs", "1000000", "--json", "--save", file]
        process = subprocess.Popen([*train, *flags], stdout=subprocess.PIPE, text=True)
        for _ in range(5):
            process.stdout.readline()
        process.kill()
        process.communicate()
        assert file.exists() == (wanted is not None)
        if wanted:
            assert int(raw_parts(file)[0]["__metadata__"]["poolgrad.epochs"]) >= wanted


def test_what_is_behind_optimizer_is_what_training_goes_on_from(data, tmp_path):
    file = tmp_path / "file"
    lines("train", "--data", data, "--epochs", 1, "--batch", 60, "--save", file, "--json")
    arrays = read_safetensors(file)
    weights = {name for name in arrays if not name.startswith("optimizer.")}
    assert weights == {"0.weight", "0.bias", "2.weight", "2.bias"}
    state = {
        f"optimizer.adam.{moment}.{name}" for moment in ("first", "second") for name in weights
    }
    assert set(arrays) == weights | state | {f"optimizer.{x}" for x in ("step", "rate", "scale")}
    assert arrays["optimizer.step"] == 10
    assert arrays["optimizer.rate"] == np.float32(1e-3)
    about = raw_parts(file)[0]["__metadata__"]
    assert about["format"] == "pt"
    assert about["poolgrad.optimizer"].startswith("adam with betas 0.9 and 0.999")


def test_flags_that_may_change_are_obeyed(data, tmp_path):
    file, other = tmp_path / "file", tmp_path / "other"
    train = ["train", "--data", data, "--json"]
    lines(*train, "--epochs", 1, "--threads", 2, "--save", file)
    lines(*train, "--resume", file, "--epochs", 2, "--lr", "0.25", "--save", other)
    assert read_safetensors(other)["optimizer.rate"] == 0.25
    result = run(*train, "--resume", file, "--epochs", 2, "--threads", 1)
    assert result.returncode == 0
    assert "the run so far had 2 threads" in result.stderr
    assert "rounds sums otherwise" in result.stderr


def test_another_table_of_times_is_told_of(data, tmp_path):
    file, table, other = tmp_path / "file", tmp_path / "table", tmp_path / "other"
    train = ["train", "--data", data, "--json"]
    lines(*train, "--tune", table, "--epochs", 1, "--save", file)
    resume = [*train, "--resume", file, "--epochs", 2]
    result = run(*resume, "--tune", table)
    assert result.returncode == 0
    assert result.stderr == ""
    changed = [line.split(" | ") for line in table.read_text().splitlines()]
    for fields in changed[2:-1]:
        others = [x.split()[0] for x in fields[3:] if x.split()[1] != "-"]
        fields[2] = next(name for name in others if name != fields[2])
    other.write_text("".join(" | ".join(fields) + "\n" for fields in changed))
    for flags in [], ["--tune", other]:
        result = run(*resume, *flags)
        assert result.returncode == 0
        assert "chosen by table (" in result.stderr
        assert ("chosen by rule" in result.stderr) == (not flags)
        assert "rounds sums otherwise" in result.stderr


def test_weights_alone_are_measured_or_begin_anew(data, tmp_path):
    file, other = tmp_path / "file", tmp_path / "other"
    train = ["train", "--data", data, "--json"]
    done = lines(*train, "--model", "resnet", "--blocks", 1, "--epochs", 1, "--save", file)[-1]
    resnet = ["--model", "resnet", "--blocks", 1, "--weights", file]
    _, measured = lines(*train, *resnet, "--epochs", 0)
    assert set(measured) == {"event", "test_loss", "test_accuracy"}
    assert measured["event"] == "evaluated"
    assert measured["test_accuracy"] == done["test_accuracy"]
    lines(*train, *resnet, "--optimizer", "sgd", "--epochs", 1, "--batch", 100, "--save", other)
    assert read_safetensors(other)["optimizer.step"] == 6
    text = run("train", "--data", data, *resnet, "--epochs", 0)
    assert f"test accuracy {done['test_accuracy']:.4f}" in text.stdout


def test_weights_that_others_wrote_are_taken(data, tmp_path):
    """As safetensors.torch.save_file(model.state_dict()) writes them: no text, no order."""
    file = tmp_path / "file"
    random = np.random.default_rng(1)
    shapes = {"2.bias": 10, "0.weight": (128, 784), "2.weight": (10, 128), "0.bias": 128}
    arrays = {name: random.normal(0, 0.01, s).astype(np.float32) for name, s in shapes.items()}
    header, at = {}, 0
    for name, array in arrays.items():
        where = {"data_offsets": [at, at + array.nbytes]}
        header[name] = {"dtype": "F32", "shape": list(array.shape), **where}
        at += array.nbytes
    text = json.dumps(header).encode()
    body = b"".join(array.tobytes() for array in arrays.values())
    file.write_bytes(len(text).to_bytes(8, "little") + text + body)
    _, measured = lines("train", "--data", data, "--weights", file, "--epochs", 0, "--json")
    assert measured["test_loss"] == pytest.approx(np.log(10), abs=0.1)
    assert "no training to go on with" in refused("--data", data, "--resume", file, code=1)


def test_a_checkpoint_opens_in_pytorch_as_weights(data, tmp_path):
    torch = pytest.importorskip("torch")
    file = tmp_path / "file"
    lines("train", "--data", data, "--epochs", 1, "--save", file, "--json")
    arrays = {k: torch.from_numpy(v.copy()) for k, v in read_safetensors(file).items()}
    nn = torch.nn
    model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    keys = model.load_state_dict(arrays, strict=False)
    assert keys.missing_keys == []
    assert all(key.startswith("optimizer.") for key in keys.unexpected_keys)


# ---- what is refused


@pytest.fixture(scope="module")
def saved(data, tmp_path_factory):
    file = tmp_path_factory.mktemp("saved") / "cnn"
    lines("train", "--data", data, "--model", "cnn", "--epochs", 1, "--save", file, "--json")
    return file


def refused(*args, code):
    result = run("train", *args)
    assert result.returncode == code, result.stderr
    assert result.stdout == ""
    assert result.stderr.startswith("poolgrad: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--model", "mlp"],
            "--model: 'mlp', but --resume {} goes on with 'cnn'; leave it out, or",
        ),
        (["--optimizer", "sgd"], "--optimizer: 'sgd', but --resume {} goes on with 'adam'"),
        (["--batch", "32"], "--batch: '32', but --resume {} goes on with '64'"),
        (["--seed", "1"], "--seed: '1', but --resume {} goes on with '0'"),
        (["--weight-decay", "0.1"], "it was saved with adam with betas 0.9 and 0.999, epsilon 1e-"),
        (["--epochs", "1"], "--epochs: --resume {} has had 1 of 1; take more, or measure it by"),
        (["--weights", "w"], "--resume excludes --weights"),
        (["--save-every", "2"], "--save-every requires --save"),
        (["--save", "x", "--save-every", "-1"], "--save-every: -1; take 0 or more"),
    ],
)
def test_flags_that_make_another_training_are_refused(data, saved, flags, message):
    if "--epochs" not in flags:
        flags = [*flags, "--epochs", "2"]
    said = refused("--data", data, "--resume", saved, *flags, code=2)
    assert message.format(saved) in said


def test_data_of_another_size_is_refused(saved, tmp_path):
    write_data(tmp_path, 500, 150)
    said = refused("--data", tmp_path, "--resume", saved, "--epochs", 2, code=2)
    assert (
        "it is on its way through 600 samples in batches of 64 with seed 0 but here are 500 in"
        in said
    )


def test_weights_of_another_model_are_refused(data, saved):
    said = refused("--data", data, "--weights", saved, "--model", "resnet", code=2)
    assert f"--weights {saved}: there is no 'conv1.weight' in it" in said
    said = refused("--data", data, "--weights", saved, "--model", "mlp", code=2)
    assert "'0.weight' is [32, 1, 3, 3] of float32 in it but [128, 784] of float32 here" in said


def text_of(key, value):
    return lambda header: header["__metadata__"].update({key: value})


HOSTILE = {
    "no version": (lambda h: h["__metadata__"].pop("poolgrad.checkpoint"), "no training to go on"),
    "newer": (text_of("poolgrad.checkpoint", "2"), "a checkpoint of format 2"),
    "no number": (text_of("poolgrad.steps", "many"), "has 'many' for 'poolgrad.steps'"),
    "steps": (text_of("poolgrad.steps", "11"), "it is at step 11 of 10"),
    "epochs": (text_of("poolgrad.epochs", "-1"), "where no training comes"),
    "loss": (text_of("poolgrad.loss_sum", "nan"), "where no training comes"),
    "no seed": (lambda h: h["__metadata__"].pop("poolgrad.seed"), "lacks 'poolgrad.seed'"),
    "no optimizer": (
        lambda h: h["__metadata__"].pop("poolgrad.optimizer"),
        "it was saved with nothing but here is adam with",
    ),
    "batch": (
        text_of("poolgrad.flag.batch", "1e9"),
        "has '1e9' for --batch, which nobody can type",
    ),
    "seed": (text_of("poolgrad.flag.seed", "x"), "has 'x' for --seed"),
    "model": (text_of("poolgrad.flag.model", "gpt"), "--model: no 'gpt'"),
    "huge": (
        lambda h: h["__metadata__"].update(
            {"poolgrad.flag.model": "resnet", "poolgrad.flag.blocks": "1000000000"}
        ),
        "too few for the model that it names",
    ),
    "wide": (
        lambda h: h["__metadata__"].update(
            {"poolgrad.flag.model": "mlp", "poolgrad.flag.hidden": "1000000000"}
        ),
        "'0.weight' is [32, 1, 3, 3] of float32 in it but [1000000000, 784]",
    ),
    "name": (lambda h: h.update({"x": h.pop("9.bias")}), "there is no '9.bias' in it"),
    "shape": (lambda h: h["9.bias"].update(shape=[5, 2]), "'9.bias' is [5, 2] of float32 in it"),
    "dtype": (lambda h: h["9.bias"].update(dtype="I32"), "'9.bias' is [10] of int32 in it but"),
    "size": (lambda h: h["9.bias"].update(shape=[1 << 60]), "needs more than its 40 bytes"),
}


@pytest.mark.parametrize(("change", "message"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_file_that_is_damaged_or_hostile_is_one_line(data, saved, tmp_path, change, message):
    file = tmp_path / "file"
    rewrite(saved, change, file)
    result = run("train", "--data", data, "--resume", file, "--epochs", 2)
    assert result.returncode in (1, 2), result.stderr
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


def test_a_flag_that_names_a_file_is_not_taken_from_one(data, saved, tmp_path):
    file, bait = tmp_path / "file", tmp_path / "bait"
    change = {f"poolgrad.flag.{flag}": str(bait) for flag in ("save", "tune", "data", "device")}
    rewrite(saved, lambda h: h["__metadata__"].update(change), file)
    assert run("train", "--data", data, "--resume", file, "--epochs", 2).returncode == 0
    assert not bait.exists()


def test_a_truncated_or_missing_file_is_one_line(data, saved, tmp_path):
    file = tmp_path / "file"
    raw = saved.read_bytes()
    for length in 0, 7, 100, len(raw) - 1:
        file.write_bytes(raw[:length])
        assert f"safetensors: '{file}'" in refused("--data", data, "--resume", file, code=1)
        assert f"safetensors: '{file}'" in refused("--data", data, "--weights", file, code=1)
    file.unlink()
    assert "cannot be read" in refused("--data", data, "--resume", file, code=1)


def test_a_checksum_tells_of_bytes_that_others_changed(data, saved, tmp_path):
    header, body = raw_parts(saved)
    about = header.pop("__metadata__")
    stated, crc = about.pop("poolgrad.crc32"), 0
    for name, array in sorted(header.items()):
        for text in name, array["dtype"], str(array["shape"]):
            crc = zlib.crc32(text.encode() + b"\0", crc)
        crc = zlib.crc32(body[slice(*array["data_offsets"])], crc)
    for text in (text for pair in sorted(about.items()) for text in pair):
        crc = zlib.crc32(text.encode() + b"\0", crc)
    assert stated == f"{crc:08x}"

    file = tmp_path / "file"
    raw = bytearray(saved.read_bytes())
    raw[-1000] ^= 1
    file.write_bytes(raw)
    for flag, epochs in ("--resume", 2), ("--weights", 0):
        result = run("train", "--data", data, "--model", "cnn", flag, file, "--epochs", epochs)
        assert result.returncode == 1
        assert f"'{file}' holds what has checksum" in result.stderr


def test_a_counter_that_never_is_stops_before_training(data, saved, tmp_path):
    file = tmp_path / "file"
    header, body = raw_parts(saved)
    begin, end = header["optimizer.step"]["data_offsets"]
    raw = saved.read_bytes()
    at = len(raw) - len(body) + begin
    file.write_bytes(raw[:at] + (-1).to_bytes(8, "little", signed=True) + raw[at + end - begin :])
    rewrite(file, lambda header: None)
    result = run("train", "--data", data, "--resume", file, "--epochs", 2)
    assert result.returncode == 1
    assert "'optimizer.step' has a value that it never takes" in result.stderr
