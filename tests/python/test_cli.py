"""The poolgrad command as a user meets it: exit codes, lines, files, signals."""

import gzip
import json
import os
import pty
import re
import signal
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


def find_command():
    """The command of the build that this Python imports poolgrad from."""
    if "POOLGRAD_COMMAND" in os.environ:
        return Path(os.environ["POOLGRAD_COMMAND"])
    poolgrad = pytest.importorskip("poolgrad")
    return Path(poolgrad.__file__).parents[2] / "bin" / "poolgrad"


COMMAND = find_command()
if not COMMAND.exists():
    pytest.skip(
        f"no command at {COMMAND}; build it, or set POOLGRAD_COMMAND", allow_module_level=True
    )


def run(*args, **options):
    return subprocess.run(
        [COMMAND, *map(str, args)], capture_output=True, text=True, timeout=120, **options
    )


def lines(*args):
    result = run(*args)
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_data(folder, train=600, test=150, size=28):
    """Images whose bright rows say their label: learnt in an epoch or two."""
    random = np.random.default_rng(1)
    for prefix, count in ("train", train), ("t10k", test):
        labels = np.arange(count) % 10
        images = random.integers(0, 100, (count, size, size))
        for image, label in zip(images, labels, strict=True):
            image[2 * label : 2 * label + 3] += 150
        for name, array in ("images-idx3", images), ("labels-idx1", labels):
            (folder / f"{prefix}-{name}-ubyte.gz").write_bytes(gzip.compress(idx(array)))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


def read_safetensors(path):
    """Names, shapes and values, by the format's description alone."""
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    header.pop("__metadata__")
    dtypes = {"F32": np.float32, "I64": np.int64}
    return {
        name: np.frombuffer(
            raw[8 + size :][slice(*entry["data_offsets"])], dtypes[entry["dtype"]]
        ).reshape(entry["shape"])
        for name, entry in header.items()
    }


def weights_of(path):
    """Without what is kept for going on: tests/python/test_checkpoints.py."""
    arrays = read_safetensors(path)
    return {name: array for name, array in arrays.items() if not name.startswith("optimizer.")}


# ---- what is printed


def test_json_lines_have_exactly_the_promised_fields(data):
    plan, *epochs, done = lines("train", "--data", data, "--epochs", 2, "--json")
    assert set(plan) == {
        "event",
        "arena_bytes",
        "lower_bound_bytes",
        "sum_bytes",
        "persistent_bytes",
        "made_again",
        "extra_time",
    }
    assert plan["event"] == "plan"
    assert [line["epoch"] for line in epochs] == [1, 2]
    for line in epochs:
        assert set(line) == {"event", "epoch", "train_loss", "test_accuracy", "seconds"}
        assert line["event"] == "epoch"
    assert set(done) == {
        "event",
        "test_accuracy",
        "images_per_s",
        "allocations_in_loop",
        "library_allocations_per_step",
        "library_bytes_per_step",
        "predicted_peak_bytes",
        "measured_peak_bytes",
    }
    assert done["event"] == "done"
    assert done["test_accuracy"] == epochs[-1]["test_accuracy"]


def test_a_profile_names_the_ops_and_what_each_thread_did(data):
    flags = ("train", "--data", data, "--epochs", 1, "--threads", 2, "--profile")
    profile = lines(*flags, "--json")[-1]
    assert set(profile) == {"event", "steps", "step_us", "ops", "members"}
    assert profile["event"] == "profile"
    assert {"gather", "matmul", "softmax_cross_entropy"} <= {op["op"] for op in profile["ops"]}
    for op in profile["ops"]:
        rate = "gflops" if op["op"].startswith("matmul") else "gbs"
        assert set(op) == {"op", "layer", "calls", "us", "share", rate}
    assert sum(op["share"] for op in profile["ops"]) == pytest.approx(1)
    for member in profile["members"]:
        assert set(member) == {"busy_us", "wait_us", "rest_us"}
    text = run(*flags).stdout
    assert re.search(r"matmul +\S+ +\d+ +[\d.]+ +[\d.]+ %  [\d.]+ GFLOP/s", text)
    assert "waiting" in text


