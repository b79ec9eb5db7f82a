"""`import slideloom` gives the public names, and gives them without loading torch."""

import subprocess
import sys
from importlib.metadata import version

import pytest

import slideloom
from slideloom import errors

PROMISED = {
    "ConvertOptions",
    "Display",
    "RunConfig",
    "Slide",
    "SlideResult",
    "TrainConfig",
    "ValueRange",
    "__version__",
    "convert_slide",
    "export_result",
    "list_models",
    "load_model",
    "load_result",
    "open_slide",
    "run_slide",
    "train_model",
    *errors.__all__,
}


def run_python(code: str) -> str:
    """What a fresh interpreter prints for `code`."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_all_holds_exactly_the_promised_names() -> None:
    assert set(slideloom.__all__) == PROMISED
    assert len(slideloom.__all__) == len(set(slideloom.__all__))


@pytest.mark.parametrize("name", sorted(PROMISED))
def test_every_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(slideloom, name)
    assert value.__doc__


def test_dir_shows_the_public_names() -> None:
    assert set(dir(slideloom)) >= PROMISED


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = slideloom.no_such_name


def test_the_version_is_that_of_the_installed_package() -> None:
    assert slideloom.__version__ == version("slideloom")


def test_the_error_tree_has_one_root() -> None:
    assert all(issubclass(getattr(errors, name), errors.SlideloomError) for name in errors.__all__)


def test_importing_the_package_loads_no_torch() -> None:
    heavy = "{'torch', 'torchvision', 'cv2', 'geopandas', 'numba', 'zarr'}"
    assert run_python(f"import sys, slideloom; print({heavy} & set(sys.modules))") == "set()"


def test_opening_a_slide_and_catching_errors_loads_no_torch() -> None:
    code = "import sys, slideloom; slideloom.open_slide; slideloom.SlideloomError"
    assert run_python(f"{code}; print('torch' in sys.modules)") == "False"
