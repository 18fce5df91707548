# SPDX-License-Identifier: Apache-2.0
"""`--from_run` with a run.json of any content."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from config import UserError
from settings import catalogue, flag_values, read_settings, tree_of

WRONG = (None, True, 7, -1, 0.5, 1e300, "", "text", [], [None], [[1]], {}, {"a": 1}, [1, 2, 3])
INHERITED = [name for name, each in catalogue().items() if each.declared.inherited]


def a_run() -> dict[str, Any]:
    told = read_settings(["--dataset", "camvid"])
    whole: dict[str, Any] = json.loads(
        json.dumps({"flags": flag_values(told), "config": tree_of(told)})
    )
    return whole


def adopt(directory: Path, content: Any) -> str | None:
    """The line about a run.json with this content, None if it is taken."""
    text = content if isinstance(content, str) else json.dumps(content)
    (directory / "run.json").write_text(text)
    try:
        read_settings(["--from_run", str(directory), "--snapshot", "x"], "eval.py", "val")
    except UserError as error:
        return str(error)
    return None


def test_the_run_json_of_a_run_is_taken(tmp_path: Path) -> None:
    assert adopt(tmp_path, a_run()) is None


@pytest.mark.parametrize(
    "content",
    [
        "", "[]", "null", "3", '"text"', "{", "[" * 100_000, "\0", '{"flags": null}', "{}",
        '{"flags": {}}', '{"flags": [], "config": {}}', '{"flags": {}, "config": {}}',
        '{"flags": {}, "config": []}', '{"flags": {}, "config": {"MODEL": 3, "DATASET": {}}}',
        '{"flags": {}, "config": {"MODEL": {"": 1}, "DATASET": {}}}',
        '{"flags": {}, "config": {"MODEL": {}, "DATASET": {"CV_SPLITS": NaN}}}',
    ],
)  # fmt: skip
def test_what_is_no_run_json_is_one_line(tmp_path: Path, content: str) -> None:
    line = adopt(tmp_path, content)
    assert line is not None and line.startswith("--from_run ") and str(tmp_path) in line
    assert "\n" not in line and len(line) < 400


def test_wrong_flags_and_keys_are_named_or_mean_something(tmp_path: Path) -> None:
    whole = a_run()
    places = [("flags", name) for name in INHERITED]
    places += [("MODEL", name) for name in whole["config"]["MODEL"]]
    places += [("DATASET", name) for name in whole["config"]["DATASET"]]
    refused = 0
    for number, (section, name) in enumerate(places):
        for wrong in WRONG[number % 7 :: 7]:
            content = copy.deepcopy(whole)
            tree = content["flags"] if section == "flags" else content["config"][section]
            tree[name] = wrong
            line = adopt(tmp_path, content)
            refused += line is not None
            assert line is None or ("\n" not in line and len(line) < 400), (name, wrong)
    assert refused > len(places) / 3


def test_an_empty_run_is_none_and_an_empty_checkpoint_leaves_that_of_the_run(
    tmp_path: Path,
) -> None:
    """Scripts pass variables that are not set."""
    assert read_settings(["--from_run", ""]).network.from_run == ""
    (tmp_path / "run.json").write_text(json.dumps(a_run()))
    best = tmp_path / "best_checkpoint_ep3.pth"
    best.touch()
    for given in ([], ["--snapshot", ""]):
        told = read_settings(["--from_run", str(tmp_path), *given], "eval.py", "val")
        assert told.network.snapshot == str(best) and told.data.dataset == "camvid"


def test_a_null_or_text_in_place_of_a_value_names_the_entry(tmp_path: Path) -> None:
    for section, name, wrong, words in (
        ("flags", "cv", "x", "flags.cv: x is not a whole number"),
        ("flags", "cv", None, "flags.cv is null"),
        ("flags", "scf", "yes", "flags.scf: true or false"),
        ("flags", "dataset", "moon", "flags.dataset is moon; there are cityscapes"),
        ("flags", "slide_crop", [[1]], "flags.slide_crop: text, a number or a list"),
        ("MODEL", "hrnet_width", "wide", "MODEL.hrnet_width=wide: a value of type int"),
        ("MODEL", "hanet", {"a": 1}, "config.MODEL.hanet: text, a number or a list"),
        ("DATASET", "CV_SPLITS", -3, "CV_SPLITS: -3 is outside 1..21"),
    ):
        content = a_run()
        tree = content["flags"] if section == "flags" else content["config"][section]
        tree[name] = wrong
        line = adopt(tmp_path, content)
        assert line is not None and words in line and "run.json" in line
