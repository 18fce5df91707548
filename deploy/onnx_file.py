# SPDX-License-Identifier: Apache-2.0
"""An exported program as an ONNX file."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path

import torch
from torch.export import ExportedProgram

from deploy.graph import INPUT
from deploy.program import as_products
from runtime.errors import UserError

MODEL_FILE = "model.onnx"


def require_onnx() -> None:
    """Raise UserError, with the way out, where the libraries of the extra are missing."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"an ONNX file needs {error.name}: pip install '.[export]', or --format pt2"
        ) from error


def save_onnx(program: ExportedProgram, path: Path, output: str) -> None:
    """Write `program` to `path`; its result is called `output`.

    UserError for a network with an operation that ONNX has not.
    """
    quiet = logging.getLogger("onnxscript"), logging.getLogger("torch.onnx")
    levels = [logger.level for logger in quiet]
    for logger in quiet:
        logger.setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            as_products("onnx"),
        ):
            warnings.simplefilter("ignore")  # about the insides of the converter
            made = torch.onnx.export(
                program,
                dynamo=True,
                optimize=True,
                verbose=False,
                input_names=[INPUT],
                output_names=[output],
            )
            assert made is not None
            made.save(path)
    except torch.onnx.errors.OnnxExporterError as error:
        raise UserError(
            f"--format onnx: {' '.join(str(error.__cause__ or error).split())[:300]}; "
            "--format pt2 may do"
        ) from error
    finally:
        for logger, level in zip(quiet, levels, strict=True):
            logger.setLevel(level)
