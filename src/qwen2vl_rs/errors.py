"""The package's exceptions: message, place and a hint with the command that fixes the problem.

Every expected failure is one of these. The command line prints it in one or two lines and
exits with code 1. Any other exception that reaches the command line is a bug.

    Qwen2VLRSError
    ├── ConfigError   a setting is unknown, out of range, or contradicts another
    ├── DataError     questions, answers, tables or predictions cannot be read or used
    │   └── ImageError   one image cannot be used
    ├── HubError      a model or a data set cannot be downloaded
    ├── ModelError    a folder is not a supported model or does not match the checkpoint
    └── RunError      a run folder is missing, incomplete, in use or does not match
"""

from __future__ import annotations

UTF_8 = "save it as UTF-8, e.g. iconv -f GBK -t UTF-8 FILE > NEW"
"""The hint for text in another encoding."""


class Qwen2VLRSError(Exception):
    """Base of all expected failures.

    Args:
        message: what happened and where (file, record), in one line.
        hint: how to fix it, preferably a command to type.

    Examples:
        >>> try:
        ...     rs.load("nowhere")
        ... except rs.Qwen2VLRSError as error:
        ...     print(error, "->", error.hint)
        nowhere ... -> ...
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if hint:
            self.rephrase(hint)

    def rephrase(self, hint: str) -> None:
        """Replace the hint, also where a traceback shows it."""
        self.hint = hint
        self.__notes__ = [f"hint: {hint}"]


class ConfigError(Qwen2VLRSError):
    """A setting is unknown, out of range, or contradicts another."""


class DataError(Qwen2VLRSError):
    """Questions, answers, tables or predictions cannot be read or used."""


class ImageError(DataError):
    """One image cannot be used."""


class HubError(Qwen2VLRSError):
    """A model or a data set cannot be downloaded."""


class ModelError(Qwen2VLRSError):
    """A folder is not a supported model or does not match the checkpoint."""


class RunError(Qwen2VLRSError):
    """A run folder is missing, incomplete, in use, or does not match the request."""
