"""What docstrings and comments name in backticks is there."""

import ast
import re
from pathlib import Path

import pytest

import qwen2vl_rs

SOURCE = Path(qwen2vl_rs.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
MODULES = {
    ".".join(p.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): p
    for p in FILES
}
# packages of versions before, which nobody finds any more
GONE = {"data", "model", "world", "geo", "remote", "records", "forms", "jsonstream", "controls"}
REFERENCE = re.compile(r"(?<!`)`([a-z_]+(?:\.[A-Za-z_]+)+)`(?!`)")


def names_in(path: Path) -> set[str]:
    """What a module defines or imports at its top."""
    found = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in node.names}
    return found


def is_there(reference: str, package: str) -> bool:
    """Whether a dotted name is a module, something in one, or of a library."""
    for base in (reference, f"{package}.{reference}"):
        module, _, name = base.rpartition(".")
        if base in MODULES or (module in MODULES and name in names_in(MODULES[module])):
            return True
    first = reference.split(".")[0]
    ours = {m.split(".")[0] for m in MODULES} | GONE
    return first not in ours and f"{package}.{first}" not in MODULES  # else of a library


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_references_lead_somewhere(path):
    package = ".".join(path.relative_to(SOURCE).parent.parts)
    found = REFERENCE.findall(path.read_text("utf-8"))
    assert not [one for one in found if not is_there(one, package)]


ROOT = Path(__file__).resolve().parents[1]
BESIDE = sorted(
    p for name in ("benchmarks", "docs", "recipes", "tests") for p in ROOT.glob(f"{name}/**/*.py")
)


def test_what_scripts_import_is_there():
    """Some of them run for minutes or on a GPU only: nothing else would tell in time."""
    assert len(BESIDE) > 100
    missing = []
    for path in BESIDE:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("qwen2vl_rs."):
                module = (node.module or "").removeprefix("qwen2vl_rs.")
                names = {alias.name for alias in node.names}
                if module not in MODULES:
                    missing.append(f"{path.name}: {module}")
                    continue
                there = names_in(MODULES[module]) | {
                    m.rpartition(".")[2] for m in MODULES if m.rpartition(".")[0] == module
                }
                missing += [f"{path.name}: {module}.{name}" for name in names - there]
    assert not missing
