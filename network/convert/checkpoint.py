# SPDX-License-Identifier: Apache-2.0
"""Reading checkpoint files without running any code that may be in them."""

from __future__ import annotations

import _codecs
import argparse
import json
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from network.convert import hub
from network.convert.schema import check_own, is_own
from runtime.errors import UserError
from runtime.limits import brief, name_problem

HEADER_KEY = "hiseg"  # metadata entry of our .safetensors files: everything but the tensors

# The published training programs saved scores as NumPy numbers and flags as a Namespace: plain
# data, and all that keeps those files from being read without `--trust`. Both module spellings
# of the numbers occur.
_NUMPY_SCALAR = np.float64(0).__reduce__()[0]
PLAIN_DATA: list[Any] = [
    (_NUMPY_SCALAR, "numpy.core.multiarray.scalar"),
    (_NUMPY_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    np.dtypes.Float64DType,
    np.dtypes.Float32DType,
    np.dtypes.Int64DType,
    _codecs.encode,
    argparse.Namespace,
]


PICKLES = (b"\x80", b"PK")  # how files of torch begin, since 1.6 as zips
POINTER = b"version https://git-lfs"  # how the text begins that stands for a file in a repository
# How torch says that a pickle asks for more than tensors and plain containers.
NEEDS_CODE = ("WeightsUnpickler error", "unsupported GLOBAL", "Unsupported global")


# What readers of files raise for bytes that are no such file. The pickle machine believes what it
# reads until an operation fails, so that this may be any of these.
DAMAGED = (
    safetensors.SafetensorError, zipfile.BadZipFile, pickle.UnpicklingError, RuntimeError, EOFError,
    OSError, LookupError, ValueError, TypeError, AttributeError, AssertionError, MemoryError,
    OverflowError, struct.error,
)  # fmt: skip


def _one_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).split("\n", 1)[0][:160]


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        tensors = safetensors.torch.load_file(path)
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        header = json.loads(metadata.get(HEADER_KEY, "{}"))
    except DAMAGED as error:
        reason = _one_line(error)
        raise UserError(f"{path} is truncated or no safetensors file: {reason}") from error
    if not isinstance(header, dict):
        raise UserError(
            f"{path} is damaged: its {HEADER_KEY} header is a {type(header).__name__}, "
            "a dictionary wanted"
        )
    return {**header, "state_dict": tensors}


def check_sums(path: Path) -> None:
    """Raise BadZipFile if a part of the archive at `path` is not what was written.

    torch does not look. Where no part has the sum that stands beside it, the file was written
    without sums, and nothing is known.
    """
    if not zipfile.is_zipfile(path):  # of torch before 1.6
        return
    wrong, right = list[str](), 0
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            try:
                with archive.open(name) as part:
                    while part.read(1 << 22):
                        pass
                right += 1
            except zipfile.BadZipFile:
                wrong.append(name)
    if wrong and right:
        raise zipfile.BadZipFile(f"{wrong[0]} inside has a wrong checksum")


def _start(path: Path) -> bytes:
    """The first bytes of a file."""
    with path.open("rb") as file:
        return file.read(len(POINTER))


def _read_pickle(path: Path, trust: bool) -> Any:
    try:
        check_sums(path)
        if trust:
            return torch.load(path, map_location="cpu", weights_only=False)
        with torch.serialization.safe_globals(PLAIN_DATA):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        start = _start(path)
        if not start.startswith(PICKLES):
            raise UserError(f"{path} is no checkpoint: it begins with {start!r}") from error
        if any(sign in str(error) for sign in NEEDS_CODE):
            raise UserError(
                f"{path} holds more than weights and could run code when read; if you trust it: "
                f"python scripts/convert_checkpoint.py {path} OUT.safetensors --trust"
            ) from error
        raise UserError(f"{path} is truncated or no checkpoint: {_one_line(error)}") from error
    except zipfile.BadZipFile as error:
        raise UserError(f"{path} is damaged: {_one_line(error)}") from error
    except DAMAGED as error:
        raise UserError(f"{path} is truncated or no checkpoint: {_one_line(error)}") from error


def read_checkpoint(path: str | Path, trust: bool = False) -> dict[str, Any]:
    """The dictionary in a `.pth` or `.safetensors` file, tensors on the CPU.

    A folder in hub format comes back as `state_dict` and `hub`, its `HubFacts`, a safetensors
    file as its header entries plus `state_dict`. Pickles are read with `weights_only=True` unless
    `trust` is given, which lets the file run code. Raises UserError for a missing, truncated or
    foreign file, for a pickle that needs trust, and for a file of this program with a wrong entry.
    """
    path, problem = Path(path), name_problem(str(path))
    if problem is not None:
        raise UserError(f"checkpoint {brief(path)}: {problem}")
    if path.is_dir():
        facts = hub.read_facts(path)
        state, _ = split_weights(read_checkpoint(hub.weights_file(path), trust))
        return {"state_dict": state, hub.KEY: facts}
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist")
    if _start(path) == POINTER:
        raise UserError(f"{path} is a pointer of Git LFS, not the file; git lfs pull gets it")
    is_plain = path.suffix == ".safetensors"
    content = _read_safetensors(path) if is_plain else _read_pickle(path, trust)
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, not a dictionary of weights")
    if is_own(content):
        check_own(content, str(path), training=not is_plain)
    return content


def split_weights(content: dict[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The weights of a checkpoint and its other entries; either may be empty.

    The weights stand under `state_dict`, `state_dict_ema` or `model`, the first that is there, or
    are the dictionary itself.
    """
    for name in ("state_dict", "state_dict_ema", "model"):
        inner = content.get(name)
        if isinstance(inner, dict):
            facts = {key: value for key, value in content.items() if key != name}
            return _tensors(inner), facts
    facts = {key: value for key, value in content.items() if not torch.is_tensor(value)}
    return _tensors(content), facts


def _tensors(entries: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {key: value for key, value in entries.items() if torch.is_tensor(value)}
