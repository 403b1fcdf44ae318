"""A generated chest in three dimensions: DICOM series, masks and the truth, as a hospital sends.

Each patient has lungs with texture, ribs, a spine, a heart, vessels, and one nodule in a lung. The
label is the nodule's *phenotype*: ``smooth``, or ``spiculated`` (thin spikes, uneven inside). Size,
place, mean density and mask follow the same law in both, so that only the shape and the texture
tell them apart; ``difficulty`` takes them away and adds noise.
"""

from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from scipy.ndimage import gaussian_filter

from vitrail.data.volume import Volume, write_nifti
from vitrail.errors import InputError
from vitrail.records import Progress, no_progress
from vitrail.runfolder import write_bytes, write_csv, write_json

PHENOTYPES = ("smooth", "spiculated")

AIR_HU, LUNG_HU, FAT_HU, TISSUE_HU, BONE_HU = -1000.0, -860.0, -100.0, 40.0, 600.0
_INTERCEPT = -1024
_SPIKES = 18
_SHARPNESS = 70.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Chest:
    """What one generated patient is made of: the truth beside the case.

    Attributes:
        patient_id: Also the PatientID of the series.
        phenotype: The label.
        seed: Of everything that was drawn.
        difficulty: 0 (plain to see) to 1 (nothing to see).
        center_index: (slice, row, column) of the nodule's middle.
        center_mm: The same place in mm, LPS.
        radius_mm: Of the nodule without its spikes.
        spacing_mm: Of (slices, rows, columns).
    """

    patient_id: str
    phenotype: str
    seed: int
    difficulty: float
    center_index: tuple[float, ...]
    center_mm: tuple[float, ...]
    radius_mm: float
    spacing_mm: tuple[float, float, float]


def chest_volumes(
    folder: Path,
    *,
    cases: int,
    seed: int,
    shape: tuple[int, int, int] = (40, 128, 128),
    spacing_mm: tuple[float, float, float] = (2.0, 1.8, 1.8),
    difficulty: float = 0.3,
    progress: Progress = no_progress,
) -> Path:
    """Write a cohort of generated patients, half of each phenotype.

    Args:
        folder: Gets ``series/<patient>/`` (DICOM), ``masks/<patient>.nii.gz``, ``manifest.csv``
            and ``truth.json``.
        cases: Number of patients, one series each.
        seed: The same seed writes the same files.
        shape: Slices, rows and columns.
        spacing_mm: Of (slices, rows, columns).
        difficulty: 0 to 1.
        progress: Told after each patient.

    Returns:
        The manifest.

    Raises:
        InputError: If the difficulty is not within 0 and 1.
    """
    if not 0 <= difficulty <= 1:
        raise InputError("difficulty", f"{difficulty}", "it lies within 0 and 1", "pass e.g. 0.3")
    order = np.random.default_rng([seed, cases]).permutation(cases)
    rows, truth = [], []
    for done, place in enumerate(order.tolist()):
        patient = f"CHEST{done:04d}"
        volume, mask, chest = draw_chest(
            patient,
            phenotype=PHENOTYPES[place % 2],
            seed=[seed, done],
            shape=shape,
            spacing_mm=spacing_mm,
            difficulty=difficulty,
        )
        _write_series(folder / "series" / patient, volume, patient_id=patient, seed=seed)
        write_nifti(folder / "masks" / f"{patient}.nii.gz", mask)
        rows.append(
            {
                "path": f"series/{patient}",
                "label": chest.phenotype,
                "patient": patient,
                "mask": f"masks/{patient}.nii.gz",
            }
        )
        truth.append(asdict(chest))
        progress("drawing chests", done=done + 1, total=cases)
    manifest = folder / "manifest.csv"
    write_csv(manifest, rows, header=("path", "label", "patient", "mask"))
    write_json(folder / "truth.json", {"seed": seed, "difficulty": difficulty, "chests": truth})
    return manifest


