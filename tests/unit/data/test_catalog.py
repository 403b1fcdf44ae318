import re
from pathlib import Path

import pytest

from vitrail.data.catalog import cards, find, named_like, recognize
from vitrail.data.cohort import read_folder
from vitrail.data.manifest import read_manifest
from vitrail.errors import InputError
from vitrail.records import Case, Cohort


def cohort_of(**counts):
    cases = [
        Case(case_id=f"{name}{n}", path=f"{name}{n}", label=name)
        for name, count in counts.items()
        for n in range(count)
    ]
    return Cohort(Path(), tuple(cases), tuple(sorted(counts)))


def test_every_card_tells_what_has_to_be_known():
    for card in cards():
        assert card.faults, card.name
        assert card.licence, card.name
        assert card.files or card.account, card.name
        for file in card.files:
            assert re.fullmatch(r"(sha256:[0-9a-f]{64}|md5:[0-9a-f]{32})?", file.checksum)
    assert len({card.name for card in cards()}) == len(cards())


def test_a_variant_is_found_by_its_name():
    card, variant = find("bloodmnist_224")
    assert [file.name for file in card.variant(variant)] == ["bloodmnist_224.npz"]
    assert [file.name for file in card.variant("")] == ["bloodmnist.npz"]
    assert named_like("PathMNIST_64").name == "pathmnist"
    assert named_like("my-tiles") is None


def test_an_unknown_name_is_told_the_nearest():
    with pytest.raises(InputError, match="nearest name in the catalog is 'beans'"):
        find("bean")


def test_a_set_is_recognized_by_names_and_counts():
    known = recognize(cohort_of(COVID=1252, NON_covid=1229))
    assert known.name == "sarscov2-ct"
    assert recognize(cohort_of(COVID=349, NonCOVID=397)).name == "covid-ct"
    assert recognize(cohort_of(COVID=60, NonCOVID=70)) is None
    assert recognize(cohort_of(lung_aca=9, lung_n=9, lung_scc=9)).name == "lc25000"
    assert recognize(cohort_of(NORM=9, TUM=9)) is None


@pytest.mark.shared
@pytest.mark.parametrize(
    ("folder", "name"),
    [("sarscov2_ct", "sarscov2-ct"), ("covid_ct", "covid-ct"), ("lc25000_lung", "lc25000")],
)
def test_the_example_sets_are_recognized(shared, folder, name):
    root = shared / "data" / folder
    manifest = root / "manifest.csv"
    cohort = read_manifest(manifest) if manifest.exists() else read_folder(root)
    assert recognize(cohort).name == name
