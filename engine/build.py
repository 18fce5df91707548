# SPDX-License-Identifier: Apache-2.0
"""From flags and `cfg` to the parts of a run: network, optimiser, lengths of the loop."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from config import DATASETS, FLAG_KEYS, Config, ModelConfig, UserError, near
from datasets.custom import hues
from datasets.spec import DatasetSpec
from engine import optim
from engine.hanet_groups import hanet_groups
from engine.loop import Settings
from engine.param_groups import ParamRule, check_rules, describe, make_groups
from engine.rates import cosine_epochs, learning_rate
from engine.refinement import run_trained_heads
from engine.state import Progress, TrainState
from network.build import build_net, list_classifiers, resolve_arch
from network.convert import load_official, read_checkpoint
from network.convert.adapt import adapt
from network.convert.checkpoint import split_weights
from network.convert.hanet import AUXILIARY
from network.convert.hub import KEY, HubFacts
from network.convert.position_tables import load_position_tables
from network.convert.schema import check_named, is_own
from network.height_gates import attention_blocks
from network.hub_arch import arch_of
from runtime.distributed import World
from runtime.precision import Precision
from runtime.runlog import RunLog

TEST_MODE_STEPS, TEST_MODE_IMAGES = 11, 7
UNUSED_IN_EVALUATION = (AUXILIARY,)  # weights that only training runs


@dataclasses.dataclass
class Snapshot:
    """The file of `--snapshot`, read once: it may be large.

    `facts` are its entries besides the weights if this program wrote it, else {}. `hub` is what
    a folder in hub format says.
    """

    path: str
    content: dict[str, Any]
    facts: dict[str, Any]
    hub: HubFacts | None = None


def read_snapshot(args: argparse.Namespace) -> Snapshot | None:
    """The file that `--snapshot` names, None without the flag."""
    if not args.snapshot:
        return None
    content = read_checkpoint(args.snapshot)
    if not is_own(content):
        return Snapshot(args.snapshot, content, {}, content.get(KEY))
    check_named(content, args.snapshot)
    return Snapshot(args.snapshot, content, split_weights(content)[1])


def classes_of(snapshot: Snapshot | None) -> dict[str, Any]:
    """What the file of `--snapshot` says about its task and its classes; {} without a word.

    A folder in hub format names its classes and gives them no colours: they get hues.
    """
    if snapshot is None or snapshot.hub is None or not snapshot.hub.class_names:
        return snapshot.facts if snapshot else {}
    names = snapshot.hub.class_names
    return {
        "dataset": "hub",
        "class_names": names,
        "palette": hues(len(names)),
        "train_id_to_id": range(len(names)),
        "ignore_label": 255,
    }


def adopt_snapshot(args: argparse.Namespace, cfg: Config, snapshot: Snapshot | None) -> ModelConfig:
    """Take architecture and data set of `--snapshot` where the user named none.

    Returns the model options of this evaluation: those the file was trained with, overridden
    by what stands on the command line.
    """
    facts = snapshot.facts if snapshot else {}
    if snapshot and snapshot.hub:
        return _adopt_hub(args, cfg, snapshot.hub)
    if not facts:
        return cfg.MODEL
    try:
        resolve_arch(facts["arch"])
    except UserError as error:
        raise UserError(f"{args.snapshot} is damaged: entry arch: {error}") from None
    if "arch" in args.given and resolve_arch(args.arch) != facts["arch"]:
        raise UserError(
            f"--snapshot {args.snapshot} holds {facts['arch']}, not --arch {args.arch}; "
            "leave --arch out, the file knows its own"
        )
    args.arch = facts["arch"]
    if args.eval and "dataset" not in args.given and not args.from_run:
        is_built_in = facts["dataset"] in DATASETS and not facts.get("custom")
        args.dataset = facts["dataset"] if is_built_in else "custom"
    if args.eval and not facts.get("positions", True):
        args.no_pos_dataset = True
    known = {item.name for item in dataclasses.fields(ModelConfig)}
    options = {key: value for key, value in facts["model_options"].items() if key in known}
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    default = ModelConfig()
    typed = {FLAG_KEYS.get(flag, flag).removeprefix("MODEL.") for flag in args.given}
    for name in known:
        chosen = getattr(cfg.MODEL, name)
        if chosen != getattr(default, name) or name in typed:
            options[name] = chosen
    options["pretrained"] = ""
    return ModelConfig(**options)


def _adopt_hub(args: argparse.Namespace, cfg: Config, facts: HubFacts) -> ModelConfig:
    """Take the architecture of a folder in hub format where the user named none."""
    if "arch" in args.given:
        return cfg.MODEL
    arch, options = arch_of(facts)
    if not arch:
        raise UserError(
            f"--snapshot {args.snapshot} holds {facts.architecture}, of which there is no "
            "architecture of that size; --arch names the network to put it into"
        )
    args.arch = arch
    default = ModelConfig()
    unset = {k: v for k, v in options.items() if getattr(cfg.MODEL, k) == getattr(default, k)}
    return dataclasses.replace(cfg.MODEL, **unset)


def check_arch(args: argparse.Namespace) -> None:
    """Raise UserError for an unknown `--arch`, and for one of the other task."""
    arch = resolve_arch(args.arch)
    known = list_classifiers()
    if args.task == "classify" and arch not in known:
        raise UserError(
            f"--arch {arch} is no classifier{near(arch, known)}; "
            "--task classify --arch help lists them"
        )
    if args.task == "segment" and arch in known:
        raise UserError(f"--arch {arch} is a classifier: it needs --task classify")


def build_network(
    args: argparse.Namespace,
    model: ModelConfig,
    num_classes: int,
    log: RunLog,
    snapshot: Snapshot | None,
    resumed: Snapshot | None = None,
    *,
    class_names: Sequence[str] = (),
) -> nn.Module:
    """The network of `--arch`, with the weights of `snapshot` when there is one.

    Those of `resumed` come with all else that it holds, later; here only the sizes that a
    network takes from its file, which the optimiser must see. `class_names` are those of the
    data set, where there is one.
    """
    net = build_net(args.arch, num_classes, **dataclasses.asdict(model))
    count = sum(item.numel() for item in net.parameters())
    log.msg(f"{args.arch}: {count:,} parameters, {num_classes} classes")
    if args.snapshot_pe:
        tables = load_position_tables(net, read_checkpoint(args.snapshot_pe), args.snapshot_pe)
        log.msg(f"{args.snapshot_pe}: {', '.join(tables)}")
    if snapshot:
        _check_task_of(snapshot, args.task)
        partial = tuple(item for item in args.allow_partial.split(",") if item)
        report = load_official(
            net,
            snapshot.content,
            partial=partial,
            title=snapshot.path,
            optional=UNUSED_IN_EVALUATION if args.eval else (),
            dataset=args.dataset,
            offer_partial=not args.eval,
            class_names=class_names,
        )
        log.msg(f"{snapshot.path}: {report}")
        if args.eval and args.no_pos_dataset and attention_blocks(net):
            log.msg("HANet blocks get no row positions, as with --no_pos_dataset")
        if args.refine_boundaries:
            run_trained_heads(net, snapshot.path, snapshot.facts)
    elif args.eval:
        raise UserError("an evaluation needs weights: --snapshot FILE or --from_run DIR")
    elif resumed:  # of another architecture: refused when its state is read
        if resumed.content.get("arch") == resolve_arch(args.arch):
            adapt(net, split_weights(resumed.content)[0], f"--resume {resumed.path}")
    elif model.pretrained:
        log.msg(f"{model.pretrained}: {net.trunk_report}")
    elif model.hila_reuse_bottom:
        raise UserError("MODEL.hila_reuse_bottom copies weights of a file: it needs --pretrained")
    else:
        log.msg("network starts from random weights (--pretrained or --snapshot give others)")
    return net


def _check_task_of(snapshot: Snapshot, task: str) -> None:
    """A checkpoint of the other task is refused with the way to use it."""
    held = snapshot.facts.get("task", "segment") if snapshot.facts else task
    if held == task:
        return
    if held == "classify":
        way = f"is a classifier; --pretrained {snapshot.path} takes its trunk"
    else:
        way = "is a segmentation network, --task classify needs a classifier"
    raise UserError(f"--snapshot {snapshot.path} {way}")


def place(args: argparse.Namespace, net: nn.Module, world: World, log: RunLog) -> nn.Module:
    """Move to the device; memory format and synchronised batch norm as asked."""
    if args.syncbn:
        if world.device.type == "cuda" and world.size > 1:
            net = nn.SyncBatchNorm.convert_sync_batchnorm(net)
        else:
            log.msg("--syncbn has no effect here: it needs several CUDA processes")
    net = net.to(world.device)
    return net.to(memory_format=torch.channels_last) if args.channels_last else net


def network_header(
    args: argparse.Namespace, model: ModelConfig, num_classes: int
) -> dict[str, Any]:
    """The plain entries that say which network a checkpoint belongs to."""
    return {
        "arch": resolve_arch(args.arch),
        "num_classes": num_classes,
        "model_options": {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(model).items()
        },
        "param_rules": param_rules(args),
    }


def checkpoint_header(
    args: argparse.Namespace, model: ModelConfig, spec: DatasetSpec
) -> dict[str, Any]:
    """The plain entries that make a checkpoint usable without any flag."""
    return {
        **network_header(args, model, spec.num_classes),
        "dataset": spec.name,
        "custom": spec.custom,
        "class_names": list(spec.class_names),
        "palette": [list(color) for color in spec.palette],
        "train_id_to_id": list(spec.train_id_to_id),
        "ignore_label": spec.ignore_label,
        "positions": not (args.no_pos_dataset and any(model.hanet)),
        "seed": args.seed,
        "command": " ".join(sys.argv),
    }


def build_state(
    args: argparse.Namespace,
    net: nn.Module,
    header: dict[str, Any],
    precision: Precision,
    world: World,
    log: RunLog,
    snapshot: Snapshot | None,
) -> TrainState:
    """Optimiser, scaler, weight average and progress around `net`."""
    optimizer = build_optimizer(args, net, learning_rate(args, world), snapshot)
    if len(optimizer.param_groups) > 1:
        log.msg(describe(optimizer.param_groups))
    ema = None
    if args.ema is not None:
        ema = AveragedModel(net, multi_avg_fn=optim.weight_average(args.ema), use_buffers=True)
    return TrainState(
        net=net,
        optimizer=optimizer,
        scaler=precision.scaler(),
        ema=ema,
        progress=Progress(epoch=args.start_epoch),
        facts=header,
        world_size=world.size,
    )


def build_optimizer(
    args: argparse.Namespace, net: nn.Module, rate: float, snapshot: Snapshot | None
) -> torch.optim.Optimizer:
    """The optimiser of the flags over the groups of `--param_rules`, of base rate `rate`.

    Vectors and biases of a classifier are not decayed. UserError for a rule without any
    parameter, and for a saved state of other groups.
    """
    if "ocr_alpha" in args.given and not optim.has_auxiliary(net):
        raise UserError(
            f"--aux_weight has no effect on {args.arch}, which has no auxiliary head; leave it out"
        )
    if args.ocr_alpha == 0:
        optim.freeze_auxiliary(net)
    if args.train_only:
        optim.freeze_others(net, tuple(text for text in args.train_only.split(",") if text))
    rules = [ParamRule(key=key, lr=lr, decay=decay) for key, lr, decay in args.param_rules or ()]
    check_rules([name for name, _ in net.named_parameters()], rules)
    groups = make_groups(
        [(name, item) for name, item in net.named_parameters() if item.requires_grad],
        rules,
        lr=rate,
        weight_decay=args.weight_decay,
        decay_vectors=args.task == "segment",
    )
    if _own_rates(args):
        groups = hanet_groups(
            net.named_parameters(),
            lr=rate,
            weight_decay=args.weight_decay,
            hanet_lr=args.hanet_lr,
            hanet_wd=args.hanet_wd,
            backbone_lr=args.backbone_lr,
        )
    optimizer = optim.make_optimizer(
        groups,
        args.optimizer,
        lr=rate,
        weight_decay=args.weight_decay,
        momentum=args.momentum,
        amsgrad=args.amsgrad,
        betas=args.betas,
        eps=args.adam_eps,
    )
    if args.restore_optimizer:
        own = [{k: v for k, v in group.items() if k != "params"} for group in groups]
        optimizer.load_state_dict(_saved_optimizer(args, snapshot))
        for group, values in zip(optimizer.param_groups, own, strict=True):
            group.update(values)
    return optimizer


def param_rules(args: argparse.Namespace) -> list[list[Any]]:
    """What decides about the parameter groups in plain types, as a checkpoint keeps it."""
    if _own_rates(args):
        return [["hanet_lr", args.hanet_lr > 0], ["backbone_lr", args.backbone_lr > 0]]
    return [list(rule) for rule in args.param_rules or ()]


def _own_rates(args: argparse.Namespace) -> bool:
    return bool(args.hanet_lr > 0 or args.backbone_lr > 0)


def _saved_optimizer(args: argparse.Namespace, snapshot: Snapshot | None) -> dict[str, Any]:
    """The optimiser state of a checkpoint of this program; other orders of parameters differ."""
    if snapshot is None or "optimizer" not in snapshot.facts:
        raise UserError(
            "--restore_optimizer: --snapshot names no file with an optimiser state of this "
            "program; leave it out"
        )
    if snapshot.facts.get("param_rules", []) != param_rules(args):
        raise UserError(
            "--restore_optimizer: --param_rules (--hanet_lr, --backbone_lr) must be those of the "
            "run that wrote --snapshot"
        )
    state: dict[str, Any] = snapshot.facts["optimizer"]
    return state


def build_settings(args: argparse.Namespace, best_by: str = "mean_iu") -> Settings:
    """The lengths and switches of the loop."""
    max_epoch = sys.maxsize if args.max_iter is not None else args.max_epoch
    if args.lr_schedule == "cosine":
        max_epoch += cosine_epochs(args)[1]
    return Settings(
        max_epoch=max_epoch,
        max_steps=TEST_MODE_STEPS if args.test_mode else None,
        max_iter=args.max_iter,
        val_freq=args.val_freq,
        val_iters=args.val_iters,
        save_iters=args.save_iters,
        accum_steps=args.accum_steps,
        clip_grad=args.clip_grad,
        channels_last=args.channels_last,
        compile=args.compile,
        best_by=best_by,
        positions=not args.no_pos_dataset,
    )
