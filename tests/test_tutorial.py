# SPDX-License-Identifier: Apache-2.0
"""docs/tutorial.md, executed from top to bottom in a fresh copy of the project."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from datasets.video import open_video
from tests.extending import copy_tree
from tests.program import ROOT, environment

pytestmark = pytest.mark.slow

TEXT = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"\d+(\.\d+)?")


def shape(line: str) -> str:
    """A line without its numbers, which differ between machines, and without double blanks."""
    return " ".join(NUMBER.sub("N", line).split())


def assert_shown(block: str, output: str) -> None:
    """Each line of `block` is in the output, in this order; `...` inside stands for anything."""
    lines = [shape(line) for line in output.splitlines()]
    for wanted in filter(None, map(shape, block.splitlines())):
        pattern = re.compile(".*".join(map(re.escape, wanted.split("..."))) + "$")
        places = [place for place, line in enumerate(lines) if pattern.match(line)]
        assert places, f"{wanted!r} is not in\n{output}"
        lines = lines[places[0] :]


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The copy of the project where every shell block was run, and printed what the page shows."""
    tree = tmp_path_factory.mktemp("tutorial") / "hiseg"
    copy_tree(tree)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    printed = ""
    for kind, body in BLOCK.findall(TEXT):
        if kind == "text":
            assert_shown(body, printed)
            continue
        done = subprocess.run(
            ["bash", "-euc", body], cwd=tree, env=environment(PATH=path),
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        printed = done.stdout
        print(body, printed)
        assert done.returncode == 0, done.stderr
    return tree


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_all_kinds_of_masks_of_the_page_are_one_set(followed: Path) -> None:
    """Ids, palette and colours say the same; polygons too, where ids are known."""
    data = followed / "data"
    for path in sorted((data / "harbour" / "val" / "ids").glob("*.png")):
        ids = pixels(path)
        np.testing.assert_array_equal(pixels(path.parents[1] / "palette" / path.name), ids)
        colours = pixels(path.parents[1] / "colours" / path.name)
        assert (colours[ids == 2] == (200, 40, 40)).all()
        drawn = pixels(data / "coco/labels/val/val/photos" / path.name)
        assert (drawn != ids)[ids != 255].mean() < 0.02
    for name in ("labelme", "cvat"):
        description = yaml.safe_load((data / name / "set.yml").read_text())
        assert sorted(description["names"]) == ["quay", "ship", "water"]
        assert len(list((data / name / "labels").rglob("*.png"))) == 30


def test_the_network_of_the_page_has_learned_and_stopped_early(followed: Path) -> None:
    run = followed / "logs" / "harbour"
    status = json.loads((run / "status.json").read_text())
    assert status["status"] == "done"
    results = json.loads((run / "eval" / "results.json").read_text())
    assert results["metrics"]["mean_iu"] > 0.6, results["metrics"]
    assert results["counts"]["images"] == 6
    assert "<svg" in (run / "run.html").read_text()


def test_photos_video_and_export_are_there(followed: Path) -> None:
    new, made = followed / "data" / "harbour" / "new", followed / "logs" / "new"
    clip = open_video(made / "composite" / "clip.mp4")
    assert len(list(clip)) == len(list(open_video(new / "clip.mp4"))) == 16
    for photo in sorted(new.glob("*.jpg")):
        ids = pixels(made / "ids" / f"{photo.stem}.png")
        assert ids.shape == (96, 160) and set(np.unique(ids)) <= {0, 1, 2}
        exported = pixels(followed / "logs" / "export_ids" / f"{photo.stem}.png")
        assert (exported != ids).mean() < 0.001
