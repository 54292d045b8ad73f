"""Read settings from TOML files and ``key=value`` options, and write them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .config import Config, setting_names
from .errors import UTF_8, ConfigError
from .setting_errors import explain, sorted_by_source
from .system.files import atomic_write
from .system.named_files import read_text
from .system.oserrors import unreadable
from .system.toml import to_toml

_TOML = "the file must be TOML"
_ESCAPES = re.compile(r"hex value|escape|\\\\", re.IGNORECASE)
_PATHS = "in \"…\" a backslash starts an escape: write paths with / or in 'single quotes'"


def load_config(
    path: Path | None, settings: Sequence[str] = (), values: Mapping[str, Any] | None = None
) -> Config:
    """Read a TOML file and apply overrides.

    Args:
        path: the file, None for the defaults.
        settings: ``key=value`` in TOML syntax, e.g. ``lora.r=16``; a bare word is a string.
        values: values by key, e.g. ``{"eval.max_eval": 100}``.

    Raises:
        ConfigError: no TOML file, unknown keys or invalid values, all in one message.
        RunError: the file exists and cannot be read.
    """
    tree: dict[str, Any] = {}
    if path is not None:
        if path.exists() and not path.is_file():
            inside = path / "config.toml"
            hint = f"name the file in it: {inside}" if inside.is_file() else "name a TOML file"
            what = "a folder" if path.is_dir() else "not a regular file"
            raise ConfigError(f"{path} is {what}", hint=hint)
        try:
            tree = tomllib.loads(read_text(path, "utf-8-sig"))
        except FileNotFoundError as error:
            raise ConfigError(
                f"no configuration file {path}", hint="without one, the defaults are used"
            ) from error
        except OSError as error:
            raise unreadable(path, error) from error
        except (ValueError, RecursionError) as error:
            yaml = path.suffix.lower() in (".yaml", ".yml", ".json")
            hint = "write it as TOML: sections in [brackets], then key = value" if yaml else _TOML
            if isinstance(error, UnicodeDecodeError):
                hint = UTF_8
            elif not yaml and _ESCAPES.search(str(error)):
                hint = _PATHS
            raise ConfigError(f"{path}: {error}", hint=hint) from error
    typed: dict[str, str] = {}
    for key, value in (values or {}).items():
        _put(tree, key, value)
        typed[key] = "options"
    for setting in settings:
        key, value = _parse(setting)
        _put(tree, key, value)
        typed[key] = "--set"
    return check_config(tree, str(path or "settings"), typed if path else {})


def check_config(
    tree: dict[str, Any], where: str, typed: Mapping[str, str] | None = None
) -> Config:
    """Validate a tree of settings.

    Args:
        tree: nested settings.
        where: their source, such as a file name.
        typed: source of each key that comes from elsewhere, such as ``--set``.

    Raises:
        ConfigError: names every unknown key and invalid value.
    """
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        every = list(setting_names())
        found = sorted_by_source(map(dict, error.errors()), where, dict(typed or {}))
        lines = {
            place: "; ".join(explain(one, Config, every) for one in some)
            for place, some in sorted(found.items(), key=lambda item: item[0] != where)
        }
        raise ConfigError(
            "; ".join(f"{place}: {text}" for place, text in lines.items()),
            hint="all settings: docs/settings.md, or config.toml of a run",
        ) from error


def write_config(path: Path, config: Config) -> None:
    """Write all settings as TOML; None is omitted.

    Raises:
        ConfigError: a text is not valid Unicode, e.g. a file name that is not UTF-8.
    """
    try:
        to_toml(config.model_dump(exclude_none=True)).encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"a setting cannot be written as UTF-8: {error.object!r}") from error
    with atomic_write(path) as file:
        file.write(to_toml(config.model_dump(exclude_none=True)))


def _parse(setting: str) -> tuple[str, Any]:
    key, equals, text = setting.partition("=")
    if not equals:
        raise ConfigError(f"setting {setting!r} has no '='", hint="write --set lora.r=16")
    try:
        return key.strip(), tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return key.strip(), text  # a bare word is a string


def _put(tree: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"cannot set {key}: {parent} is not a section")
    tree[last] = value
