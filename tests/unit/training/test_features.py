"""Frozen features: what comes into the classifier, computed once, never taken for others'."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from vitrail.data.augment import preset
from vitrail.data.loader import PictureDataset
from vitrail.errors import InputError
from vitrail.models.attention_classifier import AttentionClassifier
from vitrail.models.heads import classifier
from vitrail.records import Case, Preprocessing
from vitrail.training.features import CHUNK, extract

MODELS = {
    "vit": lambda: timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=2, depth=1),
    "resnet": lambda: timm.create_model("resnet10t", num_classes=2),
    "efficientnet": lambda: timm.create_model("efficientnet_lite0", num_classes=2),
    "convnext": lambda: timm.create_model("convnext_atto", num_classes=2),
    "attention": lambda: AttentionClassifier(img_size=(32, 32), in_chans=3),
}


def pictures(folder, *, cases=3, augment=None, mean=0.5):
    generator = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for number in range(cases):
        if not (folder / f"{number}.png").exists():
            pixels = generator.integers(0, 255, size=(32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    return PictureDataset(
        [
            Case(case_id=str(number), path=f"{number}.png", label="ab"[number % 2])
            for number in range(cases)
        ],
        folder,
        preprocessing=Preprocessing(
            image_size=(32, 32), channels=3, mean=(mean,) * 3, std=(0.25,) * 3
        ),
        classes=("a", "b"),
        augment=augment,
    )


@pytest.mark.parametrize("name", MODELS)
def test_the_classifier_of_the_features_gives_the_models_own_logits(name, tmp_path):
    model = MODELS[name]().train()
    shown = pictures(tmp_path / "pictures")
    found = extract(model, shown, folder=tmp_path / "cache", batch_size=2)
    assert model.training
    model.eval()
    with torch.no_grad():
        logits = model(torch.stack([shown[index][0] for index in range(3)]))
        ours = classifier(model)[1](torch.from_numpy(found))
    assert ours.numpy() == pytest.approx(logits.numpy(), abs=1e-5)


def test_features_are_computed_once_whatever_becomes_of_the_head(tmp_path, monkeypatch):
    model = MODELS["resnet"]()
    shown = pictures(tmp_path / "pictures")
    first = extract(model, shown, folder=tmp_path / "cache")
    torch.nn.init.zeros_(classifier(model)[1].weight)
    monkeypatch.setattr(type(model), "forward", lambda *_: pytest.fail("computed again"))
    assert np.array_equal(extract(model, shown, folder=tmp_path / "cache"), first)


@pytest.mark.parametrize("what", ["weights", "pixels", "preprocessing", "view"])
def test_what_changes_features_is_never_taken_for_the_old(what, tmp_path):
    model = MODELS["resnet"]()
    folder = tmp_path / "pictures"
    shown = pictures(folder, augment=preset("ct"))
    first = extract(model, shown, folder=tmp_path / "cache")
    if what == "weights":
        torch.nn.init.normal_(model.conv1[0].weight)
    elif what == "pixels":
        Image.new("RGB", (32, 32), "white").save(folder / "0.png")
        shown = pictures(folder, augment=preset("ct"))
    elif what == "preprocessing":
        shown = pictures(folder, augment=preset("ct"), mean=0.4)
    else:
        shown.set_epoch(1)
    assert not np.allclose(extract(model, shown, folder=tmp_path / "cache")[0], first[0])


def test_a_stopped_extraction_goes_on_where_it_stopped(tmp_path):
    model = MODELS["resnet"]()
    shown = pictures(tmp_path / "pictures", cases=CHUNK + 2)
    told = []

    def stop(stage, *, done, total, note=""):
        told.append(f"{stage} {done} of {total}{note}")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(model, shown, folder=tmp_path / "cache", progress=stop)
    assert told == ["features 1 of 2"]
    (kept,) = (tmp_path / "cache").rglob("*.npy")
    written = kept.stat().st_mtime_ns
    assert len(extract(model, shown, folder=tmp_path / "cache")) == CHUNK + 2
    assert kept.stat().st_mtime_ns == written


def test_processes_that_share_a_cache_compute_each_chunk_once(tmp_path):
    model = MODELS["resnet"]()
    shown = pictures(tmp_path / "pictures", cases=2 * CHUNK + 1)
    whole = extract(model, shown, folder=tmp_path / "alone")
    computed = []

    def first():  # the second process works while the first waits for it
        before = set((tmp_path / "shared").rglob("*.npy"))
        told = []
        extract(
            model,
            shown,
            folder=tmp_path / "shared",
            share=slice(1, None, 2),
            meet=lambda: told.append(set((tmp_path / "shared").rglob("*.npy")) - before),
        )
        computed.extend([len(before), len(told[0])])

    kept = extract(model, shown, folder=tmp_path / "shared", share=slice(0, None, 2), meet=first)
    assert computed == [2, 1]
    assert np.array_equal(kept, whole)


def test_a_model_that_does_not_end_in_one_linear_layer_is_refused(tmp_path):
    distilled = timm.create_model("deit_tiny_distilled_patch16_224", img_size=32, depth=1)
    with pytest.raises(InputError, match="ends in tuple; a head can be trained alone"):
        extract(distilled, pictures(tmp_path / "pictures"), folder=tmp_path / "cache")
