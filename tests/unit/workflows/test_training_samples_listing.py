from pathlib import Path, PurePosixPath

import pytest

from slideloom.errors import SettingsError
from slideloom.workflows.training.config import DataConfig
from slideloom.workflows.training.listing import Listed, Listing, read_listing
from tests.makers.training_images import write_text


def test_rows_are_met_by_any_end_of_the_path_with_or_without_its_ending() -> None:
    listing = Listing(rows={"x/a.png": Listed(case="1"), "a": Listed(case="2")})
    assert listing.find(PurePosixPath("images/x/a.png")) == ("x/a.png", Listed(case="1"))
    assert listing.find(PurePosixPath("images/y/a.png")) == ("a", Listed(case="2"))
    assert listing.find(PurePosixPath("images/x/b.png")) is None


def test_a_csv_may_come_from_any_editor(tmp_path: Path) -> None:
    text = "\ufeffFile, Split ,class\n.\\x\\a.png, VAL, p | q\n\nb.png,,\n"
    write_text(tmp_path / "s.csv", text)
    listing = read_listing(tmp_path, DataConfig(split="s.csv"), images=[])
    assert listing.rows == {
        "x/a.png": Listed(split="validation", labels=("p", "q")),
        "b.png": Listed(),
    }
    assert listing.closed
    assert listing.has_classes


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,split\na,train\n", "columns name, split"),
        ("file,x\na,1\n", "some of 'split', 'case' and 'class'"),
        ("", "columns none"),
        ("file,split\na,train\nb,holdout\n", "line 3 has the split 'holdout'"),
    ],
)
def test_a_csv_that_says_nothing_is_an_error(tmp_path: Path, text: str, words: str) -> None:
    write_text(tmp_path / "s.csv", text)
    with pytest.raises(SettingsError, match=words):
        read_listing(tmp_path, DataConfig(split="s.csv"), images=[])


def test_a_missing_csv_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        read_listing(tmp_path, DataConfig(split="s.csv"), images=[])


def test_lists_name_images_by_their_first_word(tmp_path: Path) -> None:
    write_text(tmp_path / "sets/train.txt", "a 1\nb -1\n\n")
    write_text(tmp_path / "sets/val.txt", "c\n")
    listing = read_listing(tmp_path, DataConfig(split="sets/{split}.txt"), images=[])
    assert {name: row.split for name, row in listing.rows.items()} == {
        "a": "train",
        "b": "train",
        "c": "validation",
    }
    assert listing.closed


def test_globs_name_images(tmp_path: Path) -> None:
    for name in ("train/x/a.png", "test/x/b.png", "other/x/c.png"):
        write_text(tmp_path / name, "")
    listing = read_listing(tmp_path, DataConfig(split="{split}/x/*"), images=[])
    assert {name: row.split for name, row in listing.rows.items()} == {
        "train/x/a.png": "train",
        "test/x/b.png": "test",
    }


def test_an_image_in_two_splits_is_an_error(tmp_path: Path) -> None:
    write_text(tmp_path / "train.txt", "a\n")
    write_text(tmp_path / "test.txt", "a\n")
    with pytest.raises(SettingsError, match="leave it in one"):
        read_listing(tmp_path, DataConfig(split="{split}.txt"), images=[])


def test_a_template_that_names_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="names nothing"):
        read_listing(tmp_path, DataConfig(split="{split}.txt"), images=[])


def test_folders_called_like_splits_are_splits(tmp_path: Path) -> None:
    images = [tmp_path / name for name in ("Train/a.png", "x/valid/b.png", "x/c.png", "test.png")]
    listing = read_listing(tmp_path, DataConfig(split=None), images=images)
    assert {name: row.split for name, row in listing.rows.items()} == {
        "Train/a.png": "train",
        "x/valid/b.png": "validation",
    }
    assert not listing.closed


def test_split_csv_of_the_folder_is_taken(tmp_path: Path) -> None:
    write_text(tmp_path / "split.csv", "file,split\na,test\n")
    listing = read_listing(tmp_path, DataConfig(split=None), images=[tmp_path / "train" / "a.png"])
    assert listing.rows == {"a": Listed(split="test")}


def test_each_split_may_have_its_globs(tmp_path: Path) -> None:
    for name in ("x/a.png", "x/b.png", "y/c.png", "y/d.png"):
        write_text(tmp_path / name, "")
    data = DataConfig(split={"train": ("x/*",), "validation": ("y/c*",), "test": ("y/e*", "y/d*")})
    listing = read_listing(tmp_path, data, images=[])
    assert {name: row.split for name, row in listing.rows.items()} == {
        "x/a.png": "train",
        "x/b.png": "train",
        "y/c.png": "validation",
        "y/d.png": "test",
    }
    with pytest.raises(SettingsError, match="relative to the data folder"):
        read_listing(tmp_path, DataConfig(split={"train": ("/x/*",)}), images=[])
