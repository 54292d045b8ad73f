"""Fingerprint of a base model: a hash of all files that affect its answers."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from ..errors import ModelError, RunError
from ..system.console import Progress
from ..system.files import HUB_MANIFEST, read_json, sha256, write_json
from ..system.named_files import open_named, read_bytes
from .folder import CONFIG, GENERATION, ModelFiles, model_files
from .manifest import read_manifest

DIGESTS = ".qwen2vl-rs-digests.json"  # cached digests, beside the weights
_VERSION = "sha256:"
_REMEMBERED = 64 << 20  # bytes; digests of smaller weights are not cached
Digests = dict[str, tuple[list[int], str]]  # `_facts` and SHA-256 by file name
# files in the fingerprint of old checkpoints
_SAMPLED = (
    *("chat_template.jinja", "chat_template.json", "generation_config.json"),
    *("preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"),
)


def fingerprint(folder: Path) -> str:
    """Hash a base model: all weights, config, tokenizer, template and image settings.

    Raises:
        ModelError: see `folder.model_files`; or the weights differ from the download.
    """
    files = model_files(folder)
    digest = hashlib.sha256()
    plain = [p for p in files.others if p.name in (CONFIG, GENERATION)]
    for path in (*plain, *files.tokenizer):
        digest.update(f"{path.name}:{sha256(path)}\n".encode())
    digest.update(json.dumps([files.template, files.image_settings], sort_keys=True).encode())
    weights = _weights(files)
    _require_as_fetched(folder, weights)
    for name, value in sorted(weights.items()):
        digest.update(f"{name}:{value}\n".encode())
    return _VERSION + digest.hexdigest()


def same_base(folder: Path, known: str) -> bool:
    """Whether a folder's base model matches a fingerprint, in the current or the old format.

    Raises:
        ModelError: see `folder.model_files`.
    """
    if known.startswith(_VERSION):
        return fingerprint(folder) == known
    return _sampled(folder) == known


def _require_as_fetched(folder: Path, weights: dict[str, str]) -> None:
    """Refuse weights that differ from the download, e.g. zeros after a power failure."""
    fetched = read_manifest(folder)
    for name, digest in weights.items():
        known = fetched.files.get(name) if fetched else None
        if known and known.sha256 != digest:
            raise ModelError(
                f"{folder / name} differs from the download: it is damaged or was changed since",
                hint="fetch it again: qwen2vl-rs load --verify; if you changed it yourself, remove "
                f"{folder / HUB_MANIFEST}",
            )


def _weights(files: ModelFiles) -> dict[str, str]:
    """Return the SHA-256 of each weights file; those of large models are cached.

    A file counts as unchanged while its size, mtime and ctime are the same; the ctime cannot be
    set back.
    """
    facts = {path.name: _facts(path) for path in files.weights}
    if sum(fact[0] for fact in facts.values()) < _REMEMBERED:
        return {path.name: sha256(path) for path in files.weights}
    known = _remembered(files.folder)
    found = {n: known[n][1] for n, fact in facts.items() if n in known and known[n][0] == fact}
    missing = [path for path in files.weights if path.name not in found]
    if missing:
        with Progress("reading the weights once", len(missing), "files") as bar:
            for path in missing:
                found[path.name] = sha256(path)
                bar.advance(1)
        _remember(files.folder, {n: (facts[n], digest) for n, digest in sorted(found.items())})
    return found


def _facts(path: Path) -> list[int]:
    now = path.stat()
    return [now.st_size, now.st_mtime_ns, now.st_ctime_ns]


def _places(folder: Path) -> tuple[Path, Path]:
    """Return the two cache files: beside the weights, and in the user's cache folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qwen2vl-rs"
    name = hashlib.sha256(str(folder.resolve()).encode("utf-8", "surrogateescape")).hexdigest()
    return folder / DIGESTS, cache / f"digests-{name[:16]}.json"


def _remembered(folder: Path) -> Digests:
    """Read the cached digests; a damaged cache is ignored and written again."""
    for place in _places(folder):
        # the cache only saves time
        with contextlib.suppress(RunError, ValidationError):
            return TypeAdapter(Digests).validate_python(read_json(place, damaged=None))
    return {}


def _remember(folder: Path, digests: Digests) -> None:
    for place in _places(folder):
        with contextlib.suppress(RunError):  # not cached: it is computed again next time
            write_json(place, digests)
            return


def _sampled(folder: Path) -> str:
    """Return the fingerprint in the old format: small files, and samples of the weights."""
    digest = hashlib.sha256(read_bytes(folder / CONFIG))
    for name in _SAMPLED:
        if (folder / name).is_file():
            digest.update(f"{name}:{sha256(folder / name)}".encode())
    for path in sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}".encode())
        with open_named(path, "rb") as file:
            for part in range(64):
                file.seek(size * part // 64)
                digest.update(file.read(4096))
    return digest.hexdigest()
