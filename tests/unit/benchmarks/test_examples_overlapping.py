"""The slides of the example with overlapping labels hold what they say."""

from pathlib import Path

import numpy as np

from benchmarks.examples_overlapping import epithelium_mask, make_slides
from slideloom.testing import make_scene
from slideloom.workflows.training.annotated import read_samples
from slideloom.workflows.training.config import draft_spec, read_config
from slideloom.workflows.training.places import Place
from slideloom.workflows.training.samples import find_samples
from slideloom.workflows.training.source import SlideTiles
from slideloom.wsi.geometry import Box, Size

EXAMPLE = Path(__file__).parents[3] / "benchmarks" / "examples" / "overlapping.yaml"
SIDE_PX = 300


def test_its_slides_are_trained_on_as_they_were_drawn(tmp_path: Path) -> None:
    make_slides(tmp_path, slides=3, test=1, side_px=SIDE_PX)
    config = read_config(EXAMPLE)
    found = find_samples(tmp_path, config, task="semantic")
    assert [sample.split for sample in found.samples] == ["test", "train", "train"]
    known = read_samples(found.samples, config, task="semantic")
    assert (found.faults, known.faults) == ((), ())
    spec = draft_spec(config, "semantic", classes=known.classes, mpp=known.mpp)
    window = Box(x0=0, y0=0, x1=SIDE_PX, y1=SIDE_PX)
    truth = SlideTiles(known.images, spec).tile_at(Place(image=1, window=window)).truth
    scene = make_scene(size=Size(width=SIDE_PX, height=SIDE_PX), mpp=0.5, seed=100)
    np.testing.assert_array_equal(truth.masks[0], epithelium_mask(scene))
    np.testing.assert_array_equal(truth.masks[1], scene.labels > 0)
    both = truth.masks.all(axis=0).mean()
    assert both > 0.01
    assert 0.1 < truth.masks[0].mean() < 0.9
