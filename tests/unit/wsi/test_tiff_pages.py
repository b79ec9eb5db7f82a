from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from slideloom.wsi import Box
from slideloom.wsi.geometry import Mpp
from slideloom.wsi.readers.reader import RGB_CHANNELS, NotServedError
from slideloom.wsi.readers.tiff.reader import TiffReader

Picture = NDArray[np.uint8]
Pixels = NDArray[Any]
NAMES = ["DAPI", "CD3", "CD8", "CK"]


@pytest.fixture
def stack() -> Pixels:
    """`(4, 200, 300)` uint16, all planes different."""
    planes = np.random.default_rng(0).integers(0, 60_000, (4, 200, 300), dtype=np.uint16)
    planes[:, 50:90, 20:70] += 500
    return planes


def whole(reader: TiffReader, level: int = 0) -> Pixels:
    return reader.read(Box.of_size(reader.levels[level].size), level)


def assert_channels(reader: TiffReader, stack: Pixels) -> None:
    assert (len(reader.channels), reader.dtype) == (len(stack), stack.dtype)
    assert reader.background == (0,) * len(stack)
    for level, step in enumerate(round(item.downsample) for item in reader.levels):
        expected = np.moveaxis(stack[:, ::step, ::step], 0, -1)
        assert np.array_equal(whole(reader, level), expected)


def write_ome(path: Path, stack: Pixels, *, levels: int = 0, **options: Any) -> TiffReader:
    common: dict[str, Any] = {"photometric": "minisblack", "compression": "zstd"} | options
    metadata = common.pop("metadata", {"axes": "CYX", "Channel": {"Name": NAMES[: len(stack)]}})
    layout = common.pop("layout", {"tile": (64, 64)})
    with tifffile.TiffWriter(path, ome=True) as tif:
        tif.write(stack, subifds=levels, metadata=metadata, **common, **layout)
        for level in range(levels):
            step = 2 ** (level + 1)
            tif.write(stack[:, ::step, ::step], subfiletype=1, **common, **layout)
    return TiffReader(path)


@pytest.mark.parametrize("levels", [0, 2])
@pytest.mark.parametrize("layout", [{"tile": (64, 64)}, {"rowsperstrip": 30}, {}])
def test_channels_of_ome_tiff(
    tmp_path: Path, stack: Pixels, levels: int, layout: dict[str, Any]
) -> None:
    reader = write_ome(tmp_path / "a.ome.tif", stack, levels=levels, layout=layout)
    assert len(reader.levels) == levels + 1
    assert reader.channels == tuple(NAMES)
    assert_channels(reader, stack)


def test_channels_without_names_are_numbered(tmp_path: Path, stack: Pixels) -> None:
    reader = write_ome(tmp_path / "a.ome.tif", stack, metadata={"axes": "CYX"})
    assert reader.channels == ("channel 0", "channel 1", "channel 2", "channel 3")


def test_one_ome_channel_keeps_its_name(tmp_path: Path, stack: Pixels) -> None:
    reader = write_ome(tmp_path / "a.ome.tif", stack[:1])
    assert reader.channels == ("DAPI",)
    assert_channels(reader, stack[:1])


def test_planes_in_another_order(tmp_path: Path, stack: Pixels) -> None:
    path = tmp_path / "a.ome.tif"
    write_ome(path, stack)
    with tifffile.TiffFile(path, mode="r+") as tif:
        xml = str(tif.ome_metadata)
        blocks = "".join(f'<TiffData FirstC="{i}" IFD="{3 - i}"/>' for i in range(4))
        start, end = xml.index("<TiffData"), xml.index("</Pixels>")
        tif.pages.first.tags["ImageDescription"].overwrite(xml[:start] + blocks + xml[end:])
    assert_channels(TiffReader(path), stack[::-1])


@pytest.mark.parametrize(("axes", "what"), [("ZYX", "4 focal planes"), ("TYX", "4 time points")])
@pytest.mark.parametrize("kind", ["ome", "imagej"])
def test_stacks_are_refused(tmp_path: Path, stack: Pixels, axes: str, what: str, kind: str) -> None:
    path = tmp_path / "a.tif"
    options: dict[str, Any] = {"ome": True} if kind == "ome" else {"imagej": True}
    tifffile.imwrite(path, stack, metadata={"axes": axes}, photometric="minisblack", **options)
    with pytest.raises(NotServedError, match=f"holds {what}: save the plane"):
        TiffReader(path)


def test_planes_in_other_files_are_refused(tmp_path: Path, stack: Pixels) -> None:
    path = tmp_path / "a.ome.tif"
    write_ome(path, stack)
    with tifffile.TiffFile(path, mode="r+") as tif:
        xml = str(tif.ome_metadata)
        blocks = "".join(
            f'<TiffData FirstC="{i}"><UUID FileName="{i}.tif">urn:{i}</UUID></TiffData>'
            for i in range(4)
        )
        start, end = xml.index("<TiffData"), xml.index("</Pixels>")
        tif.pages.first.tags["ImageDescription"].overwrite(xml[:start] + blocks + xml[end:])
    with pytest.raises(NotServedError, match="planes lie in 4 files"):
        TiffReader(path)


def test_ome_of_more_channels_than_pages_is_damage(tmp_path: Path, stack: Pixels) -> None:
    path = tmp_path / "a.ome.tif"
    write_ome(path, stack)
    with tifffile.TiffFile(path, mode="r+") as tif:
        xml = str(tif.ome_metadata).replace('SizeC="4"', 'SizeC="4000000000"')
        tif.pages.first.tags["ImageDescription"].overwrite(xml)
    with pytest.raises(ValueError, match="4000000000 channels, 1 per page, over 4 pages"):
        TiffReader(path)


