# SPDX-License-Identifier: Apache-2.0
"""A training step never makes the host wait for the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assembly.optimiser import make_optimizer
from datasets.batch import Batch
from engine.feed import Group
from engine.meter import Meter
from engine.optim import WeightAverage
from loss.boundary import BoundaryLoss
from loss.cross_entropy import CrossEntropy, HardPixels, ImageWeightedCrossEntropy
from loss.height import supervised_rows
from loss.objective import AuxRules, BoundarySupervision, LossWeights, Objective, Term
from loss.relaxed import RelaxedCrossEntropy
from loss.rmi import RMILoss
from loss.soft_target import SoftTargetCrossEntropy
from network.outputs import AUX, DIRECTION, MASK, PRED, ROW_LOGITS
from runtime.runlog import RunLog
from settings.kinds import OPTIMISERS
from tests.deploy.test_families import DYNAMIC, STATIC, build
from tests.engine.test_loop import Tiny, make_trainer, pictures
from tests.engine.waits import through, watched
from tests.network.tiny import tiny_net
from transforms.boundary import ANGLE, DEPTH

Call = Callable[[], object]


@pytest.mark.parametrize(
    "waits",
    [
        lambda x: x[0].item(),
        lambda x: x.tolist(),
        lambda x: bool((x > 0).any()),
        lambda x: x[x > 0],
        lambda x: x.masked_select(x > 0),
        lambda x: x.nonzero(),
        lambda x: torch.where(x > 0),
        lambda x: x.long().bincount(minlength=3),
        lambda x: torch.linalg.cholesky(torch.eye(3)),
        lambda x: x.repeat_interleave(x.long()),
        lambda x: torch.tensor([1.0], device="meta"),
        lambda x: torch.eye(3).to("meta"),
        lambda x: torch.empty(4, device="meta").copy_(x),
    ],
)
def test_the_watch_sees_what_waits(waits: Callable[[Tensor], object]) -> None:
    with watched() as found:
        waits(torch.ones(4))
    assert found and "test_waits.py" in found[0]


def test_the_watch_lets_pass_what_does_not_wait() -> None:
    x = torch.rand(4, requires_grad=True)
    with watched() as found:
        x[torch.arange(2)].where(x[:2] > 0.5, 0.0).sum().backward()
        torch.tensor([1.0]).to("meta", non_blocking=True)
    assert found == []


FAMILIES = [*STATIC, *DYNAMIC]


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "options"), FAMILIES, ids=[arch for arch, _ in FAMILIES])
def test_no_family_waits_in_forward_or_backward(arch: str, options: dict[str, Any]) -> None:
    trained = {name: value for name, value in options.items() if name != "n_scales"}
    net = build(arch, trained).train()
    # what is made on the host shows on "meta", where the OCR head has no autocast to switch off
    for device in ("cpu",) if arch.startswith("ocrnet.") else ("cpu", "meta"):
        images, rows = torch.zeros(2, 3, 64, 96, device=device), torch.zeros(2, 64, device=device)
        if device == "cpu":
            images.normal_()
        net = net.to(device)
        with watched() as found:
            through(net(images, rows)).backward()
        assert found == []


K, IGNORE = 3, 255
CRITERIA: dict[str, Callable[[], nn.Module]] = {
    "plain": lambda: CrossEntropy(IGNORE),
    "weights": lambda: CrossEntropy(IGNORE, class_weights=[1.0, 2.0, 3.0]),
    "ohem": lambda: CrossEntropy(IGNORE, ohem=HardPixels(threshold=0.7, min_kept=100)),
    "all pixels": lambda: CrossEntropy(IGNORE, average="all"),
    "batch weights": lambda: ImageWeightedCrossEntropy(IGNORE),
    "image weights": lambda: ImageWeightedCrossEntropy(IGNORE, per_image=True, mean_of_images=True),
    "official histogram": lambda: ImageWeightedCrossEntropy(K, official_histogram=True),
    "relaxed": lambda: RelaxedCrossEntropy(IGNORE, strict=(1,)),
    "relaxed, over": lambda: RelaxedCrossEntropy(
        IGNORE, rlx_off_epoch=0, batch_border_weights=True
    ),
    "rmi": lambda: RMILoss(K),
}

ON_META = [name for name in CRITERIA if name != "rmi"]  # it is outside of autocast: not on "meta"


@pytest.mark.parametrize(
    ("name", "device"),
    [
        *((name, "cpu") for name in CRITERIA),
        *(pytest.param(name, "meta", marks=pytest.mark.slow) for name in ON_META),
    ],
)
def test_no_loss_waits(name: str, device: str) -> None:
    """The criterion on every output there is, with every further term."""
    objective = Objective(
        CRITERIA[name](),
        num_classes=K,
        ignore_label=IGNORE,
        weights=LossWeights(
            supervised_mscale_wt=0.1, further=(Term(name="rows", loss=supervised_rows, weight=1),)
        ),
        aux=AuxRules(rmi=True),
        boundary=BoundarySupervision(loss=BoundaryLoss(IGNORE)),
        log_accuracy=True,
    )
    objective.set_epoch(1)
    sizes = {
        PRED: (K, 24, 32), "pred_05x": (K, 12, 16), AUX: (K, 12, 16), MASK: (2, 12, 16),
        DIRECTION: (8, 12, 16), ROW_LOGITS: (K, 4),
    }  # fmt: skip
    outputs = {
        key: torch.randn(2, *size).to(device).requires_grad_() for key, size in sizes.items()
    }
    labels = torch.randint(0, K, (2, 24, 32))
    labels[:, :8] = IGNORE
    labels = labels.to(device)
    extras = {DEPTH: torch.ones_like(labels), ANGLE: torch.ones_like(labels)}
    if device == "meta":  # constants of the criterion go there once
        objective(outputs, labels, extras)
    meter = Meter()
    with watched() as found:
        loss = objective(outputs, labels, extras)
        loss.total.backward()
        meter.add(loss)
    assert found == []


def test_no_loss_of_a_classifier_waits() -> None:
    logits, labels = torch.randn(4, K, requires_grad=True), torch.tensor([0, 1, 2, 1])
    with watched() as found:
        SoftTargetCrossEntropy(0.1)(logits, labels).backward()
    assert found == []


def steps_of(log: RunLog, name: str, device: str = "cpu", **settings: object) -> Call:
    """Three steps of two batches each with the optimiser `name`, the second without a gradient."""
    net = Tiny().to(device)
    trainer = make_trainer(pictures(6), log, net, accum_steps=2, **settings)
    trainer.state.optimizer = make_optimizer(net.parameters(), name, lr=0.1, weight_decay=0.01)
    trainer.state.ema = WeightAverage(net, 0.9)
    trainer.state.scaler = torch.amp.GradScaler(device)
    batches: list[Batch] = list(trainer.loader)
    batches[3].images[0, 0, 0, 0] = torch.nan

    def run() -> None:
        meter = Meter()
        for group in (batches[:2], batches[2:4], batches[4:]):
            trainer._step(Group(group, 2), meter)
            trainer.state.progress.iteration += 1

    return run


@pytest.mark.parametrize("name", OPTIMISERS)
def test_no_step_waits(name: str, log: RunLog) -> None:
    """Accumulated, clipped, with a loss scale, averaged; and one without a finite gradient."""
    run = steps_of(log, name, clip_grad=1.0)
    run()
    with watched() as found:
        run()
    assert found == []


@pytest.mark.slow
@pytest.mark.parametrize("name", CRITERIA)
def test_no_step_of_a_real_network_waits(name: str, log: RunLog) -> None:
    net = tiny_net().train()
    trainer = make_trainer([torch.randn(2, 3, 64, 96)], log, net, channels_last=True)
    trainer.state.optimizer = make_optimizer(net.parameters(), "sgd", lr=0.1, momentum=0.9)
    trainer.objective = Objective(CRITERIA[name](), num_classes=K, ignore_label=IGNORE)
    labels = torch.randint(0, K, (2, 64, 96), dtype=torch.uint8)
    images = torch.randint(0, 256, (2, 64, 96, 3), dtype=torch.uint8)
    batch = Batch(images=images, labels=labels, names=["a", "b"], indices=[0, 1])
    with watched() as found:
        trainer._step(Group([batch], 1), Meter())
    assert found == []


@pytest.mark.gpu
@pytest.mark.parametrize("name", OPTIMISERS)
def test_no_step_waits_for_a_gpu(name: str, log: RunLog) -> None:
    run = steps_of(log, name, device="cuda", clip_grad=1.0)
    run()
    torch.cuda.set_sync_debug_mode("error")
    try:
        run()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.parametrize("name", CRITERIA)
def test_no_loss_waits_for_a_gpu(name: str) -> None:
    criterion = CRITERIA[name]()
    logits = torch.randn(2, K, 24, 32, device="cuda", requires_grad=True)
    labels = torch.randint(0, K, (2, 24, 32), device="cuda")
    criterion(logits, labels).backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        criterion(logits, labels).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
