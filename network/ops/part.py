# SPDX-License-Identifier: Apache-2.0
"""What a layer, head, trunk or network of this package may say about itself."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class Part(nn.Module):
    """A module with facts beyond those that torch asks for; by default it states none.

    `dead_entries` are published names of weights that no number depends on and that the part does
    not have; one that ends in a dot stands for all names below it. `is_eager` parts run as
    written in a network that is compiled.
    """

    dead_entries: tuple[str, ...] = ()
    is_eager: bool = False

    def adapt_to_file(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Take sizes and settings from the weights of a file before they are compared.

        `state` has the names of this part. It comes back as the part wants it: resampled, for
        example. Raises UserError, with the way out, for a file that cannot be served.
        """
        return state

    def inference_form(self) -> nn.Module:
        """A module that computes the same faster but cannot be trained, or the part itself."""
        return self

    def published_macs(self, *inputs: Any, **options: Any) -> int | None:
        """Multiply-adds of the form that the paper writes; None: those of the layers here.

        For parts that compute something other than the paper writes, but equal to it.
        """
        return None
