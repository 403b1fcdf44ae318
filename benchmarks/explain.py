"""Ratios of the explanation engine, all from one run: ``python benchmarks/explain.py``.

Candidates are run in turn, round after round, so that other work on the machine disturbs all of
them alike. Of each, the smallest and the median wall time and the median processor time are kept;
ratios are printed of all three, and the processor time, which other programs hardly touch, is the
one to read on a busy machine. What needs much memory runs in a process of its own, whose peak
resident size beyond that of a plain forward pass is printed. Peers' loops are restated from their
formulas where their code cannot be installed; captum and pytorch-grad-cam run as they are.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import timm
import torch
from captum.attr import IntegratedGradients
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from vitrail.explain import Anatomy, explain

Work = Callable[[], object]


class Cost(NamedTuple):
    """Seconds of one candidate: smallest wall, median wall, median processor time."""

    best: float
    middle: float
    processor: float


class Row(NamedTuple):
    """One line of the table."""

    what: str
    numbers: str
    bar: str


def once(work: Work) -> tuple[float, float]:
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def race(candidates: dict[str, Work], rounds: int) -> dict[str, Cost]:
    """Return the cost of each candidate over interleaved rounds, after one that is not counted."""
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in candidates}
    for number in range(rounds + 1):
        for name, candidate in candidates.items():
            cost = once(candidate)
            if number:
                seen[name].append(cost)
    return {
        name: Cost(
            min(wall for wall, _ in costs),
            statistics.median(wall for wall, _ in costs),
            statistics.median(processor for _, processor in costs),
        )
        for name, costs in seen.items()
    }


def ratio(what: str, ours: Cost, *, to: Cost, bar: str = "") -> Row:
    parts = [first / second for first, second in zip(ours, to, strict=True)]
    return Row(what, " · ".join(f"{part:.2f}" for part in parts), bar)


def vit(image_size: int) -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model("vit_small_patch16_224", img_size=image_size, num_classes=10).eval()


def attention_stack(model: torch.nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """Collect all N x N matrices with hooks and fused attention off, as the peers do."""
    stack: list[torch.Tensor] = []
    handles = []
    for block in model.blocks:
        block.attn.fused_attn = False
        hook = lambda *args: stack.append(args[2])  # noqa: E731 (one line of a peer)
        handles.append(block.attn.attn_drop.register_forward_hook(hook))
    with torch.no_grad():
        model(images)
    for block, handle in zip(model.blocks, handles, strict=True):
        block.attn.fused_attn = True
        handle.remove()
    return stack


def matrix_rollout(stack: list[torch.Tensor]) -> torch.Tensor:
    """Multiply whole matrices: Abnar & Zuidema's formula as every public code has it."""
    eye = torch.eye(stack[0].shape[-1])
    joint = eye
    for attention in stack:
        mixed = (attention.mean(dim=1) + eye) / 2
        joint = (mixed / mixed.sum(dim=-1, keepdim=True)) @ joint
    return joint[:, 0, 1:]


def at_224(rounds: int) -> list[Row]:
    """ViT-S/16 at 224 px, batch 8."""
    model, images = vit(224), torch.randn(8, 3, 224, 224)

    def forward() -> None:
        with torch.no_grad():
            model(images)

    def to_input() -> None:
        leaf = images.clone().requires_grad_()
        torch.autograd.grad(model(leaf)[:, 1].sum(), leaf)

    cost = race(
        {
            "forward": forward,
            "rollout": lambda: explain(model, images, method="rollout"),
            "peer": lambda: matrix_rollout(attention_stack(model, images)),
            "both": to_input,
            "relevance": lambda: explain(model, images, method="relevance", target=1),
        },
        rounds,
    )
    return [
        ratio("rollout / forward", cost["rollout"], to=cost["forward"], bar="≤ 1.3"),
        ratio("vit-explain's loop, restated / forward", cost["peer"], to=cost["forward"]),
        ratio("relevance / (forward + backward)", cost["relevance"], to=cost["both"], bar="≤ 1.25"),
    ]


