"""What a control group, such as a container, leaves this process: memory, processors, and what was killed in it.

Written after the kernel's admin guide: `cgroup-v2.rst`, and `cgroup-v1/memory.rst`. Where nothing is limited, or the
files cannot be read, there is no limit that we know of.
"""

from __future__ import annotations

import math
import os
import re
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path("/")
"""Where the files of the system are."""
_NO_LIMIT: Final = 1 << 60
"""Version 1 says "no limit" by a number just below 2^63."""
_MOUNT_LINE: Final = re.compile(r"\S+ \S+ \S+ (\S+) (\S+) .* - (cgroup2?) \S+ (\S+)")
"""Root, mount point, kind and options of a line of `mountinfo` (proc(5))."""


def memory_limit(root: Path = ROOT) -> int | None:
    """The bytes that all processes of this control group may use together, swap aside; None if that is all there is.

    Args:
        root: Where the files of the system are.
    """
    found = [
        limit
        for folder, name in _iter_group_folders(root, "memory", "memory.max", "memory.limit_in_bytes")
        if (limit := _read_limit_value(folder / name)) is not None and limit < _NO_LIMIT
    ]
    smallest = min(found, default=None)
    return smallest if smallest is not None and smallest < _machine_memory(root) else None


def cpu_quota(root: Path = ROOT) -> float | None:
    """Processors' worth of time that this control group gets; None if that is not limited."""
    found = []
    for folder, name in _iter_group_folders(root, "cpu", "cpu.max", "cpu.cfs_quota_us"):
        if name == "cpu.max":
            quota, _, period = _read_system_file(folder / name).partition(" ")
        else:
            quota, period = _read_system_file(folder / name), _read_system_file(folder / "cpu.cfs_period_us")
        if quota.isdecimal() and period.isdecimal() and int(period):
            found.append(int(quota) / int(period))
    return min(found, default=None)


def count_memory_kills(root: Path = ROOT) -> int:
    """How many processes the kernel has ended because this control group had used up its memory.

    Those of the whole machine say nothing: they are counted for all containers together.
    """
    if memory_limit(root) is None:
        return 0
    for folder, name in _iter_group_folders(root, "memory", "memory.events", "memory.oom_control"):
        if (killed := re.search(r"^oom_kill (\d+)", _read_system_file(folder / name), re.M)) is not None:
            return int(killed[1])
    return 0


def has_group_oom_kill(root: Path = ROOT) -> bool:
    """Whether the kernel ends all processes of this control group together, as Kubernetes has it do."""
    return any(
        _read_system_file(folder / name) == "1"
        for folder, name in _iter_group_folders(root, "memory", "memory.oom.group", "")
    )


def address_space_limit() -> int | None:
    """The bytes that each process may map (`ulimit -v`); None if that is not limited."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else limit


def usable_cores(root: Path = ROOT) -> int:
    """Cores that this process may use: those that it may run on, and no more than its share of time is worth."""
    cores, quota = len(os.sched_getaffinity(0)), cpu_quota(root)
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def _iter_group_folders(root: Path, controller: str, v2_file: str, v1_file: str) -> Iterator[tuple[Path, str]]:
    """The folders of this process's control groups, from its own to the outermost that can be seen.

    Args:
        root: Where the files of the system are.
        controller: What is asked about.
        v2_file: The file with the answer in version 2.
        v1_file: The same in version 1.
    """
    groups = [
        line.split(":", 2) for line in _read_system_file(root / "proc/self/cgroup").splitlines() if line.count(":") > 1
    ]
    for line in _read_system_file(root / "proc/self/mountinfo").splitlines():
        if (mount := _MOUNT_LINE.match(line)) is None:
            continue
        top, point, kind, options = mount.groups()
        if kind == "cgroup" and controller not in options.split(","):
            continue
        name = v2_file if kind == "cgroup2" else v1_file
        wanted = "" if kind == "cgroup2" else controller
        for _, controllers, path in groups:
            if wanted not in controllers.split(","):
                continue
            # a container may see its own group as the top, under the name that it has outside
            inside = Path(path).relative_to(top) if Path(path).is_relative_to(top) else Path()
            mounted = root / point.lstrip("/")
            for folder in (mounted / inside, *(mounted / inside).parents):
                if folder.is_relative_to(mounted) and (folder / name).is_file():
                    yield folder, name


def _machine_memory(root: Path) -> int:
    total = re.search(r"^MemTotal:\s+(\d+) kB", _read_system_file(root / "proc/meminfo"), re.M)
    return int(total[1]) * 1024 if total else _NO_LIMIT


def _read_limit_value(path: Path) -> int | None:
    text = _read_system_file(path)
    return int(text) if text.isdecimal() else None


def _read_system_file(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
