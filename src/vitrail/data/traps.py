"""Generated cohorts with a known trap, to see that `inspect` names it and evaluation survives it.

`planted_shortcut` draws two classes of the same tissue-like texture that differ in one trivial
thing alone. `identity_patients` draws patients whose pictures share a texture of their own, and
labels by the toss of a coin: all that can be learned there is who the patient is.
"""

from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from scipy.ndimage import gaussian_filter

from vitrail.data.features import FAMILIES, HEADER_FAMILIES
from vitrail.errors import InputError
from vitrail.runfolder import write_bytes, write_csv, write_json

KINDS = ("none", *FAMILIES)
"""What can be planted: nothing, or one family of trivial features."""

CLASSES = ("first", "second")

# What is drawn of a file, from its first range; in the second class what is planted is drawn from
# the second: low and high, the high end excluded.
_DRAWN = {
    "intensity": ((90, 120), (125, 155)),
    "color": ((0, 12), (16, 28)),
    "histogram": ((0, 1), (1, 2)),
    "size": ((64, 80), (86, 102)),
    "file_bytes": ((0, 400), (1500, 1900)),
    "file_kind": ((0, 1), (1, 2)),
    "jpeg_quality": ((84, 94), (58, 70)),
    "border": ((0, 1), (1, 2)),
    "manufacturer": ((0, 2), (2, 3)),
    "kvp": ((0, 2), (2, 4)),
    "kernel": ((0, 2), (2, 3)),
    "date": ((0, 120), (150, 270)),
}
_MANUFACTURERS = ("Alpha Imaging", "Beta Medical", "Gamma Scanners")
_KVP = (100, 120, 80, 140)
_KERNELS = ("B30f", "B50f", "B70f")
_EDGE_PX = 3

Picture = Float[np.ndarray, "row column"]


def planted_shortcut(folder: Path, *, kind: str, cases: int = 120, seed: int = 0) -> None:
    """Write two classes that differ in one trivial thing alone.

    ::

        folder/first/…  second/…  truth.json

    Files are JPEGs, but for the families of DICOM headers, which are planted in DICOM files.

    Args:
        folder: Where to write.
        kind: One of ``KINDS``; ``none`` plants nothing.
        cases: Number of files.
        seed: Of everything drawn; a case depends on it and on its own number alone.

    Raises:
        InputError: If there is no such kind.
    """
    if kind not in KINDS:
        raise InputError("kind", repr(kind), f"it is one of {', '.join(KINDS)}", "choose one")
    truth: dict[str, object] = {}
    for case in range(cases):
        generator = np.random.default_rng([seed, case])
        drawn = {
            family: int(generator.integers(*ranges[case % 2 and family == kind]))
            for family, ranges in _DRAWN.items()
        }
        picture = _textured(drawn, generator)
        content, ending = (
            (_dicom(picture, drawn, uid=f"{seed}.{case}"), "dcm")
            if kind in HEADER_FAMILIES
            else _encoded(picture, drawn, generator)
        )
        name = f"{CLASSES[case % 2]}/{case:04}.{ending}"
        write_bytes(folder / name, content)
        truth[name] = drawn
    parameters = {"kind": kind, "cases": cases, "seed": seed}
    write_json(
        folder / "truth.json",
        {"generator": "planted_shortcut", "parameters": parameters, "drawn": truth},
    )


def _textured(drawn: dict[str, int], generator: np.random.Generator) -> Picture:
    """Draw a texture with the given brightness, shape of histogram, size and frame."""
    rows, columns = drawn["size"], int(generator.integers(64, 80))
    texture = gaussian_filter(generator.normal(size=(rows, columns)), generator.uniform(1, 3))
    texture = (texture - texture.mean()) / texture.std()
    if drawn["histogram"]:
        texture = np.sign(texture) * np.sqrt(np.abs(texture))  # two humps, the same spread
        texture = (texture - texture.mean()) / texture.std()
    picture: Picture = drawn["intensity"] + generator.uniform(18, 26) * texture
    if drawn["border"]:
        inner = np.zeros(picture.shape, dtype=bool)
        inner[_EDGE_PX:-_EDGE_PX, _EDGE_PX:-_EDGE_PX] = True
        picture[~inner] = 230
    return picture