def test_peak_is_as_predicted_and_the_loop_allocates_nothing(data):
    for model in "mlp", "cnn":
        for threads in 1, 2:
            done = lines(
                *("train", "--data", data, "--model", model, "--epochs", 1),
                *("--batch", 32, "--threads", threads, "--json"),
            )[-1]
            assert done["measured_peak_bytes"] == done["predicted_peak_bytes"]
            assert done["allocations_in_loop"] in (0, None)  # None: a build that cannot count


def test_text_for_people_has_no_control_characters_in_a_pipe(data):
    result = run("train", "--data", data, "--epochs", 2)
    assert result.returncode == 0
    assert result.stderr == ""
    assert "lower bound" in result.stdout
    assert re.search(
        r"^epoch 2/2  loss [\d.]+  accuracy [\d.]+  test accuracy ", result.stdout, re.M
    )
    assert ": equal\n" in result.stdout
    assert "\r" not in result.stdout
    assert "\033" not in result.stdout


def test_a_terminal_shows_progress_with_the_time_left(data):
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [COMMAND, "train", "--data", data, "--model", "cnn", "--epochs", "2", "--batch", "8"],
        stdout=follower,
        stderr=subprocess.DEVNULL,
    )
    os.close(follower)
    shown = b""
    try:
        while piece := os.read(leader, 4096):
            shown += piece
    except OSError:  # the other end is closed
        pass
    os.close(leader)
    assert process.wait() == 0
    assert re.search(rb"epoch 1/2 \[=* *\] loss .* accuracy .* images/s  ETA \d+:\d\d", shown)


def test_small_data_is_learnt(data):
    done = lines("train", "--data", data, "--epochs", 5, "--batch", 32, "--json")[-1]
    assert done["test_accuracy"] > 0.9


# ---- plans


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--model", "cnn", "--batch", "32"],
        ["--hidden", "64,32", "--optimizer", "sgd", "--momentum", "0.9"],
        ["--model", "cnn", "--threads", "2", "--chunks", "4"],
        ["--memory", "direct"],
        ["--read-ahead"],
    ],
)
def test_plan_is_the_plan_that_train_prints(data, flags):
    trained = lines("train", "--data", data, "--epochs", 1, "--json", *flags)[0]
    (planned,) = lines("plan", "--json", *flags)
    assert {key: planned[key] for key in trained} == trained


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("model", ["mlp", "cnn", "resnet", "resnet20", "chain", "unet"])
def test_plan_accounts_for_every_byte_of_every_entry(model, threads):
    (plan,) = lines("plan", "--json", "--model", model, "--threads", threads)
    assert [entry["name"] for entry in plan["entries"]] == ["train", "evaluate"]
    scratch = plan["arena_bytes"] - plan["persistent_bytes"]
    assert scratch == max(entry["scratch_bytes"] for entry in plan["entries"])
    for entry in plan["entries"]:
        peak = plan["persistent_bytes"] + entry["scratch_lower_bound_bytes"]
        in_layers = sum(v for row in entry["layers"] for k, v in row.items() if k != "layer")
        assert in_layers == peak
        alive = sum(group["bytes"] for group in entry["alive"])
        assert alive == entry["scratch_lower_bound_bytes"]
        for group in entry["alive"]:
            assert group["why"] in ("made", "read", "needed", "phase")
            assert 0 <= group["next"]["step"] < entry["steps"]


def test_tables_of_a_plan_fit_a_terminal():
    for flags in [], ["--model", "cnn", "--entry", "evaluate"], ["--model", "resnet", "--full"]:
        result = run("plan", "--threads", 2, *flags)
        assert result.returncode == 0
        assert max(map(len, result.stdout.splitlines())) <= 100
        for word in "arena", "train", "evaluate", "activation", "share", "alive then":
            assert word in result.stdout
    assert "no entry 'fly'" in run("plan", "--entry", "fly").stderr


