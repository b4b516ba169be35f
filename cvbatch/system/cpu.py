"""What this machine is."""

from __future__ import annotations

import os
import platform
import re
import time
from functools import lru_cache
from pathlib import Path
from typing import Final

_START_TIME_FIELD: Final = 19
"""Which field it is, counted from behind the name (proc(5), `stat`)."""


def cpu_has_bf16() -> bool:
    """Whether this machine's processor computes with bfloat16 at full speed."""
    return "avx512_bf16" in _read_cpuinfo()


def processor_name() -> str:
    """Name of this machine's processor."""
    named = re.search(r"model name\s*: (.*)", _read_cpuinfo())
    return named.group(1) if named else platform.processor() or platform.machine()


def instruction_sets() -> str:
    """The instruction sets that it has, as the system lists them: equal names may stand for different ones."""
    flags = re.search(r"flags\s*: (.*)", _read_cpuinfo())
    return flags.group(1) if flags else platform.machine()


def process_age(pid: int | None = None) -> float:
    """Seconds since a process was started, by default this one: what a person has waited for it.

    0 where the system does not tell.
    """
    try:
        stat = Path(f"/proc/{pid or os.getpid()}/stat").read_text()
    except OSError:
        return 0.0
    started = int(stat.rpartition(")")[2].split()[_START_TIME_FIELD]) / os.sysconf("SC_CLK_TCK")
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)


@lru_cache(maxsize=1)
def _read_cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
