# SPDX-License-Identifier: Apache-2.0
"""Any model of timm that gives maps as a trunk, its weights under the names that timm gives them.

    trunk = TimmTrunk("convnext_tiny.fb_in22k")      # random weights, nothing is downloaded
    maps = trunk(images)                             # strides 4, 8, 16, 32

Convolutional and hierarchical models give their last four maps, plain transformers a simple
pyramid of four of their layers (`pyramid.py`). How a model takes images of any size is found out
when it is built (`timm_models.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from network.backbones import timm_models
from network.backbones.pyramid import PYRAMID, STRIDES, SimplePyramid
from network.backbones.trunk import Trunk
from network.ops.recompute import recomputing, run_again
from network.ops.resize import Size, parts_of, resize, size_of, surely
from network.ops.tiles import joined, tiles
from runtime.normalisation import Normalisation

DEFAULT = "resnet50"  # of an architecture that is not told its trunk
LEAST = 32  # images are padded to at least so many pixels
SHARED = ("_modules", "_parameters", "_buffers", "_non_persistent_buffers_set")


class TimmTrunk(Trunk):
    """(B, 3, H, W) of any size -> up to four maps, sizes rounded up.

    With `three`, only the finest, the last but one and the last map, as DeepLab's decoders read
    them; without `second` nobody reads the one between. `output_stride` makes the last stages
    dilated where timm can. A model that is tied to one size is built for `size`; an image is then
    cut into tiles of it that are computed by themselves.

    The parts of the model are those of the trunk, which so has its names; the model itself is no
    part, but only what calls them.
    """

    own_layout = "timm"
    fresh_groups = ((f"{PYRAMID}.",),)
    listed_parts = ("stages", "layers", "features", "blocks")

    def __init__(
        self,
        name: str = DEFAULT,
        *,
        three: bool = False,
        second: bool = True,
        output_stride: int | None = None,
        size: Size | None = None,
        drop_path: float | None = None,
        grad_ckpt: bool = False,
    ) -> None:
        super().__init__(grad_ckpt)
        self.name = name or DEFAULT
        self.options: dict[str, Any] = {
            "output_stride": output_stride, "drop_path_rate": drop_path, "img_size": size,
        }  # fmt: skip
        model = timm_models.create(self.name, **self.options)
        config: Any = model.pretrained_cfg
        self._native = Normalisation(tuple(config["mean"]), tuple(config["std"]))
        self.mean, self.std = self._native
        self.levels = timm_models.levels_of(self.name, model, three)
        self.is_plain, self.indices = self.levels.is_plain, list(self.levels.indices)
        model.prune_intermediate_layers(  # type: ignore[operator]
            self.indices, prune_norm=not self.is_plain, prune_head=True
        )
        self._held = (model,)
        for each in SHARED:
            setattr(self, each, getattr(model, each))
        self._learn(size or tuple(config["input_size"][1:]), three and not second)

    @property
    def model(self) -> Any:
        """timm's model, whose parts are those of the trunk."""
        return self._held[0]

    @property
    def native_norm(self) -> Normalisation:
        """By the entry of the model, or of its tag, in timm's table."""
        return self._native

    def _learn(self, native: Size, without_second: bool) -> None:
        """Ask the model what it gives, and freeze what no map depends on."""
        asked = timm_models.Asked(self._call, self.levels, native, without_second)
        found = timm_models.probe(self.name, self.model, asked)
        self.grid, self.tiled = found.grid, found.tiled
        self.cuts = self._stages()
        for key, value in self.model.named_parameters():
            if key in found.unused:
                value.requires_grad_(False)
        self.channels = tuple(channels for channels, _ in found.maps)
        self.strides = tuple(stride for _, stride in found.maps)
        if self.is_plain:
            self.strides = tuple(STRIDES[place] for place in self.levels.places)
            pyramid = SimplePyramid(self.channels[0], self.levels.patch, self.strides)
            self.channels = pyramid.channels
            if without_second:
                pyramid[1].requires_grad_(False)
            self.add_module(PYRAMID, pyramid)

    def _call(self, model: Any, images: Tensor) -> list[Tensor]:
        """The maps as timm gives them, before anything is cut or resized."""
        maps: list[Tensor] = model.forward_intermediates(
            images,
            indices=self.indices,
            norm=self.is_plain,
            stop_early=True,
            output_fmt="NCHW",
            intermediates_only=True,
        )
        return maps

    def _stages(self) -> list[nn.Module]:
        """The parts that checkpointing rebuilds one by one, the stages; none: the model as a whole.

        A model without batch norms is told to do it by itself, block by block. With them it would
        count their statistics twice.
        """
        parts = dict(self.model.named_modules())
        self.by_itself = False
        if not any(isinstance(part, _BatchNorm) for part in parts.values()):
            self.by_itself = self.grad_ckpt and self._told_to_checkpoint()
            return []
        names = dict.fromkeys(info["module"] for info in self.model.feature_info)
        found = [parts[name] for name in names if name in parts]
        return [part for part in found if any(True for _ in part.parameters())]

    def _told_to_checkpoint(self) -> bool:
        """Tell the model to checkpoint by itself; whether it can."""
        try:
            self.model.set_grad_checkpointing(True)
        except AssertionError:
            return False
        return True

    def train(self, mode: bool = True) -> TimmTrunk:
        """Also the model, which is no part of the trunk."""
        super().train(mode)
        self.model.training = mode
        return self

    def forward(self, images: Tensor) -> list[Tensor]:
        size = size_of(images)
        grown = [grown_to(side, step) for side, step in zip(size, self.grid, strict=True)]
        padded = F.pad(images, (0, grown[1] - size[1], 0, grown[0] - size[0]))
        maps = self._maps(padded)
        return [
            _cut(x, size_of(padded), size, stride)
            for x, stride in zip(maps, self.strides, strict=True)
        ]

    def _maps(self, images: Tensor) -> Sequence[Tensor]:
        """All maps of images whose size the model can take."""
        inputs = tiles(images, self.grid) if self.tiled else images
        if not self.grad_ckpt or not self.training or self.by_itself:
            maps = self._call(self.model, inputs)
        elif self.cuts:
            with recomputing(self.cuts):
                maps = self._call(self.model, inputs)
        else:
            maps = run_again(self, self._call, self.model, inputs)
        if self.tiled:
            maps = [joined(x, images, self.grid) for x in maps]
        if not self.is_plain:
            return maps
        pyramid = self.get_submodule(PYRAMID)
        assert isinstance(pyramid, SimplePyramid)
        return pyramid(maps)

    def from_file(self, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """The weights of a file of timm, and its classifier and unused ends, which are dropped.

        What timm itself loads is loaded too: files of the authors under other names, and tables
        of positions of another size, which are resampled.
        """
        own = self.state_dict()
        other = timm_models.all_names(self.name, **self.options) - own.keys()
        fits = {key: value for key, value in state.items() if key not in other}
        strange = [key for key, value in fits.items() if not _alike(value, own.get(key))]
        if strange:
            found = timm_models.converted(state, self.model, self.name)
            fits = {key: value for key, value in found.items() if key not in other}
        return fits, [key for key in state if key in other]

    def layer_numbers(self) -> Mapping[str, int]:
        """From the stem, 0, through the blocks to the pyramid, where there is one."""
        return timm_models.layers_of(self.model)


def grown_to(side: int, step: int) -> int:
    """`side` as the next multiple of `step`, at least LEAST."""
    multiple = parts_of(side, step) * step
    return multiple if surely(multiple >= LEAST) else max(multiple, LEAST)


def _alike(value: Tensor, own: Tensor | None) -> bool:
    return own is not None and value.shape == own.shape


def _cut(x: Tensor, padded: Size, size: Size, stride: int) -> Tensor:
    """The part of a map (B, C, h, w) of a `padded` image that shows the image of `size`."""
    full, shown = (tuple(parts_of(side, stride) for side in sides) for sides in (padded, size))
    return resize(x, (full[0], full[1]))[..., : shown[0], : shown[1]]
