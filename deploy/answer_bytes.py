# SPDX-License-Identifier: Apache-2.0
"""A prediction as the bytes that the page reads.

Four bytes, little endian, say how long the JSON after them is. Its `parts` name what follows with
the length of each: `image` RGB, `ids` of `id_bytes` bytes, little endian, `confidence` of one byte
(empty if unknown), `png` the ids as a file. Raw pixels, because browsers change colours when they
decode pictures.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from deploy.prediction import Prediction
from reports.files import encode_png, levels


def answer_bytes(prediction: Prediction, seconds: float) -> bytes:
    """The whole answer; `seconds` are what the network took."""
    ids = np.ascontiguousarray(prediction.ids)
    little = ids.astype(ids.dtype.newbyteorder("<"), copy=False)
    known = prediction.given_confidence
    parts = {
        "image": np.ascontiguousarray(prediction.image).tobytes(),
        "ids": little.tobytes(),
        "confidence": b"" if known is None else levels(known).tobytes(),
        "png": encode_png(ids),
    }
    header = json.dumps(_facts(prediction, parts, seconds)).encode()
    return len(header).to_bytes(4, "little") + header + b"".join(parts.values())


def _facts(prediction: Prediction, parts: dict[str, bytes], seconds: float) -> dict[str, Any]:
    height, width = prediction.size
    return {
        "width": width,
        "height": height,
        "id_bytes": prediction.ids.dtype.itemsize,
        "seconds": round(seconds, 3),
        "classes": [each._asdict() for each in prediction.classes],
        "parts": {name: len(content) for name, content in parts.items()},
    }
