"""Where a run took place: versions, commit, device, threads. Imports none of what it names."""

import contextlib
import os
import platform
import shutil
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import trfnb

PACKAGES = ("spacy", "thinc", "torch", "transformers", "numpy")


def of_this_sweep(folder: Path) -> dict[str, Any]:
    """Return versions and the git commit of a folder, ``+`` at its end when files differ."""
    found: dict[str, Any] = {"trfnb": trfnb.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found | {"commit": commit_of(folder)}


def of_this_process(threads: int) -> dict[str, Any]:
    """Return host, device and threads of a run."""
    return {"host": platform.node(), "device": device(), "threads": threads}


def commit_of(folder: Path) -> str | None:
    """Return the short commit that a folder is at; None outside a repository."""
    head = _answer("git", "-C", str(folder), "rev-parse", "--short=10", "HEAD")
    if not head:
        return None
    return head + (
        "+" if _answer("git", "-C", str(folder), "status", "--porcelain", "-uno") else ""
    )


@cache
def device() -> str:
    """Return the name of the visible GPU, else of the processor."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible != "" and shutil.which("nvidia-smi"):
        which = ["-i", visible] if visible else []
        names = _answer("nvidia-smi", "--query-gpu=name", "--format=csv,noheader", *which)
        if names:
            return names.splitlines()[0]
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """Return how many cores this process may use: affinity and the container's quota."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(usable or 1, int(quota) // int(period)))
    return usable or 1


def visible_gpus() -> list[str]:
    """Return the ids of the GPUs that runs may be given."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [part.strip() for part in visible.split(",") if part.strip() not in {"", "-1"}]
    if not shutil.which("nvidia-smi"):
        return []
    return _answer("nvidia-smi", "--query-gpu=index", "--format=csv,noheader").split()


def _answer(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
