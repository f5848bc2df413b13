"""What the benches do on a GPU, as far as it can be seen without one."""

import argparse
import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "bench"
sys.path.insert(0, str(BENCH))

import peers  # noqa: E402
import pool  # noqa: E402
import pool_vs_naive  # noqa: E402
from peers import cells, networks, report  # noqa: E402

BATCH = 32


# --- peers ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data():
    if not networks.FASHION_MNIST.exists():
        pytest.skip("no Fashion-MNIST; install dataset-fashion-mnist")
    folder = ROOT / "build" / "peers"
    networks.dump(folder)
    return folder


@functools.cache
def peer(data, module, *flags, fake=False):
    """The losses of a peer that trains the cnn and measures one short window, and its last line."""
    run = [str(Path(__file__).with_name("fake_gpu.py"))] if fake else ["-m"]
    done = subprocess.run(
        [sys.executable, *run, f"peers.{module}", str(data), "cnn", str(BATCH), "2", *flags],
        input="0.01\n",
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(BENCH)},
    )
    assert done.returncode == 0, done.stderr
    facts, window, memory = (json.loads(line) for line in done.stdout.splitlines())
    assert window["steps"] >= 3
    return facts["loss_at_step"], memory


def test_a_captured_step_trains_like_one_that_is_not(data):
    pytest.importorskip("torch")
    plain, _ = peer(data, "torch_step")
    captured, memory = peer(data, "torch_step", "cuda", "graphs", fake=True)
    assert captured == plain
    # What stays is taken off: data, labels, weights and as much again of momentum.
    weights = sum(weight.size for weight in networks.initial_weights("cnn").values())
    stays = 60000 * (784 * 4 + 8) + 2 * 4 * weights
    assert memory["peak_bytes"] == (400 << 20) - stays
    assert memory["held_bytes"] == 500 << 20


@pytest.mark.parametrize("module", ["torch_step", "jax_step"])
def test_on_a_gpu_a_peer_takes_the_same_steps(data, module):
    pytest.importorskip(module.split("_")[0])
    plain, _ = peer(data, module)
    there, memory = peer(data, module, "cuda", "tf32", fake=True)
    assert there == pytest.approx(plain, rel=1e-6)
    assert memory["held_bytes"] == 500 << 20


@pytest.mark.parametrize("module", ["torch_step", "jax_step"])
def test_halves_change_losses_a_little(data, module):
    pytest.importorskip(module.split("_")[0])
    plain, _ = peer(data, module)
    halves, _ = peer(data, module, "bf16")
    assert halves != plain
    assert halves == pytest.approx(plain, rel=0.06)


def test_gpu_peers_have_names_of_their_own_and_all_compute_there_alike():
    for network in networks.LAYERS:
        all_ = cells.gpu_peers_of(network, ("tf32",))
        assert len({p.name for p in all_}) == len(all_)
        assert all({"cuda", "tf32"} <= set(p.flags) for p in all_)
        assert {report.group_of(p.name) for p in all_[1:]} == set(report.GROUPS)
        quick = cells.quick_gpu_peers_of(network, ())
        assert quick[0].name == cells.OURS
        assert len(quick) == 4


STUB = """#!{python}
import json, sys
window = dict(steps=100, step_us={step_us}, foreign_cpu=0.0, faults_per_step=0.0,
              system_us_per_step=0.0)
{more}
print(json.dumps(facts), flush=True)
for line in sys.stdin:
    print(json.dumps(window), flush=True)
print(json.dumps(last), flush=True)
"""


def stub(path, step_us, more):
    """A program in the place of a bench's, with figures that are made up."""
    path.write_text(STUB.format(python=sys.executable, step_us=step_us, more=more))
    path.chmod(0o755)


def options(**more):
    named = {"device": "cuda", "quick": False, "threads": [2], "rounds": 5}
    return argparse.Namespace(**named | more)


PEER = """
flags = set(sys.argv[5:]) - {"cuda", "tf32"}
assert len(flags) == len(sys.argv) - 7, "all compute on the GPU, with TF32"
step_us = {
    "reduce_overhead": 220.0, "compile": 300.0, "graphs": 150.0, "fused": 400.0,
    "reduce_window": 140.0, "reshape": 130.0,
}
window["step_us"] = next((us for flag, us in step_us.items() if flag in flags), window["step_us"])
window["switches_per_step"] = 0.0
loss = 1.25 if "graphs" not in flags else 1.5
facts = dict(versions=["some 1.0"], loss_at_step={"20": loss}, lower_bound_bytes=2 << 20)
last = dict(peak_how="counted", held_bytes=200 << 20,
            peak_bytes=None if "reduce_overhead" in flags else 3 << 20)
if flags == {"compile"}:
    sys.exit("no compiler")
"""


