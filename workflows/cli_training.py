"""The commands that make models: `slideloom train | evaluate` and `slideloom models export`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich.console import Console

from slideloom.errors import SettingsError
from slideloom.models.spec import Task

# The imports inside functions keep `slideloom --help` quick, and free of the extra `train`.
if TYPE_CHECKING:
    from collections.abc import Sequence

    from slideloom.models.training.history import EpochRecord
    from slideloom.workflows.annotations import Fault
    from slideloom.workflows.training.config import TrainConfig

_NEEDED = ("lightning", "torchmetrics", "tensorboard", "matplotlib", "yaml")
_FAULTS_SHOWN = 20

TaskOption = Annotated[
    str, typer.Option(help="semantic, classification, detection or instance.", show_default=False)
]
DataOption = Annotated[
    Path, typer.Option(help="Folder of images and annotations.", show_default=False)
]
ConfigOption = Annotated[Path | None, typer.Option(help="YAML file of settings.")]
DeviceOption = Annotated[str | None, typer.Option(help="auto, cpu or cuda:N.")]


def train_command(
    task: TaskOption,
    data: DataOption,
    out: Annotated[Path, typer.Option(help="The model folder.", show_default=False)],
    config: ConfigOption = None,
    epochs: Annotated[
        int | None, typer.Option(help="Most epochs.", show_default="as many as the data needs")
    ] = None,
    device: DeviceOption = None,
) -> None:
    """Train a model on annotated slides or images; the same command again goes on where it was."""
    _require_extra("train")
    from slideloom.workflows.training.train import train_model

    wanted = _task(task)
    settings = _settings(config, epochs=epochs, device=device)
    trained = train_model(data, task=wanted, out=out, config=settings, progress=_Console())
    tuned = trained.tuned
    typer.echo(f"{tuned.figure} {tuned.score:.3f} on {tuned.tiles} validation tiles")
    typer.echo(f"model: {trained.folder}   card: {trained.folder / 'README.md'}")


def export_command(
    name: Annotated[str, typer.Argument(help="A built-in model, a folder, or hf://org/name.")],
    out: Annotated[Path, typer.Option(help="The file to write.", show_default=False)],
    format: Annotated[str, typer.Option(help="onnx or torchscript.")] = "onnx",
) -> None:
    """Write a model's network as one file for other programs."""
    from slideloom.models.catalog import model_folder
    from slideloom.models.exporting import export_model

    typer.echo(export_model(model_folder(name), out, format=format))


class _Console:
    """Prints what a training says, a line for each epoch."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)

    def notice(self, sentence: str) -> None:
        """See `TrainingProgress`."""
        self._console.print(f"note: {sentence}", highlight=False)

    def faults(self, faults: Sequence[Fault]) -> None:
        """See `TrainingProgress`."""
        from slideloom.workflows.annotations import fault_table

        if not faults:
            return
        self._console.print(f"{len(faults)} faults in the data, all in training/faults.txt:")
        self._console.print(fault_table(faults[:_FAULTS_SHOWN]), highlight=False, soft_wrap=True)

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
    for task in get_args(Task):
        if task == name:
            return task  # type: ignore[no-any-return]
    msg = f"there is no task {name!r}: choose one of {', '.join(get_args(Task))}"
    raise SettingsError(msg)


def _settings(path: Path | None, *, epochs: int | None, device: str | None) -> TrainConfig:
    """The settings of a file, with what the command line says in their place."""
    from slideloom.workflows.training.config import TrainConfig, read_config

    settings = TrainConfig() if path is None else read_config(path)
    given: dict[str, Any] = {"epochs": epochs, "device": device}
    changed = {name: value for name, value in given.items() if value is not None}
    return settings.model_copy(update={"fit": settings.fit.model_copy(update=changed)})
