"""Fails when a file includes from a folder that stands to its right in the reading order.

memory <- engine <- layers <- models <- cli, examples, bench, python; train and interop know only
engine and memory. Reads every `#include "folder/..."` line; needs no compiler and no arguments.
With --self-test it checks a small tree of its own, half of it wrong.
"""

import re
import sys
import tempfile
from pathlib import Path

ENGINE = {"memory", "engine"}
LIBRARIES = ENGINE | {"layers", "models", "train", "interop"}
MAY_INCLUDE = {
    "memory": {"memory"},
    "engine": ENGINE,
    "layers": ENGINE | {"layers"},
    "models": ENGINE | {"layers", "models"},
    "train": ENGINE | {"train"},
    "interop": ENGINE | {"interop"},
    "cli": LIBRARIES | {"cli"},
    "examples": LIBRARIES,
    "bench": LIBRARIES | {"bench"},
    "python": LIBRARIES | {"python"},
    "tests": LIBRARIES | {"cli", "bench", "tests"},
}
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"')


def wrong_includes(root):
    """One line of text per include that points right, or that does not start at the root."""
    for folder, allowed in MAY_INCLUDE.items():
        for path in sorted((root / folder).rglob("*")):
            if path.suffix not in {".h", ".cpp", ".cu"}:
                continue
            for number, line in enumerate(path.read_text().splitlines(), start=1):
                match = INCLUDE.match(line)
                if match and match[1].split("/")[0] not in allowed:
                    where = f"{path.relative_to(root)}:{number}"
                    yield f'{where}: {folder}/ must not include "{match[1]}"'


def self_test():
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for folder in ("memory", "train"):
            (root / folder).mkdir()
        (root / "memory/plan.cpp").write_text('#include "memory/plan.h"\n#include "engine/op.h"\n')
        (root / "memory/arena.h").write_text('#include <vector>\n#include "plan.h"\n')
        (root / "train/fit.h").write_text('#include "engine/op.h"\n#  include "layers/linear.h"\n')
        found = sorted(wrong_includes(root))
    expected = [
        'memory/arena.h:2: memory/ must not include "plan.h"',
        'memory/plan.cpp:2: memory/ must not include "engine/op.h"',
        'train/fit.h:2: train/ must not include "layers/linear.h"',
    ]
    assert found == expected, found


if __name__ == "__main__":
    if sys.argv[1:] == ["--self-test"]:
        self_test()
        sys.exit()
    wrong = list(wrong_includes(Path(__file__).resolve().parent.parent))
    print("\n".join(wrong) or "include directions: all point left")
    sys.exit(1 if wrong else 0)
