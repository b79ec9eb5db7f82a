import json
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from slideloom.errors import SlideFormatError
from slideloom.wsi.geometry import Box, Mpp, Size
from slideloom.wsi.readers.ome_zarr.layout import holds_image
from slideloom.wsi.readers.ome_zarr.ngff import UM_PER_UNIT
from slideloom.wsi.readers.ome_zarr.reader import ZarrReader
from slideloom.wsi.readers.opening import open_reader
from slideloom.wsi.readers.reader import RGB_CHANNELS, WHITE, NotServedError
from slideloom.wsi.writing.labels import LabelImage, create_labels
from tests.makers.ngff import (
    CODEC_NAMES,
    CODECS,
    Ngff,
    chunk_files,
    pyramid,
    set_ome,
    write_ngff,
    write_with_ome_zarr,
    zip_store,
)

VERSIONS = ["0.4", "0.5"]
LEVELS = pyramid()
BOXES = [
    Box(x0=0, y0=0, x1=1, y1=1),
    Box(x0=5, y0=31, x1=33, y1=33),
    Box(x0=31, y0=20, x1=32, y1=25),
]


def whole(size: Size) -> Box:
    return Box.of_size(size)


def assert_serves(reader: ZarrReader, levels: Sequence[NDArray[Any]]) -> None:
    """That each level reads as `levels`, `(c, y, x)`, whole and in parts."""
    assert len(reader.levels) == len(levels)
    for index, expected in enumerate(levels):
        size = reader.levels[index].size
        assert size.shape == expected.shape[1:]
        for box in (whole(size), *BOXES):
            part = box.intersect(whole(size))
            pixels = reader.read(part, index)
            assert pixels.dtype == reader.dtype
            assert pixels.dtype.isnative
            cut = expected[:, part.y0 : part.y1, part.x0 : part.x1]
            np.testing.assert_array_equal(pixels, cut.transpose(1, 2, 0))


@pytest.mark.parametrize(("version", "codec"), CODECS, ids=CODEC_NAMES)
def test_every_codec_reads_pixel_for_pixel(tmp_path: Path, version: str, codec: Any) -> None:
    write_ngff(tmp_path / "s.ome.zarr", LEVELS, Ngff(version=version), compressors=codec)
    assert_serves(ZarrReader(tmp_path / "s.ome.zarr"), LEVELS)


@pytest.mark.parametrize("separator", [".", "/"])
@pytest.mark.parametrize("version", VERSIONS)
def test_both_separators_read(tmp_path: Path, version: str, separator: str) -> None:
    name = "v2" if version == "0.4" else "default"
    path = write_ngff(
        tmp_path / "s.ome.zarr",
        LEVELS,
        Ngff(version=version),
        chunk_key_encoding={"name": name, "separator": separator},
    )
    assert_serves(ZarrReader(path), LEVELS)


def test_a_tile_is_the_inner_chunk_of_a_shard(tmp_path: Path) -> None:
    path = write_ngff(tmp_path / "s.ome.zarr", LEVELS[:2], chunks=(3, 16, 20), shards=(3, 48, 40))
    reader = ZarrReader(path)
    assert_serves(reader, LEVELS[:2])
    assert {level.tile for level in reader.levels} == {Size(width=20, height=16)}


@pytest.mark.parametrize("version", VERSIONS)
def test_what_ome_zarr_py_writes_reads(tmp_path: Path, version: str) -> None:
    path = write_with_ome_zarr(tmp_path / "s.ome.zarr", LEVELS[0], version=version)
    paths = json.loads(ZarrReader(path).properties["multiscales"])[0]["datasets"]
    stored: list[Any] = [zarr.open_array(path / item["path"], mode="r")[...] for item in paths]
    reader = ZarrReader(path)
    assert_serves(reader, stored)
    np.testing.assert_array_equal(stored[0], LEVELS[0])
    assert reader.mpp == Mpp(x=0.25, y=0.5)
    assert reader.channels == RGB_CHANNELS
    assert [level.downsample for level in reader.levels] == [1.0, 2.0, 4.0]


