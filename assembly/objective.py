# SPDX-License-Identifier: Apache-2.0
"""Flags to losses: the training objective, and the plain cross entropy of validation."""

from __future__ import annotations

from typing import Protocol

from loss.boundary import BoundaryLoss
from loss.cross_entropy import CrossEntropy, HardPixels, ImageWeightedCrossEntropy
from loss.objective import AuxRules, BoundarySupervision, Criterion, LossWeights, Objective
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
            row_wt=settings.hanet.attention_loss,
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


def build_criterion(settings: Settings, spec: LabelSet) -> Criterion:
    """RMI before image-weighted before relaxed before plain cross entropy, as published."""
    loss, weights = settings.loss, settings.LOSS
    if loss.rmi_loss:
        return RMILoss(spec.num_classes)
    if loss.img_wt_loss:
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
    if loss.jointwtborder:
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
    return build_cross_entropy(settings, spec)


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
