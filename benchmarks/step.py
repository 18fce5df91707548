# SPDX-License-Identifier: Apache-2.0
"""A training step of `ocrnet.HRNet_Mscale` with RMI loss, against the step as usually written.

    python -m benchmarks.step --quick       # four channels wide, 64x64: seconds
    python -m benchmarks.step               # two images of 256x256: a minute

The usual step copies every buffer before the forward pass, asks the device whether the gradient is
finite, and steps with torch's default optimiser; the network is as its layers are written. Both
sides have the same layers, loss and numbers up to float noise. One thread. Promised: at most 0.9 of
its time and no more memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from assembly.network import suit_device
from assembly.optimiser import make_optimizer
from benchmarks.measure import Measured, peak_in_new_process, print_table, time_in_turn
from benchmarks.program import make_parser
from datasets.batch import Batch
from datasets.samplers import TrainSampler
from engine.compute import Platform
from engine.feed import Feed, Group
from engine.loop import Trainer
from engine.loop_options import LoopOptions
from engine.meter import Meter
from engine.state import Progress, TrainState
from loss.objective import LossWeights, Objective
from loss.rmi import RMILoss
from network.build import build_net
from runtime.distributed import World
from runtime.heap import give_freed_memory_back
from runtime.outcome import StopFlag
from runtime.precision import Precision
from runtime.runlog import RunLog

ARCH, NUM_CLASSES, BATCH = "ocrnet.HRNet_Mscale", 19, 2
CPU = torch.device("cpu")
USUAL, OURS = "the usual step", "ours"
LIMITS = (0.9, 1.0)  # of time and memory
LR, MOMENTUM, DECAY = 1e-3, 0.9, 1e-4
QUICK = {"hrnet_width": 4, "hrnet_modules": (1, 1, 1), "hrnet_blocks": 1, "ocr_mid_channels": 16,
         "ocr_key_channels": 8, "segattn_bot_ch": 8}  # fmt: skip


def draw(side: int) -> Batch:
    """Noise, and labels in blocks."""
    generator = torch.Generator().manual_seed(0)
    blocks = torch.randint(NUM_CLASSES, (BATCH, 8, 8), generator=generator)
    labels = blocks.repeat_interleave(side // 8, 1).repeat_interleave(side // 8, 2)
    images = torch.randn(BATCH, 3, side, side, generator=generator)
    return Batch(images=images, labels=labels, names=["a", "b"], indices=[0, 1])


def network(quick: bool) -> nn.Module:
    """The network with random weights, the same at every call."""
    torch.manual_seed(0)
    return build_net(ARCH, NUM_CLASSES, **(QUICK if quick else {})).train()


def objective() -> Objective:
    """That of the published recipe."""
    return Objective(
        RMILoss(NUM_CLASSES),
        num_classes=NUM_CLASSES,
        ignore_label=255,
        weights=LossWeights(supervised_mscale_wt=0.05),
    )


def usual_step(quick: bool, batch: Batch) -> Callable[[], float]:
    """One step after the other of a plain loop; each call gives its loss."""
    net, loss = network(quick), objective()
    optimizer = torch.optim.SGD(net.parameters(), LR, MOMENTUM, weight_decay=DECAY)
    parameters = list(net.parameters())

    def step() -> float:
        before = [buffer.clone() for buffer in net.buffers() if buffer.is_floating_point()]
        outputs: dict[str, Tensor] = net(batch.images)
        assert batch.labels is not None
        total = loss(outputs, batch.labels).total
        total.backward()
        norm = nn.utils.get_total_norm([item.grad for item in parameters if item.grad is not None])
        assert bool(torch.isfinite(norm)) and before
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(total.detach())

    return step


def unread_feed(batch: Batch) -> Feed:
    """A loader and its sampler that nobody reads: the batch is always the same."""
    loader: DataLoader[Batch] = DataLoader([batch], batch_size=None)  # type: ignore[arg-type]
    return Feed(loader=loader, sampler=TrainSampler(lambda epoch: [(0, None)], 0, 0, 1, 1))


def our_step(quick: bool, batch: Batch) -> Callable[[], float]:
    """One step after the other of the training loop; each call gives its loss."""
    net = suit_device(network(quick), CPU)
    state = TrainState(
        net=net,
        optimizer=make_optimizer(
            net.parameters(), "sgd", lr=LR, weight_decay=DECAY, momentum=MOMENTUM
        ),
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        ema=None,
        progress=Progress(),
        facts={},
    )
    log = RunLog(Path(tempfile.gettempdir()), is_main=False, progress=False)
    trainer = Trainer(
        state=state,
        objective=objective(),
        feed=unread_feed(batch),
        platform=Platform(
            world=World(rank=0, size=1, local_rank=0, device=CPU),
            precision=Precision("fp32", "cpu"),
        ),
        log=log,
        settings=LoopOptions(max_epoch=1),
        validate=lambda epoch: {},
        stop=StopFlag(),
    )

    def step() -> float:
        meter = Meter()
        trainer._step(Group([batch], 1), meter)
        return meter.means()["loss"]

    return step


def make_side(name: str, quick: bool, side: int) -> Callable[[], float]:
    """One side after its first step, which makes the momentum."""
    torch.set_num_threads(1)
    step = (usual_step if name == USUAL else our_step)(quick, draw(side))
    step()
    return step


def make_lean_side(name: str, quick: bool, side: int) -> Callable[[], float]:
    """The same in a process that gives memory back at once from its first step on.

    What that step frees would else lie there, and hide as much of what the next one takes.
    """
    give_freed_memory_back(2**16)
    return make_side(name, quick, side)


def main() -> None:
    """Parse, compare, measure, print."""
    parser = make_parser(__doc__, rounds=5)
    parser.add_argument("--size", type=int, default=256, help="side of the images")
    parser.add_argument("--quick", action="store_true", help="a narrow network at 64x64")
    args = parser.parse_args()
    side = 64 if args.quick else args.size
    names = (USUAL, OURS)
    sides, first = {}, []
    for name in names:  # one after the other, so that dropout draws the same
        sides[name] = make_side(name, args.quick, side)
        first.append(f"{sides[name]():.5f}")
    print(f"losses after one step: {' and '.join(first)}; later ones drift apart with float noise")
    seconds = time_in_turn(sides, args.rounds)
    peaks = {name: peak_in_new_process(make_lean_side, name, args.quick, side) for name in names}
    rows = {n: Measured(seconds=seconds[n], peak_bytes=peaks[n]) for n in names}
    title = f"{ARCH}, {BATCH} images of {side}x{side}, one thread"
    print_table(f"{title} (limits {LIMITS[0]} and {LIMITS[1]:g})", rows)


if __name__ == "__main__":
    main()
