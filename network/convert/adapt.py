# SPDX-License-Identifier: Apache-2.0
"""A network and the weights of a file come to terms before they are compared.

Weights may differ in size from those of a file, as with the size of the images: each part of a
network may take sizes from the file or give its weights back in another size, see
`Part.adapt_to_file`.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from network.ops.part import Part
from runtime.errors import UserError


def adapt(net: nn.Module, state: Mapping[str, Tensor], title: str) -> dict[str, Tensor]:
    """`state` after `net` and its parts have seen it; errors begin with `title`."""
    found = dict(state)
    for name, part in list(net.named_modules()):
        if not isinstance(part, Part):
            continue
        prefix = f"{name}." if name else ""
        below = {key: value for key, value in found.items() if key.startswith(prefix)}
        try:
            own = part.adapt_to_file({key.removeprefix(prefix): v for key, v in below.items()})
        except UserError as error:
            raise UserError(f"{title}: {error}") from error
        found = {key: value for key, value in found.items() if key not in below}
        found |= {prefix + key: value for key, value in own.items()}
    return found
