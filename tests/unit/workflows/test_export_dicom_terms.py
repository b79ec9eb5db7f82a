"""Names become words that DICOM can hold, and codes that others know."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.sr.codedict import codes

from slideloom.models.spec import ModelClass
from slideloom.workflows.export.dicom_terms import class_term, local_code, short_text


@given(st.text())
def test_short_texts_are_strings_of_dicom(text: str) -> None:
    short = short_text(text)
    assert 1 <= len(short) <= 64
    assert short == short.strip()
    assert short.isprintable()
    assert "\\" not in short


def test_what_fits_stays_as_it_is() -> None:
    assert short_text("Drüse 12 ^ b") == "Drüse 12 ^ b"
    assert short_text("x" * 70) == "x" * 64
    assert short_text("\n") == "_"


@pytest.mark.parametrize("name", ["nucleus", "Nuclei", " nucleus"])
def test_known_classes_have_snomed_codes(name: str) -> None:
    term = class_term(ModelClass(name=name, color=(1, 2, 3)))
    assert term.type == codes.SCT.Nucleus
    assert term.category == codes.cid7150.AnatomicalStructure
    assert term.label == name.strip()


def test_every_snomed_code_is_in_the_dictionary_of_dicom() -> None:
    names = {
        "cell": codes.SCT.Cell,
        "tissue": codes.SCT.Tissue,
        "connective tissue": codes.SCT.ConnectiveTissue,
        "necrosis": codes.SCT.Necrosis,
        "tumour": codes.SCT.Neoplasm,
    }
    for name, code in names.items():
        assert class_term(ModelClass(name=name, color=(1, 2, 3))).type == code
    assert class_term(ModelClass(name="tumour", color=(1, 2, 3))).category == (
        codes.cid7150.MorphologicallyAbnormalStructure
    )


def test_other_classes_are_called_by_their_names() -> None:
    term = class_term(ModelClass(name="squamous epithelium", color=(10, 200, 30)))
    assert term.type.scheme_designator == "99SLIDELOOM"
    assert term.type.meaning == "squamous epithelium"
    assert term.type == local_code("squamous epithelium")
    assert term.category == codes.cid7150.SpatialAndRelationalConcept
    assert term.color.to_rgb() == (10, 200, 30)


def test_long_names_that_begin_alike_have_codes_of_their_own() -> None:
    high, low = (local_code(f"squamous epithelium, {word}") for word in ("high", "low"))
    assert high.value != low.value
    assert len(high.value) == 16
    assert high.value.startswith("squamous")
