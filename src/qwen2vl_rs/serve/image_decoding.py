"""Sandboxed decoding of untrusted images, in a process with limits that can be killed any time.

    python -m qwen2vl_rs.serve.image_decoding SECONDS MEMORY

It reads jobs from stdin, one line of JSON each. It answers on stdout: a line of JSON, and as many
bytes as that states. `decoders` starts it and runs none of what it sends.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import math
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..config import RasterToRGB
from ..errors import ImageError
from ..raster import MAX_ASPECT, MIN_SIDE, open_image, read_rgb
from .api_errors import Refusal, too_large
from .limits import MIB, Limits

_PREVIEW = 1024  # longest side of a preview in pixels


def measure(path: Path, limits: Limits) -> int:
    """Return the bytes of an image with all its bands, by its header.

    Raises:
        ImageError: it is not usable.
        Refusal: it is too large.
    """
    with open_image(path, GDAL_NUM_THREADS="1") as source:  # like a scene: any size, header only
        width, height = source.width, source.height
        sizes = [np.dtype(d).itemsize for d in source.dtypes]
        unpacked: int = width * height * sum(sizes)
        together = sizes if str(source.interleaving).lower().endswith("pixel") else sizes[:1]
        unit = math.prod(source.block_shapes[0]) * sum(together)
    if width * height > limits.pixels:
        raise too_large(
            f"the image has {width:,} × {height:,} pixels, at most {limits.pixels:,} in all",
            hint="cut it into tiles: gdal_translate -srcwin 0 0 512 512 SCENE TILE.tif",
        )
    if unpacked > limits.unpacked_bytes:
        raise too_large(
            f"the decompressed image has {unpacked // MIB:,} MiB, at most "
            f"{limits.unpacked_bytes // MIB:,} are allowed",
            hint="keep only the bands to be shown: gdal_translate -b 1 -b 2 -b 3 IN OUT.tif",
        )
    if 2 * unit + unpacked > limits.decode_bytes:  # the decoder's block, and GDAL's copy of it
        raise too_large(
            f"a decompressed tile or strip of the image has {unit // MIB:,} MiB, which is too much",
            hint="rewrite it in small tiles: gdal_translate -co TILED=YES IN OUT.tif",
        )
    return unpacked


def read(path: Path, box: list[int] | None, rule: RasterToRGB) -> NDArray[np.uint8]:
    """Read an image, or a part of it, as RGB pixels of shape (height, width, 3).

    A part is cut from the converted whole image.

    Raises:
        ImageError: it is not usable.
        Refusal: the box is not within the image.
    """
    rgb = read_rgb(path, rule)
    if box is None:
        return rgb
    left, top, right, bottom = box
    height, width = rgb.shape[:2]
    sides = (right - left, bottom - top)
    if right > width or bottom > height:
        raise Refusal(
            400,
            "invalid_box",
            f"the box exceeds the image of {width} × {height} pixels",
            param="box",
        )
    if min(sides) < MIN_SIDE or max(sides) > MAX_ASPECT * min(sides):
        raise Refusal(
            400,
            "invalid_box",
            f"the box of {sides[0]} × {sides[1]} pixels is too small: at least {MIN_SIDE} per side",
            param="box",
        )
    return rgb[top:bottom, left:right]


def preview(rgb: NDArray[np.uint8]) -> str:
    """Return a data: URL of an image at the size of a preview."""
    image = Image.fromarray(rgb)
    image.thumbnail((_PREVIEW, _PREVIEW))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _do(job: dict[str, Any]) -> tuple[dict[str, Any], bytes | memoryview]:
    """Run one job; return its result as JSON, and as bytes."""
    path = Path(job["path"])
    match job["what"]:
        case "measure":
            return {"unpacked": measure(path, Limits(**job["limits"]))}, b""
        case "read":
            rgb = np.ascontiguousarray(read(path, job["box"], RasterToRGB(**job["rule"])))
            return {"shape": rgb.shape}, rgb.data.cast("B")
        case _:
            rgb = read(path, None, RasterToRGB(**job["rule"]))
            return {"shape": rgb.shape, "preview": preview(rgb)}, b""


def _answer(job: dict[str, Any]) -> tuple[dict[str, Any], bytes | memoryview]:
    """Run one job; failures are part of the result."""
    try:
        return _do(job)
    except ImageError as error:
        text = error.message.replace(job["path"], job["name"])
        refusal = Refusal(400, "invalid_image", text, hint=error.hint, param="image")
    except Refusal as error:
        refusal = error
    except MemoryError:
        return {"failed": "memory"}, b""
    except Exception as error:
        return {"failed": repr(error)[:500]}, b""
    return {"refused": asdict(refusal)}, b""


def _used() -> int:
    """Return the bytes of private memory of this process; 0 if unknown."""
    with contextlib.suppress(OSError, ValueError, LookupError):
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.partition("VmData:")[2].split()[0]) * 1024
    return 0


def _bound_memory(most: int) -> None:
    """Limit the memory of this process to ``most`` bytes more than now."""
    if used := _used():
        import resource  # on systems with /proc

        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (used + most, hard))


def _bound_time(seconds: float) -> None:
    """Kill this process after some CPU seconds, even if the server is gone; 0 for no limit."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)


def main(jobs: BinaryIO, out: BinaryIO, seconds: float, memory: int) -> None:
    """Run jobs until stdin ends.

    Args:
        jobs: from the server.
        out: to the server.
        seconds: CPU time limit of a job.
        memory: bytes that a job may use beyond what this process uses now.
    """
    _bound_memory(memory)
    out.write(b"ready\n")
    out.flush()
    for line in jobs:
        job = json.loads(line)
        _bound_time(seconds)
        result, content = _answer(job)
        _bound_time(0)
        result["bytes"] = len(content)
        out.write(json.dumps(result).encode() + b"\n")
        out.write(content)
        out.flush()


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer, float(sys.argv[1]), int(sys.argv[2]))
