import pytest

from slideloom.errors import SettingsError
from slideloom.workflows.options import slide_options
from slideloom.wsi import Display, SlideOptions, ValueRange


def options(
    channels: str | None = None, display_range: str | None = None, on_bad_tile: str = "error"
) -> SlideOptions:
    return slide_options(
        mpp=0.5,
        reader="tiff",
        channels=channels,
        display_range=display_range,
        on_bad_tile=on_bad_tile,
    )


def test_words_become_options() -> None:
    assert options() == SlideOptions(mpp=0.5, reader="tiff")
    assert options("DAPI, 2,FITC", "0:4095").display == Display(
        channels=("DAPI", "2", "FITC"), ranges=(ValueRange(low=0, high=4095),)
    )
    assert options(None, "0.5:1, -3:2e3,7:8").display == Display(
        ranges=(
            ValueRange(low=0.5, high=1),
            ValueRange(low=-3, high=2000),
            ValueRange(low=7, high=8),
        )
    )
    assert options(on_bad_tile="blank").on_bad_tile == "blank"


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ({"display_range": "4095"}, r"--display-range wants LOW:HIGH, .* got '4095'"),
        ({"display_range": "a:b"}, "got 'a:b'"),
        ({"display_range": "9:1"}, "from a lower to a higher value"),
        ({"channels": "0,1"}, "one channel or three"),
        ({"on_bad_tile": "skip"}, "--on-bad-tile is error or blank, got 'skip'"),
    ],
)
def test_words_that_make_no_sense(words: dict[str, str], found: str) -> None:
    with pytest.raises(SettingsError, match=found):
        options(**words)
