"""The promise for every decode: what the tiles give together is what the whole slide gives at once.

The maps are a scene's own, for the whole slide; tiles get crops of them. So the network is out of
the question: only a decode that judges by the window, or a fault of stitching, can differ.
"""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from slideloom.models.spec import Decode
from slideloom.postprocess.decoding import decode
from slideloom.postprocess.metrics.instances import panoptic_quality
from slideloom.testing import (
    Scene,
    assert_same_instances,
    compare_instances,
    make_scene,
    render_scene,
    write_slide,
)
from slideloom.workflows.config import RunConfig
from slideloom.workflows.run import run_slide
from slideloom.wsi import Size
from tests.makers.decode_maps import (
    MapsTileModel,
    class_maps,
    decode_spec,
    diffused_flows,
    exact_maps,
)

Labels = NDArray[np.int32]
Maps = NDArray[np.float32]

NAMES = ("components", "distance", "flows", "hover")
PLACES = [(256, 32, 300), (384, 100, 4000)]


@cache
def nuclei() -> Scene:
    """Objects that nearly all fit into a halo of 32 pixels."""
    return make_scene(size=Size(width=640, height=500), mpp=0.5, seed=4)


@pytest.fixture(scope="module")
def nuclei_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("nuclei") / "nuclei.tif"
    write_slide(path, render_scene(nuclei()), mpp=nuclei().mpp)
    return path


def untiled(maps: Maps, rule: Decode) -> Labels:
    """The whole slide as one window, with nothing around it."""
    framed = np.pad(maps, ((1, 1), (1, 1), (0, 0)))
    return decode(framed, name=rule.name, settings=rule.settings).labels[1:-1, 1:-1]


def stitched(
    path: Path, scene: Scene, maps: Maps, *, rule: Decode, place: tuple[int, int, int], out: Path
) -> Labels:
    tile_px, halo_px, region_px = place
    spec = decode_spec(scene, rule, tile_px=tile_px, halo_px=halo_px)
    config = RunConfig(tissue=False, region_px=region_px, workers=2, batch_size=3, formats=())
    result = run_slide(path, MapsTileModel(maps, spec=spec), out=out, config=config)
    return np.asarray(result.mask.compute(), np.int32)


def larger_than(labels: Labels, *, px: int) -> NDArray[np.bool_]:
    """Which labels 0..n have a bounding box with a side of more than `px` pixels."""
    found = np.zeros(int(labels.max()) + 1, np.bool_)
    for place in np.nonzero(labels):
        first = np.full(len(found), labels.size)
        last = np.zeros(len(found), np.int64)
        np.minimum.at(first, labels[labels > 0], place)
        np.maximum.at(last, labels[labels > 0], place)
        found |= last - first >= px
    return found


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", NAMES)
def test_objects_that_fit_the_halo_equal_the_untiled(
    nuclei_path: Path, tmp_path: Path, name: str, place: tuple[int, int, int]
) -> None:
    maps, rule = exact_maps(nuclei(), name), Decode(name=name)
    found = stitched(nuclei_path, nuclei(), maps, rule=rule, place=place, out=tmp_path)
    assert_same_instances(found, untiled(maps, rule))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ["components", "flows", "hover"])
def test_objects_larger_than_a_tile_equal_the_untiled(
    slide_path: Path, scene: Scene, tmp_path: Path, *, name: str, place: tuple[int, int, int]
) -> None:
    maps, rule = exact_maps(scene, name), Decode(name=name)
    found = stitched(slide_path, scene, maps, rule=rule, place=place, out=tmp_path)
    assert_same_instances(found, untiled(maps, rule))


@pytest.mark.parametrize("place", PLACES)
def test_distance_errs_on_larger_objects_only(
    slide_path: Path, scene: Scene, tmp_path: Path, *, place: tuple[int, int, int]
) -> None:
    # A saddle is judged by tops that may lie far away; there one object may come out as two, or its
    # border elsewhere.
    maps, rule = exact_maps(scene, "distance"), Decode(name="distance")
    whole = untiled(maps, rule)
    found = stitched(slide_path, scene, maps, rule=rule, place=place, out=tmp_path)
    fits = ~larger_than(whole, px=place[1])[whole]
    assert (~fits).sum() > 50_000
    assert_same_instances(np.where(fits, found, 0), np.where(fits, whole, 0))
    large = compare_instances(np.where(fits, 0, found), np.where(fits, 0, whole))
    assert (large.missed, large.extra) == (0, 0)
    assert large.expected - large.exact <= 2
    assert ((found > 0) != (whole > 0)).mean() < 0.01


@pytest.mark.parametrize("name", ["components", "hover"])
def test_a_least_area_that_the_halo_cannot_show_is_judged_after_joining(
    slide_path: Path, scene: Scene, tmp_path: Path, name: str
) -> None:
    maps, rule = exact_maps(scene, name), Decode(name=name, settings={"min_area_px": 4000})
    whole = untiled(maps, rule)
    assert whole.max() > 0
    found = stitched(slide_path, scene, maps, rule=rule, place=(112, 16, 300), out=tmp_path)
    assert_same_instances(found, whole)


@pytest.mark.parametrize("name", ["flows", "hover"])
def test_exact_maps_give_the_truth(scene: Scene, name: str) -> None:
    assert_same_instances(untiled(exact_maps(scene, name), Decode(name=name)), scene.labels)


def test_distance_gives_nearly_the_truth(scene: Scene) -> None:
    # The large objects have several lobes; each is one object to this decode.
    found = untiled(exact_maps(scene, "distance"), Decode(name="distance"))
    assert panoptic_quality(scene.labels, found).pq > 0.97
    compared = compare_instances(found, scene.labels)
    assert compared.exact > 0.89 * compared.expected
    assert (compared.missed, compared.merged, compared.extra) == (0, 0, 0)


def test_components_give_the_truth_but_for_touching_objects(scene: Scene) -> None:
    found = untiled(exact_maps(scene, "components"), Decode(name="components"))
    compared = compare_instances(found, scene.labels)
    assert compared.exact + compared.merged == compared.expected
    assert compared.exact > 0.6 * compared.expected


def test_flows_of_cellpose_give_the_truth() -> None:
    scene = nuclei()
    flow = diffused_flows(scene.labels, steps=100)
    maps = np.dstack([class_maps(scene, background=False), flow])
    assert_same_instances(untiled(maps, Decode(name="flows")), scene.labels)


@pytest.mark.slow
@pytest.mark.parametrize("place", [(256, 32, 512), (512, 64, 2048), (1024, 96, 1500)])
@pytest.mark.parametrize("name", NAMES)
def test_a_large_slide_equals_the_untiled(
    tmp_path: Path, name: str, place: tuple[int, int, int]
) -> None:
    large = 10 if name in ("components", "hover") else 0
    scene = make_scene(size=Size(width=4000, height=3500), mpp=0.5, seed=21, large_objects=large)
    path = tmp_path / "large.tif"
    write_slide(path, render_scene(scene), mpp=scene.mpp)
    maps, rule = exact_maps(scene, name), Decode(name=name)
    found = stitched(path, scene, maps, rule=rule, place=place, out=tmp_path / "out")
    assert_same_instances(found, untiled(maps, rule))