@pytest.mark.parametrize("axes", ["yx", "cyx", "zyx", "tyx", "czyx", "tczyx", "yxc"])
def test_any_axes_read_as_y_x_c(tmp_path: Path, axes: str) -> None:
    plain = LEVELS[0] if "c" in axes else LEVELS[0][:1]
    missing = [index for index, axis in enumerate("tzcyx") if axis not in axes]
    order = ["tzcyx".index(axis) for axis in axes]
    pixels = plain[None, None].transpose(missing + order)[(0,) * len(missing)]
    reader = ZarrReader(write_ngff(tmp_path / "s.ome.zarr", [pixels], Ngff(axes=axes)))
    assert_serves(reader, [plain])
    assert reader.channels == (RGB_CHANNELS if "c" in axes else ("grey",))


@pytest.mark.parametrize("axes", ["tyx", "zyx"])
def test_several_planes_are_refused(tmp_path: Path, axes: str) -> None:
    path = write_ngff(tmp_path / "s.ome.zarr", [np.zeros((4, 9, 9), np.uint8)], Ngff(axes=axes))
    with pytest.raises(SlideFormatError, match="4 planes along time or depth, and one plane"):
        ZarrReader(path)


def omero(**lists: Sequence[str]) -> dict[str, Any]:
    rows = zip(*lists.values(), strict=True)
    return {"omero": {"channels": [dict(zip(lists, row, strict=True)) for row in rows]}}


@pytest.mark.parametrize(
    ("dtype", "count", "more", "channels"),
    [
        ("u1", 3, {}, RGB_CHANNELS),
        ("u1", 3, omero(color=["ff0000", "00FF00", "0000FF"]), RGB_CHANNELS),
        ("u1", 3, omero(label="RGB"), RGB_CHANNELS),
        ("u1", 3, omero(label=["red", "green", "blue"]), RGB_CHANNELS),
        ("u1", 3, omero(label=["a", "b", "c"], color=["1", "2", "3"]), ("a", "b", "c")),
        ("u2", 3, {}, ("channel 0", "channel 1", "channel 2")),
        ("u2", 2, omero(label=["DAPI", ""]), ("DAPI", "channel 1")),
        ("u2", 2, omero(label=["DAPI", "DAPI"]), ("channel 0", "channel 1")),
        ("u2", 2, omero(label=["DAPI"]), ("channel 0", "channel 1")),
        ("u1", 4, {}, ("channel 0", "channel 1", "channel 2", "channel 3")),
    ],
)
def test_channels_are_named(
    tmp_path: Path, dtype: str, count: int, more: Mapping[str, Any], channels: tuple[str, ...]
) -> None:
    pixels = np.zeros((count, 9, 9), dtype)
    reader = ZarrReader(write_ngff(tmp_path / "s.ome.zarr", [pixels], Ngff(more=more)))
    assert reader.channels == channels


@pytest.mark.parametrize(
    ("unit", "mpp"),
    [
        ("micrometer", Mpp(x=0.25, y=0.5)),
        ("nanometer", Mpp(x=0.00025, y=0.0005)),
        ("millimeter", Mpp(x=250.0, y=500.0)),
        ("inch", Mpp(x=6350.0, y=12700.0)),
        ("angstrom", Mpp(x=0.000025, y=0.00005)),
        ("pixel", None),
        (None, None),
    ],
)
@pytest.mark.parametrize("version", VERSIONS)
def test_mpp_comes_from_scale_and_unit(
    tmp_path: Path, version: str, unit: str | None, mpp: Mpp | None
) -> None:
    ngff = Ngff(version=version, unit=unit, scale=(1.0, 0.5, 0.25))
    found = ZarrReader(write_ngff(tmp_path / "s.ome.zarr", LEVELS, ngff)).mpp
    if mpp is None or found is None:
        assert found == mpp
    else:
        assert (found.x, found.y) == pytest.approx((mpp.x, mpp.y))


def test_every_unit_of_the_specification_is_known() -> None:
    prefixes = {
        "yocto": -24, "zepto": -21, "atto": -18, "femto": -15, "pico": -12, "nano": -9, "micro": -6,
        "milli": -3, "centi": -2, "deci": -1, "": 0, "hecto": 2, "kilo": 3, "mega": 6, "giga": 9,
        "tera": 12, "peta": 15, "exa": 18, "zetta": 21, "yotta": 24,
    }  # fmt: skip
    for prefix, power in prefixes.items():
        assert UM_PER_UNIT[f"{prefix}meter"] == pytest.approx(10.0 ** (power + 6))
    assert UM_PER_UNIT["yard"] == pytest.approx(3 * UM_PER_UNIT["foot"])
    assert UM_PER_UNIT["mile"] == pytest.approx(1760 * UM_PER_UNIT["yard"])
    assert UM_PER_UNIT["foot"] == pytest.approx(12 * UM_PER_UNIT["inch"])
    assert {"angstrom", "parsec"} <= set(UM_PER_UNIT)