def _encoded(
    picture: Picture, drawn: dict[str, int], generator: np.random.Generator
) -> tuple[bytes, str]:
    """Write a picture as JPEG or PNG: (content, ending)."""
    tint = np.array([0.5, -0.5, 0.0]) * drawn["color"]
    levels: UInt8[np.ndarray, "row column color"] = np.rint(
        (picture[..., None] + tint).clip(0, 255)
    ).astype(np.uint8)
    stream = BytesIO()
    if drawn["file_kind"]:
        Image.fromarray(levels).save(stream, format="PNG")
        return stream.getvalue(), "png"
    Image.fromarray(levels).save(
        stream,
        format="JPEG",
        quality=drawn["jpeg_quality"],
        comment=generator.bytes(drawn["file_bytes"]),
    )
    return stream.getvalue(), "jpg"


def _dicom(picture: Picture, drawn: dict[str, int], *, uid: str) -> bytes:
    """Write a picture as one CT slice whose header holds what was drawn."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[uid])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    header.SOPClassUID, header.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    header.SeriesInstanceUID = generate_uid(entropy_srcs=[uid, "series"])
    header.Modality = "CT"
    header.Manufacturer = _MANUFACTURERS[drawn["manufacturer"]]
    header.KVP = str(_KVP[drawn["kvp"]])
    header.ConvolutionKernel = _KERNELS[drawn["kernel"]]
    month, day = divmod(drawn["date"], 28)
    header.AcquisitionDate = f"2020{1 + month:02}{1 + day:02}"
    header.Rows, header.Columns = picture.shape
    header.ImagePositionPatient, header.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    header.PixelSpacing = [1, 1]
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 12, 11
    header.PixelRepresentation = 0
    header.RescaleSlope, header.RescaleIntercept = 1, -1024
    header.PixelData = np.rint(picture.clip(0, 255) * 8).astype("<u2").tobytes()
    stream = BytesIO()
    header.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def identity_patients(
    folder: Path, *, patients: int = 40, pictures_a_patient: int = 12, seed: int = 0
) -> None:
    """Write patients with a texture of their own, and labels that mean nothing.

    ::

        folder/first/…png  second/…png  manifest.csv  truth.json

    Every picture of a patient shows the patient's texture from a little elsewhere, with its own
    grain and brightness, as neighboring slices do. The label is tossed once a patient, the two
    labels equally often.

    Args:
        folder: Where to write.
        patients: Number of patients, even.
        pictures_a_patient: Pictures of each.
        seed: Of everything drawn.

    Source:
        yagis2021 (random labels on slices of brain MRI: 96 % by slice, 50 % by subject).
    """
    labels = np.random.default_rng([seed]).permutation(np.arange(patients) % 2)
    rows = []
    for patient, label in enumerate(labels):
        generator = np.random.default_rng([seed, patient])
        canvas = sum(
            gaussian_filter(generator.normal(size=(80, 80)), width) * width for width in (1.5, 4, 9)
        )
        for number in range(pictures_a_patient):
            top, left = generator.integers(0, 80 - 64, size=2)
            view = canvas[top : top + 64, left : left + 64]
            view = generator.uniform(100, 140) + generator.uniform(45, 65) * view
            view = view + generator.normal(scale=6, size=view.shape)
            name = f"{CLASSES[label]}/patient{patient:03}-{number:02}.png"
            stream = BytesIO()
            Image.fromarray(np.rint(view.clip(0, 255)).astype(np.uint8)).save(stream, format="PNG")
            write_bytes(folder / name, stream.getvalue())
            row = {"path": name, "label": CLASSES[label], "patient": f"patient{patient:03}"}
            rows.append(row)
    write_csv(folder / "manifest.csv", rows, header=("path", "label", "patient"))
    parameters = {"patients": patients, "pictures_a_patient": pictures_a_patient, "seed": seed}
    write_json(
        folder / "truth.json",
        {
            "generator": "identity_patients",
            "parameters": parameters,
            "labels": "tossed once a patient; nothing in a picture tells them",
        },
    )