def test_plan_reaches_the_lower_bound_with_one_thread():
    for model in "mlp", "cnn":
        for batch in 32, 128:
            flags = ["--model", model, "--batch", batch, "--threads", 1]
            (plan,) = lines("plan", "--json", *flags)
            assert plan["arena_bytes"] == plan["lower_bound_bytes"]


@pytest.mark.parametrize(
    "file", sorted((ROOT / "tests/data/plans").glob("*.csv")), ids=lambda f: f.name
)
def test_plan_of_buffers_in_a_file(file):
    (plan,) = lines("plan", "--input", file, "--json")
    assert list(plan) == [
        "buffers", "lower_bound_bytes", "witness", "arena_bytes", "optimal", "ms", "nodes",
    ]  # fmt: skip
    assert plan["buffers"] == len(file.read_text().splitlines()) - 1
    assert plan["optimal"]
    assert plan["arena_bytes"] == plan["lower_bound_bytes"]


def test_plan_of_buffers_is_written_and_drawn(tmp_path):
    import xml.dom.minidom

    output, svg = tmp_path / "offsets.csv", tmp_path / "arena.svg"
    file = ROOT / "tests/data/plans/lenet.csv"
    (plan,) = lines("plan", "--input", file, "--output", output, "--svg", svg, "--json")
    header, *rows = output.read_text().splitlines()
    assert header == "id,lower,upper,size,offset"
    ends = [int(row.split(",")[4]) + int(row.split(",")[3]) for row in rows]
    assert plan["arena_bytes"] - 64 < max(ends) <= plan["arena_bytes"]
    assert xml.dom.minidom.parse(str(svg)).documentElement.tagName == "svg"


def test_plan_around_fixed_offsets(tmp_path):
    file, output = tmp_path / "buffers.csv", tmp_path / "offsets.csv"
    file.write_text("id,lower,upper,size,at\na,0,2,64,64\nb,1,3,100,\n")
    run("plan", "--input", file, "--output", output)
    assert output.read_text().splitlines()[1:] == ["a,0,2,64,64,64", "b,1,3,100,,128"]
    for second, what in (
        ("b,1,3,100,64", "requests 0 and 1 are fixed on common bytes"),
        ("b,1,3,100,32", "fixed at offset 32, which is no multiple of its alignment 64"),
        (f"b,1,3,100,{2**64 - 64}", "beyond"),
    ):
        file.write_text(f"id,lower,upper,size,at\na,0,2,64,64\n{second}\n")
        result = run("plan", "--input", file)
        assert result.returncode != 0
        assert what in result.stderr


def test_plan_within_a_capacity(tmp_path):
    file = tmp_path / "buffers.csv"
    file.write_text("id,lower,upper,size\na,0,2,100\nb,1,3,100\nc,2,4,28\n")
    output = tmp_path / "offsets.csv"
    for flags, code in (
        (["--capacity", 256], 0),
        (["--capacity", 255], 3),
        (["--capacity", 200, "--align", 1], 0),
        (["--capacity", 199, "--align", 1], 3),
    ):
        output.unlink(missing_ok=True)
        result = run("plan", "--input", file, "--output", output, "--json", *flags)
        assert result.returncode == code
        assert len(output.read_text().splitlines()) == 4
    assert run("plan", "--input", file, "--align", 48).returncode == 2
    assert run("plan", "--input", file, "--timeout", 0).returncode == 2
    assert run("plan", "--model", "mlp", "--capacity", 1).returncode == 2


def test_plan_draws_a_picture(tmp_path):
    import xml.dom.minidom

    svg = tmp_path / "arena.svg"
    result = run("plan", "--model", "cnn", "--svg", svg)
    assert result.returncode == 0
    assert xml.dom.minidom.parse(str(svg)).documentElement.tagName == "svg"
    assert [file.name for file in tmp_path.iterdir()] == ["arena.svg"]


# ---- what if


