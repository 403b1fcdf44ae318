"""What is said of another source's cases."""

from vitrail.pipeline.external import beside, unknown_patients
from vitrail.records import Case


def test_pictures_without_a_patient_id_are_said_to_be_taken_for_independent():
    known = Case(case_id="a", path="a.png", label="x", patient_id="p")
    alone = Case(case_id="b", path="b.png", label="x")
    assert unknown_patients([known, known]) == []
    (said,) = unknown_patients([known, alone])
    assert said.startswith("1 of 2 pictures have no patient id and are taken for independent")


def test_what_was_said_of_another_external_set_before_is_gone():
    own = {"sets": {"test": 1}, "warnings": ["of the test set", "External set: placeholders."]}
    found = {"sets": {"test": 2, "external": 3}, "external_subgroups": {}}
    found |= {name: {} for name in ("image_level", "calibrated", "vector_scaled", "by_class")}
    found |= {"curves": {}, "warnings": ["of the test set"]}
    content = beside(own, found, doubts=["no ids"])
    assert content["sets"] == {"test": 1, "external": 3}
    assert content["warnings"] == ["of the test set", "External set: no ids."]
