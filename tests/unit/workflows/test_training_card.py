"""The card says what was trained on what, and claims nothing that was not measured."""

import pytest

from slideloom.models.spec import Architecture, Decode, ModelClass, ModelSpec, Normalisation
from slideloom.workflows.training.card import TrainingFacts, model_card

SPEC = ModelSpec(
    name="glands",
    task="semantic",
    architecture=Architecture(name="Unet", encoder="resnet18"),
    classes=(ModelClass(name="gland", color=(1, 2, 3)),),
    mpp=0.5,
    tile_px=256,
    halo_px=32,
    normalisation=Normalisation(mean=(0, 0, 0), std=(1, 1, 1)),
    licence="CC BY 4.0",
    training_data="EBHI-Seg",
)
FACTS = TrainingFacts(
    parameters=1_500_000,
    train_images=tuple(f"t{number}.png" for number in range(20)),
    validation_images=("v.png",),
    shared=False,
    epochs=7,
    seconds=90,
    figure="Dice",
    score=0.8765,
    tiles=12,
    notices=("mind the gap",),
)


def _card(spec: ModelSpec = SPEC, **changes: object) -> str:
    fields = {name: getattr(FACTS, name) for name in TrainingFacts.__slots__}
    return model_card(spec, TrainingFacts(**{**fields, **changes}))


def test_the_card_names_network_data_and_figure() -> None:
    card = _card()
    for text in (
        "# glands",
        "Unet, encoder resnet18; 1.50 million weights",
        "20 images: t0.png",
        "and 8 more",
        "Dice 0.876 on 12 tiles",
        "7 epochs in 1.5 minutes",
        "CC BY 4.0",
        "* mind the gap",
        "the most probable class",
        "v.png",
    ):
        assert text in card


def test_a_figure_on_training_images_is_called_one() -> None:
    assert "says nothing of other images" in _card(shared=True)
    assert "says nothing of other images" not in _card()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"overlapping": True, "threshold": 0.3}, "threshold 0.3"),
        (
            {"task": "instance", "decode": Decode(name="distance", settings={"min_depth": 0.1})},
            "decode `distance` (min_depth 0.1)",
        ),
        ({"task": "instance", "decode": Decode(name="flows")}, "decode `flows` (its defaults)"),
    ],
)
def test_the_card_says_what_decides(changes: dict[str, object], said: str) -> None:
    assert said in _card(SPEC.model_copy(update=changes))


def test_scores_are_listed_where_there_are_some() -> None:
    assert "Not yet" in _card()
    measured = _card(SPEC.model_copy(update={"scores": {"Dice, validation tiles": 0.9}}))
    assert "Dice, validation tiles: 0.900" in measured
