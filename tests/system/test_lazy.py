"""Names that are imported when they are first used."""

import subprocess
import sys

import pytest

from qwen2vl_rs.system.lazy import lazy_attributes


def test_a_name_is_looked_up_in_its_module():
    get, shown = lazy_attributes("qwen2vl_rs", {"to_line": "system.jsonl", "errors": ""})
    assert get("to_line")(1) == "1\n"
    assert get("errors").__name__ == "qwen2vl_rs.errors"
    assert shown() == ["errors", "to_line"]
    with pytest.raises(AttributeError, match="'absent'"):
        get("absent")


def test_importing_the_library_imports_nothing_heavy():
    code = "import sys, qwen2vl_rs as rs; dir(rs); rs.__version__; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = set(done.stdout.split())
    assert not names & {"numpy", "torch", "click", "pydantic", "pyarrow", "qwen2vl_rs.config"}
