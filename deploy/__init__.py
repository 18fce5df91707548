# SPDX-License-Identifier: Apache-2.0
"""Networks in use: a predictor for Python, a page to try them, exports that need no torch.

    from deploy import Predictor
    prediction = Predictor("best_checkpoint.pth").predict("street.jpg")

Importing this package loads nothing; the first use of `Predictor` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deploy.prediction import ClassShare, Prediction
    from deploy.predictor import Predictor

__all__ = ["ClassShare", "Prediction", "Predictor"]

_HOMES = {
    "ClassShare": "deploy.prediction",
    "Prediction": "deploy.prediction",
    "Predictor": "deploy.predictor",
}


def __getattr__(name: str) -> Any:
    """Load what is asked for; ImportError, one line, where a foreign package is in the way."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    from deploy.flat_names import check_names

    check_names()
    return getattr(importlib.import_module(_HOMES[name]), name)
