# SPDX-License-Identifier: Apache-2.0
"""Names of images and classes of any kind: files are written, pages show them as text."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from reports.image_dump import DumpSink
from reports.page import write_page
from reports.results import make_results
from reports.worst import PAGE, WorstSink
from tests.reports.cases import SPEC, alone, make_result, make_summary

EVIL = "<script>alert(1)</script>"
ODD = ["caf\udce9", "n" * 251, "漢" * 83, "a\nb", "a\\..\\b", "\" onload=x '", "<img src=x>"]


@pytest.mark.parametrize("name", ODD)
def test_pictures_and_pages_take_every_name(tmp_path: Path, name: str) -> None:
    spec = dataclasses.replace(SPEC, class_names=(EVIL, "../../evil", "c" * 300, "tram"))
    result = make_result(name)
    sink, worst = (
        DumpSink(tmp_path / "out", spec, assets=True),
        WorstSink(tmp_path / "out", spec, 1),
    )
    for each in (sink, worst):
        each.add(result)
        each.close(0, 1, alone)
    (row,) = sink.rows
    for file in row.files.values():
        assert (tmp_path / "out" / file).is_file()
        assert len(os.fsencode(Path(file).name)) <= 255
    page = tmp_path / "out" / "index.html"
    results = make_results(make_summary([result]), spec, {"arch": EVIL, "split": "val"})
    write_page(page, title=EVIL, spec=spec, summary=results, rows=sink.rows, run={"flag": EVIL})
    for path in (page, tmp_path / "out" / PAGE):
        text = path.read_text(encoding="utf-8")
        assert EVIL not in text and "<img src=x>" not in text
        assert '" onload=x' not in text.split("<script")[0]  # after it, in JSON, it is a text
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
