"""A hub on the loopback: the routes of ModelScope, Hugging Face and Zenodo that clients use.

It answers as the real ones do, oddities included: large files are redirected to a storage
server; ModelScope lists an unknown revision as no files at all, and answers a Range request for
a small file with the range but status 200. What it does wrong is switched on by a test.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

LARGE = 100_000  # files from this size on are kept in the storage server, as with Git LFS


@dataclass
class Asked:
    """A request for a file's content."""

    name: str
    range: str | None
    sent: int = 0


@dataclass
class Faults:
    """What goes wrong, by file name; a count says how often.

    Attributes:
        drop: break the connection after so many bytes: (bytes, times).
        corrupt: send other bytes of the same number: times.
        stall: send so many bytes, then wait until the server is closed.
        status: answer all requests (key "") or those for a file with an HTTP status.
        no_range: send the whole file whatever is asked for.
        listing: names to list on top of the real files.
        no_checksums: list no checksum (ModelScope).
        not_json: answer with a web page.
        instead: what is sent in place of a file, or (key "") of a listing.
        busy: answer requests for a file, or (key "") for a record, with a status and headers: how
            often, and what (Zenodo).
    """

    drop: dict[str, tuple[int, int]] = field(default_factory=dict)
    corrupt: dict[str, int] = field(default_factory=dict)
    stall: dict[str, int] = field(default_factory=dict)
    status: dict[str, int] = field(default_factory=dict)
    no_range: bool = False
    listing: dict[str, bytes] = field(default_factory=dict)
    no_checksums: bool = False
    not_json: bool = False
    instead: dict[str, Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=dict)
    busy: dict[str, tuple[int, int, dict[str, str]]] = field(default_factory=dict)


class HubServer(ThreadingHTTPServer):
    """The server; ``repos`` is model name → revision → file name → content.

    ``records`` is the number of a Zenodo record → file name → content.
    """

    daemon_threads = True
    request_queue_size = 128  # who is not let in tries again after a second
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos: dict[str, dict[str, dict[str, bytes]]] = {}
        self.records: dict[str, dict[str, bytes]] = {}
        self.faults = Faults()
        self.asked: list[Asked] = []
        self.requests: list[str] = []
        self.agents: set[str] = set()
        self.encodings: set[str] = set()
        self.closing = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Switch the server off; connections are refused from now on."""
        if not self.closing.is_set():
            self.closing.set()
            self.shutdown()
            self.server_close()

    def handle_error(self, *_: object) -> None:
        """Clients that hang up are what is tested here."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def sent(self, name: str) -> int:
        """Number of bytes sent of a file."""
        return sum(asked.sent for asked in self.asked if asked.name == name)

    def ranges(self, name: str) -> list[str | None]:
        """The Range header of each request for a file."""
        return [asked.range for asked in self.asked if asked.name == name]

    def forget(self) -> None:
        """Forget the requests so far and make no more mistakes."""
        self.asked.clear()
        self.requests.clear()
        self.faults = Faults()


def commit(files: dict[str, bytes]) -> str:
    """A commit's name, made of its content."""
    digest = hashlib.sha1(usedforsecurity=False)
    for name in sorted(files):
        digest.update(name.encode() + files[name])
    return digest.hexdigest()


