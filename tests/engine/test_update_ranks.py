# SPDX-License-Identifier: Apache-2.0
"""Two ranks leave out the same steps, whichever of them has the gradient that is not finite.

So they do with split weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from engine import update
from engine.feed import Group
from engine.meter import Meter
from engine.sharded import Sharded
from engine.state import Progress, TrainState
from engine.whole import WHOLE, Whole
from runtime.distributed import World
from runtime.runlog import RunLog
from settings.kinds import OPTIMISERS
from tests.engine.test_loop import Batches, pictures
from tests.engine.test_sharded import start
from tests.engine.test_update import assert_same, everything, trained
from tests.program import free_port

pytestmark = pytest.mark.slow

STEPS, BAD_STEPS = 6, (2, 3)


def train(rank: int, folder: Path, with_bad: bool) -> dict[str, Any]:
    """Steps on images of this rank; in two more steps those of rank 1 have no number."""
    log = RunLog(folder / f"{rank}{with_bad}", is_main=rank == 0, progress=False)
    trainer = trained("adamw", pictures(1), log, clip_grad=1.0)
    trainer.world = World(rank=rank, size=2, local_rank=0, device=torch.device("cpu"))
    trainer.model = trainer.joined()
    torch.manual_seed(rank)
    for number in range(STEPS):
        images = [torch.rand(1, 3, 8, 8)]
        if with_bad and number in BAD_STEPS:
            images.insert(0, torch.full((1, 3, 8, 8), torch.nan if rank else 1.0))
        for image in images:
            trainer._step(Group(list(Batches([image])), 1), Meter())
            trainer.state.progress.iteration += 1
    if with_bad:
        trainer.update.report()
        assert trainer.state.progress.skipped == len(BAD_STEPS)
    return everything(trainer)


def diverge(rank: int, folder: Path) -> str:
    """Rank 0 has read that its steps were left out, rank 1 has not; what both are told."""
    trainer = trained(
        "adamw", pictures(1), RunLog(folder / f"{rank}", is_main=False, progress=False)
    )
    update.MAX_SKIPPED_IN_A_ROW = 2
    trainer.update._unread = [(step, torch.tensor(True)) for step in range(2)]
    if rank == 0:
        trainer.update.report()
    try:
        trainer.update.end_if_diverged()
    except RuntimeError as error:
        return str(error)
    return "goes on"


def split_or_not(rank: int, name: str, holding: Whole) -> tuple[dict[str, Any], ...]:
    """Weights, their average and moments after steps of which the second has no number."""
    net, optimizer, ema = start(name, holding)
    state = TrainState(
        net=net, optimizer=optimizer, scaler=torch.amp.GradScaler("cpu", enabled=False), ema=ema,
        progress=Progress(), facts={}, holding=holding,
    )  # fmt: skip
    model = net if holding.averages else DistributedDataParallel(net)
    steps = update.Update(state, 1.0, str)
    torch.manual_seed(rank)
    for number in range(4):
        steps.begin()
        images = torch.rand(2, 3, 8, 8)
        model(images * torch.nan if rank and number == 1 else images).square().sum().backward()
        steps.finish()
    names = [key for key, _ in net.named_parameters()]
    moments = {names[key]: kept for key, kept in optimizer.state_dict()["state"].items()}
    return tuple(
        # biases that a norm takes away again have rounding alone for a gradient
        {key: value for key, value in holding.whole_state(part).items() if "weight" in key}
        for part in (net.state_dict(), ema.module.state_dict(), moments)
    )


def work(rank: int, folder: Path, port: str) -> None:
    """What either process does."""
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    results = (train(rank, folder, True), train(rank, folder, False), diverge(rank, folder))
    world = World(rank=rank, size=2, local_rank=0, device=torch.device("cpu"))
    for name in OPTIMISERS:
        both = [split_or_not(rank, name, holding) for holding in (WHOLE, Sharded(world))]
        if rank == 0:  # which has whole tensors
            torch.testing.assert_close(*both)
            assert both[0][1]["head.weight"].isfinite().all()
    torch.save(results, folder / f"{rank}.pth")
    dist.destroy_process_group()


def test_ranks_leave_out_the_same_steps_and_end_together(tmp_path: Path) -> None:
    mp.spawn(work, (tmp_path, free_port()), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pth", weights_only=False) for rank in (0, 1))
    for with_bad, without, said in (first, second):
        assert_same(with_bad, without)
        assert "2 steps in a row had no finite gradient" in said
    for name, value in first[0].items():
        if name.endswith(("weight", "bias", "exp_avg", "exp_avg_sq")):
            assert torch.equal(value, second[0][name]), name
