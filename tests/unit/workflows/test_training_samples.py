from pathlib import Path

import pytest
import shapely

from slideloom.errors import SettingsError
from slideloom.models.spec import Task
from slideloom.workflows.training.config import TrainConfig
from slideloom.workflows.training.samples import Samples, find_samples
from tests.makers.training_images import write_geojson, write_picture, write_text

SQUARE = shapely.box(4, 4, 20, 20)


def find(root: Path, data: dict[str, object] | None = None, *, task: Task = "semantic") -> Samples:
    return find_samples(root, TrainConfig.model_validate({"data": data or {}}), task=task)


def names(found: Samples) -> list[tuple[str, str | None]]:
    return [
        (item.image.name, item.annotations.name if item.annotations else None)
        for item in found.samples
    ]


def problems(found: Samples) -> list[tuple[str, str]]:
    return [(fault.file.name, fault.problem) for fault in found.faults]


def test_annotations_beside_images_need_no_config(tmp_path: Path) -> None:
    for stem in ("a", "b"):
        write_picture(tmp_path / f"{stem}.png")
        write_geojson(tmp_path / f"{stem}.geojson", [("tumour", SQUARE)])
    found = find(tmp_path)
    assert names(found) == [("a.png", "a.geojson"), ("b.png", "b.geojson")]
    assert found.faults == ()
    assert [item.case for item in found.samples] == ["a.png", "b.png"]
    assert {item.split for item in found.samples} == {None}


@pytest.mark.parametrize(
    ("image", "annotations"),
    [
        ("images/a.png", "masks/a.png"),
        ("images/x/a.png", "masks/x/a.png"),
        ("set/JPEGImages/a.jpg", "set/Annotations/a.xml"),
        ("a.png", "annotations/a.geojson"),
        ("x/a.tif", "x/labels/a.tif"),
        ("x/a.tif", "x/a.png"),
        ("a.jpg", "a.tif"),
        ("a.png", "a.geojson.gz"),
        ("train/images/a.png", "train/instances/a.png"),
    ],
)
def test_annotations_are_found_where_people_put_them(
    tmp_path: Path, image: str, annotations: str
) -> None:
    for name in (image, annotations):
        write_text(tmp_path / name, "never opened")
    found = find(tmp_path)
    assert [(s.image, s.annotations) for s in found.samples] == [
        (tmp_path / image, tmp_path / annotations)
    ]


def test_vector_files_come_before_pictures(tmp_path: Path) -> None:
    for name in ("images/a.png", "masks/a.png", "masks/a.xml"):
        write_text(tmp_path / name, "")
    assert names(find(tmp_path)) == [("a.png", "a.xml")]


def test_a_template_says_where_annotations_are(tmp_path: Path) -> None:
    for name in ("p1/slides/a.png", "p1/points/a_points.csv", "p1/slides/a_mask.png"):
        write_text(tmp_path / name, "")
    found = find(
        tmp_path, {"annotations": "{parent}/points/{stem}_points.csv", "images": "p1/slides/a.png"}
    )
    assert names(found) == [("a.png", "a_points.csv")]
    found = find(tmp_path, {"annotations": "{folder}/{stem}_mask.png"})
    assert names(found) == [("a.png", "a_mask.png")]


def test_what_has_no_partner_is_a_fault(tmp_path: Path) -> None:
    for name in ("a.png", "a.xml", "b.png", "c.xml"):
        write_text(tmp_path / name, "")
    found = find(tmp_path)
    assert names(found) == [("a.png", "a.xml")]
    assert problems(found) == [
        ("b.png", "has no annotations, so it is left out"),
        ("c.xml", "belongs to no image"),
    ]


def test_hidden_files_are_no_images(tmp_path: Path) -> None:
    for name in ("a.png", "a.xml", ".b.png", ".cache/c.png"):
        write_text(tmp_path / name, "")
    assert [item.image.name for item in find(tmp_path).samples] == ["a.png"]


def test_one_coco_file_serves_all_images(tmp_path: Path) -> None:
    for name in ("x/a.png", "x/b.png", "all.json"):
        write_text(tmp_path / name, "{}")
    found = find(tmp_path, {"coco": "all.json"})
    assert [(s.coco_name, s.annotations) for s in found.samples] == [
        ("a.png", tmp_path / "all.json"),
        ("b.png", tmp_path / "all.json"),
    ]
    with pytest.raises(SettingsError, match=r"data\.coco names 'none\.json'"):
        find(tmp_path, {"coco": "none.json"})


