# SPDX-License-Identifier: Apache-2.0
"""Flags to losses: the training objective, and the plain cross entropy of validation."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from loss.boundary import BoundaryLoss
from loss.cross_entropy import CrossEntropy, HardPixels, ImageWeightedCrossEntropy
from loss.height import supervised_rows
from loss.objective import (
    AuxRules,
    BoundarySupervision,
    Criterion,
    LossWeights,
    Objective,
    Term,
    TermLoss,
)
from loss.relaxed import RelaxedCrossEntropy
from loss.rmi import RMILoss
from runtime.errors import UserError
from settings import Settings

# --cls_wt_loss: the fixed weights of the 19 classes, by train id, that HANet was published with
# (arXiv 2003.05128, section 4.1: class-balanced cross entropy).
CITYSCAPES_WEIGHTS = (
    0.8373, 0.9180, 0.8660, 1.0345, 1.0166, 0.9969, 0.9754, 1.0489, 0.8786, 1.0023,
    0.9539, 0.9843, 1.1116, 0.9037, 1.0865, 1.0955, 1.0865, 1.1529, 1.0507,
)  # fmt: skip


class LabelSet(Protocol):
    """What a loss needs to know of a data set."""

    @property
    def num_classes(self) -> int:
        """Labels 0..num_classes-1 are trained."""

    @property
    def ignore_label(self) -> int:
        """The label of a pixel that does not count."""


def build_objective(settings: Settings, spec: LabelSet) -> Objective:
    """The objective that the flags describe for labels as in `spec`.

    Raises UserError for a strict boundary class that the data set does not have.
    """
    weights = settings.LOSS
    return Objective(
        build_criterion(settings, spec),
        num_classes=spec.num_classes,
        ignore_label=spec.ignore_label,
        weights=LossWeights(
            ocr_alpha=weights.OCR_ALPHA,
            supervised_mscale_wt=weights.SUPERVISED_MSCALE_WT,
            further=further_terms(settings),
        ),
        aux=AuxRules(rmi=weights.OCR_AUX_RMI, small=build_cross_entropy(settings, spec)),
        boundary=_boundary(settings, spec),
        align_corners=settings.MODEL.align_corners,
        log_accuracy=settings.loss.log_accuracy,
    )


def _boundary(settings: Settings, spec: LabelSet) -> BoundarySupervision | None:
    """Boundary supervision where --dt_offset_wt asks for it."""
    weight, weights = settings.loss.dt_offset_wt, settings.LOSS
    if weight <= 0:
        return None
    loss = BoundaryLoss(spec.ignore_label, official=weights.BOUNDARY_OFFICIAL)
    return BoundarySupervision(loss=loss, weight=weight, parts=weights.BOUNDARY_WEIGHTS)


def further_terms(settings: Settings) -> tuple[Term, ...]:
    """Those of TERMS whose weight is not 0."""
    weights = {name: row.weight(settings) for name, row in TERMS.items()}
    return tuple(
        Term(name=name, loss=TERMS[name].loss, weight=weight)
        for name, weight in weights.items()
        if weight != 0
    )


def build_criterion(settings: Settings, spec: LabelSet) -> Criterion:
    """The first of CRITERIA that is asked for, else plain cross entropy."""
    build = next((row.build for row in CRITERIA if row.wanted(settings)), build_cross_entropy)
    return build(settings, spec)


def build_rmi(settings: Settings, spec: LabelSet) -> RMILoss:
    """Region mutual information."""
    return RMILoss(spec.num_classes)


def build_image_weighted(settings: Settings, spec: LabelSet) -> ImageWeightedCrossEntropy:
    """Class weights of each batch or image; UserError for a histogram that counts nothing more."""
    loss, weights = settings.loss, settings.LOSS
    # in HMSA --batch_weighting changes nothing: its weights are the batch's either way
    per_image = weights.HANET_WEIGHTS and not loss.batch_weighting
    official = weights.HISTOGRAM_OFFICIAL
    if official and spec.ignore_label != spec.num_classes:
        raise UserError(
            "LOSS.HISTOGRAM_OFFICIAL has no effect here: it counts an ignore label that equals "
            f"the class count, this set has {spec.num_classes} classes and ignores "
            f"{spec.ignore_label}; leave it out"
        )
    return ImageWeightedCrossEntropy(
        spec.ignore_label,
        loss.wt_bound,
        per_image,
        mean_of_images=weights.IMAGE_MEAN,
        official_histogram=official,
    )


def build_relaxed(settings: Settings, spec: LabelSet) -> RelaxedCrossEntropy:
    """Labels relaxed at boundaries; UserError for a strict class that the data set has not."""
    loss, weights = settings.loss, settings.LOSS
    strict = tuple(loss.strict_bdr_cls or ())
    unknown = [k for k in strict if not 0 <= k < spec.num_classes]
    if unknown:
        raise UserError(
            f"--strict_bdr_cls {','.join(map(str, strict))}: there is no class {unknown[0]}; "
            f"the data set has 0..{spec.num_classes - 1}"
        )
    return RelaxedCrossEntropy(
        spec.ignore_label,
        loss.wt_bound,
        strict,
        loss.rlx_off_epoch,
        batch_border_weights=weights.BATCH_BORDER_WEIGHTS,
        rlx_off_iter=loss.rlx_off_iter,
        batch_weighting=weights.HANET_WEIGHTS and loss.batch_weighting,
        mean_of_images=weights.HANET_WEIGHTS,
    )


def build_cross_entropy(settings: Settings, spec: LabelSet) -> CrossEntropy:
    """Plain cross entropy; UserError for a wrong number of class weights."""
    loss = settings.loss
    weights, ohem = settings.LOSS.CLASS_WEIGHTS, None
    if loss.cls_wt_loss:
        weights = CITYSCAPES_WEIGHTS
    if weights is not None and (len(weights) != spec.num_classes or min(weights) < 0):
        raise UserError(
            f"LOSS.CLASS_WEIGHTS holds {len(weights)} numbers, the smallest {min(weights):g}; "
            f"{spec.num_classes} of at least 0 are wanted, one a class"
        )
    if loss.ohem_threshold is not None:
        ohem = HardPixels(threshold=loss.ohem_threshold, min_kept=loss.ohem_min_kept)
    return CrossEntropy(
        spec.ignore_label, average=loss.loss_average, class_weights=weights, ohem=ohem
    )


def build_val_loss(spec: LabelSet) -> Criterion:
    """Validation is always measured by plain cross entropy."""
    return CrossEntropy(spec.ignore_label)


class CriterionRow(NamedTuple):
    """A criterion of the predictions: when it is `wanted`, and what builds it."""

    wanted: Callable[[Settings], object]
    build: Callable[[Settings, LabelSet], Criterion]


class TermRow(NamedTuple):
    """A further term of the loss, on wherever its weight is not 0."""

    loss: TermLoss
    weight: Callable[[Settings], float]


CRITERIA: tuple[CriterionRow, ...] = (  # the first one that is wanted, in the published order
    CriterionRow(lambda s: s.loss.rmi_loss, build_rmi),
    CriterionRow(lambda s: s.loss.img_wt_loss, build_image_weighted),
    CriterionRow(lambda s: s.loss.jointwtborder, build_relaxed),
)

TERMS: dict[str, TermRow] = {  # by their name in the log
    "rows": TermRow(supervised_rows, weight=lambda s: s.hanet.attention_loss),
}