def test_the_largest_batch_fits_and_the_next_one_does_not():
    for flags in ["--model", "mlp"], ["--model", "cnn", "--threads", 1, "--optimizer", "sgd"]:
        (found,) = lines("plan", *flags, "--max-batch", "12MiB", "--json")
        assert found["peak_bytes"] <= found["limit_bytes"] == 12 << 20
        assert found["checked_up_to"] > found["batch"] > 1
        for batch, fits in (found["batch"], True), (found["batch"] + 1, False):
            (plan,) = lines("plan", *flags, "--batch", batch, "--json")
            assert (plan["arena_bytes"] <= 12 << 20) == fits
        text = run("plan", *flags, "--max-batch", "12MiB").stdout
        assert f"batch {found['batch']} is the largest that fits into 12.0 MiB" in text


def test_where_not_even_one_sample_fits_it_says_what_is_short_and_of_what():
    result = run("plan", "--model", "cnn", "--max-batch", "1MiB")
    assert result.returncode == 1
    assert re.search(
        r"not even batch 1 fits into 1.0 MiB: it needs \S+ MiB, \S+ MiB more; most of it moments "
        r"of layer 7 ",
        result.stderr,
    )
    result = run("plan", "--model", "cnn", "--max-batch", "1MiB", "--json")
    assert result.returncode == 1
    answer = json.loads(result.stdout)
    assert answer["batch"] == 0
    assert answer["short_bytes"] == answer["peak_bytes"] - (1 << 20)


def test_a_sweep_has_a_row_for_each_batch_as_plan_gives_it(tmp_path):
    svg = tmp_path / "sweep.svg"
    flags = ["--model", "cnn", "--threads", 2]
    for sweep, batches in (
        ("batch=1..20", [1, 2, 4, 8, 16, 20]),
        ("batch=3..20:8", [3, 8, 16, 20]),
        ("batch=5..5", [5]),
    ):
        rows = lines("plan", *flags, "--sweep", sweep, "--svg", svg, "--json")
        assert [row["batch"] for row in rows] == batches
        for row in rows:
            (plan,) = lines("plan", *flags, "--batch", row["batch"], "--json")
            assert row["peak_bytes"] == plan["arena_bytes"]
            assert row["lower_bound_bytes"] == plan["lower_bound_bytes"]
            assert row["sum_bytes"] == plan["sum_bytes"]
        assert svg.read_text().startswith("<svg ")
    table = run("plan", *flags, "--sweep", "batch=1..20").stdout.splitlines()
    assert [line.split()[0] for line in table] == ["batch", "1", "2", "4", "8", "16", "20"]


def test_the_smallest_arena_is_that_of_its_setting():
    *settings, budget = lines("plan", "--model", "cnn", "--batch", 32, "--smallest", "--json")
    best = settings[0]
    assert best["peak_bytes"] == min(row["peak_bytes"] for row in settings)
    (plan,) = lines(
        *("plan", "--model", "cnn", "--batch", 32, "--json"),
        *("--threads", best["threads"], "--chunks", best["chunks"]),
    )
    assert plan["arena_bytes"] == best["peak_bytes"]
    assert budget["best_setting_budget_bytes"] <= best["peak_bytes"]
    assert (
        "the smallest arena that trains batch 32"
        in run("plan", "--model", "cnn", "--batch", 32, "--smallest").stdout
    )


# ---- weights


def test_saved_weights_have_torchs_names_and_are_the_same_in_every_memory_mode(data, tmp_path):
    files = []
    for memory in "planned", "pooled", "direct":
        files.append(tmp_path / f"{memory}.safetensors")
        lines(
            *("train", "--data", data, "--model", "cnn", "--epochs", 1, "--threads", 1),
            *("--memory", memory, "--save", files[-1], "--json"),
        )
    weights = weights_of(files[0])
    assert {name: array.shape for name, array in weights.items()} == {
        "0.weight": (32, 1, 3, 3),
        "0.bias": (32,),
        "3.weight": (64, 32, 3, 3),
        "3.bias": (64,),
        "7.weight": (128, 3136),
        "7.bias": (128,),
        "9.weight": (10, 128),
        "9.bias": (10,),
    }
    assert all(np.isfinite(array).all() for array in weights.values())
    assert files[0].read_bytes() == files[1].read_bytes() == files[2].read_bytes()


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_batches_read_ahead_give_the_same_weights_for_a_second_slot(data, tmp_path, model):
    saved, planned = [], []
    for flags in [(), ("--read-ahead",)]:
        file = tmp_path / f"{len(flags)}.safetensors"
        options = ("--model", model, "--epochs", "1", "--batch", "64", "--data", data, *flags)
        events = lines("train", *options, "--save", file, "--json")
        done = events[-1]
        assert done["predicted_peak_bytes"] == done["measured_peak_bytes"]
        assert done["allocations_in_loop"] in (0, None)
        saved.append(file.read_bytes())
        planned.append(events[0]["persistent_bytes"])
    assert saved[0] == saved[1]
    assert planned[1] - planned[0] == 2 * (64 * 784 * 4 + 64 * 8)


