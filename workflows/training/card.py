"""The model card: what was trained on what, by which command, and how well it does."""

from __future__ import annotations

from dataclasses import dataclass

from slideloom.models.spec import ModelSpec

__all__ = ["TrainingFacts", "model_card"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFacts:
    """What a card tells of a training beside the spec.

    Attributes:
        parameters: Weights of the network.
        train_images: Names of the images whose tiles were trained on.
        validation_images: Names of those that stopped the training and chose the thresholds.
        shared: Whether these are the same images, for want of others.
        epochs: How many were trained; the best one is what is kept.
        seconds: Wall time of the training.
        figure: What the thresholds were chosen by.
        score: How much of it was reached on the validation tiles.
        tiles: How many tiles these were.
        notices: Sentences of the training that a user of the model should read too.
    """

    parameters: int
    train_images: tuple[str, ...]
    validation_images: tuple[str, ...]
    shared: bool
    epochs: int
    seconds: float
    figure: str
    score: float
    tiles: int
    notices: tuple[str, ...]


def model_card(spec: ModelSpec, facts: TrainingFacts) -> str:
    """The card as Markdown."""
    network = spec.architecture
    built = f"{network.name}, encoder {network.encoder}" if network else "none"
    decides = f"threshold {spec.threshold:g}" if spec.overlapping else "the most probable class"
    if spec.decode is not None:
        chosen = ", ".join(f"{name} {value:g}" for name, value in spec.decode.settings.items())
        decides = f"decode `{spec.decode.name}` ({chosen or 'its defaults'})"
    kind = "overlapping" if spec.overlapping else "exclusive"
    rows = {
        "task": spec.task,
        "classes": f"{', '.join(item.name for item in spec.classes)} ({kind})",
        "network": f"{built}; {facts.parameters / 1e6:.2f} million weights",
        "input": f"RGB at {spec.mpp:g} um/px; tiles of {spec.tile_px} px, halo {spec.halo_px} px",
        "output": decides,
        "licence": spec.licence,
        "training": f"{facts.epochs} epochs in {facts.seconds / 60:.1f} minutes",
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"""# {spec.name}

| | |
| --- | --- |
{table}

## Trained on

{spec.training_data}

{_listed(facts.train_images)}
{_notices(facts)}
## Chosen on

{_chosen(facts)}

Files of the training are in `training/`: the settings, the images and their split, the curves, and
pictures of validation tiles with what is true and what the model finds.

## Measured

{_measured(spec)}
"""


def _notices(facts: TrainingFacts) -> str:
    return "".join(f"\n* {sentence}" for sentence in facts.notices) + "\n" * bool(facts.notices)


def _chosen(facts: TrainingFacts) -> str:
    figure = f"{facts.figure} {facts.score:.3f} on {facts.tiles} tiles"
    if facts.shared:
        return (
            f"The best epoch and the thresholds were chosen on the training images themselves "
            f"({figure}), as there were no others: this figure says nothing of other images."
        )
    return (
        f"The best epoch and the thresholds were chosen on images of cases that were not trained "
        f"on ({figure}); so this figure leans to the kind side.\n\n"
        f"{_listed(facts.validation_images)}"
    )


def _measured(spec: ModelSpec) -> str:
    if not spec.scores:
        return "Not yet: `slideloom evaluate` measures it on images that it has not seen."
    return "\n".join(f"* {name}: {value:.3f}" for name, value in spec.scores.items())


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:12])
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return f"{len(names)} images: {shown}{more}."
