# SPDX-License-Identifier: Apache-2.0
"""Names of the transformers library: SegFormer, Swin, UPerNet on Swin and DeiT.

The library has two spellings, that of the files on its hub and, from version 5 on, that of its
modules in memory. Both are read, with or without the group of the model around the trunk.

There query, key and value are three layers. The norms of its DeiT have epsilon 1e-12, ours 1e-6:
the results agree to about a millionth.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from network.convert.names import (
    STILL_WINDOWS,
    Rule,
    Translated,
    counted_on,
    joined,
    renamed,
    without,
)

LAYOUT = "transformers"
NORM_EPS = 1e-5  # of all norms of SegFormer
QUERY, KEY, VALUE = ".attn.query", ".attn.key", ".attn.value"

_ATTENTION: tuple[Rule, ...] = (
    (r"\.attention\.(?:self|attention)\.(query|key|value)\.", r".attn.\1."),
    (r"\.attention\.q_proj\.", QUERY + "."),
    (r"\.attention\.k_proj\.", KEY + "."),
    (r"\.attention\.v_proj\.", VALUE + "."),
    (r"\.attention\.(?:output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.(?:layernorm_before|layer_norm_1)\.", ".norm1."),
    (r"\.(?:layernorm_after|layer_norm_2)\.", ".norm2."),
)
_LINEAR: tuple[Rule, ...] = (
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
)


def _block(match: re.Match[str]) -> str:
    return f"backbone.block{int(match[1]) + 1}.{match[2]}."


_SEGFORMER: tuple[Rule, ...] = (
    (r"^(?:segformer\.)?(?:encoder|(?=stages))\.?", ""),
    (r"^(?:stages\.(?=\d\.patch)|patch_embeddings\.)(\d)\.", counted_on("backbone.patch_embed")),
    (r"^(backbone\.patch_embed\d\.)(?:patch_embeddings\.)?layer_norm\.", r"\1norm."),
    (r"^(backbone\.patch_embed\d\.)patch_embeddings\.", r"\1"),
    (r"^block\.(\d)\.(\d+)\.", _block),
    (r"^stages\.(\d)\.blocks\.(\d+)\.", _block),
    (r"^(?:layer_norm\.(?=\d)|stages\.(?=\d\.layer_norm))(\d)\.", counted_on("backbone.norm")),
    (r"^(backbone\.norm\d\.)layer_norm\.", r"\1"),
    (r"\.attention\.self\.sr\.", ".attn.sr."),
    (r"\.attention\.self\.layer_norm\.", ".attn.norm."),
    (r"\.attention\.sequence_reduction\.sequence_reduction\.", ".attn.sr."),
    (r"\.attention\.sequence_reduction\.layer_norm\.", ".attn.norm."),
    *_ATTENTION,
    (r"\.mlp\.dense([12])\.", r".mlp.fc\1."),
    (r"^decode_head\.linear_(?:c|projections)\.(\d)\.", counted_on("decode_head.linear_c")),
    (r"^decode_head\.linear_fuse\.", "decode_head.linear_fuse.conv."),
    (r"^decode_head\.batch_norm\.", "decode_head.linear_fuse.bn."),
    (r"^decode_head\.classifier\.", "decode_head.linear_pred."),
    (r"^classifier\.", "head."),
)
_SWIN: tuple[Rule, ...] = (
    (r"^(?:backbone\.)?(?:swin\.)?(?=embeddings\.|encoder\.|hidden_states_norms\.)", "backbone."),
    (r"^backbone\.embeddings\.patch_embeddings\.projection\.", "backbone.patch_embed.proj."),
    (r"^backbone\.embeddings\.norm\.", "backbone.patch_embed.norm."),
    (r"^backbone\.encoder\.layers\.", "backbone.layers."),
    (
        r"^backbone\.hidden_states_norms\.stage([1-4])\.",
        lambda match: f"backbone.norm{int(match[1]) - 1}.",
    ),
    (r"\.attention\.(?:self|relative_position_bias)\.(?=relative_position)", ".attn."),
    *_ATTENTION,
    *_LINEAR,
    (r"^(decode_head|auxiliary_head)\.(.*\.)?batch_norm\.", r"\1.\2bn."),
    (r"^(decode_head|auxiliary_head)\.classifier\.", r"\1.conv_seg."),
    (r"^(?:swin\.)?layernorm\.", "norm."),
    (r"^classifier\.", "head."),
)
_DEIT: tuple[Rule, ...] = (
    (r"^(?:deit\.)?embeddings\.cls_token$", "backbone.cls_token"),
    (r"^(?:deit\.)?embeddings\.distillation_token$", "backbone.dist_token"),
    (r"^(?:deit\.)?embeddings\.position_embeddings$", "backbone.pos_embed"),
    (r"^(?:deit\.)?embeddings\.patch_embeddings\.projection\.", "backbone.patch_embed.proj."),
    (r"^(?:deit\.)?(?:encoder\.layer|layers)\.", "backbone.blocks."),
    *_ATTENTION,
    *_LINEAR,
    (r"^(?:deit\.)?layernorm\.", "norm."),
    (r"^cls_classifier\.", "head."),
    (r"^distillation_classifier\.", "head_dist."),
)

# First names that only this library gives, from the file's own names to the kind.
_KINDS = {
    "segformer": (
        r"^(?:segformer\.)?(?:encoder\.patch_embeddings\.\d\.|stages\.\d\.patch_embeddings\.)"
    ),
    "swin": r"^(?:backbone\.)?(?:swin\.)?encoder\.layers\.\d\.blocks\.\d+\.layernorm_before\.",
    "deit": r"^(?:deit\.)?embeddings\.(?:distillation_token|position_embeddings)$",
}
_RULES = {"segformer": _SEGFORMER, "swin": _SWIN, "deit": _DEIT}
_UNUSED = (  # what fills masked patches, pools for other tasks, or norms a map nobody reads
    r"^(?:\w+\.)?embeddings\.mask_token$",
    r"^(?:\w+\.)?pooler\.",
    r"^backbone\.swin\.layernorm\.",
)


def kind_of(state: Mapping[str, Tensor]) -> str:
    """`segformer`, `swin` (also below UPerNet) or `deit`; empty for any other layout."""
    for kind, pattern in _KINDS.items():
        if any(re.match(pattern, key) for key in state):
            return kind
    return ""


def translate(state: Mapping[str, Tensor]) -> Translated | None:
    """A state dict of the library in our names; None if it is none."""
    kind = kind_of(state)
    if not kind:
        return None
    rest = dict(state)
    dropped = without(rest, _UNUSED)
    own = renamed(rest, _RULES[kind])
    if kind == "segformer":
        joined(own, (KEY, VALUE), ".attn.kv")
        own = renamed(own, ((r"\.attn\.query\.", ".attn.q."),))
        own["backbone.norm_eps"] = torch.tensor((NORM_EPS, NORM_EPS))
    else:
        joined(own, (QUERY, KEY, VALUE), ".attn.qkv")
    if kind == "swin" and "head.weight" in own:
        own[STILL_WINDOWS] = torch.ones(1)
    return Translated(layout=LAYOUT, state=own, dropped=dropped)
