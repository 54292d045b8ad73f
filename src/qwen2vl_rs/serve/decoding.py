"""The process that decodes images of strangers: it can be ended at any time, and has its limits.

    python -m qwen2vl_rs.serve.decoding SECONDS MEMORY

It reads jobs from stdin, a line of JSON each, and answers on stdout: a line of JSON, and as many
bytes as that says. `decoders` starts it; nothing of what it sends is run there.
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
    """Bytes of an image with all its bands, by its header.

    Raises:
        ImageError: it cannot be used.
        Refusal: it is too large.
    """
    with open_image(path, GDAL_NUM_THREADS="1") as source:  # as a scene: of any size, header only
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
            f"the image unpacks to {unpacked // MIB:,} MiB, at most "
            f"{limits.unpacked_bytes // MIB:,}",
            hint="keep only the bands to be shown: gdal_translate -b 1 -b 2 -b 3 IN OUT.tif",
        )
    if 2 * unit + unpacked > limits.decode_bytes:  # the decoder's, and GDAL's copy of it
        raise too_large(
            f"a tile or strip of the image unpacks to {unit // MIB:,} MiB, too large here",
            hint="rewrite it in small tiles: gdal_translate -co TILED=YES IN OUT.tif",
        )
    return unpacked


def read(path: Path, box: list[int] | None, rule: RasterToRGB) -> NDArray[np.uint8]:
    """An image, or a piece of it, as RGB pixels of shape (height, width, 3).

    A piece is cut from what the whole image looks like.

    Raises:
        ImageError: it cannot be used.
        Refusal: the box does not lie in it.
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
            f"the box leaves the image of {width} × {height} pixels",
            param="box",
        )
    if min(sides) < MIN_SIDE or max(sides) > MAX_ASPECT * min(sides):
        raise Refusal(
            400,
            "invalid_box",
            f"the box of {sides[0]} × {sides[1]} pixels is too small: at least {MIN_SIDE} a side",
            param="box",
        )
    return rgb[top:bottom, left:right]


def preview(rgb: NDArray[np.uint8]) -> str:
    """A data: URL of an image, reduced to what a page shows."""
    image = Image.fromarray(rgb)
    image.thumbnail((_PREVIEW, _PREVIEW))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _do(job: dict[str, Any]) -> tuple[dict[str, Any], bytes | memoryview]:
    """One job: what it gives as JSON, and as bytes."""
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
    """The same, failures among what it gives."""
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
    """Bytes of private memory of this process; 0 where the system does not say."""
    with contextlib.suppress(OSError, ValueError, LookupError):
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.partition("VmData:")[2].split()[0]) * 1024
    return 0


def _bound_memory(most: int) -> None:
    """Allow so many bytes of memory beyond what is used at the start."""
    if used := _used():
        import resource  # where there is /proc

        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (used + most, hard))


def _bound_time(seconds: float) -> None:
    """End after so many seconds of computing, also when the server is no more; 0 for never."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)


def main(jobs: BinaryIO, out: BinaryIO, seconds: float, memory: int) -> None:
    """Do jobs until there are no more.

    Args:
        jobs: from the server.
        out: to it.
        seconds: of computing that a job may take.
        memory: bytes that it may take beyond what this process has now.
    """
    _bound_memory(memory)
    out.write(b"ready\n")
    out.flush()
    for line in jobs:
        job = json.loads(line)
        _bound_time(seconds)
        told, content = _answer(job)
        _bound_time(0)
        told["bytes"] = len(content)
        out.write(json.dumps(told).encode() + b"\n")
        out.write(content)
        out.flush()


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer, float(sys.argv[1]), int(sys.argv[2]))
