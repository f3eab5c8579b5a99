"""`make bench`: run every bench_*.py beside this file, each in a process of its own, under a heading that says where.

A bench is a module with `def bench(report: Report) -> None`. Exits with 1 when a value misses its limit.

    python tests/bench/run.py [NAME...]     NAME: bench_engine or engine
"""

from __future__ import annotations

import importlib
import os
import platform
import subprocess
import sys
from pathlib import Path

import psutil

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def main(names: list[str]) -> int:
    """The exit status: 0 every limit kept, 1 not, 64 no such bench."""
    there = {path.stem.removeprefix("bench_"): path.stem for path in sorted(HERE.glob("bench_*.py"))}
    chosen = [name.removeprefix("bench_") for name in names] or list(there)
    unknown = [name for name in chosen if name not in there]
    if unknown:
        print(f"no bench is called {', '.join(unknown)}; there are {', '.join(there)}", file=sys.stderr)
        return 64
    print(f"machine  {machine()}\ncommit   {commit()}", flush=True)
    statuses = []
    for name in chosen:
        print(f"\n{name}", flush=True)
        statuses.append(subprocess.run([sys.executable, "-m", "tests.bench.run", "--alone", there[name]], cwd=ROOT))
    return int(any(ended.returncode for ended in statuses))


def alone(module: str) -> int:
    """Run one bench in this process."""
    from tests.bench.report import Report

    report = Report()
    importlib.import_module(f"tests.bench.{module}").bench(report)
    return int(report.misses > 0)


def machine() -> str:
    """CPU, cores that we may use, memory, system, Python, and how busy it is."""
    cpu = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    cores, memory = len(os.sched_getaffinity(0)), psutil.virtual_memory().total / 2**30
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return f"{cpu}, {cores} cores, {memory:.1f} GiB, {system}, load {os.getloadavg()[0]:.1f}"


def commit() -> str:
    """The commit that is measured, marked when the tree differs from it."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty=, with changes"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "not a checkout"


if __name__ == "__main__":
    arguments = sys.argv[1:]
    sys.exit(alone(arguments[1]) if arguments[:1] == ["--alone"] else main(arguments))