def draw_chest(
    patient_id: str,
    *,
    phenotype: str,
    seed: list[int],
    shape: tuple[int, int, int] = (40, 128, 128),
    spacing_mm: tuple[float, float, float] = (2.0, 1.8, 1.8),
    difficulty: float = 0.3,
) -> tuple[Volume, Volume, Chest]:
    """Draw one patient.

    Args:
        patient_id: Any.
        phenotype: One of `PHENOTYPES`.
        seed: Of everything that is drawn.
        shape: Slices, rows and columns.
        spacing_mm: Of (slices, rows, columns).
        difficulty: 0 to 1.

    Returns:
        The volume in HU, the mask of the nodule on the same grid, and the truth. The mask is a
        ball somewhat larger than the nodule, as drawn by hand; spikes may reach beyond it.
    """
    generator = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]]) * np.array(spacing_mm)
    half = (np.array(shape) - 1) / 2 * np.array(spacing_mm)
    affine[:3, 3] = -half[::-1] + generator.normal(0, 20, size=3).round(1)
    z, y, x = _axes(half, shape)
    values, lungs = _body(generator, z, y, x, spread=float(half[1]))
    _add_vessels(values, lungs, generator, spacing_mm)
    radius_mm = float(generator.uniform(6.0, 10.0))
    center = _place(lungs, generator, spacing_mm, radius_mm)
    offsets = (z - center[0], y - center[1], x - center[2])
    contrast = 1 - difficulty
    near = _add_nodule(
        values, offsets, generator, radius_mm, phenotype=phenotype, contrast=contrast
    )
    values += generator.normal(0, 15 + 60 * difficulty, size=shape).astype(np.float32)
    values = np.clip(np.rint(values), -1024, 3071).astype(np.float32)
    index = (np.array(center) + half) / np.array(spacing_mm)
    volume = Volume(values, affine, patient_id, "CT")
    mask = Volume((near <= 1.25 * radius_mm).astype(np.float32), affine, patient_id)
    chest = Chest(
        patient_id=patient_id,
        phenotype=phenotype,
        seed=seed[-1],
        difficulty=difficulty,
        center_index=tuple(index.tolist()),
        center_mm=tuple(volume.to_mm(index[None])[0].tolist()),
        radius_mm=radius_mm,
        spacing_mm=spacing_mm,
    )
    return volume, mask, chest


def _axes(half: Float[np.ndarray, " 3"], shape: tuple[int, int, int]) -> tuple[np.ndarray, ...]:
    """Return the places of slices, rows and columns in mm from the middle, ready to combine."""
    ends = zip(half, shape, strict=True)
    places = (np.linspace(-end, end, count, dtype=np.float32) for end, count in ends)
    return np.meshgrid(*places, indexing="ij", sparse=True)


def _body(
    generator: np.random.Generator,
    z: Float[np.ndarray, "slices 1 1"],
    y: Float[np.ndarray, "1 rows 1"],
    x: Float[np.ndarray, "1 1 columns"],
    *,
    spread: float,
) -> tuple[Float[np.ndarray, "slice row column"], Bool[np.ndarray, "slice row column"]]:
    """Draw the trunk: fat, ribs, lungs, heart and spine; return it and where the lungs are."""
    width, height = spread * generator.uniform([0.86, 0.66], [0.94, 0.74])
    trunk = (x / width) ** 2 + (y / height) ** 2 + 0 * z
    values = np.full(trunk.shape, AIR_HU, dtype=np.float32)
    values[trunk < 1] = FAT_HU
    values[trunk < 0.88] = TISSUE_HU
    ribs = (trunk > 0.74) & (trunk < 0.84)
    angle = np.arctan2(y, x) * 6 + z * generator.uniform(0.12, 0.2) + generator.uniform(0, 6)
    values[ribs & (np.sin(angle) > 0.5)] = BONE_HU
    lungs = np.zeros(trunk.shape, dtype=bool)
    for side in (-1, 1):
        middle = side * width * generator.uniform(0.44, 0.5)
        radii = width * generator.uniform(0.33, 0.38), height * generator.uniform(0.66, 0.74)
        lungs |= ((x - middle) / radii[0]) ** 2 + (y / radii[1]) ** 2 + 0 * z < 1
    texture = gaussian_filter(generator.normal(size=trunk.shape), 1.5).astype(np.float32)
    values[lungs] = (LUNG_HU + generator.uniform(-30, 30) + 120 * texture)[lungs]
    heart = ((x - 0.18 * width) / (0.32 * width)) ** 2 + (
        (y + 0.12 * height) / (0.36 * height)
    ) ** 2
    values[heart + 0 * z < 1] = TISSUE_HU
    lungs &= heart + 0 * z >= 1
    spine = (x / 13) ** 2 + ((y - 0.68 * height) / 13) ** 2 + 0 * z
    values[spine < 1] = 0.5 * BONE_HU
    return values, lungs & (spine >= 1)


