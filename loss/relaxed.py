# SPDX-License-Identifier: Apache-2.0
"""Boundary label relaxation: at class boundaries any class of the neighbourhood is right.

Source: Zhu et al., "Improving Semantic Segmentation via Video Propagation and Label
Relaxation", CVPR 2019, section 3.3; class weights as in `cross_entropy`, per image.

Targets (B, K+1, H, W) uint8 are made from the labels on their own device: entry k counts for
a pixel if class k occurs in its 3x3 neighbourhood; channel K is "ignored or outside".
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def relaxed_target(
    labels: Tensor, num_classes: int, ignore_label: int, strict: tuple[int, ...] = ()
) -> Tensor:
    """Multi-hot target (B, K+1, H, W) uint8 of labels (B, H, W).

    Pixels of the classes in `strict` keep only their own class.
    """
    own = _own_channel(labels, num_classes, ignore_label)
    padded = F.pad(own, (1, 1, 1, 1), value=num_classes)
    is_strict = torch.zeros_like(own, dtype=torch.bool)
    for number in strict:
        is_strict |= own == number
    target = own.new_zeros((len(own), num_classes + 1, *own.shape[1:]), dtype=torch.uint8)
    height, width = own.shape[1:]
    for dy in range(3):
        for dx in range(3):
            near = torch.where(is_strict, own, padded[:, dy : dy + height, dx : dx + width])
            target.scatter_(1, near.unsqueeze(1), 1)
    return target


def marked_target(labels: Tensor, num_classes: int, ignore_label: int) -> Tensor:
    """One-hot target (B, K+1, H, W) uint8 with 2 instead of 1 on both sides of a boundary.

    A pixel is on a boundary if one of its 4 neighbours inside the image has another label,
    ignored ones included. Used once the relaxation has ended.
    """
    own = _own_channel(labels, num_classes, ignore_label)
    boundary = torch.zeros_like(own, dtype=torch.bool)
    below = own[:, 1:] != own[:, :-1]
    right = own[:, :, 1:] != own[:, :, :-1]
    boundary[:, 1:] |= below
    boundary[:, :-1] |= below
    boundary[:, :, 1:] |= right
    boundary[:, :, :-1] |= right
    target = own.new_zeros((len(own), num_classes + 1, *own.shape[1:]), dtype=torch.uint8)
    return target.scatter_(1, own.unsqueeze(1), (1 + boundary.to(torch.uint8)).unsqueeze(1))


def _own_channel(labels: Tensor, num_classes: int, ignore_label: int) -> Tensor:
    outside = (labels < 0) | (labels >= num_classes) | (labels == ignore_label)
    return labels.long().masked_fill(outside, num_classes)


class RelaxedCrossEntropy(nn.Module):
    """Cross entropy in which a boundary pixel may take any class of its neighbourhood.

    `bound` limits the weight of rare classes (1 + bound * (1 - share of the image's marks));
    `relaxing` is True up to and in epoch `rlx_off_epoch`, or for the first `rlx_off_iter` steps;
    afterwards boundary pixels count double.
    With `batch_border_weights` every image is divided by the number of marks of every image
    of the batch in turn and the results are added, which is what the published code does.
    `batch_weighting` counts marks over the whole batch; `mean_of_images` averages over the
    images instead of adding them, as HANet's program does.
    """

    # differs: by default a pixel is divided by its own number of marks, so the loss of a batch
    # is the sum of the losses of its images. Equal to the published one for one image.

    def __init__(
        self,
        ignore_label: int = 255,
        bound: float = 1.0,
        strict: tuple[int, ...] = (),
        rlx_off_epoch: int = -1,
        batch_border_weights: bool = False,
        rlx_off_iter: int = -1,
        batch_weighting: bool = False,
        mean_of_images: bool = False,
    ) -> None:
        super().__init__()
        self.ignore_label = ignore_label
        self.bound = bound
        self.strict = strict
        self.rlx_off_epoch, self.rlx_off_iter = rlx_off_epoch, rlx_off_iter
        self.batch_border_weights = batch_border_weights
        self.batch_weighting, self.mean_of_images = batch_weighting, mean_of_images
        self.relaxing = True

    def set_epoch(self, epoch: int) -> None:
        """Relaxation ends after epoch `rlx_off_epoch`, as published; -1: never."""
        self.relaxing = self.rlx_off_epoch < 0 or epoch <= self.rlx_off_epoch

    def set_iteration(self, iteration: int) -> None:
        """With `rlx_off_iter` >= 0 relaxation ends after that many optimiser steps."""
        if self.rlx_off_iter >= 0:
            self.relaxing = iteration <= self.rlx_off_iter

    def class_weights(self, target: Tensor) -> Tensor:
        """Weights (B, K) float32 of multi-hot targets (B, K+1, H, W)."""
        counts = target.sum((2, 3), dtype=torch.float64)
        if self.batch_weighting:
            counts = counts.sum(0, keepdim=True).expand_as(counts)
        share = counts / counts.sum(1, keepdim=True)
        weights = 1 + (counts > 0) * self.bound * (1 - share)
        return weights[:, :-1].float()

    def forward(self, logits: Tensor, labels: Tensor, do_rmi: bool = True) -> Tensor:
        """Scalar loss of logits (B, K, H, W) against labels (B, H, W); `do_rmi` has no meaning.

        An image in which every pixel is ignored adds 0.
        """
        num_classes = logits.shape[1]
        if self.relaxing:
            target = relaxed_target(labels, num_classes, self.ignore_label, self.strict)
        else:
            target = marked_target(labels, num_classes, self.ignore_label)
        weights = self.class_weights(target)
        marks = target[:, :-1]
        num_marks = marks.sum(1, dtype=torch.float32)  # (B, H, W)
        counted = num_marks > 0
        num_marks = num_marks.clamp_min(1)  # ignored pixels count in those of other images
        share = 1 / num_marks if self.relaxing else num_marks
        if self.batch_border_weights:
            share = share.sum(0, keepdim=True)
        hits = marks.clamp_max(1)
        log_probs = F.log_softmax(logits.float(), dim=1).masked_fill(hits == 0, -torch.inf)
        # log of the probability that the class is any of the marked ones
        union = torch.logsumexp(log_probs, dim=1).masked_fill(~counted, 0)
        weight = (hits * weights[:, :, None, None]).sum(1) * share
        losses = -(weight * union).sum((1, 2)) / (counted.sum((1, 2)) + 1)
        return losses.mean() if self.mean_of_images else losses.sum()
