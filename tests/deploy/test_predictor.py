# SPDX-License-Identifier: Apache-2.0
"""A predictor: the same ids as eval.py, and a process that stays as it was."""

from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.decode import read_image
from datasets.video import open_video
from deploy import Predictor
from reports.video_writer import VideoWriter
from runtime.errors import UserError
from tests.deploy.conftest import scene
from tests.program import TINY, run, street_flags


@pytest.fixture(scope="module")
def predictor(checkpoint: Path) -> Predictor:
    return Predictor(checkpoint)


def eval_ids(checkpoint: Path, photos: Path, out: Path, *flags: str) -> dict[str, np.ndarray]:
    """Name -> ids of `eval.py --eval folder`."""
    done = run(
        "eval.py", "--eval", "folder", "--eval_folder", str(photos), "--snapshot",
        str(checkpoint), "--num_workers", "0", "--result_dir", str(out), *flags,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    pictures = out / "best_images"
    return {
        path.relative_to(pictures).as_posix().removesuffix("_prediction.png"): np.asarray(
            Image.open(path)
        )
        for path in pictures.rglob("*_prediction.png")
    }


def named(photos: Path) -> dict[str, Path]:
    """Name, as eval.py gives it -> file."""
    files = [path for path in photos.rglob("*") if path.is_file()]
    return {path.relative_to(photos).with_suffix("").as_posix(): path for path in files}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "options"),
    [
        ((), {}),
        (
            ("--n_scales", "0.5,1.0", "--do_flip", "--precision", "bf16"),
            {"n_scales": (0.5, 1.0), "flip": True, "precision": "bf16"},
        ),
        (
            ("--slide_crop", "48,64", "--slide_stride", "36,48", "--test_scale", "200,80"),
            {"slide_crop": (48, 64), "test_scale": (200, 80)},
        ),
        (("--max_pixels", "3000"), {"max_pixels": 3000}),
        (
            ("--multi_scale_inference", "--extra_scales", "0.5", "--average", "probs"),
            {"multi_scale_inference": True, "extra_scales": 0.5, "average": "probs"},
        ),
    ],
)
def test_ids_are_those_of_eval(
    flags: tuple[str, ...], options: dict[str, Any], checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    wanted = eval_ids(checkpoint, photos, tmp_path, *flags)
    files, predictor = named(photos), Predictor(checkpoint, **options)
    assert wanted.keys() == files.keys()
    for name, path in files.items():
        found = predictor.predict(path)
        np.testing.assert_array_equal(found.ids, wanted[name], err_msg=name)
        np.testing.assert_array_equal(found.image, read_image(path))
    assert sum(len(np.unique(ids)) > 1 for ids in wanted.values()) >= 4


@pytest.mark.slow
def test_a_folder_and_an_iterable_of_files_are_read_as_eval_reads_them(
    predictor: Predictor, photos: Path, tmp_path: Path
) -> None:
    assert {each.name for each in predictor.predict_files(photos)} == {
        str(path) for path in named(photos).values()
    }
    broken = tmp_path / "cut.jpg"
    broken.write_bytes((photos / "odd.jpg").read_bytes()[:700])
    paths, failed = [photos / "plain.png", broken, photos / "odd.jpg"], []
    found = predictor.predict_files(paths, on_error=lambda path, error: failed.append(path))
    assert [each.size for each in found] == [(64, 96), (61, 97)]
    assert failed == [str(broken)]
    with pytest.raises(UserError, match=r"cut\.jpg"):
        list(predictor.predict_files(paths))


def test_the_same_pixels_give_the_same_ids_however_they_come(
    predictor: Predictor, photos: Path
) -> None:
    wanted = predictor.predict(photos / "plain.png")
    assert len(wanted.classes) > 1
    for source in (scene(seed=1), Image.fromarray(scene(seed=1)), torch.tensor(scene(seed=1))):
        np.testing.assert_array_equal(predictor.predict(source).ids, wanted.ids)


def test_images_of_several_sizes_come_back_in_their_order(predictor: Predictor) -> None:
    images = [scene(seed=1), scene(48, 64, seed=2), scene(seed=3), scene(seed=4)]
    found = predictor.predict_batch(images, together=2)
    for image, prediction in zip(images, found, strict=True):
        np.testing.assert_array_equal(prediction.image, image)
        alone = predictor.predict(image)
        assert (prediction.ids != alone.ids).mean() < 1e-3  # sums of a batch are rounded otherwise
        np.testing.assert_allclose(prediction.confidence, alone.confidence, atol=1e-4)
    assert predictor.predict_batch([]) == []


def test_scores_are_logits_kept_or_asked_for_again(predictor: Predictor) -> None:
    kept = predictor.predict(scene(), scores=True)
    again = predictor.predict(scene())
    assert kept.scores.shape == (3, 64, 96) and kept.scores.dtype == np.float32
    np.testing.assert_array_equal(kept.scores, again.scores)
    np.testing.assert_array_equal(kept.scores.argmax(0), kept.ids)
    np.testing.assert_allclose(kept.probabilities.max(0), kept.confidence, rtol=1e-4)


def state() -> list[Any]:
    """What belongs to the process."""
    return [
        torch.get_rng_state().tolist(),
        np.random.get_state()[1].tolist(),
        random.getstate(),
        torch.get_num_threads(),
        torch.get_float32_matmul_precision(),
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
        os.getcwd(),
        dict(os.environ),
    ]


def test_the_process_stays_as_it_was(checkpoint: Path, tmp_path: Path) -> None:
    here = Path.cwd()
    os.chdir(tmp_path)
    try:
        before = state()
        Predictor(checkpoint, n_scales=(0.5, 1.0), flip=True).predict(scene())
        assert state() == before
        assert not list(tmp_path.iterdir())
    finally:
        os.chdir(here)


def test_two_predictors_and_many_threads_do_not_disturb_each_other(
    predictor: Predictor, checkpoint: Path
) -> None:
    other = Predictor(checkpoint, n_scales=(0.5, 1.0, 2.0))
    images = [scene(seed=number) for number in range(4)]
    wanted = [[each.predict(image).ids for image in images] for each in (predictor, other)]
    assert any((a != b).any() for a, b in zip(*wanted, strict=True))
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(each.predict, image) for each in (predictor, other) for image in images]
        found = [job.result(60).ids for job in jobs]
    for ids, alone in zip(found, wanted[0] + wanted[1], strict=True):
        np.testing.assert_array_equal(ids, alone)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_scale": (0.5,)}, r"n_scale= is no option of a prediction; did you mean n_scales\?"),
        ({"lr": 0.1}, "lr= is no option"),
        ({"n_scales": (0.5, 9.0)}, r"n_scales=\(0\.5, 9\.0\)"),
        ({"n_scales": {0.5}}, "numbers such as"),
        ({"slide_crop": 5}, "at least 32 pixels"),
        ({"slide_crop": "wide"}, "slide_crop='wide'"),
        ({"slide_stride": 5}, "no effect without --slide_crop"),
        ({"precision": "fp8"}, "fp32, tf32, fp16, bf16"),
        ({"precision": "tf32"}, "needs CUDA"),
        ({"device": "gpu"}, "cpu, cuda or cuda:N"),
        ({"device": "cuda:77"}, "CUDA devices"),
        ({"arch": "segformer.B0"}, "holds ocrnet.HRNet_Mscale"),
        ({"dataset": "cityscape"}, "there are cityscapes, "),
        ({"compile": "yes"}, "True or False"),
        ({"set": ["MODEL.foo=1"]}, "unknown key MODEL.foo"),
        ({"together": 4}, "together= is no option"),
    ],
)
def test_a_wrong_option_is_one_line(options: dict[str, Any], words: str, checkpoint: Path) -> None:
    if options.get("precision") == "tf32" and torch.cuda.is_available():
        pytest.skip("a CUDA device computes in tf32")
    with pytest.raises(UserError, match=words) as caught:
        Predictor(checkpoint, **options)
    assert "\n" not in str(caught.value)


