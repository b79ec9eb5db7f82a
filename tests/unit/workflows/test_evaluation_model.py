"""A model that reads colours is measured: what it should get is known."""

from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely

from slideloom.errors import RoiError, SettingsError
from slideloom.models.spec import Task
from slideloom.postprocess.metrics.bootstrap import Resampling
from slideloom.workflows.evaluation.command import EvaluationRequest, evaluate
from slideloom.workflows.evaluation.images import EvaluationImage
from slideloom.workflows.evaluation.measuring import EvaluationSettings
from slideloom.workflows.evaluation.model import dark_pixels, evaluate_model
from tests.makers.colour_model import MPP, ColourModel, Rectangle, picture, table

SCENE = [
    Rectangle(x0=10, y0=10, x1=40, y1=30, name="red"),
    Rectangle(x0=60, y0=80, x1=90, y1=120, name="red"),
    Rectangle(x0=100, y0=20, x1=140, y1=50, name="blue"),
]
OTHER = [
    Rectangle(x0=20, y0=100, x1=50, y1=130, name="red"),
    Rectangle(x0=70, y0=20, x1=130, y1=60, name="blue"),
]
SETTINGS = EvaluationSettings(resampling=Resampling(resamples=50))


def an_image(
    folder: Path,
    *,
    name: str = "one",
    drawn: list[Rectangle] = SCENE,
    truth: list[Rectangle] | None = None,
    area: shapely.Geometry | None = None,
) -> EvaluationImage:
    return EvaluationImage(
        name=name,
        slide=picture(folder / f"{name}.png", drawn),
        mpp=MPP,
        objects=table(drawn if truth is None else truth),
        area=area,
        labels=(drawn[0].name,) if drawn else (),
    )


@pytest.fixture
def images(tmp_path: Path) -> list[EvaluationImage]:
    return [an_image(tmp_path), an_image(tmp_path, name="two", drawn=OTHER)]


@pytest.mark.parametrize(
    ("task", "figures"),
    [
        ("semantic", ("Dice", "IoU", "pixel accuracy")),
        ("instance", ("PQ", "DQ", "SQ", "AJI", "AJI+", "F1@0.9", "mean PQ of classes")),
        ("detection", ("mAP@50", "mAP@50:95", "F1@3um")),
    ],
)
def test_a_perfect_model_is_perfect_and_baselines_are_not(
    images: list[EvaluationImage], task: Task, figures: tuple[str, ...]
) -> None:
    found = evaluate_model(ColourModel(task), images, settings=SETTINGS)
    assert found.classes == ("red", "blue")
    assert {name: found.value(name) for name in figures} == dict.fromkeys(figures, 1.0)
    assert found.value(figures[0], of="blue") == 1
    assert found.figures["low"].min() == 1
    assert found.per_image[figures[0]].min() == 1
    assert len(found.per_image) == 2 * 3
    for baseline in found.baselines:
        worst = min(
            found.value(figures[0], of=name, method=baseline.name) for name in found.classes
        )
        assert worst < 0.5


def test_overlapping_labels_are_compared_one_by_one(tmp_path: Path) -> None:
    # The model takes what is blue for red too.
    both = [*SCENE, Rectangle(x0=100, y0=20, x1=140, y1=50, name="red")]
    image = an_image(tmp_path, truth=both)
    found = evaluate_model(ColourModel("semantic", overlapping=True), [image], settings=SETTINGS)
    assert found.value("Dice") == 1
    assert found.value("pixel accuracy") == 1
    exclusive = evaluate_model(ColourModel("semantic"), [image], settings=SETTINGS)
    # Where classes exclude each other, the later object is on top: all is red.
    assert np.isclose(exclusive.value("Dice", of="blue"), 0)


