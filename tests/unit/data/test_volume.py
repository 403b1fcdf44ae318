import nibabel
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.data.volume import (
    Volume,
    read_image,
    reorient,
    require_same_grid,
    resample,
    write_nifti,
)
from vitrail.data.window import WINDOWS, Window, window
from vitrail.errors import InputError, UnreadableFileError


def oblique(angle=0.2):
    affine = np.eye(4)
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    # Array axes: slices up, rows to the back, columns to the left.
    affine[:3, :3] = turn @ np.array([[0, 0, 0.7], [0, 0.8, 0], [2.5, 0, 0]])
    affine[:3, 3] = (-12, 30, 7)
    values = np.random.default_rng(0).normal(size=(4, 6, 5)).astype(np.float32)
    return Volume(values, affine)


def indices(volume):
    return np.argwhere(np.ones(volume.values.shape)).astype(float)


def test_spacing_and_orientation_are_read_from_the_affine():
    volume = oblique()
    np.testing.assert_allclose(volume.spacing_mm, (2.5, 0.8, 0.7))
    assert volume.orientation == "SPL"


@settings(max_examples=30, deadline=None)
@given(angle=st.floats(-3, 3), place=st.tuples(*[st.floats(-50, 50)] * 3))
def test_a_place_in_the_patient_and_back_is_the_same_place(angle, place):
    volume = oblique(angle)
    index = np.array([place])
    np.testing.assert_allclose(volume.to_index(volume.to_mm(index)), index, atol=1e-9)


@pytest.mark.parametrize("orientation", ["SAR", "RAS", "LPI", "PSL", "IPL"])
def test_reorienting_moves_no_voxel_in_the_patient(orientation):
    volume = oblique()
    turned = reorient(volume, orientation)
    assert turned.orientation == orientation
    back = np.rint(volume.to_index(turned.to_mm(indices(turned)))).astype(int)
    np.testing.assert_array_equal(turned.values.ravel(), volume.values[tuple(back.T)])


def test_an_orientation_that_names_an_axis_twice_is_refused():
    with pytest.raises(InputError, match="one letter of each"):
        reorient(oblique(), "RLS")


def test_resampling_a_ramp_keeps_each_place_its_value():
    volume = oblique()
    ramp = indices(volume) @ np.array([3.0, 2.0, 1.0])
    volume = Volume(ramp.reshape(volume.values.shape).astype(np.float32), volume.affine)
    finer = resample(volume, (1.25, 0.4, 0.35))
    assert finer.values.shape == (8, 12, 10)
    places = volume.to_index(finer.to_mm(indices(finer)))
    inside = ((places >= 0) & (places <= np.array(volume.values.shape) - 1)).all(axis=1)
    expected = places[inside] @ np.array([3.0, 2.0, 1.0])
    np.testing.assert_allclose(finer.values.ravel()[inside], expected, atol=1e-3)


def test_a_resampled_mask_has_no_new_labels():
    volume = oblique()
    mask = Volume((volume.values > 0).astype(np.float32) * 3, volume.affine)
    assert set(np.unique(resample(mask, (1.0, 0.5, 0.5), mask=True).values)) == {0.0, 3.0}


def test_a_heatmap_written_as_nifti_lies_exactly_over_its_volume(tmp_path):
    volume = oblique()
    write_nifti(tmp_path / "map.nii.gz", volume)
    again = read_image(tmp_path / "map.nii.gz")
    np.testing.assert_array_equal(again.values, volume.values)
    np.testing.assert_allclose(again.affine, volume.affine, atol=1e-4)
    require_same_grid(volume, again)
    # nibabel counts (column, row, slice) and points to the right and front.
    foreign = nibabel.load(tmp_path / "map.nii.gz").affine
    point = foreign @ [4, 3, 2, 1] * [-1, -1, 1, 1]
    np.testing.assert_allclose(point[:3], volume.to_mm(np.array([[2.0, 3, 4]]))[0], atol=1e-4)
    assert [path.name for path in tmp_path.iterdir()] == ["map.nii.gz"]


def test_a_mask_of_another_geometry_is_refused():
    volume = oblique()
    finer = resample(volume, (2.5, 0.4, 0.7))
    with pytest.raises(InputError, match=r"4 x 12 x 5 voxels.*its volume has 4 x 6 x 5 voxels"):
        require_same_grid(volume, finer)
    moved = Volume(volume.values, volume.affine.copy())
    moved.affine[0, 3] += 1
    with pytest.raises(InputError, match="resample the mask"):
        require_same_grid(volume, moved)


