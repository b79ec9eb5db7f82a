"""The built-in model on real images, measured as its card measures it."""

from pathlib import Path

import pytest

from slideloom.workflows.annotations import AnnotationRules, read_annotations
from slideloom.workflows.evaluation.images import EvaluationImage
from slideloom.workflows.evaluation.model import evaluate_model
from slideloom.wsi import open_slide

MPP = 0.25


@pytest.mark.realdata
@pytest.mark.slow
def test_nuclei_of_monuseg_come_near_the_card(data_dir: Path) -> None:
    folder = data_dir / "monuseg_train"
    rules = AnnotationRules(default_class="nucleus")
    images = []
    for path in sorted(folder.glob("images/*.png"))[:2]:
        with open_slide(path, mpp=MPP) as slide:
            xml = next(folder.rglob(f"{path.stem}.xml"))
            truth = read_annotations(xml, size=slide.size, mpp=MPP, rules=rules)
        images.append(EvaluationImage(name=path.stem, slide=path, mpp=MPP, objects=truth.objects))
    found = evaluate_model("nuclei", images)
    # The card states a PQ of 0.42 and an AJI of 0.50 over all 13.
    assert found.value("PQ") == pytest.approx(0.40, abs=0.03)
    assert found.value("AJI") == pytest.approx(0.47, abs=0.03)
    assert found.value("PQ", method="Otsu") < 0.2
