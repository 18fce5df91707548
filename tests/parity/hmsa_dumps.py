# SPDX-License-Identifier: Apache-2.0
"""The recorded files of the three dump modes: pictures, automatic labels, submission."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from datasets.cityscapes import SPEC
from datasets.spec import Item
from engine.predict import whole
from engine.result import Sink
from reports.autolabel import AutoLabelSink
from reports.compose import DumpSink
from reports.page import write_page
from reports.results import make_results
from reports.submission import SubmissionSink
from tests.parity import recipe
from tests.parity.core import Fixture, Row, compare
from tests.parity.hmsa_evaluation import Stub, evaluate_one
from transforms.normalize import to_tensor

GREY_LEVELS = {"input": 2.0, "composited": 2.0, "prob": 1.0}  # allowed differences


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
    rows = []
    for mode, files in fixture.header["files [name, PIL mode, size]"].items():
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder)
            run_mode(mode, out)
            written = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
            shown = {name for name in written if not Path(name).name.startswith(".")}
            expected = {our_name(name) for name, _, _ in files}
            different = len(shown ^ expected)
            rows.append(compare(f"{fixture.name}/{mode} file names", different, 0, 0.0, 0.0))
            for name, pil_mode, size in files:
                if pil_mode is not None and our_name(name) in shown:
                    rows += check_file(fixture, mode, name, out, (pil_mode, tuple(size)))
    return rows


def check_file(
    fixture: Fixture, mode: str, name: str, out: Path, form: tuple[str, tuple[int, int]]
) -> list[Row]:
    """PIL mode, size and pixels of one file."""
    with Image.open(out / our_name(name)) as picture:
        same_form = (picture.mode, picture.size) == form
        pixels = np.asarray(picture).astype(np.int64)
    want = fixture.arrays[f"{mode}/{name}"].astype(np.int64)
    allowed = next((value for key, value in GREY_LEVELS.items() if key in name), 0.0)
    title = f"{fixture.name}/{mode} {name}"
    return [
        compare(f"{title} mode and size", int(same_form), 1, 0.0, 0.0),
        compare(title, pixels, want, allowed, 0.0),
    ]


CHECKS: dict[str, Callable[[Fixture], list[Row]]] = {"eval_dump": check_dump}