def test_cases_are_cut_from_names_whatever_their_letters(tmp_path: Path) -> None:
    for stem in ("P1_a", "p1_b", "P2_a"):
        write_text(tmp_path / f"{stem}.png", "")
        write_text(tmp_path / f"{stem}.xml", "")
    found = find(tmp_path, {"case": r"^([Pp]\d)_"})
    assert [item.case for item in found.samples] == ["p1", "p2", "p1"]
    with pytest.raises(SettingsError, match=r"finds no case in 'P1_a\.png'"):
        find(tmp_path, {"case": r"^(Q\d)_"})


def test_no_folder_no_image_and_no_sample_are_said(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is not a folder"):
        find(tmp_path / "none")
    with pytest.raises(SettingsError, match="no images in"):
        find(tmp_path)
    write_text(tmp_path / "a.png", "")
    with pytest.raises(SettingsError, match="put annotations beside the images"):
        find(tmp_path)
    with pytest.raises(SettingsError, match=r"no images in .*\*\.svs"):
        find(tmp_path, {"images": "*.svs"})
    with pytest.raises(SettingsError, match="relative"):
        find(tmp_path, {"images": "/*.svs"})


def test_folders_are_classes_and_masks_beside_them_are_no_images(tmp_path: Path) -> None:
    for name in ("images/normal/a.png", "images/polyp/b.png", "masks/polyp/b.png", "c.png"):
        write_text(tmp_path / name, "")
    found = find(tmp_path, task="classification")
    assert [(s.image.name, s.labels, s.annotations) for s in found.samples] == [
        ("a.png", ("normal",), None),
        ("b.png", ("polyp",), None),
    ]
    assert problems(found) == [("c.png", "has no class, so it is left out")]


def test_a_csv_gives_several_classes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        write_text(tmp_path / name, "")
    write_text(tmp_path / "split.csv", "file,class\na.png,x|y\nb.png,\nc,y\n")
    found = find(tmp_path, task="classification")
    assert [(s.image.name, s.labels) for s in found.samples] == [
        ("a.png", ("x", "y")),
        ("c.png", ("y",)),
    ]
    assert problems(found) == [("b.png", "has no class, so it is left out")]


def test_areas_of_slides_are_classes_too(tmp_path: Path) -> None:
    write_text(tmp_path / "a.png", "")
    write_text(tmp_path / "a.geojson", "")
    (sample,) = find(tmp_path, task="classification").samples
    assert sample.labels == ()
    assert sample.annotations == tmp_path / "a.geojson"


def test_classes_of_a_csv_need_one(tmp_path: Path) -> None:
    write_text(tmp_path / "x" / "a.png", "")
    with pytest.raises(SettingsError, match="no CSV has a column 'class'"):
        find(tmp_path, {"classes_from": "csv"}, task="classification")


def test_an_image_that_the_splits_do_not_name_is_left_out(tmp_path: Path) -> None:
    for stem in ("a", "b"):
        write_text(tmp_path / f"{stem}.png", "")
        write_text(tmp_path / f"{stem}.xml", "")
    write_text(tmp_path / "split.csv", "file,split,case\na.png,train,P7\nz.png,test,P8\n")
    found = find(tmp_path)
    assert [(s.image.name, s.split, s.case) for s in found.samples] == [("a.png", "train", "p7")]
    assert problems(found) == [
        ("b.png", "is in no split, so it is left out"),
        ("z.png", "is listed and not there"),
    ]


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("folder", "task", "data", "counts"),
    [
        ("ebhi_seg_subset", "semantic", {}, (359, 72, 156)),
        ("ebhi_seg_subset", "classification", {"classes_from": "csv"}, (359, 72, 156)),
        ("bccd", "detection", {"split": "BCCD/ImageSets/Main/{split}.txt"}, (205, 87, 72)),
        ("monuseg_train", "instance", {}, (0, 0, 0)),
        ("dsb2018_brightfield", "instance", {}, (0, 0, 0)),
        (
            "nucls_examples",
            "detection",
            {"images": "*/images/*.png", "annotations": "{parent}/points/{stem}.csv"},
            (10, 0, 5),
        ),
    ],
)
def test_real_folders_are_found_whole(
    data_dir: Path,
    folder: str,
    task: Task,
    data: dict[str, object],
    counts: tuple[int, int, int],
) -> None:
    found = find(data_dir / folder, data, task=task)
    splits = [item.split for item in found.samples]
    assert (splits.count("train"), splits.count("validation"), splits.count("test")) == counts
    assert found.faults == ()
    if counts == (0, 0, 0):
        images = sorted((data_dir / folder / "images").iterdir())
        assert [item.image for item in found.samples] == images
