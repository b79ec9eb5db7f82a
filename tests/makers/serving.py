"""Servers on loopback: a web server that sends ranges and fails on demand, and one of S3."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

import boto3

_READY = "Running on"
_REQUEST = re.compile(r'"(?:\x1b\[[0-9;]*m)*(GET|HEAD|PUT|POST|DELETE) (\S+) HTTP')


@dataclass
class Habits:
    """How a web server behaves.

    Attributes:
        ranges: Whether it knows ranges.
        tags: Whether it gives, and checks, an ETag.
        failures: What it answers next, in place of the file; None breaks the connection off.
        asked: `METHOD path range` of each request so far.
        meeting: Where requests for parts wait until so many are there together.
    """

    ranges: bool = True
    tags: bool = True
    failures: list[HTTPStatus | None] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    meeting: threading.Barrier | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class _Handler(SimpleHTTPRequestHandler):
    habits: Habits

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        habits = self.habits
        stated = self.headers.get("Range", "")
        with habits.lock:
            habits.asked.append(f"GET {self.path} {stated}".strip())
            failure = habits.failures.pop(0) if habits.failures else HTTPStatus.OK
        if failure is None:
            self.close_connection = True
            self.connection.close()
            return
        if failure != HTTPStatus.OK:
            self.send_error(failure)
            return
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            super().do_GET()
            return
        if habits.meeting is not None and stated != "bytes=0-0":
            habits.meeting.wait(timeout=60)
        self._send(path.read_bytes(), stated)

    def _send(self, data: bytes, stated: str) -> None:
        tag = f'"{hash(data) & 0xFFFFFFFF:08x}"'
        if self.habits.tags and self.headers.get("If-Match", tag) != tag:
            self.send_error(HTTPStatus.PRECONDITION_FAILED)
            return
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", stated) if self.habits.ranges else None
        part = data
        if found is None:
            self.send_response(HTTPStatus.OK)
        elif int(found[1]) >= len(data):
            self.send_error(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            return
        else:
            part = data[int(found[1]) : int(found[2]) + 1]
            self.send_response(HTTPStatus.PARTIAL_CONTENT)
            end = int(found[1]) + len(part) - 1
            self.send_header("Content-Range", f"bytes {found[1]}-{end}/{len(data)}")
        if self.habits.tags:
            self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        with suppress(ConnectionError):
            self.wfile.write(part)


class Web:
    """A web server of the files in a folder."""

    def __init__(self, folder: Path, habits: Habits | None = None) -> None:
        self.habits = habits or Habits()
        handler = type("Handler", (_Handler,), {"habits": self.habits})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=folder))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def asked(self) -> list[str]:
        """Requests so far."""
        return self.habits.asked

    def __enter__(self) -> Web:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class S3Server:
    """moto's server of S3, in a process of its own, with an empty bucket `slides`."""

    bucket = "slides"

    def __init__(self, log: Path) -> None:
        self._log = log
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        self.url = self._wait()
        self._client = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="key",
            aws_secret_access_key="secret",
        )
        self._client.create_bucket(Bucket=self.bucket)

    def _wait(self) -> str:
        while self._process.poll() is None:
            text = self._log.read_text()
            if _READY in text:
                return text.split(_READY, maxsplit=1)[1].split()[0]
        raise RuntimeError(self._log.read_text())

    def environment(self, nowhere: Path) -> dict[str, str]:
        """The variables by which clients find the server and the right to read from it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_SHARED_CREDENTIALS_FILE": os.fspath(nowhere / "none"),
            "AWS_CONFIG_FILE": os.fspath(nowhere / "none"),
        }

    def put(self, key: str, data: bytes) -> str:
        """Store an object, and give its URL."""
        self._client.put_object(Bucket=self.bucket, Key=key, Body=data)
        return f"s3://{self.bucket}/{key}"

    def delete(self, key: str) -> None:
        """Delete an object."""
        self._client.delete_object(Bucket=self.bucket, Key=key)

    def requests(self) -> list[str]:
        """`METHOD path` of each request so far."""
        return [f"{method} {path}" for method, path in _REQUEST.findall(self._log.read_text())]

    def stop(self) -> None:
        """End the process."""
        self._client.close()
        self._process.terminate()
        self._process.wait()
