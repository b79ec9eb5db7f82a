"""The built-in models: complete, small, described, and able to find nuclei."""

import numpy as np
import pytest

from slideloom.models.catalog import list_models, model_folder
from slideloom.models.folder import load_model
from slideloom.models.network import NetworkModel
from slideloom.models.tile_model import TileBatch
from slideloom.postprocess.decoding import decode
from slideloom.postprocess.metrics.instances import panoptic_quality
from slideloom.testing.render import render_scene
from slideloom.testing.scene import make_scene
from slideloom.wsi.geometry import Box, Size

NAMES = [spec.name for spec in list_models()]


@pytest.fixture(scope="module")
def nuclei() -> NetworkModel:
    return load_model("nuclei", device="cpu")


@pytest.mark.parametrize("name", NAMES)
def test_folder_bears_its_name_and_states_its_terms(name: str) -> None:
    folder = model_folder(name)
    spec = next(spec for spec in list_models() if spec.name == name)
    assert folder.name == name
    assert spec.weights_sha256 is not None
    assert spec.licence
    assert spec.training_data
    assert sum(path.stat().st_size for path in folder.iterdir()) < 8e6


@pytest.mark.parametrize("name", NAMES)
def test_card_states_every_score_of_the_spec(name: str) -> None:
    folder = model_folder(name)
    spec = next(spec for spec in list_models() if spec.name == name)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert spec.scores
    for figure, value in spec.scores.items():
        measure, images = figure.split(" ", 1)
        columns = next(line for line in card.splitlines() if f"| {measure} |" in line).split(" | ")
        row = next(line for line in card.splitlines() if images in line and "nuclei |" in line)
        at = next(i for i, column in enumerate(columns) if column.strip(" |") == measure)
        assert float(row.split(" | ")[at].strip(" |")) == value, figure


def test_nothing_on_glass(nuclei: NetworkModel) -> None:
    pixels = np.full((1, 256, 256, 3), 243, np.uint8)
    window = Box(x0=0, y0=0, x1=256, y1=256)
    maps = nuclei.predict(TileBatch(pixels=pixels, windows=(window,)))[0]
    how = nuclei.spec.decode
    assert how is not None
    assert not decode(maps, name=how.name, settings=how.settings).labels.any()


def test_finds_the_nuclei_of_a_made_slide(nuclei: NetworkModel) -> None:
    # Seeds from 1000 on are neither trained on nor measured in the card.
    scene = make_scene(size=Size(width=256, height=256), mpp=0.5, seed=1001)
    window = Box.of_size(scene.size)
    batch = TileBatch(pixels=render_scene(scene)[None], windows=(window,))
    how = nuclei.spec.decode
    assert how is not None
    found = decode(nuclei.predict(batch)[0], name=how.name, settings=how.settings)
    assert panoptic_quality(scene.labels, found.labels).pq > 0.7
