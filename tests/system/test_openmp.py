"""Commands let waiting threads sleep; the library leaves the environment alone."""

import os
import subprocess
import sys

import pytest

from family import few

PROGRAM = """
import os, sys
from qwen2vl_rs.__main__ import main
before = "torch" in sys.modules
main(["--version"])
print(before, *(os.environ.get(n) for n in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")))
"""
LIBRARY = """
import os
from qwen2vl_rs.cli import main
{more}
print(os.environ.get("OMP_WAIT_POLICY"), os.environ.get("GOMP_SPINCOUNT"))
"""


def last_line(program, **said):
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    environment = {k: v for k, v in os.environ.items() if k not in names} | said
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return done.stdout.splitlines()[-1]


def test_a_command_lets_threads_sleep_before_torch_is_there():
    assert last_line(PROGRAM) == "False None 10000 None"


@pytest.mark.parametrize(
    ("name", "value", "found"),
    few(
        [
            ("OMP_WAIT_POLICY", "ACTIVE", "ACTIVE None None"),
            ("GOMP_SPINCOUNT", "1000", "None 1000 None"),
            ("KMP_BLOCKTIME", "200", "None None 200"),
        ],
        0,
    ),
)
def test_what_the_user_has_said_stays(name, value, found):
    assert last_line(PROGRAM, **{name: value}) == f"False {found}"


@pytest.mark.parametrize("more", few(["", "from qwen2vl_rs.models import finite  # and torch"], 0))
def test_the_library_sets_nothing(more):
    assert last_line(LIBRARY.replace("{more}", more)) == "None None"
