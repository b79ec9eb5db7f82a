"""Finished results that several tests of exports read; none may change them."""

import pytest

from slideloom.workflows.result import SlideResult
from tests.makers.masked_results import MASK_KINDS, MaskKind, masked_result


@pytest.fixture(scope="session")
def masked_results(tmp_path_factory: pytest.TempPathFactory) -> dict[MaskKind, SlideResult]:
    """One result of each kind of masks."""
    folder = tmp_path_factory.mktemp("masked")
    return {kind: masked_result(folder, kind) for kind in MASK_KINDS}