def _add_vessels(
    values: Float[np.ndarray, "slice row column"],
    lungs: Bool[np.ndarray, "slice row column"],
    generator: np.random.Generator,
    spacing_mm: tuple[float, float, float],
) -> None:
    """Draw winding vessels into the lungs, thinner and thinner."""
    inside = np.argwhere(lungs)
    for _ in range(28):
        place = inside[generator.integers(len(inside))] * np.array(spacing_mm)
        heading = generator.normal(size=3)
        width_mm = generator.uniform(1.6, 3.4)
        for _ in range(60):
            heading += generator.normal(0, 0.25, size=3)
            heading /= np.linalg.norm(heading)
            place = place + heading * 1.5
            width_mm *= 0.98
            index = np.rint(place / np.array(spacing_mm)).astype(int)
            reach = np.ceil(width_mm / np.array(spacing_mm)).astype(int)
            part = tuple(
                slice(max(0, middle - around), middle + around + 1)
                for middle, around in zip(index, reach, strict=True)
            )
            if (index < 0).any() or (index >= values.shape).any() or not lungs[tuple(index)]:
                break
            corners = np.argwhere(np.ones(values[part].shape)) + [one.start for one in part]
            near = np.linalg.norm(corners * np.array(spacing_mm) - place, axis=1) <= width_mm
            chosen = near.reshape(values[part].shape) & lungs[part]
            values[part][chosen] = TISSUE_HU


def _place(
    lungs: Bool[np.ndarray, "slice row column"],
    generator: np.random.Generator,
    spacing_mm: tuple[float, float, float],
    radius_mm: float,
) -> Float[np.ndarray, " 3"]:
    """Choose the nodule's middle within a lung, away from its walls, in mm from the middle."""
    half = (np.array(lungs.shape) - 1) / 2
    blurred = gaussian_filter(lungs.astype(np.float32), radius_mm / np.array(spacing_mm))
    end = max(1, len(lungs) // 5)
    possible = np.argwhere(blurred[end:-end] > 0.9 * blurred[end:-end].max())
    possible[:, 0] += end
    chosen: Float[np.ndarray, " 3"] = (
        possible[generator.integers(len(possible))] - half
    ) * np.array(spacing_mm)
    return chosen


def _add_nodule(
    values: Float[np.ndarray, "slice row column"],
    offsets: tuple[np.ndarray, np.ndarray, np.ndarray],
    generator: np.random.Generator,
    radius_mm: float,
    *,
    phenotype: str,
    contrast: float,
) -> Float[np.ndarray, "slice row column"]:
    """Draw the nodule with an edge of partial volume; return the distance from its middle."""
    distance = np.sqrt(sum(one**2 for one in offsets))
    spikes = generator.normal(size=(_SPIKES, 3))
    spikes /= np.linalg.norm(spikes, axis=1, keepdims=True)
    texture = gaussian_filter(generator.normal(size=values.shape), 0.8).astype(np.float32)
    near = distance < 2.2 * radius_mm
    directions = np.stack(np.broadcast_arrays(*offsets), axis=-1)[near]
    directions = directions / np.maximum(distance[near], 1e-3)[:, None]
    along = np.exp(_SHARPNESS * (directions @ spikes.T - 1)).max(axis=1)
    uneven = contrast if phenotype == "spiculated" else 0.0
    edge_mm = radius_mm * (1 + uneven * (0.9 * along - 0.06))
    share = np.clip((edge_mm - distance[near]) / 1.5 + 0.5, 0, 1)
    inside = TISSUE_HU + uneven * 350 * texture[near]
    values[near] = share * inside + (1 - share) * values[near]
    return distance


def _write_series(folder: Path, volume: Volume, *, patient_id: str, seed: int) -> None:
    """Write a volume as one CT file a slice, under names whose order means nothing."""
    series, study = (generate_uid(entropy_srcs=[patient_id, str(seed), what]) for what in "se")
    names = np.random.default_rng([seed, len(patient_id)]).permutation(len(volume.values))
    step = volume.affine[:3, :3]
    for number, (values, name) in enumerate(zip(volume.values, names.tolist(), strict=True)):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[series, str(number)])
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        file = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        file.SOPClassUID, file.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        file.SeriesInstanceUID, file.StudyInstanceUID = series, study
        file.PatientID, file.PatientName, file.Modality = patient_id, "Generated^Chest", "CT"
        file.InstanceNumber = len(volume.values) - number
        spacing = np.linalg.norm(step, axis=0)
        file.SliceThickness = float(spacing[0])
        file.PixelSpacing = spacing[1:].tolist()
        file.ImageOrientationPatient = [*(step[:, 2] / spacing[2]), *(step[:, 1] / spacing[1])]
        file.ImagePositionPatient = (volume.affine[:3, 3] + number * step[:, 0]).round(4).tolist()
        file.Rows, file.Columns = values.shape
        file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
        file.BitsAllocated, file.BitsStored, file.HighBit = 16, 12, 11
        file.PixelRepresentation = 0
        file.RescaleSlope, file.RescaleIntercept, file.RescaleType = 1, _INTERCEPT, "HU"
        file.PixelData = (values - _INTERCEPT).astype(np.uint16).tobytes()
        content = BytesIO()
        file.save_as(content, enforce_file_format=True)
        write_bytes(folder / f"IM{name:05d}", content.getvalue())
