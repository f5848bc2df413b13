"""The benches: `./dev bench [NAME] [--quick] [--json]`. Without a name, all of them.

Each answers one question; the first line says on what machine and with which versions.
"""

import argparse
import json
import os
import sys

import budget
import export
import from_files
import limits
import losses
import machine
import neighbour
import overhead
import passes
import peers
import planning
import pool
import pool_vs_naive
import read_ahead
import start_up
import steady
import step_time

BENCHES = {
    "pool_vs_naive": pool_vs_naive,
    "pool": pool,
    "read_ahead": read_ahead,
    "step_time": step_time,
    "budget": budget,
    "export": export,
    "from_files": from_files,
    "limits": limits,
    "overhead": overhead,
    "planning": planning,
    "steady": steady,
    "neighbour": neighbour,
    "passes": passes,
    "start_up": start_up,
    "peers": peers,
    "losses": losses,
}
ON_GPU = ("pool", "pool_vs_naive", "peers")  # what `--device cuda` knows


def main():
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    parser.add_argument("name", nargs="?", choices=BENCHES, help="default: all")
    parser.add_argument("--quick", action="store_true", help="fewer cells, minutes in all")
    parser.add_argument("--json", action="store_true", help="JSON lines instead of tables")
    parser.add_argument(
        "--device",
        choices=("cpu", "cuda"),
        default="cpu",
        help=f"cuda: on GPU 0, by the build with CUDA: {', '.join(ON_GPU)}",
    )
    parser.add_argument("--threads", nargs="+", type=int, help="default: 1 2, quick: 2")
    for bench in BENCHES.values():
        bench.add_arguments(parser.add_argument_group(bench.__name__))
    options = parser.parse_args()
    names = [options.name] if options.name else list(BENCHES)
    if options.device == "cuda":
        names = [name for name in names if name in ON_GPU]
        if not names:
            parser.error(f"{options.name} has no --device cuda; {', '.join(ON_GPU)} have")
        machine.use_gpu()
        options.threads = [min(64, len(os.sched_getaffinity(0)))]  # the hosts of some use several
    options.threads = options.threads or ([2] if options.quick else [1, 2])

    command = " ".join(["./dev bench", *sys.argv[1:]])
    header = {"bench": "header", "command": command, **machine.facts()}
    print(json.dumps(header) if options.json else machine.sentence(header), flush=True)
    for name in names:
        rows = []
        for row in BENCHES[name].measure(options):
            rows.append(row)
            if options.json:
                print(json.dumps(row), flush=True)
        if not options.json:
            print("\n" + BENCHES[name].table(rows), flush=True)


if __name__ == "__main__":
    main()
