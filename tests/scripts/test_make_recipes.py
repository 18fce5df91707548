# SPDX-License-Identifier: Apache-2.0
"""The recipes are what their table says, and what is wrong in a table is one line."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from config import UserError
from scripts.make_recipes import MARK, SCRIPTS, TABLE, main, read_table, render_all

HEADER = "Purpose: to try, Hardware: none, Score: none, Source: this test"
BASE = f"  plain: {{program: train.py, {HEADER}, dataset: <dataset>, lr: 0.1, max_epoch: }}"


def table(folder: Path, *rows: str, bases: tuple[str, ...] = (BASE,)) -> Path:
    """A folder with one file of a table, its rows and bases one line each."""
    folder = folder / "recipes"
    folder.mkdir(exist_ok=True)
    lines = ["bases:", *bases, "recipes:", *(f"  {row}" for row in rows)]
    (folder / "family.yml").write_text("\n".join(lines) + "\n")
    return folder


def refusal(folder: Path, *rows: str, bases: tuple[str, ...] = (BASE,)) -> str:
    """What the generator says of a table, which it has to refuse."""
    with pytest.raises(UserError) as caught:
        render_all(table(folder, *rows, bases=bases))
    return str(caught.value)


def made(folder: Path, *rows: str, bases: tuple[str, ...] = (BASE,)) -> list[dict[str, object]]:
    """The HPARAMS of the recipe `one` of a table."""
    text = render_all(table(folder, *rows, bases=bases))["one.yml"]
    return yaml.load(text, yaml.BaseLoader)["HPARAMS"]


def test_no_recipe_is_stale(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0, capsys.readouterr().out


def test_every_recipe_of_scripts_has_a_row_that_it_names() -> None:
    files = read_table(TABLE).files
    assert {path.stem for path in SCRIPTS.glob("*.yml")} == set(files)
    for name, file in files.items():
        first = (SCRIPTS / f"{name}.yml").read_text().partition("\n")[0]
        assert first.startswith(f"{MARK}scripts/recipes/{file.name}")


def test_check_names_what_is_stale_and_writing_mends_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = table(tmp_path, "one: {base: plain, dataset: a}", "two: {base: plain, dataset: b}")
    where = ["--table", str(folder), "--to", str(tmp_path)]
    assert main(where) == 0
    assert main([*where, "--check"]) == 0
    (tmp_path / "mine.yml").write_text("# written by hand\n")
    table(tmp_path, "one: {base: plain, dataset: c}", "three: {base: plain, dataset: b}")
    capsys.readouterr()
    assert main([*where, "--check"]) == 1
    assert re.findall(r"(\w+)\.yml is stale", capsys.readouterr().out) == ["one", "three", "two"]
    assert main(where) == 0
    assert main([*where, "--check"]) == 0
    assert {path.stem for path in tmp_path.glob("*.yml")} == {"mine", "one", "three"}


def test_values_keep_their_spelling_and_their_place(tmp_path: Path) -> None:
    row = 'one: {base: plain, dataset: <set>, set: synthetic, lr: 6e-5, n_scales: "0.5,1.0"}'
    (run,) = made(tmp_path, row)
    expected = {"dataset": "synthetic", "lr": "6e-5", "set": "synthetic", "n_scales": "0.5,1.0"}
    assert list(run.items()) == [*expected.items(), ("result_dir", "LOGDIR")]


def test_the_last_base_wins_and_a_blank_takes_away(tmp_path: Path) -> None:
    bases = (BASE, "  long: {max_epoch: 300, lr: 0.3, seed: 1}", "  short: {lr: 0.2}")
    (run,) = made(tmp_path, "one: {base: [plain, long, short], dataset: a, seed: }", bases=bases)
    values = [("dataset", "a"), ("lr", "0.2"), ("max_epoch", "300"), ("result_dir", "LOGDIR")]
    assert list(run.items()) == values


def test_a_later_run_is_written_with_what_differs_from_the_first(tmp_path: Path) -> None:
    row = "one: {base: plain, dataset: d<n>, arch: a<n>, runs: [{n: 1}, {n: 2, lr: 5}, {n: 1}]}"
    first, second, third = made(tmp_path, row)
    assert first == {"dataset": "d1", "lr": "0.1", "arch": "a1", "result_dir": "LOGDIR"}
    assert second == {"dataset": "d2", "lr": "5", "arch": "a2"}
    assert not third  # runx gives every run what the first one has


def test_one_row_is_all_that_a_recipe_needs(tmp_path: Path) -> None:
    folder = tmp_path / "recipes"
    shutil.copytree(TABLE, folder)
    with (folder / "segformer.yml").open("a") as file:
        file.write("  mine: {base: segformer_city, size: 0, one: 1, many: 2, lr: 1e-4}\n")
    assert main(["--table", str(folder), "--to", str(tmp_path)]) == 0
    names = {path.name for path in SCRIPTS.glob("*.yml")}
    assert {path.name for path in tmp_path.glob("*.yml")} == names | {"mine.yml"}
    mine, like = ((tmp_path / f"{name}.yml").read_text() for name in ("mine", "segformer_b0_city"))
    assert mine.replace("1e-4", "6e-5").splitlines()[6:] == like.splitlines()[6:]


def test_the_example_of_the_page_stands_in_the_table() -> None:
    page = (SCRIPTS.parent / "docs" / "outputs.md").read_text()
    example = yaml.load(re.search(r"\n    bases:\n(?:    .*\n)+", page)[0], yaml.BaseLoader)
    true = yaml.load((TABLE / "segformer.yml").read_text(), yaml.BaseLoader)
    for section, rows in example.items():
        assert rows == {name: true[section][name] for name in rows}


def test_lines_of_a_recipe_end_before_column_100() -> None:
    texts = render_all(TABLE).values()
    assert max(len(line) for text in texts for line in text.splitlines()) < 100


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("one: {base: plan, dataset: a}", "unknown base plan; did you mean plain?"),
        ("one: {base: plain, dataset: a, max_epcoh: 2}", "unknown key max_epcoh; did you mean"),
        ("one: {base: plain, dataset: a, runs: [{max_epcoh: 2}]}", "unknown key max_epcoh"),
        ("one: {base: plain, dataset: a, notes: {lrr: why}}", "unknown key lrr"),
        ("one: {base: plain, dataset: a, Purpose: }", "Purpose is not given"),
        ("one: {base: plain}", "dataset is not given"),
        ("one: {base: plain, dataset: <size>}", "size is not given"),
        ("one: {base: plain, dataset: a, program: run.py}", "program is train.py or eval.py"),
        ("one: {base: plain, dataset: a, gpus: many}", "gpus is the number of processes"),
        ("one: {base: plain, dataset: a, lr: 1, lr: 2}", "'lr' is given twice"),
        ("one: {base: plain, dataset: a, loss: {lr: 1}, lr: 2}", "lr is given twice"),
        ("one: {base: plain, dataset: a, losses: {lr: 1}}", "losses cannot be"),
        ("one: {base: plain, dataset: a, runs: [{}, {lr: }]}", "cannot leave out lr"),
        ("one: {base: plain, dataset: a, runs: [{Score: 1}]}", "Score belongs to the recipe"),
        ("one: plain", "a row is a mapping"),
        ("../one: {base: plain, dataset: a}", "no name of letters"),
        ("one: {base: plain", "expected"),
    ],
)
def test_a_wrong_row_is_one_line_that_names_it(
    row: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    right = "right: {base: plain, dataset: a}"
    message = refusal(tmp_path, right, row)
    assert said in message
    assert message.startswith("family.yml")
    assert main(["--table", str(tmp_path / "recipes"), "--to", str(tmp_path)]) == 2
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert not list(tmp_path.glob("*.yml"))  # a wrong table writes nothing


def test_bases_in_a_ring_and_bases_without_use_are_refused(tmp_path: Path) -> None:
    row = "one: {base: plain, dataset: a}"
    ring = ("  plain: {base: other}", "  other: {base: plain}")
    assert "base plain is its own base: plain > other > plain" in refusal(tmp_path, row, bases=ring)
    spare = (BASE, "  spare: {lr: 1}")
    assert refusal(tmp_path, row, bases=spare) == "base spare is used by no recipe"


def test_a_name_in_two_files_is_refused(tmp_path: Path) -> None:
    folder = table(tmp_path, "one: {base: plain, dataset: a}")
    (folder / "more.yml").write_text("recipes:\n  one: {base: plain, dataset: b}\n")
    with pytest.raises(UserError, match="more.yml: one stands in another file, too"):
        render_all(folder)
