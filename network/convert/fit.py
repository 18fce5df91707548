# SPDX-License-Identifier: Apache-2.0
"""What a network itself has to say about the weights of a file before they are compared.

A module whose weights depend on the size of the pictures may offer `fit_file(state)`: it gives
back the weights as it wants them, or raises UserError with the way out.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from config import UserError


def fitted(module: nn.Module, state: Mapping[str, Tensor], title: str) -> dict[str, Tensor]:
    """`state` after the `fit_file` of `module`, if it has one; errors begin with `title`."""
    fit = getattr(module, "fit_file", None)
    if fit is None:
        return dict(state)
    try:
        return dict(fit(dict(state)))
    except UserError as error:
        raise UserError(f"{title}: {error}") from error
