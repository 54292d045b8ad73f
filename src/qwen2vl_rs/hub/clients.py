"""ModelScope and Hugging Face clients with one interface: list a model's files, download one.

Both clients resume a broken transfer within a call. ModelScope's also keeps the partial file for
the next call. Hugging Face's `hf_hub_download` deletes it, so its lower-level `http_get` is used
here, which resumes a partial file.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ..errors import HubError
from ..system.install import missing_package
from ..system.named_files import open_named
from ..system.oserrors import root_cause
from ..system.scopes import Setting, SharedChange, attribute, ignore_warnings
from .limits import PLAIN, HeadTimer, Limits, Watched
from .messages import HubMessages, Interrupted, Listing, RemoteFile, raise_local, remote_file

OnBytes = Callable[[int], None]  # called with the number of bytes of a file received so far

_LIST_TIMEOUT = 30  # seconds; the Hugging Face client has no limit


def connect(hub: Literal["modelscope", "hf"], folder: Path) -> Client:
    """Return the client of a hub.

    Args:
        hub: the hub.
        folder: the model's folder, for hints in error messages.

    Raises:
        HubError: the client is not installed.
    """
    return ModelScope(folder) if hub == "modelscope" else HuggingFace(folder)


class ModelScope(HubMessages):
    """ModelScope, through `modelscope_hub`, the hub client of `modelscope`."""

    title = "ModelScope"
    other = "hf"
    endpoint = "MODELSCOPE_ENDPOINT"
    token = "MODELSCOPE_API_TOKEN"

    def __init__(self, folder: Path) -> None:
        package = _import("modelscope_hub")
        self._errors = _import("modelscope_hub.errors")
        with ignore_warnings(Warning):  # a deprecated environment variable
            config = package.HubConfig()
        super().__init__(folder, config.endpoint)
        self._limits = Limits(self)
        # without a folder the client stores no installation identifier
        config.config_dir = Path(os.devnull, "none")
        self._api = package.HubApi(config)
        for session in vars(self._api.legacy).values():  # one for files, one for everything else
            if hasattr(session, "hooks"):
                session.headers.update(PLAIN)
                session.hooks["response"].append(self._limits.on_requests)

    def listing(self, repo_id: str, revision: str | None) -> Listing:
        """List the files of a model.

        Raises:
            HubError: no such model or revision, no access or no network.
        """
        requested = revision or "master"  # the client's default
        self._limits.for_listing()
        with self.valid_listing(), self._explained(repo_id):
            entries = self._api.legacy.list_repo_files(repo_id, "model", revision=requested)
            if not entries:  # the hub's answer for an unknown revision
                raise self._without_files(repo_id, requested)
            blobs = [entry for entry in entries if entry.get("Type") != "tree"]
            newest = max(blobs, key=lambda entry: int(entry.get("CommittedDate") or 0))
            files = (remote_file(e["Path"], e["Size"], e.get("Sha256")) for e in blobs)
            commit = str(newest.get("Revision") or "") or None
            return Listing(repo_id, requested, commit, tuple(files))

    def fetch(self, listing: Listing, file: RemoteFile, into: Path, moved: OnBytes) -> None:
        """Download a file to ``into / file.name``, resuming ``<name>.incomplete`` there.

        Args:
            listing: the model's files.
            file: one of them.
            into: folder for the file and its partial download.
            moved: called with the number of bytes received so far.

        Raises:
            Interrupted: the network failed; the partial file is kept.
            HubError: the hub refuses access, or the file was damaged in several attempts.
        """
        self._limits.for_file(file.size)
        with self._explained(listing.repo_id, file):
            self._api.downloader.download_file(
                listing.repo_id,
                "model",
                file.name,
                revision=listing.revision,
                local_dir=into,
                cache_dir=into,  # for lock files
                expected_sha256=file.sha256,
                file_size=file.size,
                progress_callbacks=[lambda _name, _size: _Position(moved)],
            )

    def _without_files(self, repo_id: str, revision: str) -> HubError:
        known = [str(r["Revision"]) for r in self._api.list_repo_revisions(repo_id, "model")]
        if revision in known:
            return HubError(f"{repo_id} is empty on ModelScope", hint="check the model's name")
        return self.no_revision(repo_id, revision, known)

    @contextlib.contextmanager
    def _explained(self, repo_id: str, file: RemoteFile | None = None) -> Iterator[None]:
        try:
            with _modelscope():
                yield
        except self._errors.FileIntegrityError as error:
            raise HubError(
                f"{file.name if file else 'a file'} of {repo_id} is damaged after each download",
                hint=f"try again later, or {self.instead}",
            ) from error
        except self._errors.APIError as error:
            raise self.http_error(repo_id, error.status_code) from error
        except (self._errors.HubError, OSError) as error:
            raise_local(error)
            if isinstance(error, ValueError):
                raise  # the response is not JSON
            raise self.unreachable(midway=file is not None, cause=root_cause(error)) from error


class HuggingFace(HubMessages):
    """Hugging Face, through `huggingface_hub`."""

    title = "Hugging Face"
    other = "modelscope"
    endpoint = "HF_ENDPOINT"
    token = "HF_TOKEN"

    def __init__(self, folder: Path) -> None:
        self._package = _import("huggingface_hub")
        self._errors = _import("huggingface_hub.errors")
        self._transfer = _import("huggingface_hub.file_download").http_get
        self._api = self._package.HfApi(library_name="qwen2vl-rs", headers=PLAIN)
        super().__init__(folder, self._api.endpoint)
        self._limits = Limits(self)

    def listing(self, repo_id: str, revision: str | None) -> Listing:
        """See `ModelScope.listing`."""
        self._limits.for_listing()
        with self.valid_listing(), self._explained(repo_id, revision), self._limited():
            info = self._api.model_info(
                repo_id, revision=revision, files_metadata=True, timeout=_LIST_TIMEOUT
            )
            files = (
                remote_file(entry.rfilename, entry.lfs.size, entry.lfs.sha256)
                if entry.lfs
                else remote_file(entry.rfilename, entry.size, blob=entry.blob_id)
                for entry in info.siblings
            )
            if not isinstance(info.sha, str):
                raise ValueError("no commit")
            return Listing(repo_id, info.sha, info.sha, tuple(files))

    def fetch(self, listing: Listing, file: RemoteFile, into: Path, moved: OnBytes) -> None:
        """See `ModelScope.fetch`."""
        partial = into / f"{file.name}.incomplete"
        url = self._package.hf_hub_url(
            listing.repo_id, file.name, revision=listing.revision, endpoint=self._url
        )
        with _huggingface():  # without it the headers describe this machine
            headers = self._package.utils.build_hf_headers(library_name="qwen2vl-rs") | PLAIN
        self._limits.for_file(file.size)
        if partial.exists() and partial.stat().st_size > file.size:
            partial.unlink()
        explained = self._explained(listing.repo_id, listing.revision, partial)
        with explained, open_named(partial, "ab") as target, self._limited():
            self._transfer(
                url,
                Watched(target, moved, file.size, self),
                resume_size=target.tell(),
                headers=headers,
                expected_size=file.size,
            )
        partial.replace(into / file.name)

    @contextlib.contextmanager
    def _limited(self) -> Iterator[None]:
        """Apply the limits to the client's current session."""
        session, head = self._package.get_session(), HeadTimer(self._package.close_session)
        hooks = session.event_hooks
        session.event_hooks = {
            "request": [*hooks["request"], head.start],
            "response": [head.stop, *hooks["response"], self._limits.on_httpx],
        }
        try:
            yield
        finally:
            head.stop()
            session.event_hooks = hooks

    @contextlib.contextmanager
    def _explained(
        self, repo_id: str, revision: str | None, partial: Path | None = None
    ) -> Iterator[None]:
        try:
            with _huggingface():
                yield
        except self._errors.OfflineModeIsEnabled as error:
            raise Interrupted(
                "HF_HUB_OFFLINE disables the network", hint="unset HF_HUB_OFFLINE"
            ) from error
        except self._errors.RevisionNotFoundError as error:
            raise self.no_revision(repo_id, revision, []) from error
        except self._errors.GatedRepoError as error:
            raise self.http_error(repo_id, 403) from error
        except self._errors.RepositoryNotFoundError as error:
            raise self.no_model(repo_id) from error
        except self._errors.HfHubHTTPError as error:
            status = error.response.status_code
            if status == 416 and partial is not None:
                partial.unlink(missing_ok=True)  # longer than the remote file
                # without a token, the hub reports missing models as private
            raise self.http_error(repo_id, 404 if status == 401 else status) from error
        except (self._errors.HTTPError, OSError) as error:
            raise_local(error)
            raise self.unreachable(midway=partial is not None, cause=root_cause(error)) from error


