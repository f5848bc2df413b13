"""Where a figure was measured: commit, processor, system. And how the programs are run."""

import json
import platform
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ROOT / "build" / "release" / "bin"


def use_gpu():
    """Takes programs from the build with CUDA from now on. Ends the bench where there is no GPU."""
    global PROGRAMS
    PROGRAMS = ROOT / "build" / "cuda" / "bin"
    if not (PROGRAMS / "step_time").exists():
        raise SystemExit("bench: no build with CUDA; `./dev bench --device cuda` makes it on a GPU")
    found = rows("step_time", "gpus")[0]
    if found["gpus"] == 0:
        raise SystemExit(f"bench: no GPU on this machine: {found['why']}")


def gpu():
    """Name, driver, memory and clock of GPU 0, as its driver says them."""
    query = "name,driver_version,memory.total,clocks.max.sm"
    command = ["nvidia-smi", "-i", "0", f"--query-gpu={query}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        return "GPU unknown: no nvidia-smi"
    return done.stdout.strip() or "GPU unknown"


def facts():
    """Everything about this machine that a reader of a figure may ask for."""
    with_gpu = {"gpu": gpu()} if PROGRAMS.parent.name == "cuda" else {}
    return with_gpu | {
        "commit": commit(),
        "cpu": cpu_field("model name"),
        "family_model": f"{cpu_field('cpu family')}/{cpu_field('model')}",
        **built(),
        "memory_gib": round(memory_bytes() / 2**30, 1),
        "huge_pages": read("/sys/kernel/mm/transparent_hugepage/enabled").strip(),
        "system": f"{platform.system()} {platform.release()}",
    }


def sentence(header):
    """The same as one line for people."""
    return (
        f"`{header['command']}` at {header['commit']}: {header['cpu']} (family/model "
        f"{header['family_model']}, {header['instruction_set']}), {header['cores']} cores, "
        f"{header['memory_gib']} GiB; {', '.join([header['system'], *header['versions']])}"
        f"{'; ' + header['gpu'] if 'gpu' in header else ''}."
    )


def built():
    """What the programs say of themselves: instruction set, usable cores, versions."""
    return rows("step_time", "versions")[0]


def run(program, *arguments, **options):
    """What it prints; `program` is one of ours by name, or a path. Ends the bench when it fails,
    with what it says on standard error. `options` are subprocess.run's."""
    command = [PROGRAMS / program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode != 0:
        words = " ".join(map(str, [program, *arguments]))
        raise SystemExit(f"{done.stderr}bench: {words} failed")
    return done.stdout


def rows(program, *arguments, **options):
    """The JSON lines that it prints."""
    return [json.loads(line) for line in run(program, *arguments, **options).splitlines()]


def commit():
    """Short hash, with a + when files differ from it; "unknown" outside a repository."""
    head = git("rev-parse", "--short", "HEAD")
    changed = git("status", "--porcelain", "--untracked-files=no")
    return (head + ("+" if changed else "")) if head else "unknown"


def git(*arguments):
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def cpu_field(name):
    for line in read("/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"


def memory_bytes():
    for line in read("/proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return 0


def read(path):
    try:
        return Path(path).read_text()
    except OSError:
        return ""
