# SPDX-License-Identifier: Apache-2.0
"""What a network is: the class that every architecture derives from, and what it must state.

| a network that | derives from |
|---|---|
| predicts maps in one pass over the image | `OneScale` |
| runs such a network at several scales | `SeveralScales` |
| classifies whole images | `Network` |
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from network.backbones.trunk import Trunk
from network.ops.part import Part
from network.outputs import Maps, single_scale_outputs
from runtime.normalisation import IMAGENET, Normalisation

if TYPE_CHECKING:
    from network.convert.report import LoadReport


class Network(Part, abc.ABC):
    """Images (B, 3, H, W) -> the outputs that `network/outputs.py` lists.

    `auxiliary_parts` names the parts that only the auxiliary loss trains, () for none. `gives_aux`
    says whether there is an output `aux` in training at all; left out, there is one if it has such
    parts. With neither, the training forward is followed to see.

    Images come normalised with ImageNet's mean and deviation, whatever the network. One whose
    weights want others changes them at its entry by `own_inputs`, once in each pass; a subclass
    that is no `OneScale` calls it in its `forward`.

    `build_net` adds what the network was made of: `arch`, `num_classes`, `model_options`, and
    in `trunk_report` what became of an ImageNet file.
    """

    auxiliary_parts: tuple[str, ...] | None = None
    gives_aux: bool | None = None
    arch: str = ""
    num_classes: int | None = None
    model_options: Mapping[str, Any] | None = None
    trunk_report: LoadReport | None = None
    input_scale: Tensor | None
    input_shift: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self._norm = IMAGENET
        self.register_buffer("input_scale", None, persistent=False)
        self.register_buffer("input_shift", None, persistent=False)

    @property
    def input_norm(self) -> Normalisation:
        """How the weights want images of values 0..1 normalised."""
        return self._norm

    def take_input_norm(self, norm: Normalisation) -> None:
        """Serve weights that want `norm` from now on."""
        self._norm = norm
        if self.trunk is not None:
            self.trunk.mean, self.trunk.std = norm
        self.input_scale = self.input_shift = None
        if norm == IMAGENET:
            return
        device = next((item.device for item in self.parameters()), None)
        mean, std, own_mean, own_std = (
            torch.tensor(values, dtype=torch.float64, device=device).view(3, 1, 1)
            for values in (*IMAGENET, *norm)
        )
        self.input_scale = (std / own_std).float()
        self.input_shift = ((mean - own_mean) / own_std).float()

    def own_inputs(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) as the weights want them; `images` itself if that is ImageNet's way.

        What the loader, a crop or a window pads with is zero in ImageNet's numbers, its mean
        colour: a colour like any other, which stays the same colour here. What layers pad with
        behind this entry is zero in the numbers of the weights, as it was when they were trained.
        """
        if self.input_scale is None or self.input_shift is None:
            return images
        return torch.addcmul(self.input_shift, images, self.input_scale)

    @property
    def trunk(self) -> Trunk | None:
        """What an ImageNet file is loaded into, None if there is no such part."""
        return None

    @property
    def one_scale(self) -> OneScale | None:
        """The network that makes one pass: itself, or the one inside; None for classifiers."""
        return None

    @abc.abstractmethod
    def forward(
        self, images: Tensor, rows: Tensor | None = None, return_all: bool = False
    ) -> dict[str, Tensor]:
        """`rows` are the source rows of the images, where the height of a pixel matters."""


class OneScale(Network):
    """A network of one pass: alone, or at several scales inside a wrapper.

    A subclass implements `one_pass` and tells the constructor its trunk, which lies under
    `backbone` as in published weights, how many channels `Maps.feats` has, and whether bilinear
    resizes align corners.

    `boundary_parts` names the heads for boundary supervision that a network has by itself; its
    `one_pass` then gives `mask` and `direction`, in training, and in eval mode with
    `boundary_in_eval`. Any other network can be given heads that read its `feats`: they are the
    part `boundary`, and run as often. `features_read`: whether heads that others added depend on
    `feature_channels`.
    """

    boundary_parts: tuple[str, ...] = ()
    backbone: Trunk | None

    def __init__(
        self, trunk: Trunk | None = None, *, feature_channels: int, align_corners: bool = False
    ) -> None:
        super().__init__()
        self.feature_channels, self.align_corners = feature_channels, align_corners
        self.features_read = self.boundary_in_eval = False
        self.backbone = trunk
        self.boundary: nn.Module | None = None
        if trunk is not None:
            self.take_input_norm(trunk.input_norm)

    @property
    def trunk(self) -> Trunk | None:
        """The part `backbone`."""
        return self.backbone

    @property
    def one_scale(self) -> OneScale:
        """Itself."""
        return self

    @abc.abstractmethod
    def one_pass(
        self, images: Tensor, rows: Tensor | None = None, *, features: bool = True
    ) -> Maps:
        """The maps of the network alone, of images that `own_inputs` gave.

        Without `features`, `feats` may be any tensor: nobody reads it.
        """

    def maps(self, images: Tensor, rows: Tensor | None = None, *, features: bool = True) -> Maps:
        """One pass, with what boundary heads say where they run; `features` as in `one_pass`."""
        wanted = features or (self.boundary is not None and self.runs_boundary)
        own = self.own_inputs(images)
        return self.with_boundary(self.one_pass(own, rows, features=wanted))

    def with_boundary(self, maps: Maps) -> Maps:
        """`maps` and the mask and direction of boundary heads that were added, where they run."""
        if self.boundary is None or not self.runs_boundary:
            return maps
        mask, direction = self.boundary(maps.feats)
        return replace(maps, mask=mask, direction=direction)

    @property
    def runs_boundary(self) -> bool:
        """Whether boundary heads run now."""
        return self.training or self.boundary_in_eval

    def add_boundary(self, heads: nn.Module) -> None:
        """Give a network that has none boundary heads: feats -> mask, direction."""
        assert not self.boundary_parts
        self.boundary, self.features_read = heads, True

    def forward(
        self, images: Tensor, rows: Tensor | None = None, return_all: bool = False
    ) -> dict[str, Tensor]:
        """`pred`, in training also `aux` where there is one; `return_all` adds nothing."""
        maps = self.maps(images, rows, features=False)
        return single_scale_outputs(
            maps, images, training=self.training, align_corners=self.align_corners
        )


class SeveralScales(Network):
    """`net` at several `scales`, joined by what the head `scale_attn` says of its features."""

    def __init__(self, net: OneScale, attention: nn.Module, scales: Sequence[float]) -> None:
        super().__init__()
        assert 1.0 in scales
        self.net, self.scale_attn = net, attention
        net.features_read = True
        self.align_corners, self.scales = net.align_corners, tuple(scales)

    @property
    def trunk(self) -> Trunk | None:
        """That of the network inside."""
        return self.net.trunk

    @property
    def input_norm(self) -> Normalisation:
        """That of the network inside, which changes the images itself."""
        return self.net.input_norm

    def take_input_norm(self, norm: Normalisation) -> None:
        """Tell the network inside."""
        self.net.take_input_norm(norm)

    @property
    def one_scale(self) -> OneScale:
        """The network inside."""
        return self.net


def run_boundary_in_eval(net: nn.Module) -> None:
    """Let the boundary heads of `net` run in eval mode too; nothing where there are none."""
    if isinstance(net, Network) and net.one_scale is not None:
        net.one_scale.boundary_in_eval = True
