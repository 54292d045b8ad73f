"""Decoding of images in processes of their own, one large image at a time.

Decoders are made to read what their writers meant, not what strangers make up: some files take
hours, or gigabytes, whatever their headers say. A process has a limit on its memory, and is ended
when it takes too long, or soon after its client has left.
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
Told = dict[str, Any]
_STRETCH = 3  # seconds of a busy machine in which one second is computed
_START = 60.0  # seconds in which a process has to be there
_PATIENCE = 2.0  # seconds of a decoding whose client has left
_SOURCE = Path(__file__).parents[2]


def key_of(upload: Upload, box: Box | None) -> str:
    """Digest of an image's content and of the piece of it that is meant."""
    return f"{hashlib.sha256(upload.content).hexdigest()} {box}"


class _Process:
    """One that decodes."""

    def __init__(self, limits: Limits) -> None:
        path = os.pathsep.join(filter(None, [str(_SOURCE), os.environ.get("PYTHONPATH")]))
        self._limits = limits
        self.ready = self.ended = False
        bounds = [str(limits.decode_seconds), str(limits.decode_bytes)]
        self._program = subprocess.Popen(
            [sys.executable, "-P", "-m", f"{__package__}.decoding", *bounds],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={k: v for k, v in os.environ.items() if "TOKEN" not in k} | {"PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is for the server
        )

    @property
    def alive(self) -> bool:
        return self._program.poll() is None

    def start(self) -> None:
        """Wait until it is there."""
        assert self._program.stdout is not None
        self.ready = bool(self._program.stdout.readline())
        if not self.ready and not self.ended:
            raise RuntimeError("the process that decodes images did not start")

    def do(self, job: Told) -> tuple[Told, bytearray]:
        """Have a job done.

        Raises:
            Refusal: the image cannot be used, takes too long, or more memory than there is.
        """
        jobs, out = self._program.stdin, self._program.stdout
        assert jobs is not None
        assert isinstance(out, io.BufferedReader)
        try:
            jobs.write(json.dumps(job).encode() + b"\n")
            jobs.flush()
            told: Told = json.loads(out.readline())
            content = bytearray(told["bytes"])
            if out.readinto(content) < len(content):
                raise BrokenPipeError
        except (OSError, ValueError) as error:  # it is no more
            self.close()
            raise self._why() from error
        except BaseException:  # it may be in the middle of an answer
            self.close()
            raise
        if told.get("failed") == "memory":
            raise self._why()
        if "failed" in told:
            raise RuntimeError(told["failed"])
        if "refused" in told:
            raise Refusal(**told["refused"])
        return told, content

    def end_in(self, seconds: float) -> asyncio.TimerHandle:
        """End it after some time, if the job is not done by then."""
        return asyncio.get_running_loop().call_later(seconds, self.end)

    def end(self) -> None:
        """End it; who waits for it learns so."""
        self.ended = True
        self._program.kill()

    def close(self) -> None:
        """End it, when nobody waits for it."""
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
        rule: how files become pixels.
        limits: of the server.
    """

    def __init__(self, rule: RasterToRGB, limits: Limits) -> None:
        self._rule, self._limits = rule, limits
        self._small = Turns(limits.decoders, limits.images_waiting)
        self._large = Turns(1, limits.images_waiting)
        self._idle: list[_Process] = []
        self._busy: set[_Process] = set()

    async def read(self, upload: Upload, box: Box | None, peer: str, then: Callable[[Rgb], T]) -> T:
        """An image, or a piece of it.

        Args:
            upload: its file.
            box: the piece; None for all of it.
            peer: the address that asks.
            then: what is made of the pixels, (height, width, 3) of uint8, in a thread.

        Raises:
            Refusal: it cannot be used, or too many are waiting.
        """

        def finish(told: Told, content: bytearray) -> T:
            return then(np.frombuffer(content, np.uint8).reshape(told["shape"]))

        return await self._decode(upload, peer, {"what": "read", "box": box}, finish)

    async def preview(self, upload: Upload, peer: str) -> Told:
        """Size and picture of an image.

        Raises:
            Refusal: see `read`.
        """
        return await self._decode(upload, peer, {"what": "preview"}, lambda told, _: told)

    def waiting(self) -> int:
        """How many images wait for their turn."""
        return len(self._small) + len(self._large)

    def close(self) -> None:
        """End all processes."""
        for one in self._busy:
            one.end()
        while self._idle:
            self._idle.pop().close()

    async def _decode(
        self, upload: Upload, peer: str, job: Told, finish: Callable[[Told, bytearray], T]
    ) -> T:
        bounds = asdict(self._limits)
        with tempfile.TemporaryDirectory(prefix="qwen2vl-rs-") as folder:
            path = Path(folder) / "image"  # GDAL is never given a name from a request
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
        """Work with a process, in a thread; who gives up waits until it is over.

        With ``last`` the process ends then: not all memory of a large image is given back.
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
    """Work with a process in some time, and in little where nobody waits for it any more."""
    timers = [process.end_in(seconds)]
    done = asyncio.get_running_loop().run_in_executor(None, work, *given)
    done.add_done_callback(lambda one: one.exception())  # also where nobody asks any more
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        timers.append(process.end_in(_PATIENCE))
        while not done.done():  # it is used by nobody else before
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({done})
        raise
    finally:
        for timer in timers:
            timer.cancel()
