# SPDX-License-Identifier: Apache-2.0
"""What a network itself has to say about the weights of a file before they are compared.

A module whose weights may differ in size from those of a file, as with the size of the images,
may offer `fit_file(state)`: it gets the weights under its own names and gives them back as it
wants them, or raises UserError with the way out.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from runtime.errors import UserError


def fitted(net: nn.Module, state: Mapping[str, Tensor], title: str) -> dict[str, Tensor]:
    """`state` after the `fit_file` of `net` and of its parts; errors begin with `title`."""
    found = dict(state)
    for name, module in list(net.named_modules()):
        fit = getattr(module, "fit_file", None)
        if fit is None:
            continue
        prefix = f"{name}." if name else ""
        part = {key: value for key, value in found.items() if key.startswith(prefix)}
        try:
            own = fit({key.removeprefix(prefix): value for key, value in part.items()})
        except UserError as error:
            raise UserError(f"{title}: {error}") from error
        found = {key: value for key, value in found.items() if key not in part}
        found |= {prefix + key: value for key, value in own.items()}
    return found
