# SPDX-License-Identifier: Apache-2.0
"""Flags of the loss, the optimiser and its schedule, and the run itself."""

from __future__ import annotations

from collections.abc import Callable

from flags.values import (
    CLASSES,
    COUNT,
    batch_size,
    betas,
    file_name,
    fraction,
    listed,
    non_negative,
    non_negative_int,
    number,
    param_rules,
    positive,
    positive_exponent,
    positive_int,
    positive_rate,
    rate,
)

SCHEDULES = ("poly", "poly2", "scl-poly", "step", "cosine")
MAX_RESCALE = 1e24  # a rate that large ruins a network, which is a way to test what then happens
MAX_SEED = 2**63 - 1
MAX_PROCESSES = 10**6
PRECISIONS = ("fp32", "tf32", "fp16", "bf16")


def add_loss(add: Callable[..., object]) -> None:
    classes = listed(int, low=0, high=CLASSES, empty=True)
    since = number(int, -1, COUNT)
    add("--rmi_loss", action="store_true", help="region mutual information; may be negative")
    add("--img_wt_loss", action="store_true", help="class-weighted cross entropy a batch")
    add("--batch_weighting", action="store_true", help="class weights of the batch, not of images")
    add("--jointwtborder", action="store_true", help="boundary label relaxation")
    add("--strict_bdr_cls", type=classes, help="classes without relaxation")
    add("--rlx_off_epoch", type=since, default=-1, help="epoch that ends the relaxation, -1 never")
    add("--wt_bound", "-wb", type=non_negative, default=1.0, help="bound of the class weights")
    add("--dt_offset_wt", type=non_negative, default=0.0, help="weight of boundary supervision")
    add(
        "--dt_offset_source",
        default="compute",
        choices=("compute", "files"),
        help="boundary maps: from labels while training, or written by datasets.dt_offset",
    )
    add(
        "--ocr_alpha",
        "--aux_weight",
        type=number(float, 0, 100),
        default=0.4,
        help="weight of the auxiliary loss: OCR's, or that of an auxiliary head",
    )
    add("--ocr_aux_loss_rmi", action="store_true", help="RMI for the auxiliary prediction too")
    add(
        "--supervised_mscale_loss_wt",
        type=number(float, 0, 100),
        default=0.0,
        help="weight of the loss on each single scale",
    )
    add(
        "--loss_average",
        default="valid",
        choices=("valid", "all"),
        help="mean over labelled pixels, or over all: ignored ones then count as 0",
    )
    add("--ohem_threshold", type=fraction, help="train on pixels less sure than this only")
    add("--ohem_min_kept", type=positive_int, default=100_000, help="but on so many an image")
    add(
        "--log_accuracy",
        action="store_true",
        help="log the percentage of all pixels that are right",
    )


def add_optimisation(add: Callable[..., object]) -> None:
    add("--lr", type=positive_rate, default=0.002, help="base learning rate")
    add("--optimizer", default="sgd", choices=("sgd", "adam", "radam", "adamw"), help="optimiser")
    add("--momentum", type=fraction, default=0.9, help="SGD momentum")
    add("--betas", type=betas, default=(0.9, 0.999), help="decays of the adam averages")
    add(
        "--adam_eps",
        type=number(float, 0, 1, open_low=True),
        default=1e-8,
        help="added to the root in adam and kin",
    )
    add("--weight_decay", type=rate, default=1e-4, help="weight decay")
    add(
        "--param_rules",
        type=param_rules,
        metavar="KEY:lr=F,KEY:decay=F",
        help="factors for parameters whose name contains KEY, e.g. head:lr=10,norm:decay=0",
    )
    add("--amsgrad", action="store_true", help="AMSGrad variant of adam and adamw")
    _add_schedule(add)
    add("--max_epoch", type=positive_int, default=180, help="training length in epochs")
    add("--max_iter", type=positive_int, help="training length in iterations instead")
    add("--accum_steps", type=batch_size, default=1, help="batches added up before a step")
    add("--clip_grad", type=positive, help="largest norm of the gradient")
    add("--ema", type=number(float, 0, 0.999999), help="decay of the weight average, evaluated")
    add("--syncbn", action="store_true", help="synchronised batch norm; plain with one CUDA rank")


