"""What tests of several modules share: finished results, which none may change, and a bucket."""

from collections.abc import Iterator

import pytest
from upath import UPath

from slideloom.workflows.result import SlideResult
from tests.makers.masked_results import MASK_KINDS, MaskKind, masked_result
from tests.makers.object_store import BUCKET, serve_objects


@pytest.fixture(scope="session")
def masked_results(tmp_path_factory: pytest.TempPathFactory) -> dict[MaskKind, SlideResult]:
    """One result of each kind of masks."""
    folder = tmp_path_factory.mktemp("masked")
    return {kind: masked_result(folder, kind) for kind in MASK_KINDS}


@pytest.fixture(scope="module")
def bucket() -> Iterator[dict[str, str]]:
    """Variables with which a process finds a store of its own."""
    with serve_objects() as store:
        yield store.environment


@pytest.fixture
def store(
    request: pytest.FixtureRequest, bucket: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> UPath:
    """A folder of an object store, of its own for each test."""
    for name, value in bucket.items():
        monkeypatch.setenv(name, value)
    return UPath(f"s3://{BUCKET}/{request.node.name}")
