# SPDX-License-Identifier: Apache-2.0
"""train.py and eval.py from the command line, on one tiny training run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.program import ROOT, TINY, environment, run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(street_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a two-epoch training."""
    directory = tmp_path_factory.mktemp("trained")
    result = run(
        "train.py", *TINY, "--dataset", "synthetic",
        "--set", f"DATASET.SYNTHETIC_DIR={street_root}", "--class_uniform_tile", "64",
        "--set", f"DATASET.CENTROID_ROOT={directory}/centroids", "--crop_size", "64,96",
        "--bs_trn", "2", "--num_workers", "0", "--max_epoch", "2", "--lr", "0.02", "--rmi_loss",
        "--supervised_mscale_loss_wt", "0.05", "--accum_steps", "2", "--result_dir", str(directory),
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return directory


def snapshot(directory: Path) -> str:
    return str(next(directory.glob("best_checkpoint_ep*.pth")))


def test_run_directory_holds_what_a_reader_needs(trained: Path) -> None:
    assert json.loads((trained / "status.json").read_text())["status"] == "done"
    facts = json.loads((trained / "run.json").read_text())
    assert facts["flags"]["crop_size"] == [64, 96]
    assert facts["config"]["MODEL"]["hrnet_width"] == 4
    assert facts["versions"]["torch"]
    assert facts["data"]["train"]["images"] == 8
    rows = [
        line for line in (trained / "metrics.csv").read_text().splitlines() if "mean_iu" in line
    ]
    assert len(rows) == 2
    log = (trained / "logging.log").read_text()
    assert "rmi" in log
    assert "scale_05x" in log


def test_from_run_repeats_the_validation(trained: Path, tmp_path: Path) -> None:
    result = run("eval.py", "--from_run", str(trained), "--num_workers", "0",
                 "--result_dir", str(tmp_path))  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    score = json.loads((tmp_path / "results.json").read_text())["metrics"]["mean_iu"]
    rows = [
        line for line in (trained / "metrics.csv").read_text().splitlines() if "mean_iu" in line
    ]
    best = max(float(row.split("mean_iu,")[1].split(",")[0]) for row in rows)
    assert score == pytest.approx(best, abs=2e-4)


def test_train_py_with_eval_is_the_same_evaluation(
    trained: Path, street_root: Path, tmp_path: Path
) -> None:
    scores = []
    for program, more in (("eval.py", []), ("train.py", ["--eval", "val"])):
        directory = tmp_path / program
        result = run(
            program, *more, "--dataset", "synthetic", "--snapshot", snapshot(trained),
            "--set", f"DATASET.SYNTHETIC_DIR={street_root}", "--n_scales", "0.5,1.0,2.0",
            "--do_flip", "--num_workers", "0", "--result_dir", str(directory),
        )  # fmt: skip
        assert result.returncode == 0, result.stdout + result.stderr
        scores.append(json.loads((directory / "results.json").read_text())["confusion"])
    assert scores[0] == scores[1]


def test_printed_scores_are_those_of_the_cityscapes_server(
    trained: Path, street_root: Path, tmp_path: Path
) -> None:
    """eval.py's submit/ folder, scored by the public cityscapesScripts package."""
    pytest.importorskip("cityscapesscripts", reason="dev dependency cityscapesScripts is absent")
    result = run(
        "eval.py", "--dataset", "synthetic", "--snapshot", snapshot(trained),
        "--set", f"DATASET.SYNTHETIC_DIR={street_root}", "--n_scales", "0.5,1.0",
        "--dump_for_submission", "--num_workers", "0", "--result_dir", str(tmp_path),
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    gt = next(street_root.rglob("gtFine"))
    code = (
        "import cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling as e, json, sys\n"
        "e.args.evalInstLevelScore = False; e.args.quiet = True\n"
        "e.args.JSONOutput = True; e.args.exportFile = sys.argv[1]\n"
        "gts = sorted(__import__('glob').glob(sys.argv[2] + '/val/*/*_gtFine_labelIds.png'))\n"
        "e.args.predictionPath = sys.argv[3]\n"
        "e.args.predictionWalk = None\n"
        "preds = [e.getPrediction(e.args, gt) for gt in gts]\n"
        "e.evaluateImgLists(preds, gts, e.args)\n"
    )
    export = tmp_path / "server.json"
    subprocess.run(
        [sys.executable, "-c", code, str(export), str(gt), str(tmp_path / "submit")],
        env=environment(CITYSCAPES_DATASET=str(gt.parent)), check=True, timeout=300,
        capture_output=True, text=True,
    )  # fmt: skip
    server = json.loads(export.read_text())["classScores"]
    ours = json.loads((tmp_path / "results.json").read_text())
    for row in ours["classes"]:
        wanted = server[row["name"]]
        if row["iou"] is None:
            assert np.isnan(wanted)
        else:
            assert round(row["iou"], 3) == round(wanted, 3), row["name"]
    mean = np.nanmean([server[row["name"]] for row in ours["classes"]])
    assert ours["metrics"]["mean_iu"] == pytest.approx(mean, abs=1e-9)
    with zipfile.ZipFile(tmp_path / "submission.zip") as archive:
        assert len(archive.namelist()) == 4


def write_pictures(folder: Path) -> None:
    """Images as people have them: sizes, formats, modes, sub-folders, one torn file."""
    rng = np.random.default_rng(0)
    (folder / "trip" / "day 2").mkdir(parents=True)
    colour = rng.integers(0, 255, (70, 100, 3)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(colour).save(folder / "turned.jpg", exif=exif)
    Image.fromarray(colour[:50, :90]).save(folder / "trip" / "small.png")
    Image.fromarray(np.dstack([colour, colour[..., :1]])).save(folder / "trip" / "alpha.png")
    deep = rng.integers(0, 65535, (64, 64)).astype(np.uint16)
    Image.fromarray(deep).save(folder / "trip" / "day 2" / "deep.png")
    whole = (folder / "trip" / "small.png").read_bytes()
    (folder / "torn.png").write_bytes(whole[: len(whole) // 2])


def test_folder_needs_only_the_checkpoint_and_survives_a_bad_file(
    trained: Path, tmp_path: Path
) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    write_pictures(photos)
    result = run(
        "eval.py", "--eval", "folder", "--eval_folder", str(photos), "--snapshot",
        snapshot(trained), "--dump_assets", "--dump_all_images", "--num_workers", "0",
        "--result_dir", str(out),
    )  # fmt: skip
    assert result.returncode == 3, result.stdout + result.stderr
    assert "torn" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr
    status = json.loads((out / "status.json").read_text())
    assert status["status"] == "failed"
    assert len(status["files"]) == 1
    composites = {str(path.relative_to(out / "best_images"))
                  for path in (out / "best_images").rglob("composited_*.png")}  # fmt: skip
    assert composites == {
        "composited_turned.png", "trip/composited_small.png", "trip/composited_alpha.png",
        "trip/day 2/composited_deep.png",
    }  # fmt: skip
    with Image.open(out / "best_images" / "composited_turned.png") as turned:
        assert turned.size == (70, 100)
    assert (out / "best_images" / "index.html").exists()


def test_interrupted_dump_goes_on_without_work_done_twice(
    trained: Path, street_root: Path, tmp_path: Path
) -> None:
    line = [
        "eval.py", "--dataset", "synthetic", "--set", f"DATASET.SYNTHETIC_DIR={street_root}",
        "--snapshot", snapshot(trained), "--dump_all_images", "--no_metrics",
        "--num_workers", "0", "--result_dir", str(tmp_path),
    ]  # fmt: skip
    assert run(*line).returncode == 0
    pictures = sorted((tmp_path / "best_images").rglob("composited_*.png"))
    before = {path: path.stat().st_mtime_ns for path in pictures[1:]}
    pictures[0].unlink()
    result = run(*line)
    assert result.returncode == 0, result.stdout + result.stderr
    assert pictures[0].exists()
    assert {path: path.stat().st_mtime_ns for path in pictures[1:]} == before


def test_auto_labels_are_written_for_every_image(
    trained: Path, street_root: Path, tmp_path: Path
) -> None:
    result = run(
        "eval.py", "--dataset", "synthetic", "--set", f"DATASET.SYNTHETIC_DIR={street_root}",
        "--snapshot", snapshot(trained), "--dump_for_auto_labelling", "--no_metrics",
        "--bs_val", "2", "--num_workers", "0", "--result_dir", str(tmp_path),
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    probabilities = sorted(tmp_path.rglob("*_prob.png"))
    assert len(probabilities) == 4
    for path in probabilities:
        ids = path.with_name(path.name.replace("_prob", ""))
        with Image.open(ids) as first, Image.open(path) as second:
            assert first.size == second.size == (128, 64)


def test_published_launcher_and_flags_still_work(street_root: Path, tmp_path: Path) -> None:
    """torch.distributed.launch passes --local-rank; --apex and friends are explained."""
    result = subprocess.run(
        [sys.executable, "-m", "torch.distributed.launch", "--nproc_per_node=2", "train.py", *TINY,
         "--dataset", "synthetic", "--set", f"DATASET.SYNTHETIC_DIR={street_root}",
         "--class_uniform_pct", "0", "--crop_size", "64", "--num_workers", "0", "--test_mode",
         "--apex", "--amp_opt_level", "O0", "--syncbn", "--result_dir", str(tmp_path)],
        cwd=ROOT, env=environment(), capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    log = (tmp_path / "logging.log").read_text()
    assert "--apex: native" in log
    assert "--syncbn has no effect here" in log


def test_slices_of_hilas_tester_add_up_to_the_whole_set(
    trained: Path, street_root: Path, tmp_path: Path
) -> None:
    """Boundary F, modified F and a distance crop larger than the images."""
    found = {}
    for name, flags in {
        "whole": ["--eval_f1", "--eval_f1_th", "0.00088,3"],
        "head": ["--eval_f1_start", "0", "--eval_f1_step_size", "1", "--eval_f1_th", "0.00088,3"],
        "tail": ["--eval_f1_start", "1", "--eval_f1_th", "0.00088,3"],
    }.items():
        out = tmp_path / name
        result = run(
            "eval.py", "--dataset", "synthetic", "--set", f"DATASET.SYNTHETIC_DIR={street_root}",
            "--snapshot", snapshot(trained), "--num_workers", "0", "--result_dir", str(out),
            "--mod_f1", "--eval_distance_crop", "999", "40", *flags, *(["--eval_f1"]),
        )  # fmt: skip
        assert result.returncode == 0, result.stdout + result.stderr
        which = {"head": "images 0 to 0 only, of 4", "tail": "images 1 to 3 only, of 4"}
        assert which.get(name, "F 0.00088") in result.stdout
        assert ("scores are of images" in result.stdout) == (name != "whole")
        assert "F 0.00088" in result.stdout and "any two classes" in result.stdout
        found[name] = json.loads((out / "results.json").read_text())
    for key in ("boundary", "modified"):
        parts = [np.array(found[name][key]["sums"]) for name in ("head", "tail")]
        assert np.allclose(sum(parts), found["whole"][key]["sums"])
    assert found["head"]["counts"]["images"] == 1
    images = {name: each["protocol"]["images"] for name, each in found.items()}
    assert images == {"head": [0, 1], "tail": [1, 4], "whole": None}
    pixels = [np.sum(found[name]["confusion"]) for name in ("head", "tail", "whole")]
    assert pixels[0] > 0 and pixels[0] + pixels[1] == pixels[2]


def test_worst_images_boundary_scores_and_multi_scale_previews_in_one_evaluation(
    trained: Path, street_root: Path, tmp_path: Path
) -> None:
    """One process and two find the same worst images and the same scores."""
    found = {}
    for ranks in (1, 2):
        out = tmp_path / str(ranks)
        result = run(
            "eval.py", "--dataset", "synthetic", "--set", f"DATASET.SYNTHETIC_DIR={street_root}",
            "--snapshot", snapshot(trained), "--dump_topn", "2", "--dump_topn_all", "--eval_f1",
            "--multi_scale_inference", "--extra_scales", "0.5", "--log_msinf_to_tb",
            "--bs_val", "2", "--num_workers", "0", "--result_dir", str(out), ranks=ranks,
        )  # fmt: skip
        assert result.returncode == 0, result.stdout + result.stderr
        scores = json.loads((out / "results.json").read_text())
        f_scores = [row["boundary_f"] for row in scores["classes"]]
        names = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png"))
        found[ranks] = (scores["confusion"], names, f_scores)
    assert found[1][:2] == found[2][:2]
    assert found[1][2] == pytest.approx(found[2][2])
    assert any(re.search(r"_road_err_mask\.png$", name) for name in found[1][1])
    assert any(name.endswith("_road_pred_05x.png") for name in found[1][1])
    pages = tmp_path / "2" / "best_images"
    assert re.search(r"road-\d+</h2>", (pages / "topn_failures.html").read_text())
    assert 'href="topn_failures.html"' in (pages / "index.html").read_text()
    event = next((tmp_path / "1").glob("events.out.tfevents.*")).read_bytes()
    for tag in (b"msinf/mean_iu", b"msinf/iou/road", b"pred_05x"):
        assert tag in event
