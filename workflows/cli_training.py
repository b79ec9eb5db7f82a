"""The commands that make models: `slideloom train | evaluate` and `slideloom models export`."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args

import typer
from rich.console import Console

from slideloom.errors import SettingsError
from slideloom.models.spec import Task
from slideloom.workflows.options import MppOption

# The imports inside functions keep `slideloom --help` quick, and free of the extra `train`.
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from slideloom.models.training.history import EpochRecord
    from slideloom.workflows.annotations import Fault
    from slideloom.workflows.training.config import TrainConfig

training_app = typer.Typer()
models_app = typer.Typer()

_NEEDED = ("lightning", "torchmetrics", "tensorboard", "matplotlib", "yaml")
_FAULTS_SHOWN = 20

T = TypeVar("T")

TaskOption = Annotated[
    str, typer.Option(help="semantic, classification, detection or instance.", show_default=False)
]
DataOption = Annotated[
    Path, typer.Option(help="Folder of images and annotations.", show_default=False)
]
ConfigOption = Annotated[Path | None, typer.Option(help="YAML file of settings.")]
DeviceOption = Annotated[str | None, typer.Option(help="auto, cpu or cuda:N.")]


@training_app.command("train")
def train_command(
    task: TaskOption,
    data: DataOption,
    out: Annotated[Path, typer.Option(help="The model folder.", show_default=False)],
    config: ConfigOption = None,
    epochs: Annotated[
        int | None, typer.Option(help="Most epochs.", show_default="as many as the data needs")
    ] = None,
    device: DeviceOption = None,
    encoder_weights: Annotated[
        Path | None,
        typer.Option(
            help="File of weights that the encoder begins with.",
            show_default="ImageNet, where the hub can be reached",
        ),
    ] = None,
) -> None:
    """Train a model on annotated slides or images; the same command again goes on where it was."""
    _require_extra("train")
    from slideloom.workflows.training.train import train_model

    wanted = _task(task)
    given = {"epochs": epochs, "device": device, "encoder_weights": encoder_weights}
    settings = _settings(config, given)
    trained = train_model(data, task=wanted, out=out, config=settings, progress=_Console())
    tuned = trained.tuned
    typer.echo(f"{tuned.figure} {tuned.score:.3f} on {tuned.tiles} validation tiles")
    typer.echo(f"model: {trained.folder}   card: {trained.folder / 'README.md'}")


@training_app.command("evaluate")
def evaluate_command(
    model: Annotated[
        str | None, typer.Option(help="A built-in model, a folder, or hf://org/name.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of annotated images, with --model.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="train, validation, test or all.",
            show_default="test, or what the model has not seen",
        ),
    ] = None,
    config: ConfigOption = None,
    pred: Annotated[
        Path | None, typer.Option(help="GeoJSON or GeoParquet of what was found.")
    ] = None,
    truth: Annotated[Path | None, typer.Option(help="The same of the truth, with --pred.")] = None,
    task: Annotated[
        str | None, typer.Option(help="Of --pred and --truth.", show_default="by their geometry")
    ] = None,
    mpp: MppOption = None,
    distance: Annotated[
        float, typer.Option(help="Of detections: how many um apart centres of one object may lie.")
    ] = 3.0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the figures, tables and plots.")
    ] = None,
) -> None:
    """Measure a model on annotated images, or one table of objects against another."""
    _require_extra("train")
    from slideloom.workflows.evaluation.command import EvaluationRequest, evaluate
    from slideloom.workflows.evaluation.data import read_images
    from slideloom.workflows.evaluation.measuring import EvaluationSettings
    from slideloom.workflows.training.config import read_config

    request = EvaluationRequest(
        model=model,
        pred=pred,
        truth=truth,
        task=None if task is None else _task(task),
        mpp=mpp,
        settings=EvaluationSettings(distance_um=distance),
    )
    if model is not None and data is not None:
        settings = None if config is None else read_config(config)
        found = read_images(data, model, config=settings, split=split)
        _Console().faults(found.faults)
        typer.echo(f"{len(found.images)} images, split {found.split}")
        request = replace(request, images=found.images)
    typer.echo(evaluate(request, out=out).markdown())


@models_app.command("export")
def export_command(
    name: Annotated[str, typer.Argument(help="A built-in model, a folder, or hf://org/name.")],
    out: Annotated[Path, typer.Option(help="The file to write.", show_default=False)],
    format: Annotated[str, typer.Option(help="onnx or torchscript.")] = "onnx",
) -> None:
    """Write a model's network as one file for other programs."""
    from slideloom.models.catalog import model_folder
    from slideloom.models.exporting import ExportFormat, export_model

    chosen = _one_of(get_args(ExportFormat), format, what="format")
    typer.echo(export_model(model_folder(name), out, format=chosen))


class _Console:
    """Prints what a training says, a line for each epoch."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)

    def notice(self, sentence: str) -> None:
        """See `TrainingProgress`."""
        self._console.print(f"note: {sentence}", highlight=False, markup=False, soft_wrap=True)

    def faults(self, faults: Sequence[Fault]) -> None:
        """See `TrainingProgress`."""
        from slideloom.workflows.annotations import fault_table

        if not faults:
            return
        shown = faults[:_FAULTS_SHOWN]
        more = f", of which these are the first {len(shown)}" if len(shown) < len(faults) else ""
        self._console.print(f"{len(faults)} faults in the data{more}:")
        self._console.print(fault_table(shown), highlight=False, markup=False, soft_wrap=True)

    def epoch(self, record: EpochRecord) -> None:
        """See `TrainingProgress`."""
        train, validation = record.train["loss"], record.validation["loss"]
        self._console.print(
            f"epoch {record.epoch}/{record.epochs}: loss {train:.4f}, validation {validation:.4f}"
            f"{' (best)' if record.best else ''}, {record.seconds:.1f} s",
            highlight=False,
        )


def _require_extra(name: str) -> None:
    missing = [package for package in _NEEDED if find_spec(package) is None]
    if missing:
        msg = f"training needs {', '.join(missing)}: pip install 'slideloom[{name}]'"
        raise SettingsError(msg)


def _task(name: str) -> Task:
    return _one_of(get_args(Task), name, what="task")


def _one_of(choices: tuple[T, ...], name: str, *, what: str) -> T:
    for choice in choices:
        if choice == name:
            return choice
    msg = f"there is no {what} {name!r}: choose one of {', '.join(map(str, choices))}"
    raise SettingsError(msg)


def _settings(path: Path | None, given: Mapping[str, Any]) -> TrainConfig:
    """The settings of a file, with what the command line says in their place."""
    from slideloom.workflows.training.config import TrainConfig, read_config

    settings = TrainConfig() if path is None else read_config(path)
    changed = {name: value for name, value in given.items() if value is not None}
    return settings.model_copy(update={"fit": settings.fit.model_copy(update=changed)})
