"""What tells bases apart: a digest of every file in force that decides an answer."""

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
from .folder import CONFIG, GENERATION, ModelFiles, find_model_files
from .manifest import read_manifest

DIGESTS = ".qwen2vl-rs-digests.json"  # beside the weights: what they were when they were read
_VERSION = "sha256:"
_REMEMBERED = 64 << 20  # bytes; less is read in no time, and leaves no file behind
Digests = dict[str, tuple[list[int], str]]  # by name, what `_facts` tells and the SHA-256
# what the fingerprint of old checkpoints covers
_SAMPLED = (
    *("chat_template.jinja", "chat_template.json", "generation_config.json"),
    *("preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"),
)


def fingerprint(folder: Path) -> str:
    """Digest of a base: all weights, configuration, tokenizer, template and image settings.

    Raises:
        ModelError: see `folder.find_model_files`; or weights are not those that were fetched.
    """
    files = find_model_files(folder)
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
    """Whether a folder holds the base of a fingerprint, which may be of an older version.

    Raises:
        ModelError: see `folder.find_model_files`.
    """
    if known.startswith(_VERSION):
        return fingerprint(folder) == known
    return _sampled(folder) == known


def _require_as_fetched(folder: Path, weights: dict[str, str]) -> None:
    """Refuse weights that are not what the hub gave, such as the zeros a power cut may leave."""
    fetched = read_manifest(folder)
    for name, digest in weights.items():
        known = fetched.files.get(name) if fetched else None
        if known and known.sha256 != digest:
            raise ModelError(
                f"{folder / name} is not what was fetched: it is damaged, or was changed since",
                hint="fetch it again: qwen2vl-rs load --verify; if you changed it yourself, remove "
                f"{folder / HUB_MANIFEST}",
            )


def _weights(files: ModelFiles) -> dict[str, str]:
    """SHA-256 of each file of weights; large ones are read once and remembered.

    A file is taken for unchanged while its size and its times of change are the same. The time
    of the last change of the entry (ctime) cannot be set back.
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
    """Beside the weights, and where that cannot be written to, in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qwen2vl-rs"
    name = hashlib.sha256(str(folder.resolve()).encode("utf-8", "surrogateescape")).hexdigest()
    return folder / DIGESTS, cache / f"digests-{name[:16]}.json"


def _remembered(folder: Path) -> Digests:
    """What the two places hold; a damaged one is no more than forgotten, and written anew."""
    for place in _places(folder):
        # it saves time, and nothing else depends on it
        with contextlib.suppress(RunError, ValidationError):
            return TypeAdapter(Digests).validate_python(read_json(place, damaged=None))
    return {}


def _remember(folder: Path, digests: Digests) -> None:
    for place in _places(folder):
        with contextlib.suppress(RunError):  # the digest is known, it will be reckoned again
            write_json(place, digests)
            return


def _sampled(folder: Path) -> str:
    """The fingerprint of old checkpoints: small files, and samples of every file of weights."""
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
