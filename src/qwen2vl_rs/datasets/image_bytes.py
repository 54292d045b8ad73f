"""Images that stand in a file of questions, as bytes: each is written once, under its digest."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ..errors import RunError
from ..system.console import say_once
from ..system.files import atomic_write

_SUFFIXES = {"GTiff": ".tif", "PNG": ".png", "JPEG": ".jpg", "JP2OpenJPEG": ".jp2"}


@dataclass(slots=True)
class ImageFolder:
    """Where the images of a file are written; it is made with the first.

    An image that is there already is not written again: a killed command resumes.

    Attributes:
        path: of the folder.
        hint: what to do where it cannot be written.
        writes: whether they are written at all; if not, their names alone are wanted.
    """

    path: Path
    hint: str
    writes: bool = True

    def place(self, content: bytes) -> str | None:
        """Where an image is; None for bytes that are no image of a known format.

        Raises:
            RunError: it cannot be written.
        """
        from ..raster.opening import FORMATS  # who needs no images waits for no GDAL

        driver = next((name for start, name, _ in FORMATS if content.startswith(start)), None)
        if driver is None:
            return None
        suffix = _SUFFIXES.get(driver, f".{driver.lower()}")
        file = self.path.absolute() / f"{hashlib.sha256(content).hexdigest()}{suffix}"
        if self.writes and not (file.is_file() and file.stat().st_size == len(content)):
            say_once(str(self.path), f"images are written into {self.path}")
            try:
                with atomic_write(file, "wb") as new:
                    new.write(content)
            except RunError as error:
                error.hint = f"{error.hint}; {self.hint}" if error.hint else self.hint
                raise
        return str(file)
