# SPDX-License-Identifier: Apache-2.0
"""The training objective: walks the outputs of a network and adds up weighted criteria.

    total = criterion(pred) + ocr_alpha * criterion(aux)
          + supervised_mscale_wt * sum over scales of criterion(pred at that scale)

Networks know nothing of labels, criteria nothing of output keys; both meet here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor
from torch.nn import functional as F

from config import UserError
from network.outputs import AUX, PRED, SCALE_PREFIX


class Criterion(Protocol):
    """A loss of one map of logits."""

    def __call__(self, logits: Tensor, labels: Tensor, do_rmi: bool = True) -> Tensor:
        """Logits (B, K, H, W) and labels (B, H, W) to a scalar; `do_rmi`: structure too."""


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


@dataclass(frozen=True)
class LossTerms:
    """`total` to differentiate; `terms` are detached scalars, unweighted, for the log.

    Terms: `main` (of `pred`), its parts `bce` and `rmi` where the criterion has them, `aux`,
    and `scale_05x` ... of single scales.
    """

    total: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)


class Objective:
    """Weighted sum of one criterion over the outputs of a network."""

    def __init__(
        self,
        criterion: Criterion,
        *,
        num_classes: int,
        ignore_label: int,
        ocr_alpha: float = 0.4,
        ocr_aux_rmi: bool = False,
        supervised_mscale_wt: float = 0.0,
        align_corners: bool = False,
    ) -> None:
        """`ocr_alpha` weights `aux`, `supervised_mscale_wt` every `pred_*`; 0 switches off."""
        self.criterion = criterion
        self.num_classes = num_classes
        self.ignore_label = ignore_label
        self.ocr_alpha = ocr_alpha
        self.ocr_aux_rmi = ocr_aux_rmi
        self.supervised_mscale_wt = supervised_mscale_wt
        self.align_corners = align_corners

    def __call__(self, outputs: dict[str, Tensor], labels: Tensor) -> LossTerms:
        """Loss of the outputs of a training forward (network/outputs.py) for labels (B, H, W).

        Raises ValueError for another class count, UserError if single scales are to be
        supervised but the network gives none.
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
        for name, logits, weight, do_rmi in self._extras(outputs):
            logits, truth = self._same_size(name, logits, labels)
            value = self.criterion(logits, truth, do_rmi=do_rmi)
            terms[name] = value.detach()
            total = total + weight * value
        return LossTerms(total, terms)

    def _same_size(self, name: str, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and labels at one size: for a smaller `aux` that of the logits.

        Source: of the latter, "Cars Can't Fly up in the Sky" (2020), auxiliary loss.
        """
        size = labels.shape[1:]
        if logits.shape[2:] == size:
            return logits, labels
        if name == AUX:
            nearest = F.interpolate(labels[:, None].float(), logits.shape[2:], mode="nearest")
            return logits, nearest[:, 0].to(labels.dtype)
        full = F.interpolate(logits, size, mode="bilinear", align_corners=self.align_corners)
        return full, labels

    def _extras(self, outputs: dict[str, Tensor]) -> Iterator[tuple[str, Tensor, float, bool]]:
        """(term name, logits, weight, do_rmi) of every supervised output but `pred`."""
        if AUX in outputs and self.ocr_alpha > 0:
            yield AUX, outputs[AUX], self.ocr_alpha, self.ocr_aux_rmi
        if self.supervised_mscale_wt <= 0:
            return
        scales = [key for key in outputs if key.startswith(SCALE_PREFIX)]
        if not scales:
            raise UserError(
                "--supervised_mscale_loss_wt is set, but this arch has no single-scale "
                "predictions; use an arch with _Mscale or leave the flag out"
            )
        for key in scales:
            name = "scale_" + key.removeprefix(SCALE_PREFIX)
            yield name, outputs[key], self.supervised_mscale_wt, False

    def set_epoch(self, epoch: int) -> None:
        """Tell a criterion that changes in the course of training; call before every epoch."""
        if isinstance(self.criterion, Scheduled):
            self.criterion.set_epoch(epoch)

    def counters(self) -> dict[str, int]:
        """Numbers of numerical repairs so far, for the log: `rmi_jitter`, if there is RMI."""
        count = getattr(self.criterion, "num_jittered", None)
        return {} if count is None else {"rmi_jitter": count}
