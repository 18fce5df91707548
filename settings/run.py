# SPDX-License-Identifier: Apache-2.0
"""The run itself: folder, resume, device, arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from settings.declare import BETWEEN_EPOCHS, BOTH, IN_FILE, UNRELATED, Bounds, Group, setting
from settings.needs import TRAINS
from settings.ranges import COUNT, POSITIVE_COUNT, PROCESS, SEED
from settings.trackers import tracker_names

PRECISIONS = ("fp32", "tf32", "fp16", "bf16")


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Where and how the program runs."""

    GROUP: ClassVar[Group] = Group(title="run", task=BOTH)

    result_dir: str = setting(
        "./logs",
        "--result_dir",
        path=True,
        help="folder that the run writes to",
        metavar="DIR",
        resume=UNRELATED,
        decides=False,
    )
    resume: str | None = setting(
        None,
        "--resume",
        path=True,
        help="go on exactly where a checkpoint was written",
        metavar="FILE|auto",
        excludes=("snapshot",),
        resume=UNRELATED,
        decides=False,
    )
    val_freq: int = setting(
        1, "--val_freq", bounds=POSITIVE_COUNT, help="validate every so many epochs"
    )
    val_iters: int | None = setting(
        None,
        "--val_iters",
        bounds=POSITIVE_COUNT,
        help="validate every so many iterations instead of epochs",
        excludes=("val_freq",),
    )
    patience: int | None = setting(
        None,
        "--patience",
        bounds=POSITIVE_COUNT,
        help="end training after so many validations in a row without a better score",
        metavar="N",
        needs=TRAINS,
    )
    save_iters: int = setting(
        0,
        "--save_iters",
        bounds=COUNT,
        help="write a checkpoint every so many iterations too, 0: never",
    )
    seed: int = setting(0, "--seed", bounds=SEED, help="seed of every random draw", resume=IN_FILE)
    deterministic: bool = setting(
        False, "--deterministic", help="use deterministic kernels, slower on CUDA"
    )
    precision: str = setting(
        "fp32", "--precision", choices=PRECISIONS, help="number format of the network's arithmetic"
    )
    compile: bool = setting(False, "--compile", help="compile the network with torch.compile")
    shard: bool = setting(
        False,
        "--shard",
        help="split weights, gradients and optimiser state over the processes (FSDP2)",
        needs=TRAINS,
        excludes=("auto_fit", "compile", "channels_last"),
        resume=UNRELATED,
        decides=False,
    )
    channels_last: bool = setting(
        False,
        "--channels_last",
        help="keep images and features in the channels-last memory format, which is faster on GPUs "
        "with tensor cores and on the CPU, where HRNets have it anyway",
    )
    device: str = setting(
        "auto",
        "--device",
        choices=("auto", "cpu", "cuda"),
        help="where to compute",
        resume=UNRELATED,
    )
    local_rank: int | None = setting(
        None,
        "--local_rank",
        "--local-rank",
        bounds=PROCESS,
        help="number of this process on its machine, set by the launcher",
        resume=UNRELATED,
        decides=False,
    )
    dist_timeout: float = setting(
        600.0,
        "--dist_timeout",
        bounds=Bounds(1, 10**6),
        help="how long to wait at the start until all processes of the launcher are there",
        metavar="SECONDS",
        resume=UNRELATED,
        decides=False,
    )
    test_mode: bool = setting(
        False,
        "--test_mode",
        help="2 epochs of 11 steps, 7 images: a quick check",
        resume=BETWEEN_EPOCHS,
        decides=False,
    )
    no_preflight: bool = setting(
        False,
        "--no_preflight",
        help="start without the step and the evaluation that show beforehand what a run needs",
        needs=TRAINS,
        resume=UNRELATED,
        decides=False,
    )
    auto_fit: bool = setting(
        False,
        "--auto_fit",
        help="where memory is too small take --grad_ckpt, smaller batches that are added up to the "
        "same one, smaller crops, and validate in windows, as far as needed",
        needs=TRAINS,
        excludes=("no_preflight",),
        resume=UNRELATED,
        decides=False,
    )
    summary: bool = setting(
        False, "--summary", help="print the parameters of each part and stop", resume=UNRELATED
    )
    no_progress: bool = setting(
        False, "--no_progress", help="draw no progress bar", resume=UNRELATED, decides=False
    )
    tracker: tuple[str, ...] = setting(
        ("tensorboard",),
        "--tracker",
        parse=tracker_names,
        help="where curves and previews go: a comma list of tensorboard, mlflow, wandb and "
        "trackio, or none",
        metavar="TRACKER",
        resume=UNRELATED,
        decides=False,
    )
    set: tuple[str, ...] = setting(
        (),
        "--set",
        repeated=True,
        help="set any key of the configuration tree; may stand several times",
        metavar="KEY=VALUE",
        resume=UNRELATED,
        decides=False,
    )
