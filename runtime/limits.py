# SPDX-License-Identifier: Apache-2.0
"""Which values are possible: finite ranges of the numbers of `config.py`, names of files."""

from __future__ import annotations

import os

SIZE = (1, 4096)  # of widths, heads, rows
RANGES: dict[str, tuple[float, float]] = {  # inclusive; every number of the tree has one
    "DATASET.CV_SPLITS": (1, 21),
    "DATASET.CLASS_UNIFORM_BIAS": (0, 1000),
    "MODEL.n_scales": (0.05, 8),
    "MODEL.mscale_lo_scale": (0.05, 0.95),
    "MODEL.segattn_bot_ch": SIZE,
    "MODEL.aspp_bot_ch": SIZE,
    "MODEL.ocr_mid_channels": SIZE,
    "MODEL.ocr_key_channels": SIZE,
    "MODEL.hrnet_width": (1, 512),
    "MODEL.hrnet_modules": (1, 16),
    "MODEL.hrnet_blocks": (1, 16),
    "MODEL.drop_path": (0, 0.9),
    "MODEL.head_drop": (0, 0.9),
    "MODEL.query_grid": (0, 4096),
    "MODEL.hanet": (0, 1),
    "MODEL.hanet_set": (-4096, 4096),
    "MODEL.hanet_pos": (0, 4096),
    "MODEL.hanet_dropout": (0, 0.99),
    "MODEL.pos_rfactor": (0, 128),
    "MODEL.pos_noise": (0, 16),
    "MODEL.stage_depths": (0, 64),
    "MODEL.hila_stages": (0, 16),
    "MODEL.hila_stride": (0, 64),
    "MODEL.hila_heads": (0, 64),
    "MODEL.hila_mlp_ratios": (0, 64),
    "MODEL.hila_patch": (0, 64),
    "MODEL.hila_info_weights": (-100, 100),
    "LOSS.OCR_ALPHA": (0, 100),
    "LOSS.SUPERVISED_MSCALE_WT": (0, 100),
    "LOSS.BOUNDARY_WEIGHTS": (0, 1000),
    "LOSS.CLASS_WEIGHTS": (0, 1e6),
}
SOME_ABOVE_ZERO = ("DATASET.CLASS_UNIFORM_BIAS", "LOSS.CLASS_WEIGHTS")
MAX_NAME, MAX_PATH = 255, 4095  # bytes of one part of a path, and of all of it
MAX_SHOWN = 80  # letters of a wrong value in an error line
PATH_KEYS = ("_DIR", "_YAML", "_ROOT", "CUSTOMCOARSE", "pretrained", "ASSETS_PATH")


def brief(value: object) -> str:
    """A value as an error line shows it, cut to fit on the line."""
    text = str(value)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."


def name_problem(path: str) -> str | None:
    """Why no file system can hold `path`; None if one can."""
    longest = max(len(os.fsencode(part)) for part in path.split("/"))
    if "\0" in path:
        return "no file has such a name"
    if longest > MAX_NAME:
        return f"a name of {longest} bytes; file systems take {MAX_NAME}"
    if len(os.fsencode(path)) > MAX_PATH:
        return f"a path of {len(os.fsencode(path))} bytes; at most {MAX_PATH} work"
    return None


def value_problem(key: str, value: object) -> str | None:
    """What is wrong with a converted value of a key (SECTION.name) of the tree, or None."""
    parts = value if isinstance(value, tuple) else (value,)
    if key in RANGES:
        low, high = RANGES[key]
        for part in parts:
            if isinstance(part, int | float) and not low <= part <= high:
                return f"{brief(part)} is outside {low:g}..{high:g}"
    if key in SOME_ABOVE_ZERO and value is not None and not any(parts):
        return "all are 0; at least one above 0 wanted"
    if key.endswith(PATH_KEYS) and isinstance(value, str):
        problem = name_problem(value)
        return problem and f"{brief(value)}: {problem}"
    return None