@pytest.mark.parametrize(
    ("transforms", "x"),
    [
        ([{"type": "scale", "scale": [1, 0.1, 0.1]}], 0.2),
        ([{"type": "translation", "translation": [0, 5, 5]}], 2.0),
        ([{"type": "scale", "scale": [1, 0, 0]}], None),
    ],
)
def test_the_transform_of_all_levels_counts(
    tmp_path: Path, transforms: Sequence[Mapping[str, Any]], x: float | None
) -> None:
    ngff = Ngff(scale=(1.0, 2.0, 2.0))
    path = write_ngff(tmp_path / "s.ome.zarr", LEVELS, ngff)
    metadata = ngff.metadata([level.shape for level in LEVELS])
    metadata["multiscales"][0]["coordinateTransformations"] = transforms
    set_ome(zarr.open_group(path), metadata, version="0.5")
    mpp = ZarrReader(path).mpp
    assert (mpp and mpp.x) == (None if x is None else pytest.approx(x))


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "u4", "<f4", ">f4"])
@pytest.mark.parametrize("version", VERSIONS)
def test_stored_types_come_as_they_are(tmp_path: Path, version: str, dtype: str) -> None:
    pixels = (LEVELS[0][:2] * 1.5).astype(dtype)
    reader = ZarrReader(write_ngff(tmp_path / "s.ome.zarr", [pixels], Ngff(version=version)))
    assert_serves(reader, [pixels])
    assert reader.dtype == np.dtype(dtype).newbyteorder("=")


@pytest.mark.parametrize("dtype", ["i4", "f8", "c8", "?"])
def test_other_types_are_refused(tmp_path: Path, dtype: str) -> None:
    path = write_ngff(tmp_path / "s.ome.zarr", [np.zeros((3, 9, 9), dtype)])
    with pytest.raises(SlideFormatError, match=r"pixels of type .* convert it"):
        ZarrReader(path)


@pytest.mark.parametrize(
    ("dtype", "count", "fill", "background"),
    [
        ("u1", 3, 0, WHITE),
        ("u1", 3, 250, WHITE),
        ("u2", 2, 7, (7, 7)),
        ("f4", 1, float("nan"), (0,)),
    ],
)
@pytest.mark.parametrize("version", VERSIONS)
def test_missing_chunks_have_the_fill_value(
    tmp_path: Path, version: str, dtype: str, count: int, fill: float, background: tuple[int, ...]
) -> None:
    pixels = np.ones((count, 64, 64), dtype)
    path = write_ngff(tmp_path / "s.ome.zarr", [pixels], Ngff(version=version), fill_value=fill)
    chunk_files(path / "0")[0].unlink()
    reader = ZarrReader(path)
    assert reader.background == background
    pixels[:, :32, :32] = fill
    np.testing.assert_array_equal(
        reader.read(Box(x0=0, y0=0, x1=64, y1=64), 0), pixels.transpose(1, 2, 0)
    )


