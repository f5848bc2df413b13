"""The benches: `./dev bench [NAME] [--quick] [--json]`. Without a name, all of them.

Each answers one question; the first line says on what machine and with which versions.
"""

import argparse
import json
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


def main():
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    parser.add_argument("name", nargs="?", choices=BENCHES, help="default: all")
    parser.add_argument("--quick", action="store_true", help="fewer cells, minutes in all")
    parser.add_argument("--json", action="store_true", help="JSON lines instead of tables")
    parser.add_argument("--threads", nargs="+", type=int, help="default: 1 2, quick: 2")
    for bench in BENCHES.values():
        bench.add_arguments(parser.add_argument_group(bench.__name__))
    options = parser.parse_args()
    options.threads = options.threads or ([2] if options.quick else [1, 2])

    command = " ".join(["./dev bench", *sys.argv[1:]])
    header = {"bench": "header", "command": command, **machine.facts()}
    print(json.dumps(header) if options.json else machine.sentence(header), flush=True)
    for name in [options.name] if options.name else BENCHES:
        rows = []
        for row in BENCHES[name].measure(options):
            rows.append(row)
            if options.json:
                print(json.dumps(row), flush=True)
        if not options.json:
            print("\n" + BENCHES[name].table(rows), flush=True)


if __name__ == "__main__":
    main()
