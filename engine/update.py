# SPDX-License-Identifier: Apache-2.0
"""From gradients to weights: one step of the optimiser, or none, without waiting for the device.

Whether a gradient is finite is known on the device alone. The host goes on: optimiser, weight
average and statistics get the answer as a tensor and leave out the step by themselves. Which steps
were left out is read when somebody asks, as for a line of the log.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from engine.state import TrainState
from engine.statistics import Statistics
from runtime import distributed
from runtime.errors import Diverged

MAX_SKIPPED_IN_A_ROW = 100


class Update:
    """The steps of a training.

    `log` gets a line for every step that was left out.
    """

    def __init__(
        self, state: TrainState, clip_grad: float | None, log: Callable[[str], None]
    ) -> None:
        self.state, self.clip_grad, self.log = state, clip_grad, log
        self.parameters = [item for item in state.net.parameters() if item.requires_grad]
        self.statistics = Statistics(state.net)
        self.skipped_in_a_row, self.diverged = 0, False
        self._unread: list[tuple[int, Tensor]] = []  # (iteration, whether it was left out)

    def begin(self) -> None:
        """Before the first forward of a step."""
        self.statistics.remember()

    @torch.no_grad()
    def finish(self) -> None:
        """After the last backward of a step: weights, moments, average and statistics.

        All of them stay as they were if the norm of the gradient is not finite.
        """
        state = self.state
        state.scaler.unscale_(state.optimizer)
        gradients = [item.grad for item in self.parameters if item.grad is not None]
        norm = state.holding.whole(nn.utils.get_total_norm(gradients))
        skipped = ~torch.isfinite(norm)
        if self.clip_grad is not None:
            nn.utils.clip_grads_with_norm_(self.parameters, self.clip_grad, norm)
        self.statistics.restore(skipped)
        self._step(skipped)
        state.scaler.update()
        self._unread.append((state.progress.iteration, skipped))

    def _step(self, skipped: Tensor) -> None:
        """Optimiser and average. For an optimiser that cannot leave out a step by itself the host
        has to wait for the answer.
        """
        optimizer, ema = self.state.optimizer, self.state.ema
        if can_skip(optimizer):
            vars(optimizer).update(grad_scale=None, found_inf=skipped.float())
            optimizer.step()
        elif not skipped:
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)  # first: the average needs memory for a moment
        if ema is not None:
            ema.update_parameters(self.state.net, skipped)

    def report(self) -> None:
        """Count the steps that were left out since the last call; waits for the device."""
        unread, self._unread = self._unread, []
        if not unread:
            return
        progress = self.state.progress
        answers = torch.stack([skipped for _, skipped in unread]).tolist()
        for (iteration, _), skipped in zip(unread, answers, strict=True):
            self.skipped_in_a_row = self.skipped_in_a_row + 1 if skipped else 0
            if skipped:
                progress.skipped += 1
                self.log(
                    f"step {iteration}: gradient is not finite, step skipped "
                    f"({progress.skipped} so far)"
                )
            self.diverged = self.diverged or self.skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW

    def end_if_diverged(self) -> None:
        """Diverged, on every rank, if nothing but steps that were left out came for too long.

        Collective, because ranks may ask for their reports at different steps.
        """
        if distributed.any_rank(self.diverged):
            raise Diverged(
                f"{MAX_SKIPPED_IN_A_ROW} steps in a row had no finite gradient: training "
                "diverged; lower --lr, or use --precision bf16 or fp32"
            )


def can_skip(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a step of `optimizer` does nothing where its `found_inf` is 1: torch's fused ones."""
    return bool(getattr(optimizer, "_step_supports_amp_scaling", False))
