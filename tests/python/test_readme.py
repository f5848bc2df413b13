"""The README's first Python example is run as it stands."""

import re
from pathlib import Path

import numpy as np
import pytest

README = Path(__file__).resolve().parents[2] / "README.md"


@pytest.fixture(scope="module")
def example():
    """The names that the example leaves behind."""
    code = re.search(r"^```python\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)[1]
    names = {}
    exec(compile(code, str(README), "exec"), names)
    return names


def test_the_example_trains(example):
    assert len(example["losses"]) == 100
    assert example["losses"][-1] < example["losses"][0]


def test_the_example_prints_a_plan(example):
    plan = example["step"].plan
    assert plan.arena_bytes >= plan.lower_bound_bytes > 0
    assert "lower bound" in str(plan)


def test_the_weight_in_torch_follows_training(example):
    before = example["weight"].clone()
    example["step"](example["images"], example["labels"])
    assert not np.array_equal(before.numpy(), example["weight"].numpy())
