"""A hub on this machine that speaks what the libraries ask of the real one, and fails when it is told to."""

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

NEWEST = "a" * 40
EARLIER = "b" * 40


class FakeHub:
    """Datasets of files at the top of their repositories.

    Attributes:
        files: Dataset -> commit -> name of a file -> content.
        requests: What was asked for content, such as `train-0.jsonl`, in order, and all that was asked for.
        failures: What becomes of the next requests for content: a status, or "drop" for a connection that ends after
            half of the answer.
        status: What all requests are answered with, when it is not None.
        held: Names of files whose content is not sent until they are taken out.
    """

    def __init__(self, files: dict[str, dict[str, dict[str, bytes]]]) -> None:
        self.files = files
        self.requests: list[str] = []
        self.paths: list[str] = []
        self.user_agents: set[str] = set()
        self.failures: list[int | str] = []
        self.status: int | None = None
        self.held: set[str] = set()
        self.changed = threading.Condition()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        """The address, for HF_ENDPOINT."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def release(self) -> None:
        """Send what is held."""
        with self.changed:
            self.held.clear()
            self.changed.notify_all()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Say nothing of a client that went away, which is what killed processes do."""


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            hub.paths.append(f"{self.command} {path}")
            hub.user_agents.add(self.headers.get("User-Agent", ""))
            if hub.status is not None:
                return self._answer(hub.status, b"{}")
            for dataset, revisions in hub.files.items():
                if match := re.fullmatch(rf"/api/datasets/{dataset}(?:/revision/([^/]+))?", path):
                    return self._info(dataset, revisions, match[1] or NEWEST)
                if match := re.fullmatch(rf"/api/datasets/{dataset}/tree/([^/]+)(/.+)?", path):
                    return self._tree(revisions[match[1]], match[2])
                if match := re.fullmatch(rf"/datasets/{dataset}/resolve/([^/]+)/(.+)", path):
                    return self._content(match[1], match[2], revisions[match[1]])
            return self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})

        do_HEAD = do_GET  # noqa: N815 - the library's name

        def _info(self, dataset: str, revisions: dict[str, dict[str, bytes]], revision: str) -> None:
            commit = {"v1": EARLIER}.get(revision, revision)
            if commit not in revisions:
                return self._answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            return self._answer(200, json.dumps({"id": dataset, "sha": commit, "siblings": []}).encode())

        def _tree(self, files: dict[str, bytes], below: str | None) -> None:
            if below:
                return self._answer(404, b"{}", {"X-Error-Code": "EntryNotFound"})
            entries = [
                {"type": "file", "oid": hashlib.sha1(data).hexdigest(), "size": len(data), "path": name}
                for name, data in files.items()
            ]
            return self._answer(200, json.dumps(entries).encode(), {"Content-Type": "application/json"})

        def _content(self, commit: str, name: str, files: dict[str, bytes]) -> None:
            headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
            if name not in files:
                return self._answer(404, b"", headers | {"X-Error-Code": "EntryNotFound"})
            data = files[name]
            headers["ETag"] = f'"{hashlib.sha1(data).hexdigest()}"'
            if self.command == "HEAD":
                return self._answer(200, data, headers)
            hub.requests.append(name)
            with hub.changed:
                hub.changed.wait_for(lambda: name not in hub.held)
            match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if not match:  # as for the card
                return self._answer(200, data, headers)
            begin, end = int(match[1]), min(int(match[2]) + 1, len(data))
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{len(data)}"
            failure = hub.failures.pop(0) if hub.failures else None
            if isinstance(failure, int):
                return self._answer(failure, b"")
            return self._answer(206, data[begin:end], headers, drop=failure == "drop")

        def _answer(
            self, status: int, body: bytes, headers: dict[str, str] | None = None, *, drop: bool = False
        ) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body[: len(body) // 2] if drop else body)
            if drop:
                self.close_connection = True

    return Handler