def beside_peers(rounds: int) -> list[Row]:
    """ViT-S/16 at 224 px, one image: ten classes, and what captum and grad-cam do."""
    model, image = vit(224), torch.randn(1, 3, 224, 224)
    gradients = IntegratedGradients(model)
    hooked = vit(224)  # grad-cam's hooks stay on its model and break other calls
    cam = GradCAM(
        hooked,
        [hooked.blocks[-1].norm1],
        reshape_transform=lambda tokens: tokens[:, 1:].unflatten(1, (14, 14)).movedim(-1, 1),
    )
    cost = race(
        {
            "all": lambda: explain(model, image, method="relevance", target="all"),
            "each": lambda: [
                explain(model, image, method="relevance", target=number) for number in range(10)
            ],
            "ig": lambda: explain(model, image, method="integrated_gradients", target=1, steps=8),
            "captum": lambda: gradients.attribute(image, target=1, n_steps=8),
            "captum, checked": lambda: gradients.attribute(
                image, target=1, n_steps=8, return_convergence_delta=True
            ),
            "cam": lambda: explain(model, image, method="grad_cam", target=1),
            "pytorch-grad-cam": lambda: cam(image, [ClassifierOutputTarget(1)]),
        },
        rounds,
    )
    return [
        ratio("relevance, ten classes: one by one / at once", cost["each"], to=cost["all"]),
        ratio("integrated gradients: captum / ours", cost["captum"], to=cost["ig"]),
        ratio(
            "the same, captum with its completeness check too (ours always checks)",
            cost["captum, checked"],
            to=cost["ig"],
        ),
        ratio("Grad-CAM: pytorch-grad-cam / ours", cost["pytorch-grad-cam"], to=cost["cam"]),
    ]


def resident_mb() -> float:
    """Return this program's peak resident size; getrusage would begin at its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1e3


def alone(name: str) -> None:
    """Run one candidate on 4097 tokens after a plain forward pass; print what it cost, as JSON."""
    model, images = vit(1024), torch.randn(1, 3, 1024, 1024)
    layout = Anatomy(num_prefix_tokens=1, grid_size=(64, 64), readout="cls")
    torch.manual_seed(1)
    with torch.no_grad():
        forward = once(lambda: model(images))
    before = resident_mb()
    found: list[torch.Tensor] = []
    if name == "rows":
        work = lambda: found.append(  # noqa: E731
            explain(model, images, method="rollout", anatomy=layout).values.flatten()
        )
    else:
        work = lambda: found.append(  # noqa: E731
            matrix_rollout(attention_stack(model, images)).flatten()
        )
    cost = once(work)
    report = {"forward": forward, "cost": cost, "mb": resident_mb() - before}
    if name == "matrix":
        square = torch.rand(4097, 4097)
        report["product"] = once(lambda: square @ square)
    print(json.dumps({**report, "map": found[0][::97].tolist()}))


def at_4097() -> list[Row]:
    """ViT-S/16 at 1024 px: 4097 tokens, 12 layers, one image; each form in its own process."""
    costs = {}
    for name in ("rows", "matrix"):
        command = [sys.executable, __file__, "--alone", name]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        costs[name] = json.loads(done.stdout)
    rows, matrix = costs["rows"], costs["matrix"]
    first, second = torch.tensor(rows["map"]), torch.tensor(matrix["map"])
    difference = float((first - second).abs().max() / second.abs().max())

    def numbers(above: list[float], below: list[float]) -> str:
        return " · ".join(f"{up / down:.2f}" for up, down in zip(above, below, strict=True))

    beyond = [cost - forward for cost, forward in zip(rows["cost"], rows["forward"], strict=True)]
    products = [12 * seconds for seconds in matrix["product"]]
    return [
        Row("N = 4097: matrix form / row form", numbers(matrix["cost"], rows["cost"]), "≥ 2"),
        Row("N = 4097: the 12 products alone / row form", numbers(products, rows["cost"]), ""),
        Row("N = 4097: the 12 products / all beyond the forward", numbers(products, beyond), ""),
        Row("N = 4097: row form / forward", numbers(rows["cost"], rows["forward"]), ""),
        Row("N = 4097: row form, MB beyond the forward", f"{rows['mb']:.0f}", "< 300"),
        Row("N = 4097: matrix form, MB beyond the forward", f"{matrix['mb']:.0f}", ""),
        Row("N = 4097: largest relative difference", f"{difference:.1g}", "≤ 1e-5"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--only", choices=["224", "peers", "4097"])
    parser.add_argument("--alone", choices=["rows", "matrix"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        alone(options.alone)
        return
    parts = {
        "224": lambda: at_224(options.rounds),
        "peers": lambda: beside_peers(max(1, options.rounds // 2)),
        "4097": at_4097,
    }
    table = []
    for name, part in parts.items():
        if options.only in {None, name}:
            rows = part()
            table += rows
            print(*rows, sep="\n", file=sys.stderr, flush=True)
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    print(
        f"{when}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}"
    )
    print(f"{torch.get_num_threads()} threads, {options.rounds} rounds")
    print("| what | smallest wall · median wall · median processor | bar |\n|---|---|---|")
    for row in table:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