def test_rgb_of_ome_tiff_is_a_picture(tmp_path: Path, picture: Picture) -> None:
    for axes, pixels in (("YXS", picture), ("SYX", np.moveaxis(picture, -1, 0))):
        path = tmp_path / f"{axes}.ome.tif"
        options: dict[str, Any] = {"planarconfig": "separate"} if axes == "SYX" else {}
        stored = np.ascontiguousarray(pixels)
        metadata = {"axes": axes, "Channel": {"Name": "bright field"}}
        tifffile.imwrite(
            path, stored, tile=(64, 64), photometric="rgb", metadata=metadata, **options
        )
        reader = TiffReader(path)
        assert reader.channels == RGB_CHANNELS
        assert np.array_equal(whole(reader), picture)


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("compression", [None, "deflate"])
def test_imagej_hyperstack(
    tmp_path: Path, stack: Pixels, channels: int, compression: str | None
) -> None:
    path = tmp_path / "a.tif"
    metadata = {"axes": "CYX", "unit": "micron"}
    options: dict[str, Any] = {"resolution": (4, 2), "resolutionunit": 1}
    options["compression"] = compression
    pixels = stack[:channels]
    tifffile.imwrite(path, pixels, imagej=True, metadata=metadata, **options)
    reader = TiffReader(path)
    assert reader.mpp == Mpp(x=0.25, y=0.5)
    assert_channels(reader, pixels)


def test_imagej_channels_behind_the_only_page(tmp_path: Path, stack: Pixels) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "CYX"})
    with tifffile.TiffFile(path) as tif:
        first = tif.pages.first
        end_of_chain = first.offset + 2 + 12 * len(first.tags)
    data = bytearray(path.read_bytes())
    data[end_of_chain : end_of_chain + 4] = bytes(4)
    path.write_bytes(data)
    assert_channels(TiffReader(path), stack)
    path.write_bytes(data[: 200 * 300 * 2 * 3])
    with pytest.raises(ValueError, match="is cut off"):
        TiffReader(path)


def test_channels_as_samples(tmp_path: Path, stack: Pixels) -> None:
    path = tmp_path / "a.tif"
    for config, pixels in (("contig", np.moveaxis(stack, 0, -1)), ("separate", stack)):
        tifffile.imwrite(
            path,
            np.ascontiguousarray(pixels),
            photometric="minisblack",
            planarconfig=config,
            tile=(64, 64),
            metadata=None,
        )
        reader = TiffReader(path)
        assert reader.channels == ("channel 0", "channel 1", "channel 2", "channel 3")
        assert_channels(reader, stack)


def test_pages_that_say_nothing_of_themselves(tmp_path: Path, stack: Pixels) -> None:
    path = tmp_path / "a.tif"
    options: dict[str, Any] = {"photometric": "minisblack", "tile": (64, 64)}
    tifffile.imwrite(path, stack, metadata={"axes": "CYX"}, **options)
    assert_channels(TiffReader(path), stack)
    tifffile.imwrite(path, stack, metadata=None, **options)
    with pytest.raises(NotServedError, match="4 grey pages of one size"):
        TiffReader(path)


def test_qptiff(tmp_path: Path, stack: Pixels) -> None:
    path = tmp_path / "a.qptiff"
    options: dict[str, Any] = {
        "photometric": "minisblack",
        "metadata": None,
        "software": "PerkinElmer-QPI",
    }
    with tifffile.TiffWriter(path) as tif:
        for step in (1, 2, 4):
            for name, plane in zip(NAMES, stack[:, ::step, ::step], strict=True):
                description = f"<PerkinElmer-QPI-ImageDescription><Name>{name}</Name></P>"
                tif.write(
                    plane,
                    tile=(64, 64),
                    subfiletype=0 if step == 1 else 1,
                    description=description,
                    **options,
                )
            if step == 1:
                tif.write(np.zeros((20, 30, 3), np.uint8), **(options | {"photometric": "rgb"}))
    reader = TiffReader(path)
    assert reader.channels == tuple(NAMES)
    assert len(reader.levels) == 3
    assert_channels(reader, stack)


def test_strips_are_tiles_as_wide_as_the_image(
    write_pyramid: Callable[..., Path], picture: Picture
) -> None:
    path = write_pyramid(tile=None, rowsperstrip=48, compression="deflate")
    reader = TiffReader(path)
    assert [(item.tile.width, item.tile.height) for item in reader.levels] == [
        (300, 48),
        (150, 48),
        (75, 48),
    ]
    for level, step in enumerate((1, 2, 4)):
        assert np.array_equal(whole(reader, level), picture[::step, ::step])
    box = Box(x0=7, y0=47, x1=33, y1=200)
    assert np.array_equal(reader.read(box, 0), picture[47:200, 7:33])


@pytest.mark.parametrize("rows", [7, 200])
@pytest.mark.parametrize("config", ["contig", "separate"])
def test_uncompressed_strips_are_cut_anew(tmp_path: Path, rows: int, config: str) -> None:
    path = tmp_path / "a.tif"
    picture = np.random.default_rng(0).integers(0, 256, (1000, 1111, 3), dtype=np.uint8)
    stored = picture if config == "contig" else np.moveaxis(picture, -1, 0)
    tifffile.imwrite(
        path,
        np.ascontiguousarray(stored),
        photometric="rgb",
        planarconfig=config,
        rowsperstrip=rows,
        metadata=None,
    )
    reader = TiffReader(path)
    assert reader.levels[0].tile.height == 2**20 // (1111 * (3 if config == "contig" else 1))
    assert np.array_equal(whole(reader), picture)
