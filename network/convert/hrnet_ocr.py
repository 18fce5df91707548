# SPDX-License-Identifier: Apache-2.0
"""Names of the segmentation networks with OCR of HRNet's authors.

Trunk and heads stand side by side, often below `model.`, as the published training program saved
them with its loss (`loss.*`, dropped).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from network.convert.names import Rule, Translated, renamed, without

LAYOUT = "hrnet-ocr"
_HEADS = r"(?=(?:conv3x3_ocr|ocr_gather_head|ocr_distri_head|aux_head|cls_head)\.)"
_NORM = r"(?=weight$|bias$|running_mean$|running_var$|num_batches_tracked$)"
_RULES: tuple[Rule, ...] = (
    (r"^model\.", ""),
    (r"^last_layer\.", "aux_head."),
    (rf"^{_HEADS}", "ocr."),
    # A norm may stand in a group with its ReLU or by itself, which also shifts what follows.
    (rf"^ocr\.(conv3x3_ocr|aux_head)\.1\.{_NORM}", r"ocr.\1.1.0."),
    (r"^ocr\.aux_head\.3\.", "ocr.aux_head.2."),
    (r"^(?!ocr\.)", "backbone."),
)


def translate(state: Mapping[str, Tensor]) -> Translated | None:
    """A state dict of those networks in our names; None if it is none."""
    bare = {re.sub(r"^model\.", "", key) for key in state}
    heads = {"cls_head.weight", "conv1.weight", "conv3x3_ocr.0.weight"}
    if not heads <= bare or not any(key.startswith("ocr_distri_head.") for key in bare):
        return None
    rest = dict(state)
    dropped = without(rest, (r"^loss\.",))
    return Translated(layout=LAYOUT, state=renamed(rest, _RULES), dropped=dropped)
