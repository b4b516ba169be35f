"""What this machine is."""

from __future__ import annotations

import platform
import re
from functools import lru_cache
from pathlib import Path


def cpu_has_bf16() -> bool:
    """Whether this machine's processor computes with bfloat16 at full speed."""
    return "avx512_bf16" in _cpuinfo()


def processor() -> str:
    """Name of this machine's processor."""
    named = re.search(r"model name\s*: (.*)", _cpuinfo())
    return named.group(1) if named else platform.processor() or platform.machine()


def instructions() -> str:
    """The instruction sets that it has, as the system lists them: equal names may stand for different ones."""
    flags = re.search(r"flags\s*: (.*)", _cpuinfo())
    return flags.group(1) if flags else platform.machine()


@lru_cache(maxsize=1)
def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
