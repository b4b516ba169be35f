"""Properties of this machine's processor, and the age of processes."""

from __future__ import annotations

import os
import platform
import re
import time
from functools import lru_cache
from pathlib import Path
from typing import Final

_START_TIME_FIELD: Final = 19
"""Index of the start time among the fields after the process name (proc(5), `stat`)."""


def cpu_has_bf16() -> bool:
    """Whether this machine's processor has fast bfloat16 instructions."""
    return "avx512_bf16" in _read_cpuinfo()


def processor_name() -> str:
    """Return the name of this machine's processor."""
    match = re.search(r"model name\s*: (.*)", _read_cpuinfo())
    return match.group(1) if match else platform.processor() or platform.machine()


def instruction_sets() -> str:
    """Return the processor's instruction sets as the system lists them; processors of one name may differ in them."""
    flags = re.search(r"flags\s*: (.*)", _read_cpuinfo())
    return flags.group(1) if flags else platform.machine()


def process_age(pid: int | None = None) -> float:
    """Return the seconds since the start of a process, by default this one; 0 where unknown."""
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
