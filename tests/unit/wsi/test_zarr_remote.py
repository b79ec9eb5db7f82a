import logging
import multiprocessing
import os
import pickle
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from moto.server import ThreadedMotoServer
from zarr.codecs import ZstdCodec

from slideloom.errors import SlideAccessError, SlideFormatError, SlideNotFoundError
from slideloom.wsi.geometry import Box
from slideloom.wsi.readers.ome_zarr.reader import ZarrReader
from slideloom.wsi.readers.opening import open_reader
from slideloom.wsi.slide import open_slide
from slideloom.wsi.source import parse_source
from tests.makers.ngff import Ngff, pyramid, read_corner, write_ngff

LEVELS = pyramid(levels=2)
STORES = ("v04.ome.zarr", "v05.ome.zarr", "sharded.ome.zarr")
PART = Box(x0=10, y0=20, x1=100, y1=90)
EXPECTED = LEVELS[0][:, 20:90, 10:100].transpose(1, 2, 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stores of each kind, one that lacks a chunk, and one with a damaged chunk."""
    folder = tmp_path_factory.mktemp("served")
    write_ngff(folder / STORES[0], LEVELS, Ngff(version="0.4"))
    write_ngff(folder / STORES[1], LEVELS, compressors=ZstdCodec())
    write_ngff(folder / STORES[2], LEVELS, chunks=(3, 16, 16), shards=(3, 64, 64))
    sparse = write_ngff(folder / "sparse.ome.zarr", LEVELS, fill_value=9)
    (sparse / "0" / "c" / "0" / "0" / "0").unlink()
    damaged = write_ngff(folder / "damaged.ome.zarr", LEVELS)
    (damaged / "0" / "c" / "0" / "1" / "0").write_bytes(b"no chunk")
    return folder


class Files(SimpleHTTPRequestHandler):
    """Files of a folder; what is missing is forbidden where the server says so."""

    asked: list[str]
    missing: HTTPStatus

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        super().send_error(self.missing if code == HTTPStatus.NOT_FOUND else code, message, explain)


class Web:
    """A web server on loopback."""

    def __init__(self, folder: Path, missing: HTTPStatus = HTTPStatus.NOT_FOUND) -> None:
        self.asked: list[str] = []
        handler = type("Handler", (Files,), {"asked": self.asked, "missing": missing})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=folder))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def __enter__(self) -> "Web":
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(scope="module")
def web(folder: Path) -> Iterator[Web]:
    with Web(folder) as web:
        yield web


@pytest.fixture(scope="module")
def endpoint(folder: Path) -> Iterator[str]:
    """A server that speaks S3, with the stores in the bucket `slides`.

    All may read the metadata of zarr 3, and one of the stores.
    """
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys)
    client.create_bucket(Bucket="slides")
    for file in folder.rglob("*"):
        if file.is_file():
            key = f"lab/{file.relative_to(folder).as_posix()}"
            public = file.name == "zarr.json" or STORES[1] in file.parts
            access = {"ACL": "public-read" if public else "private"}
            client.put_object(Bucket="slides", Key=key, Body=file.read_bytes(), **access)
    client.close()
    yield url
    server.stop()


@pytest.fixture
def s3(endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The folder of stores in the bucket, with credentials in the environment."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    return "s3://slides/lab"


@pytest.mark.parametrize("name", STORES)
def test_a_bucket_reads_as_its_folder(s3: str, folder: Path, name: str) -> None:
    reader = open_reader(parse_source(f"{s3}/{name}/"), None)
    assert reader.name == "zarr"
    np.testing.assert_array_equal(reader.read(PART, 0), EXPECTED)
    local = ZarrReader(folder / name)
    assert reader.levels == local.levels
    assert reader.fingerprint() == local.fingerprint()
    reader.close()


@pytest.mark.parametrize("name", STORES)
def test_a_web_server_reads_as_its_folder(web: Web, folder: Path, name: str) -> None:
    reader = open_reader(f"{web.url}/{name}", None)
    assert reader.name == "zarr"
    np.testing.assert_array_equal(reader.read(PART, 0), EXPECTED)
    local = ZarrReader(folder / name)
    assert reader.levels == local.levels
    assert reader.fingerprint() == local.fingerprint()


def test_opening_asks_for_each_document_once(web: Web) -> None:
    del web.asked[:]
    ZarrReader(f"{web.url}/{STORES[1]}")
    documents = ["zarr.json", ".zattrs", ".zgroup", ".zarray", "0/zarr.json", "1/zarr.json"]
    assert sorted(web.asked) == sorted(f"/{STORES[1]}/{name}" for name in documents)


def test_a_bucket_is_asked_once_per_object(s3: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="werkzeug"):
        ZarrReader(f"{s3}/{STORES[1]}").read(Box(x0=0, y0=0, x1=9, y1=9), 0)
    requests = [line for line in caplog.messages if "HTTP/1.1" in line]
    # Four places where a group may state what it is, two levels, one chunk.
    assert len(requests) == 7
    assert all("GET" in line for line in requests)


def test_missing_and_damaged_chunks_behind_urls(s3: str, web: Web) -> None:
    expected = EXPECTED.copy()
    expected[:12, :22] = 9
    for base in (s3, web.url):
        sparse = ZarrReader(f"{base}/sparse.ome.zarr")
        np.testing.assert_array_equal(sparse.read(PART, 0), expected)
        damaged = ZarrReader(f"{base}/damaged.ome.zarr")
        with pytest.raises(SlideFormatError, match="level 0, in chunk rows 0 to 2, cols 0 to 3"):
            damaged.read(PART, 0)
        good = Box(x0=40, y0=40, x1=60, y1=60)
        cut = LEVELS[0][:, 40:60, 40:60].transpose(1, 2, 0)
        np.testing.assert_array_equal(damaged.read(good, 0), cut)


def test_threads_and_spawned_processes_read_urls(s3: str, web: Web) -> None:
    expected = LEVELS[0][:, :40, :40].transpose(1, 2, 0)
    urls = [f"{base}/{STORES[1]}" for base in (s3, web.url)]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(read_corner, urls * 4))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as processes:
        found += processes.map(read_corner, urls)
    for pixels in found:
        np.testing.assert_array_equal(pixels, expected)


def test_a_slide_behind_a_url_reads_and_pickles(s3: str) -> None:
    with open_slide(f"{s3}/{STORES[1]}") as slide:
        assert slide.name == "v05"
        again = pickle.loads(pickle.dumps(slide))
        np.testing.assert_array_equal(again.read(PART), EXPECTED)
        again.close()


@pytest.mark.parametrize("bucket", ["slides", "nobucket"])
def test_nothing_in_the_bucket(s3: str, bucket: str) -> None:
    url = f"s3://{bucket}/nothing.ome.zarr"
    with pytest.raises(SlideNotFoundError, match=f"there is no slide at '{url}', neither"):
        open_reader(url, None)


def test_nothing_at_the_address(web: Web) -> None:
    url = f"{web.url}/CMU-1.svs"
    with pytest.raises(SlideNotFoundError, match=f"there is no slide at '{url}', neither"):
        open_reader(url, None)


def test_who_has_no_credentials_reads_what_is_public(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    np.testing.assert_array_equal(ZarrReader(f"{s3}/{STORES[1]}").read(PART, 0), EXPECTED)
    with pytest.raises(SlideAccessError, match=f"'{s3}/{STORES[0]}/.* may not be read .*credent"):
        ZarrReader(f"{s3}/{STORES[0]}")
    private = ZarrReader(f"{s3}/{STORES[2]}")
    with pytest.raises(SlideAccessError, match=rf"'{s3}/{STORES[2]}/0/c/0/\d/\d' may not be read"):
        private.read(PART, 0)


def test_a_server_that_forbids_what_is_missing(folder: Path) -> None:
    with Web(folder, missing=HTTPStatus.FORBIDDEN) as web:
        for name in STORES[:2]:
            np.testing.assert_array_equal(ZarrReader(f"{web.url}/{name}").read(PART, 0), EXPECTED)
        with pytest.raises(SlideAccessError, match=r"nothing/\S+' may not be read"):
            open_slide(f"{web.url}/nothing")


def test_a_server_that_is_gone(folder: Path) -> None:
    with Web(folder) as web:
        reader = ZarrReader(f"{web.url}/{STORES[1]}")
    with pytest.raises(SlideAccessError, match=rf"'{web.url}/\S*' cannot be fetched"):
        reader.read(PART, 0)
    with pytest.raises(SlideAccessError, match=rf"'{web.url}/\S*' cannot be fetched .* network"):
        ZarrReader(f"{web.url}/{STORES[1]}")


def test_an_endpoint_that_is_not_there(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        with pytest.raises(SlideAccessError, match=f"'{s3}.* cannot be fetched .* network"):
            ZarrReader(f"{s3}/{STORES[1]}")


def test_a_profile_that_does_not_exist(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(SlideAccessError, match=r"cannot be used .*nobody.*: check AWS_PROFILE"):
        ZarrReader(f"{s3}/{STORES[1]}")


def test_the_endpoint_of_s3_comes_first(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", os.environ["AWS_ENDPOINT_URL"])
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    np.testing.assert_array_equal(ZarrReader(f"{s3}/{STORES[1]}").read(PART, 0), EXPECTED)


def test_urls_that_are_not_read_say_so(web: Web) -> None:
    with pytest.raises(SlideFormatError, match="is a URL of 'ftp': give one of s3, https, http"):
        open_reader("ftp://server/slide.ome.zarr", None)
    url = f"{web.url}/slide.ome.zarr.zip"
    with pytest.raises(SlideNotFoundError, match=f"there is no slide at '{url}'"):
        open_reader(url, None)


def test_a_missing_package_is_named(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    with pytest.raises(SlideFormatError, match=r"pip install 'slideloom\[remote\]'"):
        open_reader(f"{s3}/{STORES[1]}", None)
