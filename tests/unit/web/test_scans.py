"""Volumes through the server: what is sent as a series becomes what the run's model was shown."""

import numpy as np
import pytest
from starlette.testclient import TestClient

from vitrail.data.montage import Placement
from vitrail.data.stacks import VolumeDataset
from vitrail.data.volume import Volume, write_nifti
from vitrail.models import bundle
from vitrail.pipeline.scans import one_case
from vitrail.web.app import application
from vitrail.web.security import access
from vitrail.web.session import Session


@pytest.fixture(scope="module")
def scans(volume_run):
    """Return a client of a server of volumes."""
    allowed = access("127.0.0.1", 8642, with_token=False)
    return TestClient(
        application(Session(volume_run), allowed),
        base_url="http://127.0.0.1:8642",
        raise_server_exceptions=False,
    )


def sent(client, files, **said):
    sizes = ",".join(str(len(one)) for one in files)
    said = {"name": "series", "sizes": sizes, **said}
    return client.post("/pictures", params=said, content=b"".join(files))


def test_a_case_says_which_slices_it_shows_and_where_they_lie(scans, volume_run):
    place = scans.get("/cases/0").json()["place"]
    loaded = bundle.load(volume_run.model("vit"))
    view = loaded.preprocessing.volume
    assert place["tiles"] == [2, 2]
    assert place["slices"] == [3, 5, 7, 9]
    affine = np.array(place["affine"])
    placement = Placement(view, tuple(one - 1 for one in place["slices"]), affine)
    # The middle of the second tile, by the affine that was sent, is that of the fifth slice.
    middle = placement.to_mm(np.array([[11.5, 24 + 11.5]]))[0]
    assert middle[2] == pytest.approx(100 + 4 * 4)


def test_a_series_is_labelled_as_the_run_shows_it(scans, volume_run, tmp_path, dicom_slice):
    for place in range(10):
        dicom_slice(tmp_path / f"{place}.dcm", place=place)
    files = [path.read_bytes() for path in sorted(tmp_path.iterdir())]
    answer = sent(scans, files)
    assert answer.status_code == 201, answer.text
    one = answer.json()
    loaded = bundle.load(volume_run.model("vit"))
    known = one_case(tmp_path, preprocessing=loaded.preprocessing, classes=loaded.classes)
    logits = [loaded.model(vote[0][0][None]).double() for vote in known.votes()]
    shares = sum(one.softmax(dim=1) for one in logits) / len(logits)
    said = one["said"][0]["probabilities"]
    assert [said["clear"], said["nodule"]] == pytest.approx(shares[0].tolist(), rel=1e-5)
    assert one["place"]["tiles"] == [2, 2]
    assert one["place"]["slices"] == [3, 5, 7, 9]
    assert one["warning"] == ""
    assert isinstance(known, VolumeDataset)


def test_a_series_of_another_modality_is_warned_of_and_allowed(scans, tmp_path, dicom_slice):
    files = [
        dicom_slice(tmp_path / f"{place}.dcm", place=place, modality="MR").read_bytes()
        for place in range(8)
    ]
    answer = sent(scans, files)
    assert answer.status_code == 201
    assert "made by MR, the training pictures by CT" in answer.json()["warning"]


def test_a_nifti_file_is_told_by_how_it_begins(scans, volume_run):
    content = (volume_run.root.parent / "scans" / "1.nii.gz").read_bytes()
    answer = sent(scans, [content], name="../../etc/passwd")
    assert answer.status_code == 201, answer.text
    kept = scans.get("/cases/1").json()
    assert answer.json()["place"]["slices"] == kept["place"]["slices"]


def test_a_mask_comes_last_and_must_lie_on_the_scans_grid(scans, volume_run, tmp_path, said):
    folder = volume_run.root.parent / "scans"
    content, mask = ((folder / name).read_bytes() for name in ("1.nii.gz", "mask1.nii.gz"))
    assert sent(scans, [content, mask], mask="1").status_code == 201
    other = tmp_path / "other.nii.gz"
    write_nifti(other, Volume(np.ones((10, 30, 30), dtype=np.float32), np.eye(4)[[2, 1, 0, 3]]))
    answer = sent(scans, [content, other.read_bytes()], mask="1")
    assert answer.status_code == 422
    assert "its volume has 10 x 30 x 30 voxels of 4 x 2 x 2 mm" in said(answer)


def test_two_series_at_once_are_refused_in_words(scans, tmp_path, dicom_slice, said):
    files = [
        dicom_slice(tmp_path / f"{place}.dcm", place=place, series=f"1.2.{place % 2}").read_bytes()
        for place in range(4)
    ]
    answer = sent(scans, files)
    assert answer.status_code == 422
    assert "one series is read at a time" in said(answer)
    assert "Doe" not in answer.text


def test_headers_that_name_other_files_are_not_read(scans, said):
    header = b"NRRD0004\ntype: short\ndimension: 1\nsizes: 4\ndata file: /etc/passwd\n"
    answer = sent(scans, [header], name="one.nrrd")
    assert answer.status_code == 422
    assert "not DICOM" in said(answer)


@pytest.mark.parametrize("sizes", ["1,2", "x", "-1", "9" * 12, ",".join("1" * 6000)])
def test_sizes_that_do_not_add_up_are_refused(scans, sizes):
    answer = scans.post("/pictures", params={"sizes": sizes}, content=b"12345678")
    assert answer.status_code == 400
