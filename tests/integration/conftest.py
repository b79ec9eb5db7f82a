"""One made slide and its truth, shared by all integration tests of a process."""

from pathlib import Path

import pytest

from slideloom.testing import Scene, make_scene, render_scene, write_slide
from slideloom.wsi import Size


@pytest.fixture(scope="session")
def scene() -> Scene:
    """Nuclei and two objects that are larger than a small tile."""
    return make_scene(size=Size(width=1150, height=930), mpp=0.5, seed=11, large_objects=2)


@pytest.fixture(scope="session")
def slide_path(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scene as a slide."""
    path = tmp_path_factory.mktemp("made") / "made.tif"
    write_slide(path, render_scene(scene), mpp=scene.mpp)
    return path
