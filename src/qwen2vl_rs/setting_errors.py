"""Error messages for invalid settings: the setting, its source and the allowed values."""

from __future__ import annotations

import difflib
import json
import typing
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from . import foreign_settings

_NOTHING = {"", "none", "null", "nil", "auto", "default"}
_LISTS = {"tuple_type", "list_type", "missing", "too_long", "too_short"}


def explain(error: dict[str, Any], root: type[BaseModel], settings: Sequence[str]) -> str:
    """Describe one pydantic error in one clause.

    Args:
        error: an item of `ValidationError.errors`.
        root: class of all settings.
        settings: full names of all settings.
    """
    path = [str(part) for part in error["loc"]]
    if error["type"] == "extra_forbidden":
        return _unknown(path, root, settings)
    field, inside = _field(path, root)
    key = ".".join(path)
    message = str(error["msg"]).removeprefix("Value error, ")
    if field is not None:
        form = _form(field, error.get("input"))
        given = error.get("input")
        if form and error["type"] in _LISTS:
            return f"{'.'.join(path[: len(path) - inside])}: write {form}"
        if form and inside:
            return f"{key}: {message}; write {form}"
        if isinstance(given, str) and given.strip().lower() in _NOTHING and field.default is None:
            return f"{key}: omit it for none, which is the default"
    return f"{key}: {message}" if key else message


def sorted_by_source(
    errors: Iterable[dict[str, Any]], where: str, typed: dict[str, str]
) -> dict[str, list[dict[str, Any]]]:
    """Group errors by the source of the setting.

    Args:
        errors: pydantic's errors.
        where: the settings file.
        typed: source of each setting given otherwise, e.g. ``--set``, by key.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for error in errors:
        path = tuple(map(str, error["loc"]))
        how = [place for key, place in typed.items() if _touches(path, tuple(key.split(".")))]
        found.setdefault(how[-1] if how else where, []).append(error)
    return found


def _touches(path: tuple[str, ...], key: tuple[str, ...]) -> bool:
    """Whether an error concerns a setting or the section that contains it."""
    n = min(len(path), len(key))
    return bool(path) and path[:n] == key[:n]


def _unknown(path: list[str], root: type[BaseModel], settings: Sequence[str]) -> str:
    section: Any = root
    for part in path[:-1]:
        section = section.model_fields[part].annotation
    key, name = ".".join(path), path[-1]
    if known := foreign_settings.advice(name):
        return f"unknown key {key}: {known}"
    elsewhere = [place for place in settings if place.rpartition(".")[2] == name.lower()]
    if elsewhere:
        return f"unknown key {key}: use {' or '.join(elsewhere)}"
    own = {one: ".".join([*path[:-1], one]) for one in section.model_fields}
    others = {place.rpartition(".")[2]: place for place in settings}
    for names, cutoff in ((own, 0.8), (others, 0.8), (own, 0.5)):
        if near := difflib.get_close_matches(name, names, n=1, cutoff=cutoff):
            return f"unknown key {key}, did you mean {names[near[0]]}?"
    return f"unknown key {key}"


def _field(path: list[str], root: type[BaseModel]) -> tuple[FieldInfo | None, int]:
    """Return the setting at a path, and how many parts of the path are inside its value."""
    section: Any = root
    for i, part in enumerate(path):
        field: FieldInfo | None = getattr(section, "model_fields", {}).get(part)
        if field is None:
            return None, 0
        section = field.annotation
        if not (isinstance(section, type) and issubclass(section, BaseModel)):
            return field, len(path) - i - 1
    return None, 0


def _form(field: FieldInfo, given: Any) -> str:
    """Describe the syntax of a list setting; empty for other settings."""
    kinds = [field.annotation, *typing.get_args(field.annotation)]
    kind = next((one for one in kinds if typing.get_origin(one) is tuple), None)
    if kind is None:
        return ""
    items = typing.get_args(kind)
    parts = (
        [part.strip() for part in given.strip("()[] ").split(",")] if isinstance(given, str) else []
    )
    if Ellipsis in items:
        allowed = [str(one) for one in typing.get_args(items[0])]
        own = [part for part in parts if part in allowed] or allowed[:1] or ["a", "b"]
        return f"a list, e.g. {json.dumps(own)}; [] for none"
    numbers = [part for part in parts if part.lstrip("-").replace(".", "", 1).isdigit()]
    if len(numbers) != len(items):
        default = field.default if isinstance(field.default, tuple) else range(1, len(items) + 1)
        numbers = [f"{number:g}" for number in default]
    text = f"{len(items)} numbers in a list, e.g. [{', '.join(numbers)}]"
    return text + ("" if field.default is not None else "; omit it for none")
