"""Pool of sandboxed decoder processes; large images are decoded one at a time.

Image decoders are not made for hostile input: some files take hours or gigabytes, whatever their
headers say. A process has a memory limit, and is killed when it takes too long or soon after its
client has disconnected.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..config import RasterToRGB
from .api_errors import Refusal, too_large
from .limits import MIB, Limits
from .turns import Turns

if TYPE_CHECKING:
    from .requests import Box, Upload

T = TypeVar("T")
Rgb = NDArray[np.uint8]
Json = dict[str, Any]
_STRETCH = 3  # maximum ratio of wall-clock to CPU time on a busy machine
_START = 60.0  # seconds for the start of a process
_PATIENCE = 2.0  # seconds for a job whose client has disconnected
_SOURCE = Path(__file__).parents[2]


def key_of(upload: Upload, box: Box | None) -> str:
    """Return the cache key of an image or a part of it."""
    return f"{hashlib.sha256(upload.content).hexdigest()} {box}"


class _Process:
    """A decoder process."""

    def __init__(self, limits: Limits) -> None:
        path = os.pathsep.join(filter(None, [str(_SOURCE), os.environ.get("PYTHONPATH")]))
        self._limits = limits
        self.ready = self.ended = False
        bounds = [str(limits.decode_seconds), str(limits.decode_bytes)]
        self._program = subprocess.Popen(
            [sys.executable, "-P", "-m", f"{__package__}.image_decoding", *bounds],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={k: v for k, v in os.environ.items() if "TOKEN" not in k} | {"PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C goes to the server only
        )

    @property
    def alive(self) -> bool:
        return self._program.poll() is None

    def start(self) -> None:
        """Wait until it is ready."""
        assert self._program.stdout is not None
        self.ready = bool(self._program.stdout.readline())
        if not self.ready and not self.ended:
            raise RuntimeError("the decoder process did not start")

    def do(self, job: Json) -> tuple[Json, bytearray]:
        """Run a job.

        Raises:
            Refusal: the image is not usable, takes too long or needs too much memory.
        """
        jobs, out = self._program.stdin, self._program.stdout
        assert jobs is not None
        assert isinstance(out, io.BufferedReader)
        try:
            jobs.write(json.dumps(job).encode() + b"\n")
            jobs.flush()
            result: Json = json.loads(out.readline())
            content = bytearray(result["bytes"])
            if out.readinto(content) < len(content):
                raise BrokenPipeError
        except (OSError, ValueError) as error:  # the process has ended
            self.close()
            raise self._why() from error
        except BaseException:  # its answer may be incomplete
            self.close()
            raise
        if result.get("failed") == "memory":
            raise self._why()
        if "failed" in result:
            raise RuntimeError(result["failed"])
        if "refused" in result:
            raise Refusal(**result["refused"])
        return result, content

    def end_in(self, seconds: float) -> asyncio.TimerHandle:
        """Kill it after some time, unless the timer is cancelled."""
        return asyncio.get_running_loop().call_later(seconds, self.end)

    def end(self) -> None:
        """Kill it; the waiting thread gets an error."""
        self.ended = True
        self._program.kill()

    def close(self) -> None:
        """Kill it, while it has no job."""
        self._program.kill()
        self._program.communicate()  # closes its pipes

    def _why(self) -> Refusal:
        limits = self._limits
        most = f"{limits.decode_bytes // MIB:,} MiB of memory"
        late = self.ended or self._program.returncode == -getattr(signal, "SIGPROF", 0)
        why = f"more than {limits.decode_seconds:g} s" if late else f"more than {most}"
        return too_large(
            f"the image takes {why} to decode",
            hint="keep only the bands to be shown, in 8 or 16 bits and small tiles: "
            "gdal_translate -b 1 -b 2 -b 3 -co TILED=YES IN OUT.tif",
        )


class Decoders:
    """Decodes images of requests.

    Args:
        rule: conversion of images to RGB.
        limits: of the server.
    """

    def __init__(self, rule: RasterToRGB, limits: Limits) -> None:
        self._rule, self._limits = rule, limits
        self._small = Turns(limits.decoders, limits.images_waiting)
        self._large = Turns(1, limits.images_waiting)
        self._idle: list[_Process] = []
        self._busy: set[_Process] = set()

    async def read(self, upload: Upload, box: Box | None, peer: str, then: Callable[[Rgb], T]) -> T:
        """Decode an image, or a part of it.

        Args:
            upload: its file.
            box: the part; None for the whole image.
            peer: the client's address.
            then: converts the pixels, (height, width, 3) of uint8, in a thread.

        Raises:
            Refusal: it is not usable, or too many images are waiting.
        """

        def finish(result: Json, content: bytearray) -> T:
            return then(np.frombuffer(content, np.uint8).reshape(result["shape"]))

        return await self._decode(upload, peer, {"what": "read", "box": box}, finish)

    async def preview(self, upload: Upload, peer: str) -> Json:
        """Return size and preview of an image.

        Raises:
            Refusal: see `read`.
        """
        return await self._decode(upload, peer, {"what": "preview"}, lambda result, _: result)

    def waiting(self) -> int:
        """Return the number of waiting images."""
        return len(self._small) + len(self._large)

    def close(self) -> None:
        """Kill all processes."""
        for one in self._busy:
            one.end()
        while self._idle:
            self._idle.pop().close()

    async def _decode(
        self, upload: Upload, peer: str, job: Json, finish: Callable[[Json, bytearray], T]
    ) -> T:
        bounds = asdict(self._limits)
        with tempfile.TemporaryDirectory(prefix="qwen2vl-rs-") as folder:
            path = Path(folder) / "image"  # GDAL never sees a name from a request
            await asyncio.to_thread(path.write_bytes, upload.content)
            job |= {
                "path": str(path),
                "name": upload.name,
                "rule": self._rule.model_dump(mode="json"),
            }

            def do(process: _Process) -> T:
                return finish(*process.do(job))

            async with self._small.of(peer):
                unpacked = await self._run(
                    lambda process: process.do(job | {"what": "measure", "limits": bounds})[0][
                        "unpacked"
                    ]
                )
                if unpacked <= self._limits.small_bytes:
                    return await self._run(do)
            async with self._large.of(peer):
                return await self._run(do, last=True)

    async def _run(self, work: Callable[[_Process], T], *, last: bool = False) -> T:
        """Run work with a process, in a thread; a cancelled caller waits until it is over.

        With ``last`` the process then ends, as not all memory of a large image is freed.
        """
        while self._idle and not self._idle[-1].alive:
            self._idle.pop().close()
        process = self._idle.pop() if self._idle else _Process(self._limits)
        self._busy.add(process)
        try:
            if not process.ready:
                await _within(_START, process, process.start)
            return await _within(_STRETCH * self._limits.decode_seconds, process, work, process)
        finally:
            self._busy.discard(process)
            if last or process.ended:
                process.close()
            else:
                self._idle.append(process)


async def _within(seconds: float, process: _Process, work: Callable[..., T], *given: Any) -> T:
    """Run work with a process within a time limit, a short one if the caller is cancelled."""
    timers = [process.end_in(seconds)]
    done = asyncio.get_running_loop().run_in_executor(None, work, *given)
    done.add_done_callback(lambda one: one.exception())  # also if nobody awaits it
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        timers.append(process.end_in(_PATIENCE))
        while not done.done():  # the process must not be reused before
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({done})
        raise
    finally:
        for timer in timers:
            timer.cancel()