def test_figures_worked_by_hand(tmp_path: Path) -> None:
    # Found are 20 x 30; annotated are 30 x 30 in its place, and 10 x 10 that is missed.
    drawn = [Rectangle(x0=10, y0=10, x1=40, y1=30, name="red")]
    truth = [
        Rectangle(x0=10, y0=10, x1=40, y1=40, name="red"),
        Rectangle(x0=60, y0=60, x1=70, y1=70, name="red"),
    ]
    image = an_image(tmp_path, drawn=drawn, truth=truth)
    masks = evaluate_model(ColourModel("semantic"), [image], settings=SETTINGS)
    assert masks.value("Dice", of="red") == pytest.approx(2 * 600 / (2 * 600 + 300 + 100))
    assert np.isnan(masks.value("Dice", of="blue"))
    assert masks.value("pixel accuracy") == pytest.approx(1 - 400 / 160**2)
    objects = evaluate_model(ColourModel("instance"), [image], settings=SETTINGS)
    assert objects.value("SQ") == pytest.approx(2 / 3)
    assert objects.value("DQ") == pytest.approx(2 / 3)
    assert objects.value("F1@0.7") == 0
    assert objects.value("AJI") == pytest.approx(600 / (900 + 100))
    boxes = evaluate_model(ColourModel("detection"), [image], settings=SETTINGS)
    # 51 of the 101 recalls are reached; centres are 5 px, 2.5 um apart.
    assert boxes.value("mAP@50", of="red") == pytest.approx(51 / 101)
    assert boxes.value("F1@3um", of="red") == pytest.approx(2 / 3)
    near = EvaluationSettings(distance_um=2.4, resampling=Resampling(resamples=5))
    boxes = evaluate_model(ColourModel("detection"), [image], settings=near)
    assert boxes.value("F1@2.4um", of="red") == 0


@pytest.mark.parametrize("task", ["semantic", "instance", "detection"])
def test_outside_the_known_area_nothing_counts(tmp_path: Path, task: Task) -> None:
    left = shapely.box(0, 0, 95, 160)
    wrong = [item for item in SCENE if item.name == "red"]
    image = an_image(tmp_path, truth=wrong, area=left)
    found = evaluate_model(ColourModel(task), [image], settings=SETTINGS)
    values = found.figures["value"].dropna()
    assert values.min() == 1
    whole = evaluate_model(ColourModel(task), [an_image(tmp_path, truth=wrong)], settings=SETTINGS)
    assert whole.figures["value"].min() < 1


def test_objects_are_cut_at_the_area_on_both_sides(tmp_path: Path) -> None:
    image = an_image(tmp_path, area=shapely.box(20, 0, 120, 160))
    found = evaluate_model(ColourModel("instance"), [image], settings=SETTINGS)
    assert found.value("PQ") == 1


@pytest.mark.parametrize("task", ["semantic", "instance", "detection"])
def test_parts_of_an_area_are_one_image(tmp_path: Path, task: Task) -> None:
    apart = [shapely.box(5, 5, 45, 35), shapely.box(95, 15, 145, 55)]
    image = an_image(tmp_path, truth=SCENE[:1], area=shapely.MultiPolygon(apart))
    found = evaluate_model(ColourModel(task), [image], settings=SETTINGS)
    first = {"semantic": "Dice", "instance": "PQ", "detection": "mAP@50"}[task]
    assert found.value(first, of="red") == 1
    # The blue one is found and not annotated; the red one between the parts is not looked at.
    wrong = found.value("precision@3um" if task == "detection" else first, of="blue")
    assert wrong == 0
    assert len(found.per_image) == 3


def test_a_classifier_answers_for_whole_images(tmp_path: Path) -> None:
    images = [
        an_image(tmp_path, name=f"image-{number}", drawn=[item])
        for number, item in enumerate([*SCENE, *OTHER])
    ]
    found = evaluate_model(ColourModel("classification"), images, settings=SETTINGS)
    assert [found.value(name) for name in ("accuracy", "F1", "ROC AUC")] == [1, 1, 1]
    assert found.value("accuracy", method="majority class") == pytest.approx(3 / 5)
    assert found.value("ROC AUC", method="majority class") == pytest.approx(0.5)
    assert found.measured.confusion.tolist() == [[3, 0], [0, 2]]
    assert found.per_image["found"].tolist() == ["red", "red", "blue", "red", "blue"]