def test_weights_that_cannot_be_used_are_one_line(
    checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    foreign = tmp_path / "foreign.pth"
    torch.save({"state_dict": {"conv.weight": torch.zeros(3, 3)}}, foreign)
    cases = {
        tmp_path / "none.pth": "does not exist",
        photos: "folder without config.json",
        photos / "plain.png": r"plain\.png is no checkpoint: it begins with",
        foreign: "does not say what its classes are",
        "ftp://host/x.pth": "hf:",
    }
    for place, words in cases.items():
        with pytest.raises(UserError, match=words) as caught:
            Predictor(place)
        assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_file_of_other_programs_needs_its_network_and_its_classes(
    photos: Path, tmp_path: Path
) -> None:
    from network.build import build_net
    from tests.network.tiny import enliven

    net = build_net("segformer.B0", 19)
    enliven(net)
    torch.save(net.state_dict(), tmp_path / "weights.pth")
    options = {"arch": "segformer.B0", "dataset": "cityscapes"}
    found = Predictor(tmp_path / "weights.pth", **options).predict(photos / "odd.jpg")
    assert found.known.names[0] == "road" and found.ids.shape == (61, 97)
    flags = [word for name, value in options.items() for word in (f"--{name}", value)]
    wanted = eval_ids(tmp_path / "weights.pth", photos / "odd.jpg", tmp_path / "out", *flags)
    np.testing.assert_array_equal(found.ids, wanted["odd"])
    np.testing.assert_array_equal(found.raw_ids == 7, found.ids == 0)


@pytest.mark.slow
def test_a_run_directory_stands_for_its_best_checkpoint(street_root: Path, tmp_path: Path) -> None:
    done = run(
        "train.py", *TINY, *street_flags(street_root, tmp_path / "run"), "--crop_size", "64,64",
        "--bs_trn", "2", "--max_epoch", "1", "--class_uniform_pct", "0",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    best = next((tmp_path / "run").glob("best_checkpoint_ep*.pth"))
    of_run, of_file = Predictor(tmp_path / "run"), Predictor(best)
    assert of_run.classes == of_file.classes and len(of_run.classes.names) == 19
    assert any(str(best) in line for line in of_run.notes)
    image = read_image(next(street_root.rglob("*_leftImg8bit.png")))
    np.testing.assert_array_equal(of_run.predict(image).ids, of_file.predict(image).ids)


def test_the_smallest_image_is_predicted_and_a_batch_of_none_is_refused(
    predictor: Predictor,
) -> None:
    assert predictor.predict(scene(1, 1)).size == (1, 1)
    with pytest.raises(UserError, match=r"together=0"):
        predictor.predict_batch([scene()], together=0)


def clip(path: Path, frames: int = 5) -> list[np.ndarray]:
    """A short video; its frames as they are read again."""
    with VideoWriter(path, 10, (64, 96)) as writer:
        for number in range(frames):
            writer.add(scene(seed=number))
    return list(open_video(path))


def test_a_video_is_predicted_frame_by_frame(predictor: Predictor, tmp_path: Path) -> None:
    frames = clip(tmp_path / "clip.mp4")
    found = list(predictor.predict_video(tmp_path / "clip.mp4"))
    assert [each.name for each in found][1] == f"{tmp_path / 'clip.mp4'}, frame 1"
    for frame, each in zip(frames, found, strict=True):
        np.testing.assert_array_equal(each.image, frame)
        np.testing.assert_array_equal(each.ids, predictor.predict(frame).ids)


def test_a_video_is_written_with_its_rate_and_size(predictor: Predictor, tmp_path: Path) -> None:
    frames = clip(tmp_path / "clip.mp4")
    assert predictor.predict_video(tmp_path / "clip.mp4", tmp_path / "out.mp4", alpha=1.0) == 5
    written = open_video(tmp_path / "out.mp4")
    assert (written.fps, written.size) == (10, (64, 96))
    with pytest.raises(UserError, match="out.mp4 is the video itself"):
        predictor.predict_video(tmp_path / "out.mp4", tmp_path / "out.mp4")
    last = list(written)[-1].astype(int)
    assert abs(last - predictor.predict(frames[-1]).color).mean() < 12  # video is lossy


def test_of_a_damaged_video_the_frames_before_are_kept(
    predictor: Predictor, tmp_path: Path
) -> None:
    clip(tmp_path / "whole.mp4", 40)
    content = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(
        UserError, match=r"cut\.mp4: video is damaged after \d+ of 40 frames"
    ) as told:
        predictor.predict_video(tmp_path / "cut.mp4", tmp_path / "out.mp4")
    kept = int(str(told.value).split(" after ")[1].split()[0])
    assert 5 < kept < 40 and len(list(open_video(tmp_path / "out.mp4"))) == kept
    with pytest.raises(UserError, match="video cannot be read"):
        list(predictor.predict_video(tmp_path / "none.mp4"))
    assert not list(tmp_path.glob(".*"))
