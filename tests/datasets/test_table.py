# SPDX-License-Identifier: Apache-2.0
"""A row says everything about a data set; its module is imported when the set is used."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from datasets import registry, table
from datasets.base import DataError
from datasets.registry import Folds
from datasets.spec import DatasetSpec
from datasets.table import BLACK, PAIRS, ROWS, TABLE
from settings import Settings, keys, read_settings
from settings.data import DATASETS
from tests.program import ROOT
from tests.settings.syntax import trees

LOADED = """
import sys
from datasets import registry
registry.spec_of({name!r}, None)
print(*sorted(name for name in {modules!r} if name in sys.modules))
"""


@pytest.mark.parametrize("name", table.paired())
def test_the_module_of_a_row_holds_what_the_row_promises(name: str) -> None:
    row = TABLE[name]
    module = importlib.import_module(row.path)
    assert isinstance(getattr(module, row.spec), DatasetSpec) or callable(getattr(module, row.spec))
    taken = inspect.signature(module.list_items).parameters
    assert set(row.folds) <= set(taken) and len(taken) >= 2
    assert {"cv", "cv_splits"} & set(taken) == set(row.folds)
    assert row.described == hasattr(module, "root_of") == hasattr(module, "splits_of")
    assert row.root is not None and f"DATASET.{row.root.key}" in keys()
    assert set(row.joint) <= {"train", "val"}


def test_classes_are_those_of_cityscapes_where_a_row_says_so() -> None:
    own = registry.spec_of("cityscapes", None).class_names
    for row in ROWS:
        if row.kind in (PAIRS, BLACK) and registry.has_fixed_spec(row.name):
            same = registry.spec_of(row.name, None).class_names == own
            assert same == row.cityscapes_classes, row.name


def test_names_and_keys_of_roots_are_there_once() -> None:
    assert len(TABLE) == len(ROWS) == len(DATASETS)
    found = [root.key for root in table.roots()]
    assert len(found) == len(set(found)) == 11
    assert [key for key in found if Settings().DATASET.root(key) != ""] == []


def test_a_root_is_read_by_its_key() -> None:
    told = read_settings(["--set", "DATASET.CAMVID_DIR=/data/camvid"])
    assert told.DATASET.root("CAMVID_DIR") == "/data/camvid"
    told = read_settings(["--set_cityscapes_root", "/data/cityscapes"])
    assert told.DATASET.root("CITYSCAPES_DIR") == "/data/cityscapes"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["camvid", "pascal_context_59"])
def test_only_the_module_of_the_chosen_set_is_imported(name: str) -> None:
    program = LOADED.format(name=name, modules=sorted({row.path for row in ROWS}))
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    modules = set(done.stdout.split()) - {"datasets.folder"}  # lists pairs for others, too
    assert modules == {TABLE[name].path}, done.stderr


def test_a_split_that_a_set_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gtav has no split test; it has train and val"):
        registry.split_items("gtav", tmp_path, "test", Folds())


def compared(tree: ast.Module, names: set[str]) -> set[str]:
    """The `names` that stand in a comparison: `x == "kitti"`, `x in ("kitti", "gtav")`."""
    return {
        inner.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        for inner in ast.walk(node)
        if isinstance(inner, ast.Constant) and inner.value in names
    }


@pytest.mark.slow
def test_nothing_is_decided_by_the_name_of_a_set() -> None:
    names = {row.name for row in ROWS} - {"folder"}  # a value of --eval, too
    files = ("assembly/", "datasets/", "engine/", "reports/", "settings/", "tools/")
    found = {
        path: hits
        for path, tree in trees().items()
        if path.startswith(files) and (hits := compared(tree, names))
    }
    assert found == {"datasets/centroids.py": {"custom"}}  # a field of the class table, too
    assert compared(ast.parse("a = dataset in ('kitti', 'x')"), names) == {"kitti"}


def test_the_names_of_server_files_fit_their_patterns() -> None:
    given = [row.server_files for row in ROWS if row.server_files is not None]
    assert len(given) == 6
    for pattern, example in given:
        assert re.fullmatch(pattern, example)
