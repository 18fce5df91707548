# SPDX-License-Identifier: Apache-2.0
"""Means of the loss terms between two lines of the log."""

from __future__ import annotations

from torch import Tensor

from loss.objective import LossTerms


class Meter:
    """Running means of the loss terms since the last report, kept on the device."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count = 0

    def add(self, loss: LossTerms) -> None:
        for name, value in {"loss": loss.total.detach(), **loss.terms}.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.float()
        self.count += 1

    def means(self) -> dict[str, float]:
        return {name: float(value) / max(self.count, 1) for name, value in self.sums.items()}
