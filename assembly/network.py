# SPDX-License-Identifier: Apache-2.0
"""From settings to a network with its weights, on its device, and how a checkpoint names it."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from assembly.snapshot import Snapshot
from datasets.spec import DatasetSpec
from engine.refinement import run_trained_heads
from network.build import arch_help, build_net, is_classifier, list_classifiers, resolve_arch
from network.contract import Network
from network.convert import input_norm, load_official, read_checkpoint
from network.convert.adapt import adapt
from network.convert.checkpoint import split_weights
from network.convert.hanet import AUXILIARY
from network.convert.position_tables import load_position_tables
from network.height_gates import attention_blocks
from network.ops.onednn import prefer_onednn
from runtime.distributed import World
from runtime.errors import UserError, near
from runtime.normalisation import IMAGENET
from runtime.outcome import DONE
from runtime.runlog import RunLog
from settings import Settings

UNUSED_IN_EVALUATION = (AUXILIARY,)  # weights that only training runs


def print_archs(settings: Settings) -> int:
    """`--arch help`: the names that this task takes; the exit code, 0."""
    classifies = settings.classification.task == "classify"
    print("\n".join(arch_help(classifies)))
    return DONE


def check_arch(settings: Settings) -> None:
    """Raise UserError for an unknown `--arch`, and for one of the other task."""
    arch, task = resolve_arch(settings.network.arch), settings.classification.task
    if task == "classify" and not is_classifier(arch):
        raise UserError(
            f"--arch {arch} is no classifier{near(arch, list_classifiers())}; "
            "--task classify --arch help lists them"
        )
    if task == "segment" and is_classifier(arch):
        raise UserError(f"--arch {arch} is a classifier: it needs --task classify")


def build_network(
    settings: Settings,
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
    arch, model = settings.network.arch, settings.MODEL
    net = build_net(arch, num_classes, **dataclasses.asdict(model))
    count = sum(item.numel() for item in net.parameters())
    log.msg(f"{arch}: {count:,} parameters, {num_classes} classes")
    if tables := settings.network.snapshot_pe:
        loaded = load_position_tables(net, read_checkpoint(tables), tables)
        log.msg(f"{tables}: {', '.join(loaded)}")
    if snapshot:
        _load_snapshot(settings, net, snapshot, log, class_names)
    elif settings.inference.eval:
        raise UserError("an evaluation needs weights: --snapshot FILE or --from_run DIR")
    elif resumed:  # of another architecture: refused when its state is read
        if resumed.content.get("arch") == resolve_arch(arch):
            title = f"--resume {resumed.path}"
            input_norm.take(net, input_norm.agreed(net, resumed.facts, title))
            adapt(net, split_weights(resumed.content)[0], title)
    elif model.pretrained:
        log.msg(f"{model.pretrained}: {net.trunk_report}")
    elif model.hila_reuse_bottom:
        raise UserError("MODEL.hila_reuse_bottom copies weights of a file: it needs --pretrained")
    else:
        log.msg("network starts from random weights (--pretrained or --snapshot give others)")
    if net.input_norm != IMAGENET:
        log.msg(f"{arch} changes its inputs to {net.input_norm}, as its weights want them")
    return net


def _load_snapshot(
    settings: Settings, net: nn.Module, snapshot: Snapshot, log: RunLog, class_names: Sequence[str]
) -> None:
    """All weights of a file into `net`; UserError for one that does not fit."""
    evaluates = bool(settings.inference.eval)
    _check_task_of(snapshot, settings.classification.task)
    report = load_official(
        net,
        snapshot.content,
        partial=tuple(item for item in settings.network.allow_partial.split(",") if item),
        title=snapshot.path,
        optional=UNUSED_IN_EVALUATION if evaluates else (),
        dataset=settings.data.dataset,
        offer_partial=not evaluates,
        class_names=class_names,
    )
    log.msg(f"{snapshot.path}: {report}")
    if evaluates and settings.data.no_pos_dataset and attention_blocks(net):
        log.msg("HANet blocks get no row positions, as with --no_pos_dataset")
    if settings.inference.refine_boundaries:
        run_trained_heads(net, snapshot.path, snapshot.facts)


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


def place(settings: Settings, net: nn.Module, world: World, log: RunLog) -> nn.Module:
    """Move to the device; memory format and synchronised batch norm as asked."""
    if settings.optimiser.syncbn:
        if world.device.type == "cuda" and world.size > 1:
            net = nn.SyncBatchNorm.convert_sync_batchnorm(net)
        else:
            log.msg("--syncbn has no effect here: it needs several CUDA processes")
    if settings.run.shard and world.size > 1:  # which knows one memory format alone
        return net.to(world.device)
    return suit_device(net, world.device, settings.run.channels_last)


def suit_device(net: nn.Module, device: torch.device, channels_last: bool = False) -> nn.Module:
    """`net` on `device`, its memory channels last if asked; on a CPU also where its trunk says that
    this pays, and then with its 1x1 products by oneDNN: the same numbers up to float noise.
    """
    net = net.to(device)
    on_cpu = device.type == "cpu"
    trunk = net.trunk if isinstance(net, Network) else None
    if not (channels_last or (on_cpu and trunk is not None and trunk.channels_last)):
        return net
    net = net.to(memory_format=torch.channels_last)
    return prefer_onednn(net) if on_cpu else net


def has_own_rates(settings: Settings) -> bool:
    """Whether HANet's blocks or the first layers have a rate of their own."""
    return settings.hanet.hanet_lr > 0 or settings.hanet.backbone_lr > 0


def param_rules(settings: Settings) -> list[list[Any]]:
    """What decides about the parameter groups in plain types, as a checkpoint keeps it."""
    own = settings.hanet
    if has_own_rates(settings):
        return [["hanet_lr", own.hanet_lr > 0], ["backbone_lr", own.backbone_lr > 0]]
    rules: list[list[Any]] = [list(rule) for rule in settings.optimiser.param_rules or ()]
    decay = settings.optimiser.layer_decay
    return rules if decay is None else [*rules, ["layer_decay", decay]]


def network_header(settings: Settings, num_classes: int) -> dict[str, Any]:
    """The plain entries that say which network a checkpoint belongs to."""
    return {
        "arch": resolve_arch(settings.network.arch),
        "num_classes": num_classes,
        "model_options": {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(settings.MODEL).items()
        },
        "param_rules": param_rules(settings),
    }


def checkpoint_header(settings: Settings, spec: DatasetSpec) -> dict[str, Any]:
    """The plain entries that make a checkpoint usable without any flag."""
    return {
        **network_header(settings, spec.num_classes),
        "dataset": spec.name,
        "custom": spec.custom,
        "class_names": list(spec.class_names),
        "palette": [list(color) for color in spec.palette],
        "train_id_to_id": list(spec.train_id_to_id),
        "ignore_label": spec.ignore_label,
        "positions": not (settings.data.no_pos_dataset and any(settings.MODEL.hanet)),
        "seed": settings.run.seed,
        "command": " ".join(sys.argv),
    }
