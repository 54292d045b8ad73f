"""Write TOML (the standard library only reads it)."""

from __future__ import annotations

import json
from typing import Any


def to_toml(tree: dict[str, Any], prefix: str = "") -> str:
    """Return nested dictionaries of strings, numbers, booleans and lists as TOML."""
    plain = {k: v for k, v in tree.items() if not isinstance(v, dict)}
    # JSON scalars and lists of scalars are also TOML, except for the character DEL
    texts = {k: json.dumps(v, ensure_ascii=False) for k, v in plain.items()}
    lines = [f"{k} = {t}\n".replace("\x7f", "\\u007f") for k, t in texts.items()]
    for key, table in tree.items():
        if isinstance(table, dict):
            lines.append(f"\n[{prefix}{key}]\n{to_toml(table, f'{prefix}{key}.')}")
    return "".join(lines)
