from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec
from zarr.storage import LocalStore

from slideloom.errors import SlideAccessError, SlideFormatError
from slideloom.wsi.geometry import Box, Size
from slideloom.wsi.readers.ome_zarr.layout import holds_image
from slideloom.wsi.readers.ome_zarr.reader import ZarrReader
from slideloom.wsi.readers.reader import NotServedError
from slideloom.wsi.tolerant import BadTile, TolerantPixels
from tests.makers.ngff import (
    CODEC_NAMES,
    CODECS,
    Ngff,
    chunk_files,
    edit_json,
    pyramid,
    set_ome,
    write_ngff,
    zip_store,
)

LEVELS = pyramid()
CORNER = Box(x0=0, y0=0, x1=1, y1=1)


def whole(size: Size) -> Box:
    return Box.of_size(size)


def test_a_cut_zip_is_damaged(tmp_path: Path) -> None:
    path = zip_store(write_ngff(tmp_path / "s.ome.zarr", LEVELS), tmp_path / "s.zip")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(SlideFormatError, match=r"'s\.zip' is a zip that cannot be read"):
        ZarrReader(path)


def test_a_damaged_entry_of_a_zip_is_a_damaged_chunk(tmp_path: Path) -> None:
    folder = write_ngff(tmp_path / "s.ome.zarr", LEVELS, compressors=None)
    path = zip_store(folder, tmp_path / "s.zip")
    data = bytearray(path.read_bytes())
    data[data.find(chunk_files(folder / "0")[0].read_bytes()) + 9] ^= 255
    path.write_bytes(data)
    reader = ZarrReader(path)
    with pytest.raises(SlideFormatError, match="level 0, in chunk rows 0 to 0, cols 0 to 0"):
        reader.read(CORNER, 0)
    reader.close()


