# SPDX-License-Identifier: Apache-2.0
"""Turn a pickled checkpoint into a file that holds nothing but tensors and text.

    python scripts/convert_checkpoint.py OFFICIAL.pth OUT.safetensors
    python scripts/convert_checkpoint.py OLD.pth OUT.safetensors --trust   # may run code in OLD.pth

Keys stay as they are. The plain entries of the file (arch, class names, epoch, ...) go into the
metadata, the sha256 of both files is printed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import safetensors.torch
import torch

from network.convert import read_checkpoint
from network.convert.checkpoint import HEADER_KEY, split_weights
from runtime import streams
from runtime.errors import UserError, wrong_input
from runtime.files import write_atomic
from runtime.limits import brief, name_problem


def plain_entries(facts: dict[str, Any]) -> dict[str, Any]:
    """What can be written as JSON; the rest (optimizer state, random states) is left out."""
    kept = {}
    for key, value in facts.items():
        value = value.item() if hasattr(value, "item") and not torch.is_tensor(value) else value
        try:
            json.dumps(value)
        except (TypeError, ValueError):
            continue
        kept[key] = value
    return kept


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def convert(source: Path, target: Path, trust: bool) -> dict[str, Any]:
    """Write `target`; returns its metadata. Raises UserError for a useless source or target."""
    if target.suffix != ".safetensors":
        raise UserError(f"{target}: the output must be named *.safetensors")
    for path in (source, target):
        problem = name_problem(str(path))
        if problem is not None:
            raise UserError(f"{brief(path)}: {problem}")
    if not target.parent.is_dir():
        raise UserError(f"{target}: the folder {target.parent} does not exist")
    if source.is_dir():
        raise UserError(f"{source} is a folder; name the file of weights in it")
    state, facts = split_weights(read_checkpoint(source, trust))
    if not state:
        raise UserError(f"{source} holds no weights")
    header = {**plain_entries(facts), "source": source.name, "source_sha256": sha256(source)}
    tensors = {key: value.detach().clone().contiguous() for key, value in state.items()}
    content = safetensors.torch.save(tensors, metadata={HEADER_KEY: json.dumps(header)})
    try:
        write_atomic(target, content, sync=True)
    except OSError as error:
        raise UserError(f"{target} could not be written ({error})") from error
    return header


def main(arguments: list[str] | None = None) -> int:
    """Convert one file; 0, or 2 when the input is wrong."""
    parser = argparse.ArgumentParser(description="A pickled checkpoint as .safetensors.")
    parser.add_argument("source", type=Path, metavar="OFFICIAL.pth")
    parser.add_argument("target", type=Path, metavar="OUT.safetensors")
    parser.add_argument("--trust", action="store_true", help="let the file run code while reading")
    args = parser.parse_args(arguments)
    streams.tolerate()
    try:
        header = convert(args.source, args.target, args.trust)
    except UserError as error:
        return wrong_input(error)
    print(f"{args.source} sha256 {header['source_sha256']}")
    print(f"{args.target} sha256 {sha256(args.target)}")
    print(f"metadata: {', '.join(sorted(header))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
