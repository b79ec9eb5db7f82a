import pytest

from slideloom.models.training.epochs import schedule_of
from slideloom.models.training.settings import FitSettings


@pytest.mark.parametrize(
    ("tiles", "epochs", "steps"),
    [(1, 200, 1), (16, 200, 2), (400, 40, 50), (2_000, 15, 250), (100_000, 15, 12_500)],
)
def test_auto_divides_a_budget_of_steps(tiles: int, epochs: int, steps: int) -> None:
    schedule = schedule_of(FitSettings(), tiles=tiles)
    assert (schedule.epochs, schedule.steps) == (epochs, steps)
    assert schedule.patience == max(10, epochs // 4)
    assert schedule.all_steps == epochs * steps


def test_gpus_and_accumulation_make_fewer_steps() -> None:
    settings = FitSettings(batch_size=4, devices=2, accumulate=3, epochs=7, patience=2)
    schedule = schedule_of(settings, tiles=100)
    assert (schedule.batches, schedule.steps) == (13, 5)
    assert (schedule.epochs, schedule.patience) == (7, 2)
