# SPDX-License-Identifier: Apache-2.0
"""Scores per image from train.py and eval.py, and what reports.compare makes of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from reports.image_scores import FILE, LAST_FILE, ImageScores, read_image_scores
from tests.program import TINY, assert_one_line_error, run, street_flags

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(street_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a two-epoch training."""
    directory = tmp_path_factory.mktemp("trained")
    result = run(
        "train.py", *TINY, *street_flags(street_root, directory), "--crop_size", "64,96",
        "--class_uniform_pct", "0", "--bs_trn", "2", "--max_epoch", "2", "--lr", "0.05",
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return directory


def evaluate(trained: Path, directory: Path, *flags: str, ranks: int = 1) -> ImageScores:
    """The scores of an evaluation of the best checkpoint into `directory`."""
    result = run("eval.py", "--from_run", str(trained), "--num_workers", "0", *flags,
                 "--result_dir", str(directory), ranks=ranks)  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return read_image_scores(directory / FILE)


def confusion(scores: ImageScores) -> list[list[int]]:
    """The matrix of all images together."""
    count = len(scores.counts.class_names)
    total = np.zeros(count * count, np.int64)
    np.add.at(total, scores.counts.cells, scores.counts.pixels)
    return total.reshape(count, count).tolist()


def test_a_training_keeps_the_scores_of_its_best_and_its_last_validation(trained: Path) -> None:
    rows = [line.split(",") for line in (trained / "metrics.csv").read_text().splitlines()]
    ious = [float(row[row.index("mean_iu") + 1]) for row in rows if row[0] == "val"]
    best, last = (read_image_scores(trained / name) for name in (FILE, LAST_FILE))
    assert (best.facts["epoch"], last.facts["epoch"]) == (int(np.argmax(ious)), 1)
    assert last.facts["iteration"] == 8 and len(last.counts.names) == 4
    areas = best.counts.areas().sum(0).reshape(3, -1)
    union = areas[1] + areas[2] - areas[0]
    assert np.mean(areas[0][union > 0] / union[union > 0]) == pytest.approx(max(ious))


def test_ranks_and_interrupted_evaluations_write_the_same_scores(
    trained: Path, tmp_path: Path
) -> None:
    one = evaluate(trained, tmp_path / "one", "--dump_all_images")
    assert confusion(one) == json.loads((tmp_path / "one/results.json").read_text())["confusion"]
    shutil.copytree(tmp_path / "one", tmp_path / "again")  # stopped after its last image
    (tmp_path / "again" / FILE).unlink()
    evaluate(trained, tmp_path / "again", "--dump_all_images")
    evaluate(trained, tmp_path / "two", "--dump_all_images", ranks=2)
    contents = {(tmp_path / name / FILE).read_bytes() for name in ("one", "again", "two")}
    assert len(contents) == 1


def test_a_part_of_a_set_is_compared_on_the_images_that_both_have(
    trained: Path, tmp_path: Path
) -> None:
    part = evaluate(trained, tmp_path / "part", "--eval_f1_start", "1", "--do_flip")
    assert len(part.counts.names) == 3
    sides = ("-m", "reports.compare", str(trained / FILE), str(tmp_path / "part"))
    line = assert_one_line_error(run(*sides), "runs on different images", "1 only in")
    assert "--common compares the 3 that both have" in line
    result = run(*sides, "--common", "--out", str(tmp_path / "page.html"))
    assert result.returncode == 0, result.stdout + result.stderr
    content = json.loads((tmp_path / "page.json").read_text())
    assert content["images"] == 3
    score = json.loads((tmp_path / "part/results.json").read_text())["metrics"]["mean_iu"]
    assert content["scores"]["mean_iu"]["b"] == pytest.approx(100 * score)


def test_a_set_that_cannot_be_read_leaves_no_scores(
    trained: Path, street_root: Path, tmp_path: Path
) -> None:
    root = tmp_path / "streets"
    shutil.copytree(street_root, root)
    broken = sorted(root.rglob("val/*/*_leftImg8bit.png"))[1]
    broken.write_bytes(broken.read_bytes()[:200])
    result = run("eval.py", "--from_run", str(trained), "--num_workers", "0", "--result_dir",
                 str(tmp_path / "out"), "--set", f"DATASET.SYNTHETIC_DIR={root}")  # fmt: skip
    assert_one_line_error(result, "image cannot be read")
    assert not (tmp_path / "out" / FILE).exists()


def test_two_evaluations_of_one_checkpoint_differ_by_their_settings_alone(
    trained: Path, tmp_path: Path
) -> None:
    for name, flags in (("plain", []), ("flipped", ["--do_flip"])):
        evaluate(trained, tmp_path / name, "--dump_all_images", *flags)
    plain, flipped = tmp_path / "plain", tmp_path / "flipped"
    result = run("-m", "reports.compare", str(plain), str(flipped))
    assert result.returncode == 0, result.stdout + result.stderr
    content = json.loads((flipped / "compare.json").read_text())
    assert content["differences"] == {"Evaluation: settings": [["do_flip", "–", "true"]]}
    assert content["verdict"] == "too few images" and "4 images, too few to tell" in result.stdout
    for key, folder in (("a", plain), ("b", flipped)):
        score = json.loads((folder / "results.json").read_text())["metrics"]["mean_iu"]
        assert content["scores"]["mean_iu"][key] == pytest.approx(100 * score)
    assert (flipped / "compare.html").read_text().count("data:image") >= 5


def test_the_command_for_a_run_without_scores_writes_them(trained: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(trained, bare)
    for name in (FILE, LAST_FILE):
        (bare / name).unlink()
    line = assert_one_line_error(
        run("-m", "reports.compare", str(trained), str(bare)), f"{bare} holds no {FILE}"
    )
    words = line.partition("python ")[2].removesuffix(" writes it").split()
    done = run(*words, "--num_workers", "0")
    assert done.returncode == 0, done.stdout + done.stderr
    result = run("-m", "reports.compare", str(trained), str(bare))
    assert result.returncode == 0, result.stdout + result.stderr
    content = json.loads((bare / "eval" / "compare.json").read_text())
    assert content["scores"]["mean_iu"]["difference"] == pytest.approx(0, abs=0.02)