def test_a_seed_decides_the_weights(data, tmp_path):
    files = [tmp_path / name for name in ("a", "b", "c")]
    for file, seed in zip(files, (1, 1, 2), strict=True):
        lines("train", "--data", data, "--epochs", 1, "--seed", seed, "--save", file, "--json")
    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[0].read_bytes() != files[2].read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_saves_a_readable_file_and_says_so(data, tmp_path, number):
    file = tmp_path / "w.safetensors"
    process = subprocess.Popen(
        [COMMAND, "train", "--data", data, "--epochs", "100000", "--json", "--save", file],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(3):  # the plan and two epochs
        process.stdout.readline()
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == ""
    last = json.loads(out.splitlines()[-1])
    assert last["event"] == "interrupted"
    assert last["steps"] >= 2 * 10
    assert last["saved"] == str(file)
    assert all(np.isfinite(array).all() for array in read_safetensors(file).values())
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


def test_a_loss_that_is_no_number_stops_at_its_step_and_saves_nothing(data, tmp_path):
    file = tmp_path / "w.safetensors"
    file.write_text("old")
    flags = ["--optimizer", "sgd", "--lr", "1e30", "--save", file]
    result = run("train", "--data", data, *flags)
    assert result.returncode == 1
    pattern = (
        r"poolgrad: fit: the loss became \S+ at step \d+ of epoch 1; lower the learning rate\n"
    )
    assert re.fullmatch(pattern, result.stderr)
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


# ---- bad input


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "a subcommand is required"),
        (["fly"], "no command 'fly'; choose train, plan or info"),
        (["train", "--nope"], "--nope"),
        (["train", "--epochs", "many"], "--epochs"),
        (["train", "--epochs", "0"], "--epochs: 0; take 1 or more"),
        (["train", "--batch", "0"], "--batch: 0; take 1 or more"),
        (["train", "--batch", "-3"], "--batch: -3; take 1 or more"),
        (["train", "--model", "gpt"], "--model: no 'gpt'; choose mlp"),
        (["train", "--model", "gpt", "--hidden", "9"], "--model: no 'gpt'; choose mlp"),
        (["train", "--model", "cnn", "--width", "9"], "or take --model resnet, chain or unet"),
        (["train", "--model", "unet", "--blocks", "2"], "--blocks: the unet has none"),
        (
            ["plan", "--model", "resnet", "--blocks", "201"],
            "201 blocks in each stage; take at most",
        ),
        (
            ["train", "--seed", "-1"],
            "--seed: '-1' is no whole number from 0 to 18446744073709551615",
        ),
        (["train", "--seed", "18446744073709551616"], "is no whole number from 0 to"),
        (["train", "--optimizer", "lion"], "--optimizer: no 'lion'; choose sgd, adam or adamw"),
        (["train", "--lr", "-1"], "adam: learning rate is -1; it must be 0 or more"),
        (["train", "--lr", "nan"], "adam: learning rate is nan; it must be 0 or more"),
        (["train", "--momentum", "0.9"], "--momentum: adam has none"),
        (["train", "--optimizer", "sgd", "--momentum", "1.5"], "sgd: momentum is 1.5"),
        (["train", "--optimizer", "sgd", "--nesterov"], "nesterov needs a momentum"),
        (["train", "--weight-decay", "-0.1"], "adam: weight decay is -0.1"),
        (["train", "--hidden", "128,0"], "mlp: a hidden layer of 0"),
        (["train", "--model", "cnn", "--hidden", "9"], "--hidden: the cnn has fixed widths"),
        (["train", "--threads", "0"], "0 threads"),
        (["train", "--chunks", "few"], "--chunks: no 'few'; choose auto or a number above 0"),
        (["train", "--memory", "magic"], "--memory: no 'magic'; choose planned, pooled or direct"),
        (["train", "--memory-limit", "many"], "--memory-limit: 'many' is no number of bytes"),
        (["train", "--memory-limit", "5 parsecs"], "has a unit that is none"),
        (["train", "--memory-limit", "-1"], "is outside"),
        (["plan", "--input", "x.csv", "--batch", "3"], "--batch excludes --input"),
        (["plan", "--sweep", "1..4"], "--sweep: '1..4' is no range; write batch=1..1024"),
        (["plan", "--sweep", "batch=4..1"], "--sweep: 4 is more than 1"),
        (["plan", "--sweep", "batch=0..4"], "has '0' where a number from 1 to 2147483647 belongs"),
        (["plan", "--sweep", "batch=1..4:x"], "has 'x' where a number from 1 to 2147483647"),
        (["plan", "--sweep", f"batch=1..{2**63 - 1}"], f"has '{2**63 - 1}' where a number from 1"),
        (["plan", "--sweep", "batch=1..2147483648"], "has '2147483648' where a number from 1 to"),
        (["plan", "--sweep", "batch=1..9999:1"], "--sweep: more than 4096 rows"),
        (["plan", "--max-batch", "lots"], "--max-batch: 'lots' is no number of bytes"),
        (["plan", "--max-batch", "1MiB", "--smallest"], "--max-batch excludes --smallest"),
        (["plan", "--max-batch", "1MiB", "--budget", "1MiB"], "--budget excludes --max-batch"),
        (["plan", "--smallest", "--budget", "1MiB"], "--budget excludes --smallest"),
        (["plan", "--smallest", "--svg", "a.svg"], "--svg excludes --smallest"),
        (["plan", "--max-batch", "1MiB", "--svg", "a.svg"], "--svg excludes --max-batch"),
        (["plan", "--smallest", "--memory-limit", "1MiB"], "--memory-limit excludes --smallest"),
        (["plan", "--sweep", "batch=1..2", "--full"], "--full excludes --sweep"),
        (["plan", "--entry", "nope", "--json"], "no entry 'nope'; there are 'train', 'evaluate'"),
        (["plan", "--input", "x.csv", "--align", "48"], "--align: 48 is no power of two; give one"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(data, args, message):
    result = run(*args, *(["--data", data] if args[:1] == ["train"] else []))
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("poolgrad: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


def test_a_batch_larger_than_the_data(data):
    result = run("train", "--data", data, "--batch", 601)
    assert result.returncode == 2
    assert "--batch: 601 is more than the 600 samples" in result.stderr


def damage(folder, name, change):
    path = folder / f"{name}-ubyte.gz"
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("train-images-idx3", lambda raw: b"", "is empty"),
        ("train-images-idx3", lambda raw: raw[: len(raw) // 2], "is truncated"),
        ("train-images-idx3", gzip.decompress, "is not a gzip file"),
        (
            "t10k-images-idx3",
            lambda raw: gzip.compress(gzip.decompress(raw) + b"x"),
            "has bytes behind",
        ),
        ("t10k-images-idx3", lambda raw: gzip.compress(b"PNG...."), "is not an IDX file"),
        ("t10k-labels-idx1", lambda raw: gzip.compress(idx(np.arange(9))), "but '"),
        ("t10k-labels-idx1", lambda raw: gzip.compress(idx(np.arange(150))), "has label 10"),
    ],
)
def test_bad_data_is_one_line_that_names_the_file(tmp_path, name, change, message):
    damage(write_data(tmp_path, 40, 150), name, change)
    result = run("train", "--data", tmp_path, "--batch", 8)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("poolgrad: ")
    assert result.stderr.count("\n") == 1
    assert name in result.stderr
    assert message in result.stderr


def test_missing_data_says_how_to_get_it(tmp_path):
    for folder in tmp_path, tmp_path / "none":
        result = run("train", "--data", folder)
        assert result.returncode == 1
        assert "apt-get install dataset-fashion-mnist" in result.stderr


def test_a_plan_over_the_limit_names_the_largest_batch_that_fits(data):
    flags = ["--model", "cnn", "--batch", 256, "--threads", 1]
    for command in ["train", "--data", data], ["plan"]:
        result = run(*command, *flags, "--memory-limit", "9MiB")
        assert result.returncode == 1
        assert result.stdout == ""
        fits = re.search(
            r"memory: batch 256 needs .*; the largest batch that fits is (\d+)$",
            result.stderr.strip(),
        )
        batch = int(fits[1])
        assert (
            run(
                "plan", *flags[:2], "--threads", 1, "--batch", batch, "--memory-limit", "9MiB"
            ).returncode
            == 0
        )
        assert (
            run(
                "plan", *flags[:2], "--threads", 1, "--batch", batch + 1, "--memory-limit", "9MiB"
            ).returncode
            == 1
        )
    result = run("plan", *flags, "--memory-limit", "1MB")
    assert "not even batch 1 fits" in result.stderr


def test_a_budget_changes_the_plan_and_not_one_loss(data):
    flags = ["--model", "resnet", "--batch", 32, "--threads", 1]
    plan = lines("plan", *flags, "--json")[0]
    half = plan["arena_bytes"] // 2
    smaller = lines("plan", *flags, "--budget", half, "--json")[0]
    assert smaller["arena_bytes"] <= half
    assert smaller["made_again"] > plan["made_again"] == 0
    assert smaller["extra_time"] > plan["extra_time"] == 0
    assert "of the forward pass computed again" in run("plan", *flags, "--budget", half).stdout

    train = ["train", "--data", data, *flags, "--epochs", 2, "--json"]
    within = lines(*train, "--budget", half)
    assert within[0]["arena_bytes"] == smaller["arena_bytes"]
    for with_it, without in zip(within[1:3], lines(*train)[1:3], strict=True):
        assert with_it["train_loss"] == without["train_loss"]
        assert with_it["test_accuracy"] == without["test_accuracy"]


def test_a_table_of_times_is_made_once_and_gives_the_same_run_ever_after(data, tmp_path):
    flags = ["--model", "cnn", "--batch", 32, "--threads", 2, "--tune", tmp_path / "table"]
    train = ["train", "--data", data, "--epochs", 1, "--json"]
    made = run("plan", *flags, "--json")
    assert re.fullmatch(
        r"poolgrad: timed \d+ problems in \d+\.\d s, written to .*table\n", made.stderr
    )
    table = (tmp_path / "table").read_text()
    assert table.startswith("poolgrad tuning 1\n")
    assert "\nconv2d | x [" in table
    assert "\nmatmul | m " in table

    first, again = run(*train, *flags), run(*train, *flags)
    assert first.stderr == again.stderr == ""
    first, again = (list(map(json.loads, r.stdout.splitlines())) for r in (first, again))
    plan = json.loads(made.stdout)
    assert {key: plan[key] for key in first[0]} == first[0] == again[0]
    assert first[1]["train_loss"] == again[1]["train_loss"]
    assert first[2]["measured_peak_bytes"] == plan["arena_bytes"]
    assert (tmp_path / "table").read_text() == table
    assert os.listdir(tmp_path) == ["table"]


def test_a_table_decides_and_questions_take_it_as_it_is(tmp_path):
    table = tmp_path / "table"
    flags = ["--model", "cnn", "--batch", 32, "--threads", 1, "--tune", table]
    question = ["--sweep", "batch=32..32", "--json"]
    assert "has no times, and questions take none" in run("plan", *flags, *question).stderr
    lines("plan", *flags, "--json")
    chosen = re.sub(
        r"^(conv2d.*groups 1[^|]*) \| \w+ \|", r"\1 | unfolded |", table.read_text(), flags=re.M
    )
    table.write_text(chosen)
    (plan,) = lines("plan", *flags, "--json")
    by_rule = lines("plan", *flags[:-2], "--json")[0]
    assert plan["sum_bytes"] != by_rule["sum_bytes"]  # other workspaces
    answer = lines("plan", *flags, *question)
    assert plan["sum_bytes"] in [row.get("sum_bytes") for row in answer]
    assert table.read_text() == chosen


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.removesuffix("end 1\n"), "line 4 is missing: the table is cut off"),
        (lambda t: "weights", "is no table of tuned times"),
        (lambda t: re.sub(r"\n.*\n", "\nsse9\n", t, count=1), "was made on 'sse9'"),
        (lambda t: t.replace(" | ", " ; "), "line 3 is no 'op | problem | chosen"),
    ],
)
def test_a_table_that_does_not_do_is_refused(tmp_path, change, message):
    table = tmp_path / "table"
    lines("plan", "--tune", table, "--threads", 1, "--json")
    table.write_text(change("\n".join([*table.read_text().split("\n")[:3], "end 1", ""])))
    result = run("plan", "--tune", table)
    assert result.returncode == 1
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_impossible_budget_names_the_smallest_feasible_one():
    flags = ["plan", "--model", "cnn", "--batch", 32, "--threads", 1]
    result = run(*flags, "--budget", "1kB")
    assert result.returncode == 1
    said = re.search(
        r"compile: a budget of 1000 bytes \(0\.0 MiB\) is below the smallest that is feasible, "
        r"(\d+) bytes \(.*\); raise it or take a smaller batch$",
        result.stderr.strip(),
    )
    smallest = int(said[1])
    assert run(*flags, "--budget", smallest).returncode == 0
    assert run(*flags, "--budget", smallest - 1).returncode == 1


