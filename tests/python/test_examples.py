"""The C++ examples that need no data run and show what they claim."""

import pathlib
import re
import subprocess
import sys

import pytest
from test_cli import COMMAND


def show(example):
    program = COMMAND.parent / f"example_{example}"
    if not program.exists():
        pytest.skip(f"no {program}")
    return subprocess.run([program], capture_output=True, text=True, check=True, timeout=60).stdout


def test_01_arena_reuses_bytes_and_reaches_the_bound():
    shown = show("01_arena")
    assert "5120 with, and no plan can do with less than 5120" in shown
    assert "guard intact: yes" in shown


def test_02_mlp_learns_the_ring():
    shown = show("02_mlp")
    assert float(re.search(r"accuracy ([\d.]+)", shown)[1]) > 0.95


def test_05_shared_pool_says_what_is_missing():
    example = pathlib.Path(__file__).parents[2] / "examples" / "05_shared_pool.py"
    shown = subprocess.run(
        [sys.executable, example], capture_output=True, text=True, check=True, timeout=120
    ).stdout
    assert [line.split(":")[0] for line in shown.splitlines()] == ["torch", "cupy", "rmm"]
