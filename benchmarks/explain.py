"""Ratios of the explanation engine, all from one run: ``python benchmarks/explain.py``.

Candidates are timed in turn, round after round, and the smallest time of each is taken, so that
other work on the machine disturbs all of them alike. Peers' loops are restated from their formulas.
"""

import argparse
import time
from collections.abc import Callable

import timm
import torch
from torch.profiler import ProfilerActivity, profile

from vitrail.explain import Anatomy, explain, methods


def race(candidates: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the smallest seconds of each candidate over interleaved rounds."""
    best = dict.fromkeys(candidates, float("inf"))
    for number in range(rounds + 1):
        for name, candidate in candidates.items():
            start = time.perf_counter()
            candidate()
            seconds = time.perf_counter() - start
            if number:
                best[name] = min(best[name], seconds)
    return best


def peak(work: Callable[[], object]) -> float:
    """Return the largest MB of tensors alive at once during ``work``, from torch's own records."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        work()
    alive = highest = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == "[memory]":
            alive += event.nbytes()
            highest = max(highest, alive)
    return highest / 1e6


def fused(model: torch.nn.Module, *, flag: bool) -> None:
    for block in model.blocks:
        block.attn.fused_attn = flag


def attention_stack(model, images):
    """Collect all N x N matrices with hooks and fused attention off, as the peers do."""
    stack = []
    handles = [
        block.attn.attn_drop.register_forward_hook(lambda *args: stack.append(args[2]))
        for block in model.blocks
    ]
    fused(model, flag=False)
    try:
        with torch.no_grad():
            model(images)
    finally:
        fused(model, flag=True)
        for handle in handles:
            handle.remove()
    return stack


def matrix_rollout(stack):
    """Multiply whole matrices: Abnar & Zuidema's formula as every public code has it."""
    eye = torch.eye(stack[0].shape[-1])
    joint = eye
    for attention in stack:
        mixed = (attention.mean(dim=1) + eye) / 2
        joint = (mixed / mixed.sum(dim=-1, keepdim=True)) @ joint
    return joint[:, 0, 1:]


def rows_at_224(rounds: int) -> list[tuple[str, float, str]]:
    """ViT-S/16 at 224 px, batch 8."""
    torch.manual_seed(0)
    model = timm.create_model("vit_small_patch16_224", num_classes=10).eval()
    images = torch.randn(8, 3, 224, 224)

    def forward():
        with torch.no_grad():
            model(images)

    def to_input():
        leaf = images.clone().requires_grad_()
        torch.autograd.grad(model(leaf)[:, 1].sum(), leaf)

    candidates = {
        "forward": forward,
        "forward + backward": to_input,
        "rollout": lambda: explain(model, images, method="rollout"),
        "peer": lambda: matrix_rollout(attention_stack(model, images)),
    }
    if "relevance" in methods():
        candidates["relevance"] = lambda: explain(model, images, method="relevance", target=1)
        candidates["all"] = lambda: explain(model, images, method="relevance", target="all")
    best = race(candidates, rounds)
    forward_s, both_s = best["forward"], best["forward + backward"]
    table = [
        ("rollout / forward", best["rollout"] / forward_s, "<= 1.3"),
        ("vit-explain's loop / forward", best["peer"] / forward_s, "-"),
    ]
    if "relevance" in best:
        table += [
            ("relevance / (forward + backward)", best["relevance"] / both_s, "<= 1.25"),
            ("relevance, 10 classes at once / 10 x one", best["all"] / best["relevance"] / 10, "-"),
        ]
    return table


def rows_at_4097(rounds: int) -> list[tuple[str, float, str]]:
    """ViT-S/16 at 1024 px: 4097 tokens, 12 layers, one image."""
    torch.manual_seed(0)
    model = timm.create_model("vit_small_patch16_224", img_size=1024, num_classes=10).eval()
    images = torch.randn(1, 3, 1024, 1024)
    layout = Anatomy(num_prefix_tokens=1, grid_size=(64, 64), readout="cls")

    def forward():
        with torch.no_grad():
            model(images)

    def ours():
        return explain(model, images, method="rollout", anatomy=layout)

    def theirs():
        return matrix_rollout(attention_stack(model, images))

    difference = (ours().values.flatten() - theirs().flatten()).abs().max() / theirs().abs().max()
    best = race({"forward": forward, "ours": ours, "theirs": theirs}, rounds)
    product = torch.rand(4097, 4097)
    products = 12 * race({"product": lambda: product @ product}, 1)["product"]
    return [
        ("N=4097: matrix form / rollout", best["theirs"] / best["ours"], ">= 2"),
        (
            "N=4097: products alone / rollout beyond the forward",
            products / (best["ours"] - best["forward"]),
            "-",
        ),
        ("N=4097: rollout / forward", best["ours"] / best["forward"], "-"),
        ("N=4097: MB beyond the forward, rollout", peak(ours) - peak(forward), "< 300"),
        ("N=4097: MB beyond the forward, matrix form", peak(theirs) - peak(forward), "-"),
        ("N=4097: largest relative difference", float(difference), "<= 1e-5"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=["224", "4097"])
    options = parser.parse_args()
    table = []
    if options.only != "4097":
        table += rows_at_224(options.rounds)
    if options.only != "224":
        table += rows_at_4097(max(1, options.rounds // 5))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print("| what | ratio | bar |\n|---|---|---|")
    for what, ratio, bar in table:
        print(f"| {what} | {ratio:.3g} | {bar} |")


if __name__ == "__main__":
    main()
