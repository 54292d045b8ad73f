"""The layers: which module may import which, how large one may grow, what stays light."""

import ast
import graphlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import qwen2vl_rs

PACKAGE = "qwen2vl_rs"
SOURCE = Path(qwen2vl_rs.__file__).parent
# from the bottom up: a package may import those before it, and no other
LAYERS = [
    {"errors", "known_datasets", "types", "version"},
    {"system"},
    {
        "adapter_settings",
        "config",
        "config_file",
        "foreign_settings",
        "instruction",
        "run",
        "setting_errors",
        "validation_record",
    },
    {"raster"},
    {"questions"},
    {"datasets"},
    {"scoring"},
    {"checking"},
    {"synthetic"},
    {"vqa_generation"},
    {"question_tree"},
    {"hardware"},
    {"models"},
    {"hub"},
    {"engine"},
    {"predict"},
    {"training"},
    {"maps"},
    {"serve", "reporting", "diagnosis"},
    {"library"},
    {"cli", "__main__", ""},  # "" is the package itself, which shows the library
]
GROUND = set().union(*LAYERS[:3])  # the standard library, pydantic and rich alone
TORCH = {"question_tree", "hardware", "models", "engine", "predict", "training"}
MODEL_ONLY = {"torch", "transformers", "peft", "accelerate", "tokenizers", "safetensors"}
HEAVY = {*MODEL_ONLY, "numpy", "rasterio", "pydantic"}


@dataclass(frozen=True)
class Module:
    name: str
    is_package: bool
    tree: ast.Module
    lines: int


def read_modules() -> dict[str, Module]:
    modules = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name = ".".join([PACKAGE, *(parts[:-1] if is_package else parts)])
        text = path.read_text(encoding="utf-8")
        modules[name] = Module(name, is_package, ast.parse(text), len(text.splitlines()))
    return modules


MODULES = read_modules()


