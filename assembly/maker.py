# SPDX-License-Identifier: Apache-2.0
"""From the text of a row, "module:name", to what it names."""

from __future__ import annotations

import importlib
from typing import Any


def maker(text: str) -> Any:
    """What `text` names; ImportError or AttributeError if there is none."""
    module, _, name = text.partition(":")
    return getattr(importlib.import_module(module), name)
