"""A server that speaks S3 in a process of its own, and a look at what is in it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.request import Request, urlopen

import boto3

BUCKET = "lab"
_SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
server.stop()
"""


@dataclass(frozen=True, kw_only=True)
class ObjectStore:
    """A store with an empty bucket.

    Attributes:
        endpoint: Where it listens.
        client: Looks at it from outside.
    """

    endpoint: str
    client: Any

    @property
    def environment(self) -> dict[str, str]:
        """Variables that lead to the store, and to no other place where credentials may be."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent/none",
            "AWS_CONFIG_FILE": "/nonexistent/none",
        }

    def objects(self, prefix: str) -> dict[str, bytes]:
        """All objects below a prefix, by the rest of their keys."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=BUCKET, Prefix=f"{prefix}/"
        )
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        return {
            key.removeprefix(f"{prefix}/"): self.client.get_object(Bucket=BUCKET, Key=key)[
                "Body"
            ].read()
            for key in keys
        }

    def put(self, key: str, data: bytes) -> None:
        """Write or replace an object."""
        self.client.put_object(Bucket=BUCKET, Key=key, Body=data)

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Let the server know no key as long as the block lasts."""
        self._authorize("0")
        try:
            yield
        finally:
            self._authorize("inf")

    def _authorize(self, free_requests: str) -> None:
        request = Request(
            f"{self.endpoint}/moto-api/reset-auth",
            data=free_requests.encode(),
            headers={"Content-Type": "text/plain"},
        )
        with urlopen(request):
            pass

    def delete(self, key: str) -> None:
        """Remove an object."""
        self.client.delete_object(Bucket=BUCKET, Key=key)


@contextmanager
def serve_objects() -> Iterator[ObjectStore]:
    """The store, for as long as the block lasts."""
    command = [sys.executable, "-c", _SERVER]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        endpoint = f"http://127.0.0.1:{int(process.stdout.readline())}"
        keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
        client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys)
        client.create_bucket(Bucket=BUCKET)
        try:
            yield ObjectStore(endpoint=endpoint, client=client)
        finally:
            client.close()
            process.stdin.close()