@pytest.mark.parametrize("inside", ["", "s.ome.zarr"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_zip_reads_as_its_folder(tmp_path: Path, version: str, inside: str) -> None:
    folder = write_ngff(tmp_path / "s.ome.zarr", LEVELS, Ngff(version=version))
    reader = ZarrReader(zip_store(folder, tmp_path / "s.ome.zarr.zip", inside=inside))
    assert_serves(reader, LEVELS)
    assert reader.fingerprint() == ZarrReader(folder).fingerprint()
    reader.close()
    reader.close()


def test_what_is_no_zarr_is_left_to_others(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.zip").write_text("no zip at all")
    file = tmp_path / "other.zip"
    zip_store(tmp_path / "empty", file)
    zarr.create_group(tmp_path / "plain3", attributes={"a": 1})
    zarr.create_group(tmp_path / "plain2", zarr_format=2)
    zarr.create_array(tmp_path / "array", shape=(9, 9), dtype="u1")
    for name in ("empty", "notes.zip", "other.zip", "plain3", "plain2", "array"):
        with pytest.raises(NotServedError):
            ZarrReader(tmp_path / name)
    with pytest.raises(SlideFormatError, match="without the 'multiscales' metadata of OME-NGFF"):
        open_reader(tmp_path / "plain3", None)


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("version", VERSIONS)
def test_the_first_image_of_bioformats2raw_is_the_slide(
    tmp_path: Path, version: str, listed: bool
) -> None:
    path = tmp_path / "s.ome.zarr"
    image = "7" if listed else "0"
    root = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    set_ome(root, {"bioformats2raw.layout": 3}, version=version)
    if listed:
        set_ome(root.create_group("OME"), {"series": ["7", "8"]}, version=version)
    write_ngff(path / image, LEVELS, Ngff(version=version))
    reader = ZarrReader(path)
    assert_serves(reader, LEVELS)
    assert holds_image(path)
    shutil.rmtree(path / image)
    with pytest.raises(SlideFormatError, match=f"bioformats2raw store without its image '{image}'"):
        ZarrReader(path)


def test_labels_and_plates_are_refused(tmp_path: Path) -> None:
    labels = tmp_path / "labels.ome.zarr"
    size = Size(width=60, height=50)
    create_labels(labels, [LabelImage(name="nuclei", dtype="uint32")], size=size, mpp=0.5)
    for path in (labels, labels / "labels"):
        with pytest.raises(SlideFormatError, match="holds label images only: give the slide"):
            ZarrReader(path)
        assert not holds_image(path)
    with pytest.raises(SlideFormatError, match="is a label image, not a slide"):
        ZarrReader(labels / "labels" / "nuclei")
    plate = zarr.create_group(tmp_path / "plate.ome.zarr", attributes={"ome": {"plate": {}}})
    with pytest.raises(SlideFormatError, match="is a plate of many images, not one slide"):
        ZarrReader(Path(str(plate.store_path.store.root)))  # type: ignore[attr-defined]
    assert not holds_image(tmp_path)
    assert holds_image(write_ngff(tmp_path / "s.ome.zarr", LEVELS))


def test_the_fingerprint_tells_slides_apart(tmp_path: Path) -> None:
    path = write_ngff(tmp_path / "a.ome.zarr", LEVELS)
    copy = tmp_path / "b.ome.zarr"
    shutil.copytree(path, copy)
    fingerprint = ZarrReader(path).fingerprint()
    assert ZarrReader(copy).fingerprint() == fingerprint
    other = [level.copy() for level in LEVELS]
    other[0][0, 0, 0] ^= 1
    assert ZarrReader(write_ngff(copy, other)).fingerprint() != fingerprint
    finer = Ngff(scale=(1.0, 0.1, 0.1))
    assert ZarrReader(write_ngff(copy, LEVELS, finer)).fingerprint() != fingerprint


def test_many_threads_read_at_once(tmp_path: Path) -> None:
    path = zip_store(write_ngff(tmp_path / "s.ome.zarr", LEVELS), tmp_path / "s.zip")
    reader = ZarrReader(path)
    boxes = [
        Box(x0=x, y0=y, x1=x + 40, y1=y + 40) for y in range(0, 60, 7) for x in range(0, 90, 9)
    ]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda box: reader.read(box, 0), boxes))
    for box, pixels in zip(boxes, found, strict=True):
        cut_out = LEVELS[0][:, box.y0 : box.y1, box.x0 : box.x1]
        np.testing.assert_array_equal(pixels, cut_out.transpose(1, 2, 0))
    reader.close()


def test_what_the_store_states_is_passed_on(tmp_path: Path) -> None:
    reader = ZarrReader(write_ngff(tmp_path / "s.ome.zarr", LEVELS))
    assert reader.name == "zarr"
    assert reader.associated_images == ()
    assert reader.properties["version"] == "0.5"
    assert reader.properties["zarr_format"] == "3"
    assert json.loads(reader.properties["multiscales"])[0]["name"] == "slide"
    with pytest.raises(KeyError):
        reader.read_associated("label")