def _add_schedule(add: Callable[..., object]) -> None:
    factor = number(float, 0, MAX_RESCALE, open_low=True)
    add("--lr_schedule", default="poly", choices=SCHEDULES, help="schedule")
    add("--poly_exp", type=positive_exponent, default=1.0, help="exponent of the poly schedule")
    add("--poly_step", type=positive_int, default=110, help="poly2: epoch that doubles it")
    add("--rescale", type=factor, default=1.0, help="scl-poly: factor after --rlx_off_epoch")
    add(
        "--repoly",
        type=positive_exponent,
        default=1.5,
        help="scl-poly: exponent after --rlx_off_epoch",
    )
    add("--warmup_epochs", type=non_negative_int, help="cosine: linear warm-up; max_epoch/15")
    add("--warmup_lr", type=rate, default=1e-6, help="cosine: rate of epoch 0 under it")
    add("--cooldown_epochs", type=non_negative_int, help="cosine: then at min_lr; max_epoch/30")
    add("--lr_batch", type=positive_int, help="images a step that --lr is meant for: it is scaled")
    add(
        "--lr_by",
        choices=("epoch", "iter"),
        help="when the schedule steps; iter with --max_iter where it can, else epoch",
    )
    add("--lr_step", type=positive_int, help="step: epochs (or iterations) of one rate")
    add("--lr_gamma", type=fraction, default=0.1, help="step: factor from one to the next")
    add(
        "--min_lr",
        type=rate,
        default=0.0,
        help="last rate, of cosine and poly by iteration",
    )
    add("--warmup_iters", type=non_negative_int, default=0, help="linear warm-up, iterations")
    add("--warmup_ratio", type=fraction, default=1e-6, help="factor of its first iteration")


def add_run(add: Callable[..., object]) -> None:
    process = number(int, 0, MAX_PROCESSES)
    add("--result_dir", type=file_name, default="./logs", metavar="DIR", help="run directory")
    add(
        "--resume",
        type=file_name,
        metavar="FILE|auto",
        help="go on exactly where a checkpoint was written",
    )
    add("--restore_optimizer", action="store_true", help="with --snapshot: its optimiser too")
    add("--restore_net", action="store_true", help="with --snapshot: its weights (the default)")
    add("--start_epoch", type=non_negative_int, default=0, help="first epoch without --resume")
    add("--val_freq", type=positive_int, default=1, help="epochs between validations")
    add("--val_iters", type=positive_int, help="iterations between validations instead")
    add("--save_iters", type=non_negative_int, default=0, help="also save every N iterations")
    add("--seed", type=number(int, 0, MAX_SEED), default=0, help="seed of every random draw")
    add("--deterministic", action="store_true", help="deterministic kernels, slower on CUDA")
    add("--precision", choices=PRECISIONS, default="fp32", help="arithmetic of the network")
    add("--fp16", action="store_true", help="same as --precision fp16 (bf16 on a CPU)")
    add("--apex", action="store_true", help="accepted: native torch does its work")
    add("--amp_opt_level", choices=("O0", "O1", "O2", "O3"), help="accepted: see --precision")
    add("--compile", action="store_true", help="torch.compile the network")
    add("--grad_ckpt", action="store_true", help="less memory, recompute the trunk backward")
    add("--channels_last", action="store_true", help="channels-last memory format")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to compute")
    add("--local_rank", "--local-rank", type=process, help="set by the launcher")
    add("--global_rank", type=process, help="accepted: the launcher's RANK is used")
    add(
        "--dist_timeout",
        type=number(float, 1, 10**6),
        default=600.0,
        metavar="SECONDS",
        help="how long to wait at the start until all processes of the launcher are there",
    )
    add("--test_mode", action="store_true", help="2 epochs of 11 steps, 7 images: a quick check")
    add("--summary", action="store_true", help="print the parameters of each part and stop")
    add("--no_progress", action="store_true", help="no progress bar")
    add("--set", action="append", metavar="KEY=VALUE", help="any key of the configuration tree")
