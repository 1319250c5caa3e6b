"""Where and with what a trial was run: enough to rerun it a year later, nothing about who ran it."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import resource
import subprocess
import sys
from datetime import UTC, datetime

from companion.paths import ROOT

LIBRARIES = ("torch", "transformers", "tokenizers", "datasets", "numpy", "scikit-learn")


@functools.cache
def git_commit() -> str:
    """The checkout's commit, with ``+changes`` when its code differs from it; empty outside a git checkout."""
    try:
        run = functools.partial(subprocess.run, cwd=ROOT, capture_output=True, text=True, timeout=10)
        commit = run(["git", "rev-parse", "--show-cdup", "HEAD"])
        changed = run(["git", "status", "--porcelain", "--", "src", "models"])
    except (OSError, subprocess.TimeoutExpired):
        return ""
    way_up, _, head = commit.stdout.partition("\n")
    if commit.returncode or way_up:  # no checkout, or another project's around this one
        return ""
    return head.strip()[:12] + ("+changes" if changed.stdout.strip() else "")


@functools.cache
def libraries() -> dict[str, str]:
    """Versions of the libraries a score depends on."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


@functools.cache
def processor() -> str:
    """The CPU's model name, or its architecture where the system does not tell."""
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.machine()


def device_name() -> str:
    """The GPU's name if trials run on one, else ``cpu``."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def peak_resident_mb() -> float:
    """Largest resident memory of this process so far in MB (the system counts in bytes on macOS, else in KiB)."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def collect(library: str = "") -> dict[str, object]:
    """Provenance of a trial that finishes now.

    ``library`` multiplied its matrices, where it was not PyTorch's usual one; it is named with the processor, as
    rounding depends on both.
    """
    import torch

    return {
        "companion": importlib.metadata.version("companion"),
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "libraries": libraries(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": f"{processor()} with {library}" if library else processor(),
        "device": device_name(),
        "threads": torch.get_num_threads(),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
