# SPDX-License-Identifier: Apache-2.0
"""Which classes occur at which height: supervision of the fifth HANet block.

Source: HANet (arXiv 2003.05128), the attention loss of its training program.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from loss.cross_entropy import IGNORED, mask_labels
from network.outputs import ROW_LOGITS
from runtime.errors import UserError


def row_presence(labels: Tensor, num_classes: int, parts: int, ignore_label: int) -> Tensor:
    """Whether a class occurs in each of `parts` blocks of rows: (B, H, W) -> bool (B, K, parts).

    A block has H // parts rows; the remaining rows belong to the last one.
    """
    target = mask_labels(labels, num_classes, ignore_label)
    batch, height, _ = target.shape
    rows = torch.arange(height, device=labels.device)
    block = (rows // max(height // parts, 1)).clamp(max=parts - 1)
    classes = torch.where(target == IGNORED, num_classes, target)
    image = torch.arange(batch, device=labels.device)[:, None, None]
    cell = (image * parts + block[None, :, None]) * (num_classes + 1) + classes
    found = torch.zeros(batch * parts * (num_classes + 1), dtype=torch.bool, device=labels.device)
    found.scatter_(0, cell.flatten(), True)
    return found.view(batch, parts, num_classes + 1)[:, :, :num_classes].transpose(1, 2)


def row_loss(logits: Tensor, labels: Tensor, ignore_label: int) -> Tensor:
    """Mean binary cross entropy of (B, K, R) logits with the classes found in labels (B, H, W)."""
    found = row_presence(labels, logits.shape[1], logits.shape[2], ignore_label)
    return F.binary_cross_entropy_with_logits(logits.float(), found.float())


def supervised_rows(outputs: dict[str, Tensor], labels: Tensor, ignore_label: int) -> Tensor:
    """`row_loss` of `row_logits`; UserError for a network without that output."""
    if ROW_LOGITS not in outputs:
        raise UserError(
            "--attention_loss supervises the fifth HANet block, which the network lacks; "
            "add --hanet 1,1,1,1,1 or leave it out"
        )
    return row_loss(outputs[ROW_LOGITS], labels, ignore_label)