@pytest.mark.parametrize("option", ["--save", "--svg"])
def test_output_that_cannot_be_written_is_known_before_the_work(data, tmp_path, option):
    for path in tmp_path / "none" / "file", tmp_path:
        if option == "--save":
            result = run("train", "--data", data, "--epochs", 100000, option, path)
        else:
            result = run("plan", option, path)
        assert result.returncode == 1
        assert result.stdout == ""
        assert str(path) in result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_standard_output_is_a_failure():
    with open("/dev/full", "w") as full:
        result = subprocess.run([COMMAND, "plan"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 1
    assert "standard output cannot be written" in result.stderr


def test_a_plan_file_that_is_none(tmp_path):
    bad = tmp_path / "bad.csv"
    bad.write_text("id,lower,upper,size\n0,5,3,64\n")
    for path in bad, tmp_path / "none.csv":
        result = run("plan", "--input", path, "--json")
        assert result.returncode == 1
        assert result.stdout == ""
        assert str(path) in result.stderr


# ---- help


def test_help_and_version():
    for args in ["--help"], ["train", "--help"], ["plan", "--help"], ["info", "--help"]:
        result = run(*args)
        assert result.returncode == 0
        assert "Usage: poolgrad" in result.stdout
    assert "3 no plan is within the capacity" in run("--help").stdout
    assert re.fullmatch(r"poolgrad \d+\.\d+\.\d+\n", run("--version").stdout)
    (info,) = lines("info", "--json")
    assert info["cores"] >= 1


def test_examples_in_help_work(data, tmp_path):
    (tmp_path / "buffers.csv").write_text("id,lower,upper,size\n0,0,2,64\n")
    pages = [run(*args, "--help").stdout for args in ([], ["train"], ["plan"])]
    examples = {
        line.strip()
        for page in pages
        for line in page.splitlines()
        if re.match(r"  poolgrad \w+ --", line)
    }
    assert len(examples) >= 6
    for example in sorted(examples):
        _, command, *args = example.split()
        if command == "train":
            if "--epochs" in args:
                args[args.index("--epochs") + 1] = "2" if "--resume" in args else "1"
            else:
                args += ["--epochs", "1"]
            args += ["--data", str(data)]
        result = run(command, *args, cwd=tmp_path)
        assert result.returncode == 0, (example, result.stderr)