def test_a_broken_file_and_voxels_of_nan_are_named(tmp_path):
    (tmp_path / "broken.nii.gz").write_bytes(b"no volume")
    with pytest.raises(UnreadableFileError, match=r"broken\.nii\.gz.*cannot be read"):
        read_image(tmp_path / "broken.nii.gz")
    values = oblique().values.copy()
    values[1, 2, 3] = np.nan
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(values), tmp_path / "nan.nrrd")
    with pytest.raises(UnreadableFileError, match="1 voxels of NaN"):
        read_image(tmp_path / "nan.nrrd")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["nan.nii", "nan.nii.gz"])
def test_nan_in_nifti_is_not_read_as_zero(tmp_path, name, dtype):
    values = np.ones((3, 4, 5), dtype=dtype)
    values[1, 2, 3] = np.inf
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / name)
    with pytest.raises(UnreadableFileError, match=r"nan\.nii.*1 voxels of NaN or infinity"):
        read_image(tmp_path / name)


@pytest.mark.parametrize("name", ["cut.nii", "cut.nii.gz"])
def test_a_nifti_file_that_ends_before_its_last_voxel_is_refused(tmp_path, name):
    values = np.random.default_rng(0).integers(0, 9, (6, 7, 8)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) * 3 // 4])
    with pytest.raises(UnreadableFileError, match=r"cut\.nii.*(it ends at byte|file ended before)"):
        read_image(tmp_path / name)


@pytest.mark.parametrize("codes", [(1, 0), (0, 1), (1, 1), (0, 0)])
@pytest.mark.parametrize("angle", [0.0, 0.7, 2.5])
def test_nifti_lies_as_nibabel_says_by_either_form_and_is_refused_without(tmp_path, codes, angle):
    path, affine = tmp_path / "lying.nii", np.eye(4)
    turn = [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    affine[:3, :3] = np.array(turn) * (-0.7, 0.8, 2.5)
    affine[:3, 3] = (-12, 30, 7)
    image = nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), affine)
    image.set_qform(affine, codes[0])
    image.set_sform(affine, codes[1])
    nibabel.save(image, path)
    if codes == (0, 0):
        with pytest.raises(UnreadableFileError, match=r"qform_code and sform_code are 0; left and"):
            read_image(path)
        return
    read = np.diag([-1.0, -1.0, 1.0, 1.0]) @ read_image(path).affine[:, [2, 1, 0, 3]]
    np.testing.assert_allclose(read, nibabel.load(path).affine, atol=1e-5)


def test_nifti_with_two_forms_that_exchange_left_and_right_is_refused(tmp_path):
    image = nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.diag([-1.0, 1, 2, 1]))
    image.set_qform(np.diag([1.0, 1, 2, 1]), 1)
    nibabel.save(image, tmp_path / "two.nii")
    with pytest.raises(UnreadableFileError, match="its qform and its sform lead to"):
        read_image(tmp_path / "two.nii")


def test_a_fourth_axis_of_one_is_no_axis_and_a_longer_one_is_refused(tmp_path):
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4, 1)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "one.nii")
    np.testing.assert_array_equal(read_image(tmp_path / "one.nii").values, values[..., 0].T)
    nibabel.save(nibabel.Nifti1Image(values.reshape(2, 3, 2, 2), np.eye(4)), tmp_path / "two.nii")
    with pytest.raises(
        UnreadableFileError,
        match=r"4 axes, the fourth \(time or series\) of 2; a volume has three axes",
    ):
        read_image(tmp_path / "two.nii")


def test_a_header_that_claims_too_much_is_refused_before_decoding(tmp_path):
    path = tmp_path / "bomb.mha"
    header = "ObjectType = Image\nNDims = 3\nDimSize = 9000 9000 9000\nElementType = MET_SHORT\n"
    path.write_text(header + "ElementDataFile = LOCAL\n")
    with pytest.raises(UnreadableFileError, match=r"bomb\.mha: 729000000000 voxels"):
        read_image(path)


def test_windows_have_the_widths_that_radiology_names():
    shown = {name: (one.window_center_hu, one.window_width_hu) for name, one in WINDOWS.items()}
    assert shown["lung"] == (-600, 1500)
    assert shown["mediastinum"] == (40, 400)
    assert WINDOWS["parenchyma"] == Window(-1350.0, 150.0)
    assert WINDOWS["mediastinum_wide"] == Window(-115.0, 235.0)


def test_a_window_cuts_what_lies_outside():
    values = np.array([-2000.0, -160.0, 40.0, 240.0, 3000.0])
    assert window(values, "mediastinum").tolist() == [0, 0, 0.5, 1, 1]
    assert np.ptp(window(np.arange(1000.0), "auto")) == 1


def test_an_unknown_or_empty_window_is_refused():
    with pytest.raises(InputError, match="auto or one of"):
        window(np.zeros(3), "liver")
    with pytest.raises(InputError, match="must be above"):
        window(np.zeros(3), Window(5.0, 5.0))
