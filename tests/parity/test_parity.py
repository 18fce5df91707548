# SPDX-License-Identifier: Apache-2.0
"""Every recorded fixture in the tree passes, and the program itself tells right from wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.parity import __main__ as program
from tests.parity.core import (
    Verdict,
    all_checks,
    compare,
    find_check,
    judge,
    judge_file,
)
from tests.parity.damage import survivors
from tests.parity.fixture import FIXTURES, Fixture, fixture_names, load_fixture

FILES = [
    folder / f"{name}.json"
    for folder in sorted(FIXTURES.iterdir())
    for name in fixture_names(folder)
]
LIGHT_PARAMETERS = 3_000_000
HEAVY_ENTRIES = ("gradient_l2", "archs", "evaluation")
SMALL = (  # of every system, and quick
    *("hmsa/data_cv_split", "hmsa/data_sampler", "hmsa/loss_softnll", "hmsa/eval_f_boundary"),
    *(
        "hanet/block_default",
        "hila/unit",
        "mmseg/loss",
        "mmseg/metrics",
        "mmseg/cityscapes_classes",
    ),
    *("mmseg/zero_label", "unept/position_and_init", "unept/deit_position_resize"),
    *("unept/spatial_branch_45x61",),
)


def header_of(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def is_heavy(path: Path) -> bool:
    """Whether a fixture builds a network of published size."""
    header = header_of(path)
    cases = header.get("cases")
    total = isinstance(cases, list) and cases and "criterion_calls_in_order" in cases[0]
    large = header.get("params", 0) > LIGHT_PARAMETERS
    return bool(total or large or any(key in header for key in HEAVY_ENTRIES))


def title(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def small(name: str) -> Path:
    return FIXTURES / f"{name}.json"


def copied(path: Path, folder: Path, name: str) -> Path:
    """A fixture under another name in another folder."""
    folder.mkdir(exist_ok=True)
    arrays = path.with_name(f"{path.name.removesuffix('.json')}.npz")
    if arrays.exists():
        shutil.copy(arrays, folder / f"{name}.npz")
    return Path(shutil.copy(path, folder / f"{name}.json"))


def edited(path: Path, folder: Path, change: Any) -> Path:
    """A copy of a fixture whose header went through `change`."""
    found = copied(path, folder, "x17")
    header = header_of(found)
    change(header)
    found.write_text(json.dumps(header))
    return found


@pytest.mark.parity
@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=[pytest.mark.slow] if is_heavy(p) else [], id=title(p)) for p in FILES],
)
def test_the_recorded_numbers_are_reproduced(path: Path) -> None:
    verdict = judge_file(path)
    assert verdict.reasons() == []
    assert verdict.word == "PASS"


def test_every_fixture_is_known_to_exactly_one_check() -> None:
    kinds = {title(path): find_check(load_fixture(path)).name for path in FILES}
    assert len(kinds) == len(FILES)


@pytest.mark.parity
@pytest.mark.parametrize("name", SMALL)
def test_neither_the_name_of_a_file_nor_that_of_its_folder_matters(
    name: str, tmp_path: Path
) -> None:
    path = small(name)
    moved = judge_file(copied(path, tmp_path / "anything", "x17"))
    here = judge_file(path)
    assert (moved.word, len(moved.rows)) == (here.word, len(here.rows)) == ("PASS", len(here.rows))


@pytest.mark.parity
@pytest.mark.parametrize("name", ["hmsa/loss_imgwt", "hmsa/data_transforms", "hmsa/loss_rmi"])
def test_the_titles_of_cases_do_not_matter(name: str, tmp_path: Path) -> None:
    def rename(header: dict[str, Any]) -> None:
        for number, case in enumerate(header["cases"]):
            case["label"] = f"case {number}"

    assert judge_file(edited(small(name), tmp_path, rename)).word == "PASS"


@pytest.mark.parity
def test_parts_that_need_not_be_recorded_may_be_missing(tmp_path: Path) -> None:
    def shorten(header: dict[str, Any]) -> None:
        del header["params"]
        for spec in header["outputs"].values():
            del spec["mean"], spec["max"]

    verdict = judge_file(edited(small("hanet/block_default"), tmp_path, shorten))
    assert verdict.word == "PASS" and verdict.rows


@pytest.mark.parity
def test_another_setting_gives_other_numbers_not_an_error(tmp_path: Path) -> None:
    def reseed(header: dict[str, Any]) -> None:
        header["cases"][0]["input"]["seed"] += 1

    verdict = judge_file(edited(small("hmsa/loss_ce"), tmp_path, reseed))
    assert verdict.word == "FAIL" and len(verdict.rows) > 10


@pytest.mark.parity
@pytest.mark.parametrize("name", SMALL)
def test_a_changed_answer_is_noticed(name: str) -> None:
    assert survivors(load_fixture(small(name)), per_kind=1) == []


@pytest.mark.parity
@pytest.mark.slow
@pytest.mark.parametrize("kind", [check.name for check in all_checks()])
def test_a_changed_answer_of_every_kind_is_noticed(kind: str) -> None:
    known = [path for path in FILES if find_check(load_fixture(path)).name == kind]
    if not known:
        pytest.skip("no fixture of this kind in the tree")
    lightest = min(known, key=lambda path: (is_heavy(path), header_of(path).get("params", 0)))
    assert survivors(load_fixture(lightest), per_kind=1) == []


def test_the_tolerance_is_absolute_plus_relative() -> None:
    assert compare("x", [1.0, 102.0], [1.0, 100.0], atol=1.0, rtol=0.01).ok
    assert not compare("x", [1.0, 102.1], [1.0, 100.0], atol=1.0, rtol=0.01).ok


def test_the_share_of_the_tolerance_is_that_of_the_worst_value() -> None:
    assert compare("x", [1.0, 101.0], [1.0, 100.0], atol=1.0, rtol=0.01).share == 0.5
    assert compare("x", [1, 2], [1, 1], atol=1).share == 0  # whole steps, no noise


def test_not_a_number_passes_only_where_it_was_recorded() -> None:
    nan, inf = float("nan"), float("inf")
    assert compare("x", [nan, inf], [nan, inf]).ok
    assert compare("x", [nan], [None]).ok
    assert not compare("x", [nan, 1.0], [1.0, 1.0], atol=1e9).ok
    assert not compare("x", [inf, 1.0], [1.0, 1.0], atol=1e9).ok
    assert not compare("x", [1.0, 1.0], [inf, 1.0], atol=1e9).ok


def test_another_shape_fails() -> None:
    assert "shape" in compare("x", [1.0], [[1.0]]).note


def only_line(verdict: Verdict) -> str:
    assert verdict.word == "CANNOT RUN"
    (line,) = verdict.reasons()
    assert "\n" not in line and "Traceback" not in line
    return line


def test_an_entry_and_an_array_that_nothing_compares_are_named(tmp_path: Path) -> None:
    def add(header: dict[str, Any]) -> None:
        header["cases"][0]["never_heard_of"] = 3

    path = edited(small("hmsa/loss_ce"), tmp_path, add)
    assert "cases.0.never_heard_of" in only_line(judge_file(path))
    found = load_fixture(small("hmsa/loss_ce"))
    more = {**found.arrays, "spare": np.zeros(2)}
    verdict = judge(Fixture.of("x", found.header.peek(), more))
    assert only_line(verdict) == "compared by nothing: array spare"


def test_a_fixture_of_no_known_kind_cannot_be_run() -> None:
    assert "no check knows" in only_line(judge(Fixture.of("x", {"arrows": [1]})))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1, 2]", "an object is wanted"),
        ("{", "cannot be read"),
        ('{"cases": {"input": 3}}', "no check knows"),
        ('{"splits": 3, "cities": 4}', "the check stopped at"),
        ('{"arch": "ocrnet.HRNot", "outputs": {}, "manifest": {}}', "HRNot"),
        ('{"layout": "mmseg-1", "config": "a/b.py"}', "no known configuration"),
    ],
)
def test_a_header_of_wrong_types_costs_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "x17.json"
    path.write_text(text)
    assert said in only_line(judge_file(path))


@pytest.mark.parametrize("bad", ["none", "cut", "text"])
def test_an_array_file_that_is_missing_or_damaged_costs_one_line(tmp_path: Path, bad: str) -> None:
    path = copied(small("hmsa/loss_ce"), tmp_path, "x17")
    arrays = path.with_suffix(".npz")
    whole = arrays.read_bytes()
    arrays.unlink()
    if bad != "none":
        arrays.write_bytes(whole[: len(whole) // 2] if bad == "cut" else b"words")
    assert "x17.npz" in only_line(judge_file(path))


def test_a_missing_key_and_an_unknown_option_are_named(tmp_path: Path) -> None:
    def lose(header: dict[str, Any]) -> None:
        del header["cases"][1]["input"]["seed"]

    path = edited(small("hmsa/loss_ce"), tmp_path, lose)
    assert only_line(judge_file(path)) == "the key cases.1.input.seed is missing"

    def widen(header: dict[str, Any]) -> None:
        header["cases"][0]["args"] = {"label_smoothing": 0.1}

    path = edited(small("hmsa/loss_ce"), tmp_path, widen)
    assert "label_smoothing" in only_line(judge_file(path))

    def configure(header: dict[str, Any]) -> None:
        header["config"] = {"never_heard_of": 3}

    for name in ("hmsa/loss_total_mscale", "hmsa/mscale2.DeepV3R50"):
        path = edited(small(name), tmp_path, configure)
        assert "config: never_heard_of is no known option" in only_line(judge_file(path))


def test_text_in_the_place_of_numbers_is_named(tmp_path: Path) -> None:
    def spell(header: dict[str, Any]) -> None:
        header["cases"][1]["loss"] = "one"

    path = edited(small("hmsa/loss_ce"), tmp_path, spell)
    assert only_line(judge_file(path)) == "x17/1 loss is recorded as the text ['one'], no number"
    path = copied(small("hmsa/loss_ce"), tmp_path, "x17")
    arrays = dict(load_fixture(path).arrays)
    np.savez(path.with_suffix(".npz"), **{**arrays, "grad0": np.array(["a", "b"])})
    assert only_line(judge_file(path)) == "x17.npz: array grad0 holds <U1, no numbers"


def test_the_program_prints_a_line_a_fixture_and_the_worst_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def damage(header: dict[str, Any]) -> None:
        header["ignore_index"] = 254

    edited(small("mmseg/cityscapes_classes"), tmp_path, damage)
    copied(small("mmseg/zero_label"), tmp_path, "a")
    (tmp_path / "never_heard_of.json").write_text("{}")
    np.savez(tmp_path / "no_header.npz", x=np.zeros(1))
    assert program.main([str(tmp_path)]) == 1
    first, unknown, headless, last = capsys.readouterr().out.splitlines()
    assert first.split()[:2] == ["PASS", "a"] and "rows=3" in first
    assert unknown.startswith("CANNOT RUN never_heard_of: ")
    assert headless.startswith("CANNOT RUN no_header: ")
    assert last.split()[:4] == ["FAIL", "x17", "1", "0.00394"]
    assert program.main([str(tmp_path / "a.json")]) == 0


def test_a_folder_without_fixtures_is_an_error(tmp_path: Path) -> None:
    assert program.main([str(tmp_path)]) == 2
    assert program.main([]) == 2