Client = ModelScope | HuggingFace


class _Position:
    """ModelScope's progress callback: turns increments into positions."""

    def __init__(self, moved: OnBytes) -> None:
        self._moved, self._at = moved, 0

    def update(self, size: int) -> None:
        self._at += size
        self._moved(self._at)

    def end(self) -> None:
        pass


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        module = (error.name or name).split(".")[0]
        raise HubError(f"{module} is not installed", hint=missing_package(module).hint) from error


def _silent(logger_name: str, *settings: Setting) -> SharedChange:
    """Suppress a client's own messages: this package reports what matters."""
    logger = logging.getLogger(logger_name)
    level = (partial(getattr, logger, "level"), logger.setLevel, logging.CRITICAL)
    stdout = (lambda: sys.stdout, lambda to: setattr(sys, "stdout", to or sys.stderr), None)
    return SharedChange(level, stdout, *settings)


@functools.cache
def _modelscope() -> SharedChange:
    """Silence the client; its own progress bars are off."""
    module = _import("modelscope_hub._download")
    return _silent("modelscope_hub", attribute(module, "tqdm", partial(module.tqdm, disable=True)))


@functools.cache
def _huggingface() -> SharedChange:
    """Silence the client: no messages, bars or telemetry; small chunks lose less when broken."""
    module, utils = _import("huggingface_hub.constants"), _import("huggingface_hub.utils")
    bars = "huggingface_hub.http_get"

    def set_bars(disabled: bool) -> None:
        (utils.disable_progress_bars if disabled else utils.enable_progress_bars)(bars)

    return _silent(
        "huggingface_hub",
        attribute(module, "HF_HUB_DISABLE_TELEMETRY", True),
        attribute(module, "DOWNLOAD_CHUNK_SIZE", 1 << 20),
        (partial(utils.are_progress_bars_disabled, bars), set_bars, True),
    )
