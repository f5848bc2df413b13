"""A peer's process: started, given turns, asked for what it knows in the end."""

import json
import os
import subprocess
import tempfile
import threading

import machine
import windows

START_SECONDS = 400  # compiling included
WINDOW_SECONDS = 0.4


class Failed(Exception):
    """It ended without an answer; says why."""


class Process:
    def __init__(self, peer, folder, network, batch, threads):
        self.peer = peer
        self.threads = threads
        self.windows = []
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (as long as the process)
        self.cores = sorted(os.sched_getaffinity(0))[:threads]
        path = [str(machine.ROOT / "bench"), os.environ.get("PYTHONPATH", "")]
        self.process = subprocess.Popen(
            [*peer.command, str(folder), network, str(batch), str(threads), *peer.flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=os.environ | {"PYTHONPATH": ":".join(path)} | peer.environment(),
            preexec_fn=lambda: os.sched_setaffinity(0, self.cores),
        )
        self.facts = self.read()

    def read(self):
        """The next JSON line; others are what libraries say."""
        timer = threading.Timer(START_SECONDS, self.process.kill)
        timer.start()
        try:
            for line in self.process.stdout:
                if line.startswith("{"):
                    return json.loads(line)
        finally:
            timer.cancel()
        raise Failed(self.last_words())

    def last_words(self):
        code = self.process.wait()
        self.errors.seek(0)
        lines = [line for line in self.errors.read().splitlines() if line.strip()]
        return f"ended with {code}: {lines[-1] if lines else 'no word'}"

    def window(self):
        self.process.stdin.write(f"{WINDOW_SECONDS}\n")
        self.process.stdin.flush()
        self.windows.append(self.read())

    def finish(self):
        """Ends it, with the last line among the facts."""
        self.process.stdin.close()
        self.facts |= self.read()
        self.process.wait()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.errors.close()

    def row(self, others):
        """All that was measured; `others` took turns with it."""
        summary = windows.summary(self.windows)
        step_us = summary["step_us_p10_p50_p90"][1]
        used = windows.quiet(self.windows) if summary["quiet"] else self.windows
        switches = sum(w["switches_per_step"] * w["steps"] for w in used) / summary["n"]
        return {
            "step_us": step_us,
            **summary,
            "switches_per_step": round(switches, 2),
            **self.facts,
            "how": self.how(summary, others),
        }

    def how(self, summary, others):
        kind = "quiet windows" if summary["quiet"] else "windows, too few of them quiet,"
        words = [
            f"median of {summary['windows']} {kind} of about {WINDOW_SECONDS} s"
            f" ({summary['windows_dropped']} dropped), in turn with {others} other processes",
            f"on cores {','.join(map(str, self.cores))}",
        ]
        environment = self.peer.environment()
        return "; ".join(words + [f"{k}={os.path.basename(v)}" for k, v in environment.items()])
