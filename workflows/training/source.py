"""Tiles of annotated slides: read when they are asked for, with the truth drawn beside them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.models.spec import ModelSpec
from slideloom.models.training.source import TrainingTile
from slideloom.models.truth import TileTruth
from slideloom.workflows.training.annotated import AnnotatedImage
from slideloom.workflows.training.places import Place, PlaceDraw, grid_places, tiles_to_cover
from slideloom.workflows.training.truth import ImageTruth
from slideloom.wsi import Slide

__all__ = ["TrainingTiles", "ValidationTiles"]

FEWEST, MOST = 64, 2000
"""Tiles of an epoch where the number is left to slideloom."""
MOST_VALIDATION = 400
_OPEN_BYTES = 2**29
"""Slides stay open while they hold no more than this; the last one always does."""
_FILE_BYTES = 2**24
"""Taken for what an open slide holds that is not decoded whole."""
_REDRAWS = 8
"""A tile of which nothing is known teaches nothing: another is drawn, so often."""


class SlideTiles:
    """Reads tiles of images, and keeps the images open that were read last.

    It pickles as the images' paths and annotations; each process opens its own files.
    """

    def __init__(self, images: Sequence[AnnotatedImage], spec: ModelSpec) -> None:
        """Take images and the model to train.

        Raises:
            SettingsError: There is no image.
        """
        if not images:
            msg = "there is no image to take tiles from: annotate one"
            raise SettingsError(msg)
        self.images = tuple(images)
        self.spec = spec
        self._truths = [ImageTruth(image, spec) for image in self.images]
        self._open: OrderedDict[int, Slide] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """All but open files."""
        return {**self.__dict__, "_open": OrderedDict()}

    def tile_at(self, place: Place) -> TrainingTile:
        """A tile and its truth; outside the image it has the background's colour.

        Raises:
            SlideFormatError: The slide is damaged there.
        """
        return TrainingTile(pixels=self._pixels(place), truth=self._truth(place))

    def _truth(self, place: Place) -> TileTruth:
        return self._truths[place.image].of(place.window)

    def _pixels(self, place: Place) -> NDArray[np.uint8]:
        mpp = self.images[place.image].read_mpp
        return self._slide(place.image).read_at_mpp(place.window, mpp=mpp)

    def _slide(self, number: int) -> Slide:
        if number not in self._open:
            self._open[number] = self.images[number].open()
        self._open.move_to_end(number)
        while len(self._open) > 1 and sum(map(_held_bytes, self._open.values())) > _OPEN_BYTES:
            self._open.popitem(last=False)[1].close()
        return self._open[number]


def _held_bytes(slide: Slide) -> int:
    """About how much memory an open slide holds."""
    if slide.reader_name == "picture":
        return 3 * slide.size.width * slide.size.height
    return _FILE_BYTES


class TrainingTiles(SlideTiles):
    """Tiles to train on, drawn by seed, epoch and number, balanced as `PlaceDraw` says."""

    def __init__(
        self,
        images: Sequence[AnnotatedImage],
        spec: ModelSpec,
        *,
        tiles: int | Literal["auto"] = "auto",
        seed: int = 0,
    ) -> None:
        """Take images to train on.

        Args:
            images: With their annotations.
            spec: The model.
            tiles: Of one epoch; `auto` takes as many as cover the known areas, 64 to 2000.
            seed: Of the draw.

        Raises:
            SettingsError: There is no image.
        """
        super().__init__(images, spec)
        self._draw = PlaceDraw(self.images, spec)
        self._seed = seed
        covering = min(max(tiles_to_cover(self.images, spec), FEWEST), MOST)
        self._count: int = covering if tiles == "auto" else tiles

    def __len__(self) -> int:
        return self._count

    def read(self, number: int, *, epoch: int) -> TrainingTile:
        """Tile `number` of an epoch; see `TileSource`.

        Raises:
            SlideFormatError: The slide is damaged there.
        """
        rng = np.random.default_rng([self._seed, epoch, number])
        for _ in range(_REDRAWS):
            place = self._draw.draw(rng)
            truth = self._truth(place)
            if truth.known.any():
                break
        return TrainingTile(pixels=self._pixels(place), truth=truth)


class ValidationTiles(SlideTiles):
    """Tiles of a fixed grid over the known areas, the same in every epoch."""

    def __init__(
        self, images: Sequence[AnnotatedImage], spec: ModelSpec, *, most: int = MOST_VALIDATION
    ) -> None:
        """Take images to validate on, and `most` of their tiles at most.

        Raises:
            SettingsError: There is no image, or nothing is known in any.
        """
        super().__init__(images, spec)
        self.places = grid_places(self.images, spec, most=most)
        if not self.places:
            msg = "no tile of the validation images has a known class: annotate larger areas"
            raise SettingsError(msg)

    def __len__(self) -> int:
        return len(self.places)

    def read(self, number: int, *, epoch: int) -> TrainingTile:
        """Tile `number`, in any epoch; see `TileSource`."""
        del epoch
        return self.tile_at(self.places[number])
