# SPDX-License-Identifier: Apache-2.0
"""Region mutual information (RMI) loss: binary cross entropy plus a structural term.

The structural term compares 3x3 neighbourhoods of average-pooled labels and probabilities through
their covariances; it is a lower bound of mutual information, so the loss may well be negative. Of
size (B, K, H, W) only the probabilities are kept for the backward pass, and the 9 shifted copies of
the pooled maps are never made: see `_Windows`.

Source: Zhao et al., "Region Mutual Information Loss for Semantic Segmentation", NeurIPS 2019,
equations 9-15; pooling and weights as in "Hierarchical Multi-Scale Attention", arXiv 2005.10821.

Shapes: B images, K classes, H, W pixels, h, w cells of the pooled map, N pairs (image, class),
M = (h-2)(w-2) positions of a 3x3 window.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from loss.counting import count
from runtime.errors import UserError

POOL = 4  # side of a pooled cell, in pixels
RADIUS = 3  # side of a window, in cells
AREA = RADIUS * RADIUS
PROB_FLOOR = 1e-6  # added to every probability inside the image
RIDGE = 5e-4  # added to the diagonal of a covariance matrix
LOG_FLOOR = 1e-8
MAX_JITTERS = 12  # the ridge grows tenfold each time: 5e8 at the end
PROD_CHUNK = 64  # product of 64 values of at least 1/2 does not underflow in float32
PAIRS_AT_ONCE = 32  # whose windows are in memory


class RMILoss(nn.Module):
    """`0.5 * bce + 0.5 * rmi`, or `bce` alone with `do_rmi=False`.

    `num_jittered` counts the covariance matrices whose Cholesky factorisation has failed so far and
    was repeated with a larger diagonal; a healthy run has 0.
    """

    def __init__(self, num_classes: int, rmi_weight: float = 0.5) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.rmi_weight = rmi_weight
        self._jittered: Tensor | None = None  # counted on the device, which nobody waits for

    @property
    def num_jittered(self) -> int:
        """The number of repaired matrices; asking waits for the device."""
        return 0 if self._jittered is None else int(self._jittered)

    def forward(self, logits: Tensor, labels: Tensor, do_rmi: bool = True) -> Tensor:
        """The loss of logits (B, K, H, W) against labels (B, H, W), a scalar.

        Labels outside 0..K-1 are ignored; an image without any other label adds a constant.
        Raises ValueError for shapes that do not belong together, UserError for a side under 8.
        """
        return self.split(logits, labels, do_rmi)[0]

    def split(
        self, logits: Tensor, labels: Tensor, do_rmi: bool = True
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and its detached, unweighted parts `bce` and (with `do_rmi`) `rmi`."""
        self._check(logits, labels, do_rmi)
        with torch.autocast(logits.device.type, enabled=False):
            if logits.dtype != torch.float64:
                logits = logits.float()
            bce, rmi, num_jittered = _RMIFunction.apply(logits, labels, do_rmi)
            if not do_rmi:
                return bce, {"bce": bce.detach()}
            before = self._jittered
            self._jittered = num_jittered if before is None else before + num_jittered
            total = (1 - self.rmi_weight) * bce + self.rmi_weight * rmi
        return total, {"bce": bce.detach(), "rmi": rmi.detach()}

    def _check(self, logits: Tensor, labels: Tensor, do_rmi: bool) -> None:
        batch, num_classes, height, width = logits.shape
        if num_classes != self.num_classes or labels.shape != (batch, height, width):
            raise ValueError(
                f"RMI loss of {self.num_classes} classes: logits {tuple(logits.shape)} and labels "
                f"{tuple(labels.shape)} do not fit; (B, K, H, W) and (B, H, W) are wanted"
            )
        if do_rmi and min(height, width) < (RADIUS - 1) * POOL:
            raise UserError(
                f"RMI loss needs maps of at least 8x8 pixels, got {height}x{width}: "
                "use a larger --crop_size or no --rmi_loss"
            )


