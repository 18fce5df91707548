# SPDX-License-Identifier: Apache-2.0
"""A class set may be called anything: its cache files stay in the folder of the cache."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from datasets import cityscapes
from datasets.centroids import Remarks, load_or_build
from datasets.verify import verify_items


@pytest.mark.parametrize("name", ["../../x", "/evil", "..", "a\0b", "a/b", "n" * 300])
def test_cache_files_stay_in_their_folder(cities: Path, tmp_path: Path, name: str) -> None:
    spec = dataclasses.replace(cityscapes.SPEC, name=name)
    items = cityscapes.list_items(cities, "train")[:1]
    cache = tmp_path / "one" / "two" / "cache"
    before = sorted(path for path in tmp_path.rglob("*") if cache not in path.parents)
    lines: list[str] = []
    load_or_build(items, spec, 64, cache, 1, remarks=Remarks(log=lines.append))
    verify_items(items, spec, cache, 1)
    files = [path for path in cache.iterdir() if path.is_file()]
    assert len(files) == 2 and not any("not cached" in line for line in lines)
    after = sorted(path for path in tmp_path.rglob("*") if cache not in path.parents)
    assert set(after) - set(before) <= {cache, *cache.parents}
