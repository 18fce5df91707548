# SPDX-License-Identifier: Apache-2.0
"""The recorded files of the three dump modes: images, automatic labels, submission."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from datasets.cityscapes import SPEC
from datasets.spec import Item
from engine.predict import whole
from metrics.result import Sink
from reports.autolabel import AutoLabelSink
from reports.image_dump import DumpSink
from reports.page import write_page
from reports.results import make_results
from reports.submission import SubmissionSink
from tests.parity import recipe
from tests.parity.core import Check, Row, compare, same
from tests.parity.fixture import CannotRun, Fixture, Record
from tests.parity.hmsa_evaluation import Stub, evaluate_one
from transforms.normalize import to_tensor

FILES = "files [name, PIL mode, size]"
GREY_LEVELS = {"input": 2.0, "composited": 2.0, "prob": 1.0}  # allowed differences


MODES = {
    "dump_assets": "assets",
    "dump_for_auto_labelling": "auto",
    "dump_for_submission": "submit",
}


def mode_of(header: Record, name: str) -> str:
    """`assets`, `auto` or `submit`, by the flags of the recorded mode."""
    flags = str(header["modes"][name]).split(" + ") if "modes" in header else [name]
    found = [MODES[flag] for flag in flags if flag in MODES] or [name]
    if found[0] not in MODES.values():
        raise CannotRun(f"modes: {name} is no known way to dump")
    return found[0]


def run_mode(mode: str, out: Path) -> None:
    """Evaluate the recorded image once and write what `mode` writes."""
    pixels = np.clip(recipe.image(48, 64, 6) * 50 + 128, 0, 255).astype(np.uint8)
    image = np.ascontiguousarray(pixels.transpose(1, 2, 0))
    source = out / "source" / "n0.png"
    source.parent.mkdir(parents=True)
    Image.fromarray(image).save(source)
    items = [Item(name="n0", image=source, label=None)]
    low = torch.from_numpy(recipe.label(24, 32, 19, 8, ignore=0))
    extras = {
        "attn_05x": torch.linspace(0, 1, 768).view(1, 1, 24, 32),
        "pred_05x": F.one_hot(low, 19).permute(2, 0, 1)[None].float(),
    }
    sink: Sink
    if mode == "assets":
        sink = DumpSink(out / "best_images", SPEC, assets=True)
    elif mode == "auto":
        sink = AutoLabelSink(out, SPEC, items)
    else:
        sink = SubmissionSink(out, dataclasses.replace(SPEC, name="any server"), items)
    infer = whole(Stub(extras), return_all=True)
    summary = evaluate_one(infer, to_tensor(image), recipe.label(48, 64, 19, 7), [sink])
    if isinstance(sink, DumpSink):
        page = out / "best_images" / "index.html"
        results = make_results(summary, SPEC, {})
        write_page(page, title="n0", spec=SPEC, summary=results, rows=sink.rows, run={})
    source.unlink()
    source.parent.rmdir()


def our_name(recorded: str) -> str:
    """Recorded names keep the point of the scale; this project writes attn_05x."""
    return recorded.replace("0.5x", "05x").replace("1.0x", "10x")


def check_dump(fixture: Fixture) -> list[Row]:
    """Names, forms and pixels of the files of every mode."""
    rows, header = [], fixture.header
    for mode, files in header[FILES].items():
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder)
            run_mode(mode_of(header, mode), out)
            written = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
            shown = {name for name in written if not Path(name).name.startswith(".")}
            expected = sorted(our_name(name) for name, _, _ in files)
            rows.append(same(f"{fixture.name}/{mode} file names", sorted(shown), expected))
            for name, pil_mode, size in files:
                if our_name(name) not in shown:
                    continue
                if pil_mode is None:
                    rows.append(same(f"{fixture.name}/{mode} {name} has no size", size, None))
                else:
                    rows += check_file(fixture, mode, name, out, (pil_mode, size))
    return rows


def check_file(
    fixture: Fixture, mode: str, name: str, out: Path, form: tuple[str, list[int]]
) -> list[Row]:
    """PIL mode, size and pixels of one file."""
    with Image.open(out / our_name(name)) as picture:
        found = picture.mode, list(picture.size)
        pixels = np.asarray(picture).astype(np.int64)
    want = fixture.arrays[f"{mode}/{name}"].astype(np.int64)
    allowed = next((value for key, value in GREY_LEVELS.items() if key in name), 0.0)
    title = f"{fixture.name}/{mode} {name}"
    return [same(f"{title} mode and size", found, form), compare(title, pixels, want, allowed)]


CHECKS = (
    Check(
        "hmsa dumps",
        lambda fixture: FILES in fixture.header,
        check_dump,
        {"modes.*": "names the flags", "tolerance": "in words"},
    ),
)
