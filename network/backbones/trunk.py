# SPDX-License-Identifier: Apache-2.0
"""What a trunk is: maps of an image, and the facts that heads and loaders ask it for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from torch import Tensor

from network.ops.part import Part
from network.ops.recompute import recomputed
from network.ops.resize import size_of
from runtime.errors import UserError
from runtime.normalisation import IMAGENET, Color, Normalisation


class Trunk(Part):
    """Images (B, 3, H, W) -> maps (B, C, h, w), as many as `channels` says, in its order.

    A subclass states, as attributes of the class or of the instance:

    * `channels`, `strides`: of each map. Sizes are rounded up unless the class says otherwise.
    * `file_names`: how an ImageNet file names the weights, beginning there -> beginning here;
      None for what is dropped on purpose. What no entry names is spelt as here.
    * `fresh_groups`: beginnings of names that such a file need not have, all names of a group or
      none; they keep their initial values.
    * `own_layout`: the program whose files `from_file` reads, where neither `file_names` nor the
      known layouts are asked.
    * `channels_last`: whether a CPU trains its networks faster in that memory format, as measured.
    * `smallest`: the least side of an image in pixels.
    * `mean`, `std`: by which its weights want images of values 0..1 normalised, red, green, blue.
      It gets them so: the network around it sees to that, see `Network.own_inputs`.
    * `listed_parts`: parts whose parts a summary of the network lists one by one.

    With `grad_ckpt` gradient checkpointing cuts where `run` is called: what goes through it is
    rebuilt in the backward pass.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    file_names: Mapping[str, str | None] = {}
    fresh_groups: tuple[tuple[str, ...], ...] = ()
    own_layout: str = ""
    channels_last: bool = False
    smallest: int = 1
    mean: Color = IMAGENET.mean
    std: Color = IMAGENET.std
    listed_parts: tuple[str, ...] = ()

    def __init__(self, grad_ckpt: bool = False) -> None:
        super().__init__()
        self.grad_ckpt = grad_ckpt

    @property
    def input_norm(self) -> Normalisation:
        """`mean` and `std` together."""
        return Normalisation(self.mean, self.std)

    @property
    def native_norm(self) -> Normalisation:
        """What the trunk states by itself, whatever weights it has taken since."""
        return Normalisation(type(self).mean, type(self).std)

    def run(self, part: Any, *inputs: Any) -> Any:
        """`part(*inputs)`, rebuilt in the backward pass where `grad_ckpt` says so."""
        return recomputed(part, *inputs, recompute=self.grad_ckpt and self.training)

    def check_size(self, images: Tensor) -> None:
        """Raise UserError for images with a side below `smallest`."""
        height, width = size_of(images)
        if min(height, width) < self.smallest:
            raise UserError(
                f"an image of {width}x{height} pixels is smaller than one patch of the network; "
                f"both sides must have at least {self.smallest}"
            )

    def may_lack(self, name: str, found: Collection[str]) -> bool:
        """Whether an ImageNet file that has the names `found` need not have `name`."""
        return any(
            name.startswith(group) and not any(each.startswith(group) for each in found)
            for group in self.fresh_groups
        )

    def from_file(self, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """Weights of a file in `own_layout` by the names here, and the names dropped on purpose.

        Raises UserError for a file of another network.
        """
        raise NotImplementedError

    def layer_numbers(self) -> Mapping[str, int]:
        """Parameter -> number of its layer, 0 next to the image, for rates that fall from layer to
        layer; {}: the trunk states none.
        """
        return {}

    def after_pretraining(self, found: Collection[str]) -> Iterable[str]:
        """Fill what the file, whose names are `found`, lacked; the names that were filled."""
        return ()
