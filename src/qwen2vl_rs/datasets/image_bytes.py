"""Write images embedded in a question file to a folder, named by their SHA-256."""

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
    """Output folder of embedded images; created with the first image.

    Existing images are not written again, so that an interrupted command resumes.

    Attributes:
        path: the folder.
        hint: hint for the error if it cannot be written.
        writes: whether to write the images; if not, only their paths are returned.
    """

    path: Path
    hint: str
    writes: bool = True

    def save(self, content: bytes) -> str | None:
        """Write an image and return its path; None if its format is unknown.

        Raises:
            RunError: the image cannot be written.
        """
        from ..raster.opening import FORMATS  # imports GDAL only when needed

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
