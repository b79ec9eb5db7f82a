"""A small network's spec, for the tests of the model layer."""

import pytest

from slideloom.models.spec import (
    Architecture,
    Decode,
    ModelClass,
    ModelSpec,
    Normalisation,
)


@pytest.fixture
def spec() -> ModelSpec:
    """An instance model with one class that runs in milliseconds."""
    return ModelSpec(
        name="small",
        task="instance",
        architecture=Architecture(
            name="Unet",
            encoder="tu-resnet10t",
            arguments={"encoder_depth": 3, "decoder_channels": (16, 8, 8)},
        ),
        classes=(ModelClass(name="nucleus", color=(0, 0, 0)),),
        mpp=0.5,
        tile_px=64,
        halo_px=8,
        normalisation=Normalisation(mean=(0.7, 0.5, 0.6), std=(0.2, 0.25, 0.1)),
        decode=Decode(name="distance"),
        licence="CC0",
        training_data="none",
    )
