# SPDX-License-Identifier: Apache-2.0
"""The training objective: walks the outputs of a network and adds up weighted criteria.

    total = criterion(pred) + ocr_alpha * criterion(aux)
          + supervised_mscale_wt * sum over scales of criterion(pred at that scale)
          + sum of weight * loss(outputs, labels) over further terms

With boundary supervision and its weights (s, m, d, r), the first term is s * criterion(pred), and

          + boundary_wt * (m * mask term + d * direction term + r * criterion(moved pred))

is added.

Networks know nothing about labels, criteria nothing about output keys; both meet here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from loss.boundary import BoundaryLoss, depth_and_angle, enlarged, moved_scores
from network.outputs import AUX, PRED, SCALE_PREFIX
from runtime.errors import UserError


class Criterion(Protocol):
    """A loss on one map of logits."""

    def __call__(self, logits: Tensor, labels: Tensor, do_rmi: bool = True) -> Tensor:
        """Logits (B, K, H, W) and labels (B, H, W) to a scalar; `do_rmi`: with the structural
        term."""


@runtime_checkable
class Splitting(Protocol):
    """A criterion whose value has parts."""

    def split(
        self, logits: Tensor, labels: Tensor, do_rmi: bool = True
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The value, and its detached parts by name, for the log."""


@runtime_checkable
class Scheduled(Protocol):
    """A criterion that changes with the epoch."""

    def set_epoch(self, epoch: int) -> None:
        """`epoch` (from 0) is about to start."""


@runtime_checkable
class Stepped(Protocol):
    """A criterion that changes with the iteration."""

    def set_iteration(self, iteration: int) -> None:
        """`iteration` optimiser steps are done, and the next one is about to start."""


@dataclass(frozen=True)
class LossTerms:
    """`total` to differentiate; `terms` are detached scalars, unweighted, for the log.

    Terms: `main` (of `pred`), its parts `bce` and `rmi` where the criterion has them, `aux`,
    `scale_05x` ... of single scales, `mask`, `direction`, `moved` of boundary supervision, every
    further `Term` by its name, and `acc`, which is not a loss: see `pixel_accuracy`.
    """

    total: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)