def test_damaged_metadata_of_a_zip_is_told(tmp_path: Path) -> None:
    folder = write_ngff(tmp_path / "s.ome.zarr", LEVELS)
    path = zip_store(folder, tmp_path / "s.zip")
    data = bytearray(path.read_bytes())
    data[data.find((folder / "zarr.json").read_bytes()) + 9] ^= 255
    path.write_bytes(data)
    with pytest.raises(SlideFormatError, match=r"'s\.zip' is damaged, its 'zarr\.json' cannot be"):
        ZarrReader(path)


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def junk(data: bytes) -> bytes:
    return np.random.default_rng(1).bytes(max(1, len(data) // 3))


@pytest.mark.parametrize("damage", [cut, junk])
@pytest.mark.parametrize(("version", "codec"), CODECS, ids=CODEC_NAMES)
def test_a_damaged_chunk_is_named_and_the_rest_reads(
    tmp_path: Path, version: str, codec: Any, damage: Callable[[bytes], bytes]
) -> None:
    encoding = {"name": "v2" if version == "0.4" else "default", "separator": "/"}
    options = {"compressors": codec, "chunk_key_encoding": encoding}
    path = write_ngff(tmp_path / "s.ome.zarr", LEVELS, Ngff(version=version), **options)
    (chunk,) = (path / "1").rglob("0/1/2")
    chunk.write_bytes(damage(chunk.read_bytes()))
    reader = ZarrReader(path)
    bad = Box(x0=64, y0=32, x1=65, y1=50)
    with pytest.raises(SlideFormatError, match="level 1, in chunk rows 1 to 1, cols 2 to 2"):
        reader.read(bad, 1)
    good = Box(x0=0, y0=0, x1=64, y1=50)
    np.testing.assert_array_equal(reader.read(good, 1), LEVELS[1][:, :, :64].transpose(1, 2, 0))
    tolerant = TolerantPixels(reader)
    tolerant.read(whole(reader.levels[1].size), 1)
    assert tolerant.bad_tiles == (BadTile(level=1, row=1, col=2),)


@pytest.mark.parametrize("damage", [cut, junk])
def test_a_damaged_shard_is_named(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = write_ngff(tmp_path / "s.ome.zarr", LEVELS, chunks=(3, 16, 16), shards=(3, 64, 64))
    shard = chunk_files(path / "0")[0]
    shard.write_bytes(damage(shard.read_bytes()))
    with pytest.raises(SlideFormatError, match="level 0, in chunk rows 1 to 2, cols 0 to 0"):
        ZarrReader(path).read(Box(x0=0, y0=16, x1=1, y1=33), 0)


def test_a_chunk_that_may_not_be_read_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    reader = ZarrReader(write_ngff(tmp_path / "s.ome.zarr", LEVELS))
    monkeypatch.setattr(LocalStore, "get", refuse)
    with pytest.raises(
        SlideAccessError, match=r"'s\.ome\.zarr' may not be read .*Permission denied"
    ):
        reader.read(CORNER, 0)


def test_blosc_with_a_negative_size_is_damaged(tmp_path: Path) -> None:
    path = write_ngff(tmp_path / "s.ome.zarr", LEVELS, compressors=BloscCodec())
    chunk = chunk_files(path / "0")[0]
    data = bytearray(chunk.read_bytes())
    data[4:8] = b"\xff\xff\xff\xff"
    chunk.write_bytes(data)
    with pytest.raises(SlideFormatError, match="is damaged at level 0"):
        ZarrReader(path).read(CORNER, 0)


def damage_json(path: Path) -> None:
    (path / "zarr.json").write_text('{"attributes": ')


def damage_array(path: Path) -> None:
    (path / "1" / "zarr.json").unlink()


def damage_shape(path: Path) -> None:
    edit_json(path / "1" / "zarr.json", shape=[3, 50])


def damage_chunks(path: Path) -> None:
    grid = {"name": "regular", "configuration": {"chunk_shape": [3, 0, 32]}}
    edit_json(path / "0" / "zarr.json", chunk_grid=grid)


def damage_codecs(path: Path) -> None:
    edit_json(path / "0" / "zarr.json", codecs=[{"name": "bytes"}, {"name": "no such codec"}])


def damage_size(path: Path) -> None:
    edit_json(path / "0" / "zarr.json", shape=[3, 10**30, 100])


def damage_count(path: Path) -> None:
    edit_json(path / "1" / "zarr.json", shape=[2, 50, 65])


def damage_order(path: Path) -> None:
    edit_json(path / "0" / "zarr.json", shape=[3, 10, 10])


def set_multiscale(path: Path, **changes: Any) -> None:
    ome = Ngff().metadata([level.shape for level in LEVELS])
    ome["multiscales"][0].update(changes)
    set_ome(zarr.open_group(path), ome, version="0.5")


def damage_axes(path: Path) -> None:
    set_multiscale(path, axes=[{"name": name} for name in ("c", "y", "q")])


def damage_axes_03(path: Path) -> None:
    set_multiscale(path, axes=["c", "y", "x"])


def damage_datasets(path: Path) -> None:
    set_multiscale(path, datasets=[])


def damage_path(path: Path) -> None:
    set_multiscale(path, datasets=[{"path": "../../etc"}])


def damage_scale(path: Path) -> None:
    set_multiscale(path, coordinateTransformations=[{"type": "scale", "scale": [1, 1]}])


def damage_document(path: Path) -> None:
    (path / "zarr.json").write_text("[1, 2]")


def damage_attributes(path: Path) -> None:
    edit_json(path / "zarr.json", attributes=[])


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (damage_json, r"its 'zarr\.json' is no JSON: Expecting value"),
        (damage_document, r"its 'zarr\.json' is no JSON object"),
        (damage_attributes, "has attributes that are no JSON object"),
        (damage_array, "its level '1' is named in the metadata and missing"),
        (damage_shape, r"its '1/zarr\.json' cannot be used|does not fit the axes 'cyx'"),
        (damage_chunks, r"its '0/zarr\.json' cannot be used|does not fit the axes 'cyx'"),
        (damage_codecs, r"its '0/zarr\.json' cannot be used .*no such codec"),
        (damage_size, "is larger than any slide"),
        (damage_count, r"its array '1' of shape \(2, 50, 65\) .* does not fit its level 0"),
        (damage_order, "its levels are out of order"),
        (damage_axes, r"has the axes \['c', 'y', 'q'\], and a slide needs y and x"),
        (damage_axes_03, r"no valid 'multiscales\.0\.axes\.0'"),
        (damage_datasets, r"no valid 'multiscales\.0\.datasets'"),
        (damage_path, "its metadata leads out of it, to '../../etc'"),
        (damage_scale, r"a scale of \(1\.0, 1\.0\) for the axes 'cyx'"),
    ],
)
def test_damaged_metadata_is_told(
    tmp_path: Path, damage: Callable[[Path], None], found: str
) -> None:
    path = write_ngff(tmp_path / "s.ome.zarr", LEVELS)
    damage(path)
    with pytest.raises(SlideFormatError, match=found) as caught:
        ZarrReader(path)
    assert "s.ome.zarr" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, NotServedError)
    assert holds_image(path)


def test_huge_chunks_are_refused(tmp_path: Path) -> None:
    path = write_ngff(tmp_path / "s.ome.zarr", LEVELS)
    grid = {"name": "regular", "configuration": {"chunk_shape": [3, 30_000, 30_000]}}
    edit_json(path / "0" / "zarr.json", chunk_grid=grid)
    with pytest.raises(SlideFormatError, match="more than 2 GiB each: write it anew in chunks"):
        ZarrReader(path)