class _RMIFunction(torch.autograd.Function):
    """(logits, labels) -> (bce, rmi, number of jittered matrices) with a written-out gradient."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, do_rmi: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        num_classes = logits.shape[1]
        valid = (labels >= 0) & (labels < num_classes)
        index = torch.where(valid, labels, 0).long()
        probs = torch.sigmoid(logits).mul_(valid.to(logits.dtype).unsqueeze(1))
        scale = 1 / (valid.sum() + 1).to(logits.dtype)
        bce = (_bce_sum(logits, probs, index, valid) * scale).to(logits.dtype)
        rmi, grad_pooled, num_jittered = torch.zeros_like(bce), None, valid.new_zeros(())
        if do_rmi:
            pooled_labels = _pool_labels(index, valid, num_classes)
            pooled_probs = _pool_probs(probs)
            needs_grad = ctx.needs_input_grad[0]
            rmi, grad_pooled, num_jittered = _rmi(pooled_labels, pooled_probs, needs_grad)
            rmi = rmi.to(logits.dtype)
        ctx.save_for_backward(probs, index, valid, scale, grad_pooled)
        ctx.mark_non_differentiable(num_jittered)
        return bce, rmi, num_jittered

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_bce: Tensor, grad_rmi: Tensor, _: object
    ) -> tuple[Tensor, None, None]:
        probs, index, valid, scale, grad_pooled = ctx.saved_tensors
        step = grad_bce * scale
        if grad_pooled is None:
            grad = probs * step
        else:
            size = (probs.shape[2], probs.shape[3])
            grad = _unpool((grad_pooled * grad_rmi).to(probs.dtype), size)
            grad = torch.addcmul(grad, grad, probs, value=-1).add_(step).mul_(probs)
        own = index.unsqueeze(1)
        grad.scatter_(1, own, grad.gather(1, own) - step * valid.unsqueeze(1))
        return grad, None, None


def _bce_sum(logits: Tensor, probs: Tensor, index: Tensor, valid: Tensor) -> Tensor:
    """Binary cross entropy against the one-hot labels, summed over valid pixels and classes.

    softplus(z) is written as relu(z) - log(max(s, 1-s)) with s = sigmoid(z), which lies in
    [1/2, 1]: the product over the classes is safe, and one logarithm per pixel is enough.
    `probs` is 0 on ignored pixels, whose logarithm is 0 then.
    """
    total = logits.clamp_min(0).sum(1)
    total -= logits.gather(1, index.unsqueeze(1)).squeeze(1)
    total = torch.where(valid, total, 0)
    larger = torch.maximum(probs, 1 - probs)
    for part in torch.split(larger, PROD_CHUNK, dim=1):
        total -= part.prod(1).log_()
    return total.sum(dtype=torch.float64)


def _pool_labels(index: Tensor, valid: Tensor, num_classes: int) -> Tensor:
    """One-hot labels after the average pooling, (B, K, h, w) float64, by counting.

    The pooled one-hot map is a histogram of each 4x4 cell, so the one-hot map of full size is
    not needed. Cells start 2 pixels outside the image; pixels outside count as 0.
    """
    batch, height, width = index.shape
    rows, cols = height // POOL + 1, width // POOL + 1
    row = (torch.arange(height, device=index.device) + POOL // 2) // POOL
    col = (torch.arange(width, device=index.device) + POOL // 2) // POOL
    cell = row.unsqueeze(1) * cols + col
    cell = cell + torch.arange(batch, device=index.device).view(-1, 1, 1) * (rows * cols)
    inside = valid & ((row < rows).unsqueeze(1) & (col < cols))
    num_bins = batch * rows * cols * num_classes
    bins = torch.where(inside, cell * num_classes + index, num_bins)  # the last bin is dropped
    counts = count(bins, num_bins + 1)[:num_bins]
    counts = counts.view(batch, rows, cols, num_classes).permute(0, 3, 1, 2)
    return counts.to(torch.float64, memory_format=torch.contiguous_format) / (POOL * POOL)


def _pool_probs(probs: Tensor) -> Tensor:
    """Average pooling of `probs + 1e-6` inside the image and 0 outside, (B, K, h, w) float64."""
    image = torch.ones_like(probs[:1, :1])
    pooled = F.avg_pool2d(probs, POOL, POOL, POOL // 2).contiguous().double()
    return pooled + PROB_FLOOR * F.avg_pool2d(image, POOL, POOL, POOL // 2).double()


def _unpool(grad: Tensor, size: tuple[int, int]) -> Tensor:
    """Gradient of the average pooling: (B, K, h, w) spread over (B, K, H, W)."""
    before = POOL // 2
    height, width = (length + before for length in size)
    # A last row or column that lies in no cell gets 0.
    lacking = (-(-width // POOL) - grad.shape[3], -(-height // POOL) - grad.shape[2])
    grad = F.pad(grad / (POOL * POOL), (0, lacking[0], 0, lacking[1]))
    grad = grad.repeat_interleave(POOL, 3)[..., before:width]
    return grad.repeat_interleave(POOL, 2)[:, :, before:height]


def _rmi(labels: Tensor, probs: Tensor, needs_grad: bool) -> tuple[Tensor, Tensor | None, Tensor]:
    """The structural term of pooled maps (B, K, h, w), its gradient to `probs`, and how many
    matrices were repaired.

    A pair (image, class) that does not occur in the labels has a constant term and no gradient.
    To leave such pairs out the host would have to wait until it knows them: they are maps of
    zeros instead, a few pairs at a time, so that memory does not grow with their number.
    """
    pairs = (x.flatten(0, 1).split(PAIRS_AT_ONCE) for x in (labels, probs))
    results = [_rmi_of_pairs(own, other, needs_grad) for own, other in zip(*pairs, strict=True)]
    terms, grads, jittered = zip(*results, strict=True)
    scale = 1 / (AREA * len(labels))
    grad = torch.cat(grads).mul_(scale).view_as(probs) if needs_grad else None
    return torch.stack(terms).sum() * scale, grad, torch.stack(jittered).sum()


def _rmi_of_pairs(
    labels: Tensor, probs: Tensor, needs_grad: bool
) -> tuple[Tensor, Tensor | None, Tensor]:
    """The sum of the terms of pairs (N, h, w), its gradient, and the number of repairs."""
    absent = labels.flatten(1).amax(1) == 0
    maps = torch.stack((labels, probs), dim=1).masked_fill_(absent[:, None, None, None], 0)
    windows = _Windows(maps)
    gram = windows.covariance()
    label_label, label_prob, prob_prob = gram[:, 0, 0], gram[:, 0, 1], gram[:, 1, 1]
    with torch.set_grad_enabled(needs_grad):
        label_prob = label_prob.detach().requires_grad_(needs_grad)
        prob_prob = prob_prob.detach().requires_grad_(needs_grad)
        terms, num_jittered = half_log_det(label_label, label_prob, prob_prob)
        total = terms.sum()
        if not needs_grad:
            return total, None, num_jittered
        by_cross, by_own = torch.autograd.grad(total, (label_prob, prob_prob))
    return total.detach(), windows.gradient(by_cross, by_own), num_jittered


class _Windows:
    """Covariances of the 9 shifted windows of two maps without making the windows.

    Window (i, j) of a map x is x[i:i+h-2, j:j+w-2]. Only the three column shifts are copied,
    `cols` (N, 2 maps * 3 shifts, h, w-2); a row shift of them is a view in which the positions
    of a window are contiguous, and one batched product of two such views gives a 6x6 block.
    """

    def __init__(self, maps: Tensor) -> None:
        """`maps` (N, 2, h, w) float64: pooled labels and pooled probabilities."""
        # The covariance does not depend on a constant; without it less is lost in the subtraction.
        maps = maps - maps.mean((2, 3), keepdim=True)
        self.num, _, self.rows, width = maps.shape
        self.length = width - RADIUS + 1
        shifts = [maps[..., j : j + self.length] for j in range(RADIUS)]
        self.cols = torch.stack(shifts, dim=2).view(self.num, 2 * RADIUS, self.rows, self.length)
        self.views = [self._shifted(self.cols, i) for i in range(RADIUS)]
        self.means = torch.stack([view.mean(2) for view in self.views], dim=1)  # (N, 3, 6)

    def _shifted(self, cols: Tensor, i: int) -> Tensor:
        """Row shift `i` of (N, C, h, w-2) as a view (N, C, M)."""
        return cols[:, :, i : i + self.rows - RADIUS + 1].flatten(2)

    def covariance(self) -> Tensor:
        """Sums of products about the means, (N, 2, 2, 9, 9); [:, 0, 1] is label against prob."""
        num_positions = self.views[0].shape[2]
        blocks = self.cols.new_empty(self.num, RADIUS, 2 * RADIUS, RADIUS, 2 * RADIUS)
        for i in range(RADIUS):
            for k in range(i, RADIUS):
                means = self.means[:, i].unsqueeze(2) * self.means[:, k].unsqueeze(1)
                block = self.views[i] @ self.views[k].mT - num_positions * means
                blocks[:, i, :, k] = block
                blocks[:, k, :, i] = block.mT
        blocks = blocks.view(self.num, RADIUS, 2, RADIUS, RADIUS, 2, RADIUS)
        return blocks.permute(0, 2, 5, 1, 3, 4, 6).reshape(self.num, 2, 2, AREA, AREA)

    def gradient(self, by_cross: Tensor, by_own: Tensor) -> Tensor:
        """Gradient to the probability maps (N, h, w) from those of the covariances (N, 9, 9).

        `by_cross` belongs to label x prob, `by_own` to prob x prob.
        """
        weights = torch.stack((by_cross.mT, by_own + by_own.mT), dim=2)  # (N, 9, 2, 9)
        weights = weights.view(self.num, RADIUS, RADIUS, 2, RADIUS, RADIUS)
        weights = weights.permute(0, 1, 2, 4, 3, 5)  # (N, to row, to col, row, map, col)
        weights = weights.reshape(self.num, RADIUS, RADIUS, RADIUS, 2 * RADIUS)
        constant = torch.einsum("napim,nim->nap", weights, self.means)
        grad = self.cols.new_zeros(self.num, self.rows, self.length + RADIUS - 1)
        height = self.rows - RADIUS + 1
        for k in range(RADIUS):
            part = weights[:, k, :, 0] @ self.views[0] - constant[:, k].unsqueeze(2)
            for i in range(1, RADIUS):
                part.baddbmm_(weights[:, k, :, i], self.views[i])
            for j, shifted in enumerate(part.unflatten(2, (height, self.length)).unbind(1)):
                grad[:, k : k + height, j : j + self.length] += shifted
        return grad


def half_log_det(
    label_label: Tensor, label_prob: Tensor, prob_prob: Tensor
) -> tuple[Tensor, Tensor]:
    """Half the log-determinant of the labels' covariance given the probabilities, (N,).

    Inputs are covariances (N, 9, 9). Also returns how many matrices needed a larger diagonal.
    """
    prob_factor, num_prob = jittered_cholesky(_with_ridge(prob_prob))
    half = torch.linalg.solve_triangular(prob_factor, label_prob.mT, upper=False)
    factor, num_rest = jittered_cholesky(_with_ridge(label_label - half.mT @ half))
    diagonal = factor.diagonal(dim1=-2, dim2=-1)
    return (diagonal + LOG_FLOOR).log().sum(-1), num_prob + num_rest


def _with_ridge(matrix: Tensor) -> Tensor:
    return matrix + RIDGE * torch.eye(AREA, dtype=matrix.dtype, device=matrix.device)


def jittered_cholesky(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Cholesky factors of (N, n, n); a matrix without one gets the least diagonal that helps.

    Also returns the number of such matrices. A matrix with a non-finite entry keeps a
    non-finite factor: the loss is then non-finite, which the training loop handles.

    All diagonals are tried at once: matrices this small cost less than the host waiting to hear
    whether one of them needs another try.
    """
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    powers = torch.arange(MAX_JITTERS + 1, dtype=matrix.dtype, device=matrix.device)
    ridges = RIDGE * (10**powers - 1) / 9  # 0, 1, 11, 111, ... times RIDGE
    with torch.no_grad():
        tries = matrix + ridges[:, None, None, None] * eye
        works = torch.linalg.cholesky_ex(tries).info == 0  # (tries, N)
    least = ridges[works.int().argmax(0)]  # the first that works
    factor, info = torch.linalg.cholesky_ex(matrix + least[:, None, None] * eye)
    return torch.where((info > 0)[:, None, None], torch.nan, factor), (~works[0]).sum()
