"""Errors for missing packages, with the pip command that installs them."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import tomllib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ..errors import ConfigError

TREE = Path(__file__).resolve().parents[3]  # root of a clone, with pyproject.toml
_PACKAGES = {"PIL": "pillow", "multipart": "python-multipart", "starlette": "fastapi"}


def missing_module(error: ImportError) -> ConfigError | None:
    """Return the error for an import that failed; None for a module of this package."""
    module = (error.name or "").partition(".")[0]
    if module in ("", "qwen2vl_rs"):
        return None
    if module in sys.stdlib_module_names:
        return ConfigError(
            f"this Python was built without the module {module}",
            hint="use another Python, e.g. from conda or python.org",
        )
    return missing_package(module)


def missing_package(module: str) -> ConfigError:
    """Return the error for a package that is not installed.

    Args:
        module: import name of the package.
    """
    name = _plain(_PACKAGES.get(module, module))
    extras = [extra for extra, needs in _extras().items() if name in map(_name_of, needs)]
    return ConfigError(
        f"this command needs {name}, which is not installed",
        hint=_command(name, extras[0] if extras else "train"),
    )


@dataclass(frozen=True, slots=True)
class Package:
    """A package that this one uses.

    Attributes:
        name: its name on the index.
        need: the requirement, with the allowed versions.
        extra: the extra that installs it; empty for the base install.
        version: the installed version; None if it is not installed.
    """

    name: str
    need: str
    extra: str
    version: str | None

    @property
    def fits(self) -> bool:
        """Whether the installed version is allowed."""
        bounds = re.findall(r"(>=|<)\s*([\d.]+)", self.need)
        if self.version is None:
            return False
        own = _numbers(self.version)
        return all((own >= _numbers(v)) == (sign == ">=") for sign, v in bounds)


def packages(*others: str) -> dict[str, Package]:
    """Return the packages of all extras, or some others, by name."""
    if others:
        return {name: Package(name, name, "", _version(name)) for name in others}
    needs = [(need, extra) for extra, some in _extras().items() for need in some]
    found: dict[str, Package] = {}
    for need, extra in needs:
        name = _name_of(need)
        bare = need.partition(";")[0].strip()
        found.setdefault(name, Package(name, bare, extra, _version(name)))
    return found


def install_command(extra: str) -> str:
    """Return the pip command that installs an extra."""
    return _command("", extra)


def _numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a version, without trailing zeros, to compare it."""
    numbers = [int(n) for n in re.match(r"[\d.]*", version)[0].split(".") if n]  # type: ignore[index]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def _command(name: str, extra: str) -> str:
    """Return the pip command for an extra: the whole extra in a clone, else missing packages."""
    here = shutil.which("pip")
    ours = here is not None and Path(here).parent == Path(sys.executable).parent
    pip = "pip install" if ours else f"{shlex.quote(sys.executable)} -m pip install"
    wanted = {"": "", "train": "[train]"}.get(extra, f"[train,{extra}]")
    if (TREE / "pyproject.toml").is_file():
        place = "." if Path.cwd() == TREE else str(TREE)
        return f"{pip} -e {shlex.quote(place + wanted)}"
    # installed without a clone: this package may not be on the index
    needs = [n for e, some in _extras().items() if e in ("", "train", extra) for n in some]
    absent = [need for need in needs if not _version(_name_of(need))] or [name or "qwen2vl-rs"]
    return f"{pip} {' '.join(map(shlex.quote, absent))}"


def _extras() -> dict[str, list[str]]:
    """Return the requirements per extra; those without an extra under the empty name."""
    if (TREE / "pyproject.toml").is_file():
        project = tomllib.loads((TREE / "pyproject.toml").read_text("utf-8"))["project"]
        return {"": project["dependencies"], **project["optional-dependencies"]}
    found: dict[str, list[str]] = {"": []}
    for line in metadata.requires("qwen2vl-rs") or ():
        need, _, condition = line.partition(";")
        extra = re.search(r"extra\s*==\s*['\"](\w+)['\"]", condition)
        found.setdefault(extra[1] if extra else "", []).append(need.strip())
    return found


def _name_of(need: str) -> str:
    return _plain(re.split(r"[^\w.-]", need, maxsplit=1)[0])


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


def _version(name: str) -> str | None:
    """Return the installed version of a package."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
