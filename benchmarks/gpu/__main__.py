# SPDX-License-Identifier: Apache-2.0
"""What one GPU makes of this project: the same numbers, how fast, how much memory, which score.

    python -m benchmarks.gpu                                   # under nine minutes on a large GPU
    python -m benchmarks.gpu --sections training,evaluation --networks hmsa,segformer --out gpu.json
    python -m benchmarks.gpu --device cpu --tiny --minutes 2   # that it works, nothing else

recorded     answers of the published networks, recorded on a CPU, computed on this device in fp32
training     a step (forward, loss, backward, update) of HRNet-W48 OCR with two-scale attention and
             RMI, SegFormer-B5, HRViT-b3 and UN-EPT in each precision, with and without
             channels_last, then with torch.compile
evaluation   one image: three scales for HRNet, one for the others
smoke        the loss scaler of fp16 after an overflow, synchronised batch norm
camvid       CamVid from random weights for as many epochs as fit, and its score on test

A share of the peak is that of products of large matrices in the same precision, measured first.
Exit code 1 if recorded numbers differ, or a check or program fails.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.gpu import camvid, networks, recorded, smoke
from benchmarks.gpu.bench import Clock, Row
from runtime.errors import UserError, wrong_input
from runtime.files import write_atomic
from runtime.threads import usable_cpus

# Sections in their order, with the share of the time that is left to each.
SHARES = {
    recorded.SECTION: 0.15,
    networks.TRAINING: 0.4,
    networks.EVALUATION: 0.3,
    smoke.SECTION: 0.1,
    camvid.SECTION: 1.0,
}


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the command line asks for."""

    sections: tuple[str, ...]
    networks: tuple[str, ...]
    minutes: float
    no_compile: bool
    device: torch.device
    tiny: bool
    camvid: Path | None
    out: Path | None


def rows_of(section: str, wanted: Wanted, clock: Clock) -> Iterator[Row]:
    """The rows of one section."""
    device = wanted.device
    if section == recorded.SECTION:
        return recorded.measure(device, clock)
    if section == smoke.SECTION:
        return smoke.measure(device)
    if section == camvid.SECTION:
        return camvid.measure(device, clock, wanted.camvid)
    cases = networks.TINY if wanted.tiny else networks.CASES
    chosen = {name: case for name, case in cases.items() if name in wanted.networks}
    return networks.measure(section, chosen, device, clock, not wanted.no_compile)


def parse(argv: Sequence[str] | None) -> Wanted:
    """The flags; UserError for an unknown section or network, and for CUDA where there is none."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--sections", default=",".join(SHARES), help="some of them, with commas")
    add("--networks", default=",".join(networks.CASES), help="some of them, with commas")
    add("--minutes", type=float, default=9.0, help="for all sections together")
    add("--no_compile", action="store_true", help="leave torch.compile out")
    add("--device", default="cuda", choices=("cuda", "cpu"))
    add("--tiny", action="store_true", help="a network and images for seconds on a CPU")
    add("--camvid", type=Path, metavar="DIR", help="CAMVID_DIR, instead of that of paths.yml")
    add("--out", type=Path, metavar="FILE", help="JSON file for all rows")
    found = vars(parser.parse_args(argv))
    found["device"] = torch.device(found["device"])
    for flag, known in (("sections", SHARES), ("networks", networks.CASES)):
        found[flag] = tuple(found[flag].split(","))
        for name in found[flag]:
            if name not in known:
                raise UserError(f"--{flag} {name}: there are {', '.join(known)}")
    wanted = Wanted(**found)
    if wanted.device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: there is no CUDA device here; --device cpu --tiny tries")
    if wanted.out is not None and wanted.out.is_dir():
        raise UserError(f"--out {wanted.out}: a file is wanted, this is a folder")
    return wanted


def machine(device: torch.device) -> dict[str, object]:
    """What was measured on."""
    is_cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if is_cuda else "cpu",
        "torch": torch.__version__,
        "cuda": torch.version.cuda if is_cuda else None,
        "cores": usable_cpus(),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Print every row as it comes, then write the file; 1 for wrong numbers, 2 for wrong input."""
    try:
        wanted = parse(argv)
    except UserError as error:
        return wrong_input(error)
    facts = machine(wanted.device)
    print(", ".join(f"{key} {value}" for key, value in facts.items() if value is not None))
    start = time.monotonic()
    clock = Clock(end=start + 60 * wanted.minutes)
    found: list[Row] = []
    for section, share in SHARES.items():
        if section not in wanted.sections:
            continue
        clock.begin(share)
        print(f"{section}, {clock.left:.0f} s", flush=True)
        for row in rows_of(section, wanted, clock):
            print(f"  {row}", flush=True)
            found.append(row)
    print(f"{len(found)} rows in {time.monotonic() - start:.0f} s")
    if wanted.out is not None:
        content = {"machine": facts, "rows": [dataclasses.asdict(row) for row in found]}
        write_atomic(wanted.out, f"{json.dumps(content, indent=1)}\n".encode())
    return int(any(row.is_wrong for row in found))


if __name__ == "__main__":
    sys.exit(main())
