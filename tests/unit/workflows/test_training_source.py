import multiprocessing
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import shapely

from slideloom.errors import SettingsError, SlideFormatError
from slideloom.models.spec import Task
from slideloom.models.training.source import TileSource, TrainingTile
from slideloom.testing import write_slide
from slideloom.workflows.training import source
from slideloom.workflows.training.annotated import TrainingData, read_samples
from slideloom.workflows.training.config import TrainConfig, draft_spec, read_config
from slideloom.workflows.training.places import Place
from slideloom.workflows.training.samples import find_samples
from slideloom.workflows.training.source import SlideTiles, TrainingTiles, ValidationTiles
from slideloom.workflows.training.split import split_samples
from slideloom.wsi import open_slide
from slideloom.wsi.geometry import Box, Size
from tests.makers.pictures import smooth_picture
from tests.makers.training_images import (
    assert_same_truth,
    blobs,
    make_spec,
    write_geojson,
    write_picture,
    write_text,
)

NAMES = ("tumour", "stroma")
EXAMPLES = Path(__file__).parents[3] / "benchmarks" / "examples"


def annotate(root: Path, stem: str, *, width: int = 200, height: int = 150, seed: int = 0) -> None:
    """A picture and its outlines."""
    write_picture(root / f"{stem}.png", width=width, height=height, seed=seed)
    found = blobs(20, size=Size(width=width, height=height), seed=seed)
    frame = shapely.box(0, 0, width, height)
    shapes = [(NAMES[class_id], shapely.intersection(shape, frame)) for class_id, shape in found]
    write_geojson(
        root / f"{stem}.geojson",
        [(name, shape) for name, shape in shapes if shapely.area(shape) > 4],
    )


def read(root: Path, *, task: Task = "semantic", **settings: object) -> TrainingData:
    config = TrainConfig.model_validate({"image_mpp": 0.5, **settings})
    found = find_samples(root, config, task=task)
    assert found.faults == ()
    return read_samples(found.samples, config, task=task)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    root = tmp_path_factory.mktemp("data")
    for seed, stem in enumerate("ab"):
        annotate(root, stem, seed=seed)
    return read(root)


def assert_same_tile(one: TrainingTile, other: TrainingTile) -> None:
    np.testing.assert_array_equal(one.pixels, other.pixels)
    assert_same_truth(one.truth, other.truth)


def test_two_annotated_images_and_one_label_are_enough(tmp_path: Path) -> None:
    for stem in ("a", "b"):
        write_picture(tmp_path / f"{stem}.png")
        write_geojson(tmp_path / f"{stem}.geojson", [("gland", shapely.box(5, 5, 30, 30))])
    found = read(tmp_path)
    assert [item.name for item in found.classes] == ["gland"]
    shown = [[str(class_id) for class_id in image.shown] for image in found.images]
    split = split_samples([image.sample for image in found.images], shown, seed=0)
    spec = draft_spec(TrainConfig(), "semantic", classes=found.classes, mpp=found.mpp)
    train: TileSource = TrainingTiles([found.images[k] for k in split.train], spec)
    validation: TileSource = ValidationTiles([found.images[k] for k in split.validation], spec)
    assert (len(train), len(validation)) == (64, 1)
    assert validation.read(0, epoch=3).truth.masks.sum() == 625


def test_tiles_are_the_same_again_and_differ_between_epochs(data: TrainingData) -> None:
    spec = make_spec()
    one, two = (TrainingTiles(data.images, spec, tiles=12, seed=5) for _ in range(2))
    order = np.random.default_rng(0).permutation(12)
    for number in order:
        assert_same_tile(one.read(int(number), epoch=1), two.read(int(number), epoch=1))
    sums = {int(one.read(k, epoch=epoch).pixels.sum()) for k in range(4) for epoch in range(3)}
    other = TrainingTiles(data.images, spec, tiles=12, seed=6)
    assert len(sums) == 12
    assert int(other.read(0, epoch=0).pixels.sum()) not in sums


def test_tiles_show_the_image_and_its_truth(data: TrainingData) -> None:
    tiles = SlideTiles(data.images, make_spec())
    tile = tiles.tile_at(Place(image=1, window=Box(x0=150, y0=-10, x1=214, y1=54)))
    with open_slide(data.images[1].sample.image) as slide:
        pixels = slide.read(Box(x0=150, y0=0, x1=200, y1=54))
    np.testing.assert_array_equal(tile.pixels[10:, :50], pixels)
    assert (tile.pixels[:10] == 255).all()
    assert (tile.pixels[:, 50:] == 255).all()
    assert tile.truth.known.sum() == 54 * 50