def test_the_table_of_peers_shows_the_fastest_of_each_kind_beside_ours(tmp_path, monkeypatch):
    stub(tmp_path / "poolgrad_step", 100.0, PEER)
    stub(tmp_path / "other", 500.0, PEER)
    monkeypatch.setattr(cells.machine, "PROGRAMS", tmp_path)
    monkeypatch.setattr(cells, "python", lambda module: (tmp_path / "other",))
    monkeypatch.setattr(networks, "dump", lambda folder: None)
    wanted = options(
        cells=["cnn-32"], peers=None, tf32=True, bf16=False, save_quick=False, picture=None
    )
    table = report.table(list(peers.measure(wanted)))
    assert "Numbers: tf32, on every side" in table
    assert (
        "| cnn b32 | 0.1 | 0.4 (4.00) torch-fused | 0.22 (2.20) torch-compile-reduce_overhead | "
        "0.15≠ (1.50) torch-graphs | 0.13 (1.30) jax-reshape |"
    ) in table
    assert "| cnn b32 | 3.00 (2.00) (200) | 3.00 (2.00) (200) | - (200) |" in table
    assert "| torch-channels_last | 0.5 (0.5 to 0.5) |" in table
    assert "torch-compile, cnn: ended with 1: no compiler" in table
    assert "this is not the same training" in table


# --- memory ---------------------------------------------------------------------------------------

MEMORY = """
assert sys.argv[1:4] == ["cnn", "32", "1"] and len(sys.argv) == 5
if sys.argv[4].startswith("cuda_arena"):
    window |= dict(requests_per_step=0.0, driver_calls_per_step=0.0, in_requests_us=0.0)
else:
    window |= dict(step_us=1000.0, requests_per_step=60.0, in_requests_us=700.0)
    window |= dict(driver_calls_per_step=0.0 if sys.argv[4] == "cuda_pool" else 60.0)
facts = dict(loss_at_step_20=1.25, peak_bytes=5 << 20, held_bytes=6 << 20)
last = {}
"""


def test_the_table_of_memory_shows_what_a_side_costs_beyond_the_arena(tmp_path, monkeypatch):
    stub(tmp_path / "pool_vs_naive", 250.0, MEMORY)
    monkeypatch.setattr(pool_vs_naive.machine, "PROGRAMS", tmp_path)
    rows = list(pool_vs_naive.measure(options(models=["cnn"], batches=[32])))
    assert [row["side"] for row in rows] == [side.name for side in pool_vs_naive.GPU_SIDES]
    table = pool_vs_naive.table(rows)
    for side, calls in (("cudaMalloc per tensor", 60), ("pool", 0)):
        assert (
            f"| 32 | {side} | 1,000.0 (1,000.0 to 1,000.0) | 4.00 | 750.0 (75 %) | "
            f"700.0 (70 %) | 60 | {calls} | 5.00 | 6.0 | 0.00 |"
        ) in table
    assert "| arena | 250.0 (250.0 to 250.0) | 1.00 | 0.0 (0 %) | 0.0 (0 %) | 0 | 0 |" in table


POOL = """
facts = {}
times = dict(cuda_pool=20.0, cuda_malloc=1000.0, cuda_malloc_async=200.0,
             cuda_malloc_async_keeps=100.0)
for line in sys.stdin:
    assert line.split()[2] == "1", "one thread"
    print(json.dumps(dict(ns=times[sys.argv[1]])), flush=True)
sys.exit()
"""


def test_the_table_of_blocks_has_the_drivers_calls_beside_the_pool(tmp_path, monkeypatch):
    stub(tmp_path / "pool", 0.0, POOL)
    monkeypatch.setattr(pool.machine, "PROGRAMS", tmp_path)
    monkeypatch.setattr(pool, "SIZES", [1 << 20])
    table = pool.table(list(pool.measure(options(windows=3))))
    assert (
        "| pool, ns | cudaMalloc, ns | cudaMallocAsync, ns | cudaMallocAsync, keeping, ns |"
        in table
    )
    assert (
        "| 1 MiB | 16 | 20.0 (20.0 to 20.0) | 1,000.0 (1,000.0 to 1,000.0) | "
        "200.0 (200.0 to 200.0) | 100.0 (100.0 to 100.0) | 0.100 |"
    ) in table


def test_the_sides_on_a_gpu_are_those_that_the_program_knows():
    text = (BENCH / "device_sides.cpp").read_text()
    known = set(re.findall(r'Way\{"(\w+)"', text))
    assert {side.memory for side in pool_vs_naive.GPU_SIDES} == known
    assert {side.memory for side in pool.ON_GPU} < known


def test_without_a_gpu_one_line_says_so():
    if list(Path("/dev").glob("nvidia[0-9]*")):
        pytest.skip("there is a GPU")
    for command in (["pool"], ["pool_vs_naive", "--quick"], ["peers"], []):
        done = subprocess.run(
            [sys.executable, BENCH / "run.py", *command, "--device", "cuda"],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1
        assert re.match("bench: no (GPU on this machine|build with CUDA)", done.stderr)


def test_a_bench_without_a_side_on_a_gpu_is_a_mistake_of_usage():
    done = subprocess.run(
        [sys.executable, BENCH / "run.py", "steady", "--device", "cuda"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "steady has no --device cuda; pool, pool_vs_naive, peers have" in done.stderr
