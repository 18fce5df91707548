# SPDX-License-Identifier: Apache-2.0
"""Names of timm's and torchvision's trunks where they are not those of the published files.

timm's HRNet, ResNet, ResNeXt, Wide ResNet, SE-ResNeXt of the name `legacy_` and DeiT have the
published names and need nothing here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from network.convert.names import STILL_WINDOWS, Rule, Translated, renamed
from runtime.errors import UserError
from runtime.normalisation import NAMED, Normalisation

LAYOUT, TORCHVISION = "timm", "torchvision"
TF_FORM = "tf_form"  # entry of an EfficientNet that was trained in TensorFlow's way
_SWIN_NEXT = re.compile(r"^layers[._]3\.downsample\.")
_SWIN_VISION = "features.1.0.attn.relative_position_bias_table"
_DEEP_STEM = {"conv1.0.weight", "conv1.3.weight", "conv1.6.weight", "bn1.weight"}
_LITE0 = {
    "conv_stem.weight": (32, 3, 3, 3),
    "blocks.0.0.conv_dw.weight": (32, 1, 3, 3),
    "blocks.2.0.conv_dw.weight": (144, 1, 5, 5),
    "blocks.6.0.conv_pwl.weight": (320, 1152, 1, 1),
}
_EFFICIENT = "blocks.0.0.se.conv_reduce.weight"


def _moved(match: re.Match[str]) -> str:
    """The way to a layer belongs to the one before it."""
    return f"backbone.layers.{int(match[1]) - 1}.downsample."


_SWIN: tuple[Rule, ...] = (
    (r"^patch_embed\.", "backbone.patch_embed."),
    (r"^layers[._](\d)\.downsample\.", _moved),
    (r"^layers[._](\d)\.", r"backbone.layers.\1."),
    (r"^head\.fc\.", "head."),
)
_SWIN_OF_TORCHVISION: tuple[Rule, ...] = (
    (r"^features\.0\.0\.", "backbone.patch_embed.proj."),
    (r"^features\.0\.2\.", "backbone.patch_embed.norm."),
    (
        r"^features\.([2468])\.(?=norm\.|reduction\.)",
        lambda match: f"backbone.layers.{int(match[1]) // 2 - 1}.downsample.",
    ),
    (
        r"^features\.([1357])\.(\d+)\.",
        lambda match: f"backbone.layers.{int(match[1]) // 2}.blocks.{match[2]}.",
    ),
    (r"\.mlp\.0\.", ".mlp.fc1."),
    (r"\.mlp\.3\.", ".mlp.fc2."),
)


def translate(state: Mapping[str, Tensor]) -> Translated | None:
    """A Swin of timm or torchvision in our names; None for all else.

    The patch merging of both takes the neighbours in our order.
    """
    if any(_SWIN_NEXT.match(key) for key in state):
        found = Translated(layout=LAYOUT, state=renamed(state, _SWIN))
    elif _SWIN_VISION in state:
        found = Translated(layout=TORCHVISION, state=renamed(state, _SWIN_OF_TORCHVISION))
    else:
        return None
    if "head.weight" in found.state:
        found.state[STILL_WINDOWS] = torch.ones(1)
    return found


_STEM: tuple[Rule, ...] = (
    (r"^bn1\.", "bn3."),
    *((rf"^conv1\.{3 * n}\.", f"conv{n + 1}.") for n in range(3)),
    *((rf"^conv1\.{3 * n + 1}\.", f"bn{n + 1}.") for n in range(2)),
)


def _block(match: re.Match[str]) -> str:
    """A block of EfficientNet; those of the first stage have no widening before them."""
    stage, number, name = int(match[1]), match[2], match[3]
    places = {"conv_pw": "0.0", "bn1": "0.1", "conv_dw": "1.0", "bn2": "1.1", "se": "2"}
    places |= {"conv_pwl": "3.0", "bn3": "3.1"}
    if stage == 0:
        places = {"conv_dw": "0.0", "bn1": "0.1", "se": "1", "conv_pw": "2.0", "bn2": "2.1"}
    return f"features.{stage + 1}.{number}.block.{places.get(name, name)}."


_EFFICIENTNET: tuple[Rule, ...] = (
    (r"^blocks\.(\d)\.(\d+)\.(\w+)\.", _block),
    (r"\.conv_reduce\.", ".fc1."),
    (r"\.conv_expand\.", ".fc2."),
    (r"^conv_stem\.", "features.0.0."),
    (r"^bn1\.", "features.0.1."),
    (r"^conv_head\.", "features.8.0."),
    (r"^bn2\.", "features.8.1."),
)


def norm_of_name(name: str) -> Normalisation | None:
    """What timm's name of an EfficientNet, at the beginning of a file's name, says of its inputs.

    Those of AdvProp were trained on -1..1, all others of that shape on ImageNet's numbers.
    """
    return NAMED["half"] if re.match(r"tf_efficientnet_b\d(_ap-|\.ap_)", name) else None


def respelled(state: Mapping[str, Tensor], name: str, title: str) -> dict[str, Tensor]:
    """`state` with the names of the published classifier, where timm has its own.

    `name` is that of the model in timm, or of the file, which begins with it. Raises UserError
    for a network that has weights alike but computes something else.
    """
    _refuse(state, title)
    if state.keys() >= _DEEP_STEM:
        return renamed(state, _STEM)
    if _is_lite0(state):
        _refuse_lite0(name, title)
    if _EFFICIENT not in state or "conv_stem.weight" not in state:
        return dict(state)
    own = renamed(state, _EFFICIENTNET)
    if name.startswith("tf_"):
        own[TF_FORM] = torch.ones(1)
    elif not name.startswith("efficientnet_"):
        raise UserError(
            f"{title} holds an EfficientNet of timm, and efficientnet_b4 and tf_efficientnet_b4, "
            "which pad and normalise differently, name their weights alike: give a folder with "
            "timm's config.json, or keep timm's name at the beginning of the file's"
        )
    return own


def _is_lite0(state: Mapping[str, Tensor]) -> bool:
    """Whether these are the names and some of the shapes of EfficientNet-Lite0."""
    return all(
        name in state and tuple(state[name].shape) == shape for name, shape in _LITE0.items()
    )


def _refuse_lite0(name: str, title: str) -> None:
    """timm has two: only that of TensorFlow is the trunk of this program."""
    if not name.startswith("tf_"):
        raise UserError(
            f"{title} holds an EfficientNet-Lite0 of timm, and of efficientnet_lite0 and "
            "tf_efficientnet_lite0, which name their weights alike, this program has the second: "
            "give a folder with timm's config.json, or keep timm's name at the beginning of the "
            "file's"
        )


def _refuse(state: Mapping[str, Tensor], title: str) -> None:
    if "layer1.0.se.fc1.weight" in state:
        raise UserError(
            f"{title} holds timm's SE-ResNet or SE-ResNeXt, which pools behind its first "
            "convolution in another way than the published one; timm's legacy_seresnext50_32x4d "
            "and legacy_seresnext101_32x4d are the trunks of this program"
        )
    if any(re.match(r"^blocks[._]0\.stack\.conv1\.conv_dw\.", key) for key in state):
        raise UserError(
            f"{title} holds timm's Xception, which has other units than the published "
            "Xception-71 of this program"
        )
