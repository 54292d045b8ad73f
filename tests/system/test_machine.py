"""Facts of machines that are not this one: their files below another root."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwen2vl_rs.system.machine import cpu_model, instruction_sets, memory, usable_cores

CPUINFO = """\
processor	: 0
model name	: AMD EPYC 9R14
flags		: fpu sse2 avx2 avx512f avx512_bf16 amx_bf16

processor	: 1
model name	: AMD EPYC 9R14
"""


def put(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_processor_is_named_with_what_it_can_do(tmp_path):
    put(tmp_path, "proc/cpuinfo", CPUINFO)
    assert cpu_model(tmp_path) == "AMD EPYC 9R14"
    assert instruction_sets(tmp_path) == ["avx2", "avx512f", "avx512_bf16", "amx_bf16"]


def test_an_arm_processor_lists_features(tmp_path):
    put(tmp_path, "proc/cpuinfo", "Features	: fp asimd sve bf16\nCPU part	: 0xd40\n")
    assert instruction_sets(tmp_path) == ["asimd", "sve", "bf16"]
    assert cpu_model(tmp_path)


def test_without_proc_nothing_fails(tmp_path):
    assert cpu_model(tmp_path)
    assert instruction_sets(tmp_path) == []
    cores, limit = usable_cores(tmp_path)
    assert cores >= 1
    assert limit is None
    found = memory(tmp_path)
    assert found.available is found.limit is None
    assert found.usable == found.total


@pytest.mark.parametrize(
    ("cgroup", "files", "cores", "limit"),
    [
        ("0::/\n", {"cpu.max": "150000 100000", "memory.max": "2000000000"}, 1.5, 2_000_000_000),
        ("0::/\n", {"cpu.max": "max 100000", "memory.max": "max"}, None, None),
        (  # limits above the process's own group count, too
            "0::/job/task\n",
            {"job/memory.max": "1000000000", "job/task/memory.max": "2000000000",
             "job/cpu.max": "100000 100000"},
            1.0, 1_000_000_000,
        ),
        (
            "4:memory:/a\n2:cpuacct,cpu:/b\n",
            {"memory/a/memory.limit_in_bytes": "3000000000", "cpu/b/cpu.cfs_quota_us": "50000",
             "cpu/b/cpu.cfs_period_us": "100000"},
            0.5, 3_000_000_000,
        ),
        (
            "4:memory:/\n2:cpu:/\n",
            {"memory/memory.limit_in_bytes": "9223372036854771712", "cpu/cpu.cfs_quota_us": "-1",
             "cpu/cpu.cfs_period_us": "100000"},
            None, None,
        ),
        ("nonsense", {"cpu.max": "x y", "memory.max": ""}, None, None),
        ("0::/../../etc\n", {"cpu.max": "0 0"}, None, None),
    ],
)  # fmt: skip
def test_limits_of_containers(tmp_path, cgroup, files, cores, limit):
    put(tmp_path, "proc/self/cgroup", cgroup)
    for name, text in files.items():
        put(tmp_path, f"sys/fs/cgroup/{name}", text)
    assert usable_cores(tmp_path)[1] == cores
    assert memory(tmp_path).limit == limit


def test_what_is_available_is_what_the_container_leaves(tmp_path):
    put(tmp_path, "proc/meminfo", "MemTotal: 9000000 kB\nMemAvailable: 5000000 kB\n")
    assert memory(tmp_path).available == 5_120_000_000
    put(tmp_path, "proc/self/cgroup", "0::/\n")
    put(tmp_path, "sys/fs/cgroup/memory.max", "2000000000")
    put(tmp_path, "sys/fs/cgroup/memory.current", "500000000")
    assert memory(tmp_path).available == 1_500_000_000
