"""The files in which the kernel says what a control group may use, written by ourselves."""

from __future__ import annotations

from pathlib import Path

SECOND = "30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup rw"
FIRST_MEMORY = "36 25 0:31 {top} /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory"
FIRST_CPU = "37 25 0:32 {top} /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct"


class Machine:
    """The files of a machine with 16 GiB.

    Args:
        root: Where they are written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("proc/meminfo", "MemTotal:       16777216 kB\nMemFree: 1 kB")

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text + "\n")

    def second(self, group: str, **files: str) -> None:
        """A group of version 2, in which this process is."""
        self.write("proc/self/mountinfo", SECOND)
        self.write("proc/self/cgroup", f"0::{group}")
        for name, text in files.items():
            self.write(f"sys/fs/cgroup{group}/{name.replace('_', '.', 1)}", text)

    def first(self, group: str, *, top: str = "/") -> None:
        """The same in version 1."""
        self.write("proc/self/mountinfo", "\n".join([FIRST_MEMORY.format(top=top), FIRST_CPU.format(top=top)]))
        self.write("proc/self/cgroup", f"9:memory:{group}\n2:cpu,cpuacct:{group}\n1:name=systemd:/else")