class _Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each small answer takes 40 ms

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        self.server.agents.add(self.headers.get("User-Agent", ""))
        self.server.encodings.add(self.headers.get("Accept-Encoding", ""))
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        status = self.server.faults.status.get("")
        if status:
            return self._json({"error": "as told"}, status)
        for pattern, answer in (
            (r"/api/v1/models/([^/]+/[^/]+)/repo/files", self._modelscope_files),
            (r"/api/v1/models/([^/]+/[^/]+)/revisions", self._modelscope_revisions),
            (r"/api/v1/models/([^/]+/[^/]+)/repo", self._modelscope_file),
            (r"/api/models/([^/]+/[^/]+)", self._hf_info),
            (r"/api/models/([^/]+/[^/]+)/revision/([^/]+)", self._hf_info),
            (r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self._hf_file),
            (r"/storage/([^/]+/[^/]+)/([^/]+)/(.+)", self._storage),
            (r"/api/records/(\d+)", self._zenodo_record),
            (r"/api/records/(\d+)/files/([^/]+)/content", self._zenodo_file),
        ):
            found = re.fullmatch(pattern, url.path)
            if found:
                listing = url.path.endswith("/repo/files") or bool(
                    re.fullmatch(r"/api/(models/.+|records/\d+)", url.path)
                )
                if listing and "" in self.server.faults.instead:
                    return self.server.faults.instead[""](self)
                if self.server.faults.not_json and "/api/" in url.path:
                    return self._send(b"<html>log in to the WLAN</html>", 200, "text/html")
                return answer(
                    *map(unquote, found.groups()), **({"query": query} if "v1" in url.path else {})
                )
        return self._json({"error": "no such route"}, 404)

    # ModelScope

    def _modelscope_files(self, repo: str, query: dict[str, str]) -> None:
        if repo not in self.server.repos:
            return self._modelscope_missing("record not found")
        files = self.server.repos[repo].get(query["Revision"])
        listed: list[dict[str, Any]] | None = None
        if files is not None:
            listed = [{"Path": "a_folder", "Name": "a_folder", "Type": "tree", "Size": 0}]
            for name, content in {**files, **self.server.faults.listing}.items():
                entry = {
                    "Path": name,
                    "Name": name.split("/")[-1],
                    "Type": "blob",
                    "Size": len(content),
                    "IsLFS": len(content) >= LARGE,
                    "Revision": commit(files),
                    "CommittedDate": 1_724_900_000,
                }
                if not self.server.faults.no_checksums:
                    entry["Sha256"] = hashlib.sha256(content).hexdigest()
                listed.append(entry)
        return self._json({"Code": 200, "Data": {"Files": listed}, "Success": True})

    def _modelscope_revisions(self, repo: str, query: dict[str, str]) -> None:
        if repo not in self.server.repos:
            return self._modelscope_missing("record not found")
        names = [{"Revision": name} for name in self.server.repos[repo]]
        data = {"RevisionMap": {"Branches": names, "Tags": []}}
        return self._json({"Code": 200, "Data": data, "Success": True})

    def _modelscope_file(self, repo: str, query: dict[str, str]) -> None:
        revision, name = query["Revision"], query["FilePath"]
        content = self.server.repos[repo][revision].get(name)
        if content is None:
            return self._modelscope_missing("file not found")
        return self._file(repo, revision, name, content, partial_status=200)

    def _modelscope_missing(self, message: str) -> None:
        self._json({"Code": 10010205001, "Message": message, "Success": False}, 404)

    # Hugging Face

    def _hf_info(self, repo: str, revision: str = "main") -> None:
        if repo not in self.server.repos:
            return self._json({"error": "not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        files = self._hf_files(repo, revision)
        if files is None:
            return self._json({"error": "no rev"}, 404, {"X-Error-Code": "RevisionNotFound"})
        siblings = []
        for name, content in {**files, **self.server.faults.listing}.items():
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
            entry: dict[str, Any] = {"rfilename": name, "size": len(content)}
            entry["blobId"] = blob.hexdigest()
            if len(content) >= LARGE:
                digest = hashlib.sha256(content).hexdigest()
                entry["blobId"] = "0" * 40  # of the pointer file
                entry["lfs"] = {"size": len(content), "sha256": digest, "pointerSize": 134}
            siblings.append(entry)
        return self._json(
            {"id": repo, "modelId": repo, "sha": commit(files), "tags": [], "siblings": siblings}
        )

    def _hf_files(self, repo: str, revision: str) -> dict[str, bytes] | None:
        revisions = self.server.repos[repo]
        by_commit = {commit(files): files for files in revisions.values()}
        names = {"main": "master"}  # the default branch's name there and here
        return revisions.get(names.get(revision, revision)) or by_commit.get(revision)

    def _hf_file(self, repo: str, revision: str, name: str) -> None:
        if self.server.faults.status.get(name) in (401, 403):
            return self._json({}, self.server.faults.status[name], {"X-Error-Code": "GatedRepo"})
        content = (self._hf_files(repo, revision) or {}).get(name)
        if content is None:
            return self._json({}, 404, {"X-Error-Code": "EntryNotFound"})
        return self._file(repo, revision, name, content, partial_status=206)

    # Zenodo

    def _zenodo_record(self, record: str) -> None:
        if self._busy(""):
            return
        if record not in self.server.records:
            return self._json({"status": 404, "message": "no such record"}, 404)
        files = []
        for name, content in {**self.server.records[record], **self.server.faults.listing}.items():
            md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
            link = f"https://zenodo.org/api/records/{record}/files/{quote(name)}/content"
            files.append({"id": "x", "key": name, "size": len(content),
                          "checksum": f"md5:{md5}", "links": {"self": link}})  # fmt: skip
        self._json({"id": int(record), "metadata": {"title": "RSVQA"}, "files": files})

    def _zenodo_file(self, record: str, name: str) -> None:
        if self._busy(name):
            return
        content = self.server.records.get(record, {}).get(name)
        if content is None:
            return self._json({"status": 404}, 404)
        self._file(record, "", name, content, partial_status=206, stored=True)

    def _busy(self, name: str) -> bool:
        times, status, headers = self.server.faults.busy.get(name, (0, 0, {}))
        if times <= 0:
            return False
        self.server.faults.busy[name] = (times - 1, status, headers)
        self._json({"message": "busy"}, status, headers)
        return True

    # files

    def _storage(self, repo: str, revision: str, name: str) -> None:
        content = (self._hf_files(repo, revision) or {})[name]
        self._content(name, content, 206)

    def _file(
        self,
        repo: str,
        revision: str,
        name: str,
        content: bytes,
        partial_status: int,
        stored: bool = False,
    ) -> None:
        if self.server.faults.status.get(name):
            return self._json({"Message": "as told"}, self.server.faults.status[name])
        if len(content) >= LARGE and not stored:
            place = f"{self.server.url}/storage/{repo}/{quote(revision, '')}/{quote(name)}"
            return self._send(b"", 302, "text/plain", {"Location": place})
        return self._content(name, content, partial_status)

    def _content(self, name: str, content: bytes, partial_status: int) -> None:
        faults = self.server.faults
        asked = Asked(name, self.headers.get("Range"))
        self.server.asked.append(asked)
        if name in faults.instead:
            return faults.instead[name](self)
        if faults.corrupt.get(name, 0) > 0:
            faults.corrupt[name] -= 1
            content = content[1:] + content[:1]
        start, status, headers = 0, 200, {"Accept-Ranges": "bytes"}
        found = re.fullmatch(r"bytes=(\d+)-", asked.range or "")
        if found and not faults.no_range:
            start, status = int(found[1]), partial_status
            if start >= len(content):
                return self._send(
                    b"", 416, "text/plain", {"Content-Range": f"bytes */{len(content)}"}
                )
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        body, until = content[start:], len(content) - start
        after, times = faults.drop.get(name, (0, 0))
        if times > 0:
            faults.drop[name] = (after, times - 1)
            until = after
        until = faults.stall.get(name, until)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        with contextlib.suppress(OSError):  # the client hung up
            for at in range(0, until, 65536):
                piece = body[at : min(at + 65536, until)]
                self.wfile.write(piece)
                asked.sent += len(piece)
            self.wfile.flush()
        if name in faults.stall:
            self.server.closing.wait()
        if until < len(body):
            self.close_connection = True

    def _json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(value).encode(), status, "application/json", headers)

    def _send(
        self, body: bytes, status: int, kind: str, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)