def test_tiles_of_a_classifier_are_averaged(tmp_path: Path) -> None:
    # Four tiles of 80 px: one red, one blue, two empty.
    image = an_image(tmp_path, drawn=[SCENE[0], SCENE[2]])
    found = evaluate_model(ColourModel("classification"), [image], settings=SETTINGS)
    row = found.per_image.iloc[0]
    assert row["probability red"] == pytest.approx(1 / 4)
    assert row["probability blue"] == pytest.approx(1 / 4)


def test_images_without_objects_tell_nothing_of_them(tmp_path: Path) -> None:
    image = an_image(tmp_path, drawn=[])
    for task in ("semantic", "instance", "detection"):
        found = evaluate_model(ColourModel(task), [image], settings=SETTINGS)
        kept = found.figures[found.figures["figure"] != "pixel accuracy"]
        assert kept["value"].isna().all()
    assert "-" in found.markdown()


def test_evaluations_leave_files(images: list[EvaluationImage], tmp_path: Path) -> None:
    out = tmp_path / "out"
    for task in ("semantic", "instance", "detection", "classification"):
        model = ColourModel(task)
        first = evaluate_model(model, images, settings=SETTINGS)
        first.write(out / task)
        table = (out / task / "figures.md").read_text()
        assert "| colours (95 % interval) |" in table
        assert "2 images; intervals by 50 draws" in table
        assert (out / task / "per_image.csv").read_text().startswith("image,")
        assert b'"baselines"' in (out / task / "figures.json").read_bytes()
    plots = {path.parent.name + "/" + path.stem for path in out.glob("*/*.png")}
    assert plots == {
        "semantic/confusion",
        "semantic/per_image",
        "instance/curve",
        "instance/per_image",
        "detection/curve",
        "detection/per_image",
        "classification/confusion",
        "classification/curve",
    }


def test_same_seed_same_file(images: list[EvaluationImage], tmp_path: Path) -> None:
    for name in ("a", "b"):
        evaluate_model(ColourModel("detection"), images, settings=SETTINGS).write(tmp_path / name)
    first, second = ((tmp_path / name / "figures.json").read_bytes() for name in ("a", "b"))
    assert first == second


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    image = an_image(tmp_path)
    with pytest.raises(SettingsError, match="no image to measure on"):
        evaluate_model(ColourModel("semantic"), [])
    strange = gpd.GeoDataFrame({"class": ["green"]}, geometry=[shapely.box(0, 0, 9, 9)])
    points = gpd.GeoDataFrame({"class": ["red"]}, geometry=[shapely.Point(3, 3)])
    for objects, message in ((strange, r"objects of class \['green'\]"), (points, "1 points or")):
        with pytest.raises(SettingsError, match=message):
            evaluate_model(
                ColourModel("instance"),
                [EvaluationImage(name="x", slide=image.slide, mpp=MPP, objects=objects)],
            )
    with pytest.raises(RoiError, match="lies outside slide"):
        evaluate_model(
            ColourModel("semantic"), [replace(image, area=shapely.box(800, 800, 900, 900))]
        )
    with pytest.raises(SettingsError, match="lies outside its slide"):
        evaluate_model(
            ColourModel("semantic"), [replace(image, area=shapely.box(200, 200, 300, 300))]
        )
    with pytest.raises(SettingsError, match=r"labelled \['green'\]"):
        evaluate_model(
            ColourModel("classification"),
            [EvaluationImage(name="x", slide=image.slide, mpp=MPP, labels=("green",))],
        )
    with pytest.raises(SettingsError, match="give --model and --data"):
        evaluate(EvaluationRequest(model="nuclei", pred=tmp_path / "a.geojson"))
    with pytest.raises(SettingsError, match="distance_um must be > 0"):
        EvaluationSettings(distance_um=0)


def test_dark_is_what_otsu_says_inside_the_known_area() -> None:
    pixels = np.full((40, 40, 3), 250, np.uint8)
    pixels[10:20, 10:20] = 30
    known = np.ones((40, 40), bool)
    known[:, 30:] = False
    pixels[:, 30:] = 0
    dark = dark_pixels(pixels, known=known)
    assert dark[15, 15]
    assert not dark[:, 31:].any()
    assert not dark[30, 5]
    assert not dark_pixels(np.zeros((4, 4, 3), np.uint8), known=np.ones((4, 4), bool)).any()