@torch.no_grad()
def pixel_accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Percent of all pixels of logits (B, K, H, W) that are right; ignored ones count as wrong."""
    return 100.0 * (logits.argmax(1) == labels).sum() / max(labels.numel(), 1)


# outputs of a training forward, labels (B, H, W), ignore label -> scalar with a gradient
TermLoss = Callable[[dict[str, Tensor], Tensor, int], Tensor]


@dataclass(frozen=True, kw_only=True)
class Term:
    """A further term of the loss, in the log under its `name`."""

    name: str
    loss: TermLoss
    weight: float


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """What is added to the loss of `pred`; a weight of 0 switches an output off.

    `ocr_alpha` is that of `aux` of any network, `supervised_mscale_wt` of every `pred_*`.
    `further` terms bring their own.
    """

    ocr_alpha: float = 0.4
    supervised_mscale_wt: float = 0.0
    further: tuple[Term, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AuxRules:
    """How `aux` is compared: with the structural term (`rmi`), if the criterion has one.

    `small` is the criterion of an `aux` that is compared at its own size, with the nearest labels;
    without it the map is enlarged.
    """

    rmi: bool = False
    small: Criterion | None = None


@dataclass(frozen=True, kw_only=True)
class BoundarySupervision:
    """Boundary terms: `parts` weights main, mask, direction and moved scores, `weight` the sum."""

    loss: BoundaryLoss
    weight: float = 1.0
    parts: tuple[float, float, float, float] = (0.8, 5.0, 0.6, 1.0)


PUBLISHED_WEIGHTS, PLAIN_AUX = LossWeights(), AuxRules()


class Objective:
    """Weighted sum of one criterion over the outputs of a network."""

    def __init__(
        self,
        criterion: Criterion,
        *,
        num_classes: int,
        ignore_label: int,
        weights: LossWeights = PUBLISHED_WEIGHTS,
        aux: AuxRules = PLAIN_AUX,
        boundary: BoundarySupervision | None = None,
        align_corners: bool = False,
        log_accuracy: bool = False,
    ) -> None:
        """`align_corners`: how smaller maps are enlarged. `log_accuracy` adds the term `acc`."""
        self.criterion = criterion
        self.num_classes = num_classes
        self.ignore_label = ignore_label
        self.weights, self.aux, self.boundary = weights, aux, boundary
        self.align_corners = align_corners
        self.log_accuracy = log_accuracy

    def __call__(
        self,
        outputs: dict[str, Tensor],
        labels: Tensor,
        extras: Mapping[str, Tensor] | None = None,
    ) -> LossTerms:
        """Loss of the outputs of a training forward (network/outputs.py) for labels (B, H, W).

        extras: maps (B, H, W) besides the labels, which boundary supervision needs. Raises
        ValueError for another class count, UserError if single scales are to be supervised but the
        network has no such output, and what a further term raises.
        """
        pred = outputs[PRED]
        if pred.shape[1] != self.num_classes:
            raise ValueError(
                f"the network predicts {pred.shape[1]} classes, the labels have {self.num_classes}"
            )
        terms: dict[str, Tensor] = {}
        if isinstance(self.criterion, Splitting):
            total, parts = self.criterion.split(pred, labels)
        else:
            total, parts = self.criterion(pred, labels), {}
        terms["main"] = total.detach()
        terms.update(parts)
        if self.boundary is not None:
            added, boundary_terms = self._boundary(self.boundary, outputs, labels, extras or {})
            total = self.boundary.parts[0] * total + added
            terms.update(boundary_terms)
        if self.log_accuracy:
            terms["acc"] = pixel_accuracy(pred, labels)
        for name, logits, weight, do_rmi in self._extras(outputs):
            value = self._extra(name, logits, labels, do_rmi)
            terms[name] = value.detach()
            total = total + weight * value
        for term in self.weights.further:
            value = term.loss(outputs, labels, self.ignore_label)
            terms[term.name] = value.detach()
            total = total + term.weight * value
        return LossTerms(total, terms)

    def _boundary(
        self,
        boundary: BoundarySupervision,
        outputs: dict[str, Tensor],
        labels: Tensor,
        extras: Mapping[str, Tensor],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum of the boundary terms, and the terms."""
        depth, angle = depth_and_angle(extras)
        mask, direction = enlarged(outputs, labels.shape[1:])
        targets = boundary.loss.targets(labels, depth, angle)
        mask_loss, direction_loss = boundary.loss.terms(mask, direction, targets)
        moved = self.criterion(moved_scores(outputs[PRED], mask, direction), labels, do_rmi=False)
        _, *weights = boundary.parts
        terms = {"mask": mask_loss, "direction": direction_loss, "moved": moved}
        parts = [w * term for w, term in zip(weights, terms.values(), strict=True)]
        total = boundary.weight * (parts[0] + parts[1] + parts[2])
        return total, {name: term.detach() for name, term in terms.items()}

    def _extra(self, name: str, logits: Tensor, labels: Tensor, do_rmi: bool) -> Tensor:
        """The loss of another map of logits, at the size of the labels or at its own."""
        if logits.shape[2:] == labels.shape[1:]:
            return self.criterion(logits, labels, do_rmi=do_rmi)
        if name == AUX and self.aux.small is not None:
            nearest = F.interpolate(labels[:, None].float(), logits.shape[2:], mode="nearest")
            return self.aux.small(logits, nearest[:, 0].long())
        logits = F.interpolate(
            logits, labels.shape[1:], mode="bilinear", align_corners=self.align_corners
        )
        return self.criterion(logits, labels, do_rmi=do_rmi)

    def _extras(self, outputs: dict[str, Tensor]) -> Iterator[tuple[str, Tensor, float, bool]]:
        """(term name, logits, weight, do_rmi) of every supervised output except `pred`."""
        weights = self.weights
        if AUX in outputs and weights.ocr_alpha > 0:
            yield AUX, outputs[AUX], weights.ocr_alpha, self.aux.rmi
        if weights.supervised_mscale_wt <= 0:
            return
        scales = [key for key in outputs if key.startswith(SCALE_PREFIX)]
        if not scales:
            raise UserError(
                "--supervised_mscale_loss_wt is set, but this arch has no single-scale "
                "predictions; use an arch with _Mscale or leave the flag out"
            )
        for key in scales:
            name = "scale_" + key.removeprefix(SCALE_PREFIX)
            yield name, outputs[key], weights.supervised_mscale_wt, False

    def set_epoch(self, epoch: int) -> None:
        """Tell a criterion that changes during training; call before every epoch."""
        if isinstance(self.criterion, Scheduled):
            self.criterion.set_epoch(epoch)

    def set_iteration(self, iteration: int) -> None:
        """The same for a criterion that changes with the number of optimiser steps."""
        if isinstance(self.criterion, Stepped):
            self.criterion.set_iteration(iteration)

    def counters(self) -> dict[str, int]:
        """Numbers of numerical repairs so far, for the log: `rmi_jitter`, if there is RMI."""
        count = getattr(self.criterion, "num_jittered", None)
        return {} if count is None else {"rmi_jitter": count}