def test_tiles_pickle_without_open_files(data: TrainingData) -> None:
    train = TrainingTiles(data.images, make_spec(), tiles=4)
    first = train.read(0, epoch=0)
    raw = pickle.dumps(train)
    assert len(raw) < 100_000
    assert_same_tile(pickle.loads(raw).read(0, epoch=0), first)


@pytest.mark.slow
def test_tiles_are_the_same_in_another_process(data: TrainingData) -> None:
    train = TrainingTiles(data.images, make_spec(), tiles=4)
    first = train.read(0, epoch=0)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert_same_tile(pool.apply(train.read, (0,), {"epoch": 0}), first)


def test_few_slides_stay_open(data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_OPEN_BYTES", 3 * 200 * 150)
    train = TrainingTiles(data.images, make_spec(), tiles=20)
    tiles = [train.read(number, epoch=0) for number in range(20)]
    assert len(train._open) == 1
    monkeypatch.undo()
    again = [train.read(number, epoch=0) for number in range(20)]
    assert len(train._open) == 2
    for one, other in zip(tiles, again, strict=True):
        assert_same_tile(one, other)


def test_a_pyramid_of_quarter_microns_is_trained_at_half(tmp_path: Path) -> None:
    picture = smooth_picture(608, 488)
    write_slide(tmp_path / "s.tif", picture, mpp=0.25, quality=None)
    square = shapely.box(100, 60, 180, 120)
    write_geojson(tmp_path / "s.geojson", [("gland", square)])
    found = read(tmp_path, mpp=0.5, image_mpp=None)
    (image,) = found.images
    assert (image.mpp, image.read_mpp, image.scale) == (0.25, 0.5, 2)
    assert image.extent == Size(width=304, height=244)
    tile = SlideTiles([image], make_spec(classes=1)).tile_at(
        Place(image=0, window=Box(x0=40, y0=20, x1=104, y1=84))
    )
    with open_slide(image.sample.image) as slide:
        np.testing.assert_array_equal(
            tile.pixels, slide.read(Box(x0=40, y0=20, x1=104, y1=84), level=1)
        )
    wanted = np.zeros((64, 64), np.bool_)
    wanted[10:40, 10:50] = True
    np.testing.assert_array_equal(tile.truth.masks[0], wanted)


def test_a_level_near_the_models_mpp_is_read_as_it_is(tmp_path: Path) -> None:
    write_slide(tmp_path / "s.tif", smooth_picture(300, 300), mpp=0.252, quality=None)
    write_geojson(tmp_path / "s.geojson", [("gland", shapely.box(5, 5, 30, 30))])
    (image,) = read(tmp_path, mpp=0.25).images
    assert image.read_mpp == pytest.approx(0.252)
    (image,) = read(tmp_path, mpp=0.3).images
    assert image.read_mpp == 0.3


def test_the_model_has_the_finest_mpp_of_all_images(tmp_path: Path) -> None:
    for stem, mpp in (("a", 0.25), ("b", 0.4)):
        write_slide(tmp_path / f"{stem}.tif", smooth_picture(300, 300), mpp=mpp)
        write_geojson(tmp_path / f"{stem}.geojson", [("gland", shapely.box(5, 5, 30, 30))])
    assert read(tmp_path, image_mpp=None).mpp == pytest.approx(0.4, rel=1e-3)


def test_without_mpp_the_user_is_asked(tmp_path: Path) -> None:
    annotate(tmp_path, "a")
    with pytest.raises(SettingsError, match=r"'a\.png', state no single mpp.*set image_mpp"):
        read(tmp_path, image_mpp=None)


def test_what_cannot_be_used_is_a_fault(tmp_path: Path) -> None:
    annotate(tmp_path, "a")
    write_text(tmp_path / "b.png", "no picture")
    write_geojson(tmp_path / "b.geojson", [("tumour", shapely.box(0, 0, 9, 9))])
    write_slide(tmp_path / "c.tif", smooth_picture(300, 300), mpp=1.1)
    write_geojson(tmp_path / "c.geojson", [("tumour", shapely.box(0, 0, 9, 9))])
    write_picture(tmp_path / "d.png")
    write_text(tmp_path / "d.geojson", "{")
    found = read(tmp_path, mpp=0.5, classes=["tumour"])
    assert [image.sample.image.name for image in found.images] == ["a.png"]
    problems = [(fault.file.name, fault.problem) for fault in found.faults]
    assert [name for name, _ in problems] == [
        "b.png", "d.geojson", "d.geojson", "a.geojson", "c.tif"
    ]  # fmt: skip
    assert "it is left out" in problems[0][1]
    assert "of class 'stroma', which is not listed" in problems[3][1]
    assert "too coarse" in problems[4][1]
    assert set(found.images[0].class_id) == {0}


def test_no_usable_image_is_an_error(tmp_path: Path) -> None:
    write_text(tmp_path / "b.png", "no picture")
    write_geojson(tmp_path / "b.geojson", [("tumour", shapely.box(0, 0, 9, 9))])
    with pytest.raises(SettingsError, match=r"none of the 1 images can be used.*b\.png"):
        read(tmp_path)


def test_classes_have_to_be_told_apart(tmp_path: Path) -> None:
    write_picture(tmp_path / "polyp" / "a.png")
    with pytest.raises(SettingsError, match="takes two"):
        read(tmp_path, task="classification")
    write_picture(tmp_path / "normal" / "b.png")
    found = read(tmp_path, task="classification")
    assert [item.name for item in found.classes] == ["normal", "polyp"]
    assert [image.labels.tolist() for image in found.images] == [[True, False], [False, True]]
    found = read(tmp_path, task="classification", classes=["normal", "other"])
    assert len(found.images) == 1
    assert "has the class polyp, which is not listed" in found.faults[0].problem


def test_no_class_is_an_error(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png")
    write_geojson(tmp_path / "a.geojson", [])
    with pytest.raises(SettingsError, match=r"annotations\.default_class"):
        read(tmp_path)


def test_sources_need_images(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="annotate one"):
        TrainingTiles([], make_spec())
    write_picture(tmp_path / "a.png")
    write_geojson(tmp_path / "a.geojson", [("x", shapely.box(0, 0, 3, 3))])
    found = read(tmp_path, task="classification", classes=["x", "y"])
    with pytest.raises(SettingsError, match="annotate larger areas"):
        ValidationTiles(found.images, make_spec("classification", tile_px=32, halo_px=0))


def test_a_damaged_slide_is_said_when_it_is_read(tmp_path: Path) -> None:
    annotate(tmp_path, "a")
    found = read(tmp_path)
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:500])
    with pytest.raises(SlideFormatError, match=r"a\.png"):
        TrainingTiles(found.images, make_spec()).read(0, epoch=0)


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "task", "folder", "images", "classes"),
    [
        ("glands", "semantic", "ebhi_seg_subset", "images/normal/*.png", 1),
        ("colon", "classification", "ebhi_seg_subset", "images/*/*.png", 6),
        ("blood_cells", "detection", "bccd", "BCCD/JPEGImages/BloodImage_0000*.jpg", 3),
        ("nuclei_centres", "detection", "", "nucls_examples/*/images/*_[16].png", 1),
        ("nuclei", "instance", "", "monuseg_train/images/TCGA-21-5784*.png", 1),
        ("nuclei", "instance", "", "dsb2018_brightfield/images/0*.png", 1),
    ],
)
def test_real_images_give_tiles(
    data_dir: Path, name: str, task: Task, folder: str, images: str, classes: int
) -> None:
    config = read_config(EXAMPLES / f"{name}.yaml")
    some = config.data.model_copy(update={"images": (images,)})
    config = config.model_copy(update={"data": some})
    found = find_samples(data_dir / folder, config, task=task)
    known = read_samples(found.samples[:: 1 + len(found.samples) // 24], config, task=task)
    assert len(known.classes) == classes
    spec = draft_spec(config, task, classes=known.classes, mpp=known.mpp)
    train = TrainingTiles(known.images, spec)
    tiles = [train.read(number, epoch=0) for number in range(6)]
    for tile in tiles:
        assert tile.pixels.shape == (spec.tile_px, spec.tile_px, 3)
        # Real images are not blank where they are known.
        assert tile.pixels[tile.truth.known].std() > 5
    objects = sum(len(tile.truth.boxes) for tile in tiles)
    assert objects > 6 if task in ("instance", "detection") else True
    assert np.mean([tile.truth.labels.any() for tile in tiles]) > 0.5


@pytest.mark.realdata
def test_instances_of_a_real_label_image_come_back_to_the_pixel(data_dir: Path) -> None:
    config = read_config(EXAMPLES / "nuclei.yaml")
    some = config.data.model_copy(
        update={"images": ("dsb2018_brightfield/images/00ae65c1c6631ae6.png",)}
    )
    config = config.model_copy(update={"data": some})
    found = find_samples(data_dir, config, task="instance")
    known = read_samples(found.samples, config, task="instance")
    tiles = SlideTiles(known.images, make_spec("instance", classes=1))
    truth = tiles.tile_at(Place(image=0, window=Box(x0=0, y0=0, x1=320, y1=256))).truth
    path = data_dir / "dsb2018_brightfield" / "labels" / "00ae65c1c6631ae6.png"
    labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert labels is not None
    np.testing.assert_array_equal(truth.instances > 0, labels > 0)
    pairs = {(int(a), int(b)) for a, b in zip(truth.instances.flat, labels.flat, strict=True)}
    assert len(pairs) == len(np.unique(labels))