def imports(module: Module, known: set[str]) -> set[str]:
    """The dotted names of all modules that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(module.tree):
        match node:
            case ast.Import(names=names):
                found |= {alias.name for alias in names}
            case ast.ImportFrom(module=name, names=names, level=level):
                base = (name or "").split(".") if name else []
                if level:
                    here = module.name.split(".")
                    base = here[: len(here) - level + module.is_package] + base
                source = ".".join(base)
                within = {f"{source}.{alias.name}" for alias in names} & known
                found |= within
                if len(within) < len(names):
                    found.add(source)
            case ast.Call(func=ast.Attribute(attr=call) | ast.Name(id=call), args=[first, *_]):
                if call in {"import_module", "__import__"} and isinstance(first, ast.Constant):
                    found.add(first.value)
    return found


def package(name: str) -> str:
    """``raster`` of ``qwen2vl_rs.raster.rgb``; a module at the top is its own."""
    return name.split(".")[1] if "." in name else ""


def layer(name: str) -> int:
    for height, packages in enumerate(LAYERS):
        if package(name) in packages:
            return height
    raise AssertionError(f"{name} has no layer: add its package to LAYERS, or move it")


def complaints(module: Module, known: set[str]) -> list[str]:
    """What a module imports and may not."""
    found, own = [], package(module.name)
    for target in sorted(imports(module, known)):
        top = target.split(".")[0]
        if top == PACKAGE:
            if package(target) == own or module.name == f"{PACKAGE}.__main__":
                continue
            beside = own in GROUND and package(target) in GROUND
            if layer(target) > layer(module.name) or (
                layer(target) == layer(module.name) and not beside
            ):
                found.append(f"{module.name} imports {target}, which does not lie below it")
        elif own in GROUND and top not in {"pydantic", "rich", "pandas"}:
            if top not in sys.stdlib_module_names:
                found.append(f"{module.name}, at the bottom, imports {target}")
        elif top in MODEL_ONLY and own not in TORCH:
            found.append(f"{module.name} imports {target}, which only {sorted(TORCH)} may")
        elif top == "rasterio" and own != "raster":
            found.append(f"{module.name} imports {target}, which only raster/ may")
        elif top == "torchvision":
            found.append(f"{module.name} imports {target}, which must not be needed")
    return found


def test_arrows_point_down_and_foreign_libraries_stay_where_they_belong():
    found = [line for module in MODULES.values() for line in complaints(module, set(MODULES))]
    assert not found, "\n".join(found)


def test_no_module_imports_itself_through_others():
    arrows = {m.name: imports(m, set(MODULES)) & set(MODULES) for m in MODULES.values()}
    assert sum(map(len, arrows.values())) > len(MODULES), "the imports have not been read"
    try:
        graphlib.TopologicalSorter(arrows).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


@pytest.mark.parametrize(
    ("name", "source", "complaint"),
    [
        ("datasets.new", "from ..scoring import statistics", "scoring.statistics"),
        ("datasets.new", "from .. import models", "models"),
        ("raster.new", "import qwen2vl_rs.question_tree.tree as t", "question_tree.tree"),
        ("scoring.new", "def f():\n    from ..synthetic.scene import draw", "synthetic.scene"),
        ("questions.new", "from ..datasets import tables", "datasets.tables"),
        (
            "vqa_generation.new",
            "from importlib import import_module\nimport_module('torch.nn')",
            "torch.nn",
        ),
        ("models.new", "from ..engine import decoding", "engine.decoding"),
        ("models.new", "from ..reporting.text import table", "reporting.text"),
        ("models.new", "if True:\n    from qwen2vl_rs import cli", "cli"),
        ("models.new", "import numpy, torchvision.transforms", "torchvision.transforms"),
        ("maps.new", "import torch", "torch"),
        ("maps.new", "import rasterio.features", "rasterio.features"),
        ("serve.new", "from ..reporting import text", "reporting.text"),
        ("reporting.new", "from safetensors.torch import load", "safetensors.torch"),
        ("run", "import numpy", "numpy"),
        ("system.new", "from ..config import Config", "config"),
        ("errors", "from .datasets import tables", "datasets.tables"),
    ],
)
def test_a_wrong_import_is_seen(name, source, complaint):
    known = {"models", "reporting.text", "scoring.statistics", "datasets.tables", "cli",
             "engine.decoding"}  # fmt: skip
    known = {PACKAGE, *(f"{PACKAGE}.{m}" for m in known)}
    (found,) = complaints(Module(f"{PACKAGE}.{name}", False, ast.parse(source), 1), known)
    assert f" imports {complaint}" in found.replace(f"{PACKAGE}.", "")


def test_right_imports_are_not_complained_about():
    source = "import os, torch\nfrom . import folder\nfrom ..version import VERSION\n"
    source += "from ..raster import x\nfrom ..config import Config"
    new = Module(f"{PACKAGE}.models.new", False, ast.parse(source), 1)
    assert not complaints(new, set(MODULES))
    face = Module(f"{PACKAGE}.models", True, ast.parse("from .folder import F"), 1)
    assert imports(face, set(MODULES)) == {f"{PACKAGE}.models.folder"}


def test_words_of_predictions_mean_one_thing():
    """Whoever reads a name finds the one class or function that has it."""
    words = {"Asked", "Job", "ModelAnswer", "Predictor", "Question", "Reply",
             "Run", "choose", "EndpointClient", "AnswerFile"}  # fmt: skip
    found = {}
    for module in MODULES.values():
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name in words:
                found.setdefault(node.name, []).append(module.name)
    assert all(len(places) == 1 for places in found.values()), found
    assert words - found.keys() == {"Asked", "choose"}  # gone


def test_no_module_is_longer_than_400_lines():
    found = [f"{m.name}: {m.lines} lines" for m in MODULES.values() if m.lines > 400]
    assert not found, "\n".join(found)


def test_no_function_is_longer_than_60_lines():
    found = []
    for module in MODULES.values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno + 1
                if lines > 60:
                    found.append(f"{module.name}.{node.name}: {lines} lines")
    assert not found, "\n".join(found)


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_imports_nothing_but_click():
    loaded = python(
        "import sys; before = set(sys.modules)\n"
        "import qwen2vl_rs.cli\n"
        "assert qwen2vl_rs.cli.main(['--help']) == 0\n"
        "print('|', *(set(sys.modules) - before))"
    )
    modules = loaded.rpartition("|")[2].split()
    assert len(modules) < 220, "--help has to answer within 300 ms"
    names = {name.partition(".")[0] for name in modules}
    assert {"click", PACKAGE} <= names
    assert not names & HEAVY
    assert names - sys.stdlib_module_names == {"click", PACKAGE}


def test_what_needs_no_model_works_where_torch_is_not_installed():
    local = {"local", "session", "evaluation", "side_by_side"}  # the side of predict with torch
    heavy = {*TORCH, "hub", "maps", "serve", "cli", "__main__"} - {"predict"}
    names = [
        name
        for name in MODULES
        if package(name) not in heavy and name.rpartition(".")[2] not in local
    ]
    light = set().union(*LAYERS) - heavy
    assert {package(name) for name in names} == light
    assert {"datasets", "scoring", "reporting", "vqa_generation"} <= light
    done = python(
        "import importlib, sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {MODEL_ONLY!r}:\n"
        "            raise ModuleNotFoundError(f'{name} is hidden', name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "try:\n"
        "    import torch\n"
        "except ModuleNotFoundError as error:\n"
        "    print(error)\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
    )
    assert done == "torch is hidden\n"
