"""Limits of a control group, in files as the kernel's admin guide describes them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cvbatch.system.control_group import (
    available_memory,
    count_memory_kills,
    cpu_quota,
    has_group_oom_kill,
    memory_limit,
    usable_cores,
)
from tests.rigs.containers import SECOND, Machine

GB = 1_000_000_000


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_without_files_there_is_no_limit(tmp_path: Path) -> None:
    assert memory_limit(tmp_path) is None
    assert cpu_quota(tmp_path) is None
    assert count_memory_kills(tmp_path) == 0


def test_a_version_2_container_sees_its_own_group_as_the_root(machine: Machine) -> None:
    machine.second("/", memory_max="1000000000", cpu_max="150000 100000")
    assert memory_limit(machine.root) == GB
    assert cpu_quota(machine.root) == 1.5


def test_available_memory_is_what_the_machine_or_the_group_leaves(machine: Machine) -> None:
    machine.write("proc/meminfo", "MemTotal: 16777216 kB\nMemAvailable: 1000000 kB")
    assert available_memory(machine.root) == 1_024_000_000
    machine.write("proc/self/statm", "9 100 3")
    machine.second("/", memory_max="1000000000")
    assert available_memory(machine.root) == GB - 100 * os.sysconf("SC_PAGE_SIZE")
    machine.second("/", memory_max="1000")
    assert available_memory(machine.root) == 0


def test_max_is_no_limit(machine: Machine) -> None:
    machine.second("/", memory_max="max", cpu_max="max 100000")
    assert memory_limit(machine.root) is None
    assert cpu_quota(machine.root) is None


def test_the_smallest_limit_of_all_parent_groups_applies(machine: Machine) -> None:
    machine.second("/pod/container", memory_max="max", cpu_max="400000 100000")
    machine.write("sys/fs/cgroup/pod/memory.max", "2000000000")
    machine.write("sys/fs/cgroup/pod/cpu.max", "200000 100000")
    machine.write("sys/fs/cgroup/other/memory.max", "1000")
    assert memory_limit(machine.root) == 2 * GB
    assert cpu_quota(machine.root) == 2.0


def test_a_limit_above_the_machine_memory_is_ignored(machine: Machine) -> None:
    machine.second("/", memory_max=str(32 << 30))
    assert memory_limit(machine.root) is None


def test_version_1_nested(machine: Machine) -> None:
    machine.first("/jobs/one")
    machine.write("sys/fs/cgroup/memory/jobs/one/memory.limit_in_bytes", "9223372036854771712")
    machine.write("sys/fs/cgroup/memory/jobs/memory.limit_in_bytes", "3000000000")
    machine.write("sys/fs/cgroup/cpu,cpuacct/jobs/one/cpu.cfs_quota_us", "50000")
    machine.write("sys/fs/cgroup/cpu,cpuacct/jobs/one/cpu.cfs_period_us", "100000")
    assert memory_limit(machine.root) == 3 * GB
    assert cpu_quota(machine.root) == 0.5


def test_version_1_without_limits(machine: Machine) -> None:
    machine.first("/")
    machine.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712")
    machine.write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1")
    machine.write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000")
    assert memory_limit(machine.root) is None
    assert cpu_quota(machine.root) is None


@pytest.mark.parametrize("group", ["/docker/0123", "/docker/0123/inner"])
def test_a_version_1_container_sees_its_group_as_the_root_under_its_outside_name(group: str, machine: Machine) -> None:
    machine.first(group, top="/docker/0123")
    machine.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "1000000000")
    machine.write("sys/fs/cgroup/memory/inner/memory.limit_in_bytes", "9223372036854771712")
    assert memory_limit(machine.root) == GB


def test_both_versions_at_once(machine: Machine) -> None:
    """A hybrid machine: version 2 is mounted without the controllers that version 1 has."""
    machine.first("/jobs")
    mounts = (machine.root / "proc/self/mountinfo").read_text()
    machine.write("proc/self/mountinfo", mounts + SECOND.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified"))
    machine.write("proc/self/cgroup", "9:memory:/jobs\n0::/jobs")
    machine.write("sys/fs/cgroup/unified/jobs/cgroup.procs", "1")
    machine.write("sys/fs/cgroup/memory/jobs/memory.limit_in_bytes", "1000000000")
    assert memory_limit(machine.root) == GB


def test_kills_of_a_limited_group_are_counted(machine: Machine) -> None:
    machine.write("proc/vmstat", "nr_free_pages 7\noom_kill 40")
    machine.second("/", memory_max="1000000000", memory_events="low 0\noom 9\noom_kill 3\noom_group_kill 1")
    assert count_memory_kills(machine.root) == 3


def test_kills_in_version_1(machine: Machine) -> None:
    machine.first("/jobs")
    machine.write("sys/fs/cgroup/memory/jobs/memory.limit_in_bytes", "1000000000")
    machine.write("sys/fs/cgroup/memory/jobs/memory.oom_control", "oom_kill_disable 0\nunder_oom 1\noom_kill 5")
    assert count_memory_kills(machine.root) == 5


def test_kills_in_other_containers_do_not_count(machine: Machine) -> None:
    machine.second("/", memory_max="max", memory_events="oom_kill 3")
    machine.write("proc/vmstat", "nr_free_pages 7\noom_kill 40")
    assert count_memory_kills(machine.root) == 0


@pytest.mark.parametrize("together", [True, False])
def test_group_oom_kill_is_recognised(together: bool, machine: Machine) -> None:
    machine.second("/", memory_max="1000000000")
    machine.write("sys/fs/cgroup/memory.oom.group", str(int(together)))
    assert has_group_oom_kill(machine.root) == together


@pytest.mark.parametrize(("quota", "cores"), [(None, None), (2.0, 2), (1.5, 2), (1.0, 1), (0.5, 1), (4096.0, None)])
def test_a_cpu_quota_limits_the_cores(quota: float | None, cores: int | None, machine: Machine) -> None:
    machine.second("/", cpu_max="max 100000" if quota is None else f"{quota * 100_000:.0f} 100000")
    cores_of_process = len(os.sched_getaffinity(0))
    assert usable_cores(machine.root) == (cores_of_process if cores is None else min(cores_of_process, cores))


def test_the_limits_of_this_machine_are_readable() -> None:
    assert (memory_limit() or 1) > 0
    assert count_memory_kills() >= 0
    assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))
