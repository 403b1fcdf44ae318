"""Small runs with real, untrained transformers (one split, folds, volumes), and their server."""

import json
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict

import numpy as np
import pydicom
import pytest
import torch
import uvicorn
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from starlette.testclient import TestClient

from vitrail.data.cohort import write_cohort
from vitrail.data.folds import make_folds, pooled
from vitrail.data.split import write_split
from vitrail.data.stacks import VolumeDataset
from vitrail.data.volume import Volume, write_nifti
from vitrail.models import bundle
from vitrail.models.zoo import ModelSpec, build
from vitrail.pipeline.choices import write_plan
from vitrail.pipeline.facts import Facts
from vitrail.pipeline.rules import Machine, Request, choose
from vitrail.pipeline.scans import keep_montage, placement_facts
from vitrail.records import Case, Cohort, VolumeView
from vitrail.runfolder import RunFolder, write_csv, write_json, write_text
from vitrail.web.app import application
from vitrail.web.security import access
from vitrail.web.session import Session

CLASSES = ("clear", "nodule")
VIEW = VolumeView(window="lung", grid=2, stride=2, tile_px=24, votes=3)


def planned(**changed):
    """Let the rules plan for small grey pictures, then change some choices."""
    facts = Facts(
        cases={"train": 240, "validation": 80, "test": 80},
        train_counts={"clear": 120, "nodule": 120},
        short_side_px=64,
        aspect_spread=1.0,
        color=False,
        bits=8,
    )
    how = {"machine": Machine(cores=2, gpu=None), "attends": lambda spec: True}
    how |= {"measure": lambda how: ((0.3,) * how.channels, (0.25,) * how.channels)}
    plan = choose(facts, Request(), data="0" * 64, cost=lambda spec, batch: 0.01, **how)
    new = {
        name: getattr(plan, name).model_copy(update={"value": value})
        for name, value in changed.items()
    }
    return plan.model_copy(update=new)


@pytest.fixture(scope="session")
def served_run(tmp_path_factory):
    """Write a run of six test cases."""
    return write_served_run(tmp_path_factory.mktemp("served"))


def write_served_run(root, *, folds=1):
    """Write a run with a trained model's files, one a fold, and its pictures."""
    run = RunFolder(root / "run")
    rng = np.random.default_rng(0)
    (root / "pictures").mkdir(parents=True)
    run.pictures.mkdir(parents=True)
    names = [f"case{number}" for number in range(6)]
    for name in names:
        picture = Image.fromarray(rng.integers(0, 255, (40, 32), dtype=np.uint8))
        picture.save(root / "pictures" / f"{name}.png")
        picture.save(run.picture(name))
    mask = np.zeros((40, 32), dtype=np.uint8)
    mask[8:24, 8:20] = 255
    Image.fromarray(mask).save(run.mask(names[0]))
    cases = tuple(
        Case(case_id=name, path=f"{name}.png", label=CLASSES[place % 2])
        for place, name in enumerate(names)
    )
    cohort = Cohort(root / "pictures", cases, CLASSES)
    write_stages(run, cohort, planned(folds=folds))
    if folds > 1:
        groups = {name: name for name in names}
        each = make_folds(cohort, groups=groups, folds=folds)
        write_split(run.split, cohort, split=pooled(each), groups=groups, folds=each)
    return run


def write_volume_run(root):
    """Write a run of small CT volumes with a mask, a montage and a map of each."""
    run = RunFolder(root / "run")
    rng = np.random.default_rng(0)
    (root / "scans").mkdir(parents=True)
    affine = np.diag([4.0, 2.0, 2.0, 1.0])[[2, 1, 0, 3]]
    affine[:3, 3] = (-30.0, -40.0, 100.0)
    cases = []
    for number in range(4):
        values = rng.normal(-600, 200, (10, 30, 30)).astype(np.float32)
        write_nifti(root / "scans" / f"{number}.nii.gz", Volume(values, affine))
        mask = np.zeros_like(values)
        mask[3:7, 10:20, 12:18] = 1
        write_nifti(root / "scans" / f"mask{number}.nii.gz", Volume(mask, affine))
        written = {"path": f"{number}.nii.gz", "mask": f"mask{number}.nii.gz"}
        cases.append(Case(case_id=f"scan{number}", label=CLASSES[number % 2], **written))
    cohort = Cohort(root / "scans", tuple(cases), CLASSES)
    plan = planned(volume=VIEW, image_size=(48, 48))
    write_stages(run, cohort, plan, patch=8)
    write_json(run.audit, {"fingerprint": {"volumes": {"modalities": {"CT": 4}}}})
    shown = VolumeDataset(
        cases, cohort.root, preprocessing=plan.preprocessing, classes=cohort.classes
    )
    for index, case in enumerate(cases):
        keep_montage(run, case.case_id, stack=shown.stack(index))
        path = run.explanation(case.case_id)
        path.parent.mkdir(exist_ok=True)
        values = rng.random((6, 6), dtype=np.float32)
        np.savez(path, values=values if index else 0.5 + 0.01 * values)  # the first is nearly even
        facts = {"preprocessing": asdict(plan.preprocessing), **placement_facts(shown, index)}
        write_json(path.with_suffix(".json"), {"method": "rollout", "extra": facts})
    return run


def write_stages(run, cohort, plan, *, patch=16):
    """Write cohort, plan, predictions, models and a report."""
    write_cohort(run.cohort, cohort)
    write_plan(run.plan, plan)
    said = {"model": "vit", "seed": 0, "fold": 0, "split": "test"}
    shares = {"prob_clear": 0.3, "prob_nodule": 0.7}
    rows = [
        {**said, "case_id": case.case_id, "y_true": case.label, **shares} for case in cohort.cases
    ]
    write_csv(run.predictions, rows, header=list(rows[0]))
    spec = ModelSpec(
        architecture="vit",
        num_classes=2,
        in_chans=1,
        img_size=plan.preprocessing.image_size,
        parameters={"patch_size": patch, "embed_dim": 16, "depth": 2, "num_heads": 2},
    )
    for fold in range(plan.folds.value):
        torch.manual_seed(fold)
        bundle.save(
            run.model("vit", fold=fold),
            model=build(spec).eval(),
            spec=spec,
            classes=CLASSES,
            preprocessing=plan.preprocessing,
            extra={},
        )
    write_text(run.report, "<!doctype html><title>report</title>")


def write_slice(path, *, place=0, series="1.2.3", modality="CT", pixels=True):
    """Write one DICOM slice, 40 HU, 2 mm above the one before."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    one.SOPClassUID, one.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    one.SeriesInstanceUID, one.Modality = series, modality
    one.PatientName, one.PatientID = "Doe^Jane", "P-4711"
    one.ImagePositionPatient, one.ImageOrientationPatient = [0, 0, 2 * place], [1, 0, 0, 0, 1, 0]
    one.PixelSpacing, one.SliceThickness = [1, 1], 1
    one.RescaleSlope, one.RescaleIntercept = 1, -1024
    one.Rows, one.Columns, one.SamplesPerPixel = 8, 6, 1
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 0
    one.PhotometricInterpretation = "MONOCHROME2"
    if pixels:
        one.PixelData = np.full((8, 6), 1064, dtype=np.uint16).tobytes()
    pydicom.dcmwrite(path, one, enforce_file_format=True)
    return path


@contextmanager
def serving(session, **options):
    """Serve a session on a free port, held from the start; yields (address, access)."""
    bound = socket.create_server(("127.0.0.1", 0))
    allowed = access("127.0.0.1", bound.getsockname()[1])
    app = application(session, allowed, **options)
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", access_log=False))
    thread = threading.Thread(target=server.run, args=([bound],), daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/", allowed
    finally:
        server.should_exit = True
        thread.join(timeout=30)


@pytest.fixture(scope="session")
def fold_run(tmp_path_factory):
    """Write a run of three folds."""
    return write_served_run(tmp_path_factory.mktemp("folds"), folds=3)


@pytest.fixture(scope="session")
def volume_run(tmp_path_factory):
    """Write a run of volumes."""
    return write_volume_run(tmp_path_factory.mktemp("volumes"))


@pytest.fixture(scope="session")
def dicom_slice():
    """Return the writer of a DICOM slice."""
    return write_slice


@pytest.fixture(scope="session")
def serve():
    """Return what serves a session on a real port."""
    return serving


@pytest.fixture
def session(served_run):
    """Open the run."""
    return Session(served_run)


@pytest.fixture
def allowed():
    return access("127.0.0.1", 8642)


@pytest.fixture
def stranger(session, allowed):
    """Return a client without the token."""
    return TestClient(
        application(session, allowed),
        base_url="http://127.0.0.1:8642",
        raise_server_exceptions=False,
    )


@pytest.fixture
def client(stranger, allowed):
    """Return a client that came by the printed address."""
    assert stranger.get("/", params={"token": allowed.token}).status_code == 200
    return stranger


@pytest.fixture
def said():
    """Return what an answer says went wrong."""
    return lambda answer: json.loads(answer.content)["error"]
