# SPDX-License-Identifier: Apache-2.0
"""The file of `--snapshot`: read once, and what it says about its own network, task and classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from datasets.custom import hues
from network.build import resolve_arch
from network.convert import read_checkpoint
from network.convert.checkpoint import split_weights
from network.convert.hub import KEY, HubFacts
from network.convert.schema import check_named, is_own
from network.hub_arch import arch_of
from runtime.errors import UserError
from settings import Settings
from settings.catalogue import keys
from settings.data import DATASETS
from settings.model import ModelConfig

EVAL_FACTS = ("img_size", "crop_pct", "interpolation")  # how a classifier's images were sized


@dataclasses.dataclass
class Snapshot:
    """A checkpoint in memory: it may be large.

    `facts` are its entries besides the weights if this program wrote it, else {}. `hub` is what
    a folder in hub format says.
    """

    path: str
    content: dict[str, Any]
    facts: dict[str, Any]
    hub: HubFacts | None = None


def read_snapshot(path: str | None) -> Snapshot | None:
    """The file that `--snapshot` names, None without one."""
    if not path:
        return None
    content = read_checkpoint(path)
    if not is_own(content):
        return Snapshot(path, content, {}, content.get(KEY))
    check_named(content, path)
    return Snapshot(path, content, split_weights(content)[1])


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


def adopted(settings: Settings, snapshot: Snapshot | None) -> Settings:
    """`settings` of an evaluation with architecture, options, data set and sizes of `snapshot`.

    What the user typed stays; an architecture that differs from that of the file is refused.
    """
    if snapshot is None:
        return settings
    if snapshot.hub:
        return _adopted_hub(settings, snapshot.hub)
    facts = snapshot.facts
    if not facts:
        return settings
    path, arch = settings.network.snapshot, settings.network.arch
    try:
        resolve_arch(facts["arch"])
    except UserError as error:
        raise UserError(f"{path} is damaged: entry arch: {error}") from None
    if "arch" in settings.given and resolve_arch(arch) != facts["arch"]:
        raise UserError(
            f"--snapshot {path} holds {facts['arch']}, not --arch {arch}; "
            "leave --arch out, the file knows its own"
        )
    return dataclasses.replace(
        settings,
        network=dataclasses.replace(settings.network, arch=facts["arch"]),
        MODEL=_options(settings, facts["model_options"]),
        data=_data(settings, facts),
        classification=dataclasses.replace(settings.classification, **_sizes(settings, facts)),
    )


def _options(settings: Settings, saved: Mapping[str, Any]) -> ModelConfig:
    """The options that a file was trained with, overridden by those that the user set."""
    fields = dataclasses.fields(ModelConfig)
    known = {item.name: item.default for item in fields}
    options: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in saved.items()
        if name in known
    }
    for name, default in known.items():
        chosen = getattr(settings.MODEL, name)
        if chosen != default or keys()[f"MODEL.{name}"].name in settings.given:
            options[name] = chosen
    return ModelConfig(**{**options, "pretrained": ""})


def _data(settings: Settings, facts: Mapping[str, Any]) -> Any:
    """The data settings with the set that a file was trained on."""
    data = settings.data
    if "dataset" not in settings.given and not settings.network.from_run:
        is_built_in = facts["dataset"] in DATASETS and not facts.get("custom")
        data = dataclasses.replace(data, dataset=facts["dataset"] if is_built_in else "custom")
    if not facts.get("positions", True):
        data = dataclasses.replace(data, no_pos_dataset=True)
    return data


def _sizes(settings: Settings, facts: Mapping[str, Any]) -> dict[str, Any]:
    """How a classifier's images were sized, where the evaluation does not say."""
    if settings.network.from_run:
        return {}
    return {
        name: facts[name] for name in EVAL_FACTS if name in facts and name not in settings.given
    }


def _adopted_hub(settings: Settings, facts: HubFacts) -> Settings:
    """`settings` with the architecture of a folder in hub format where the user named none."""
    if "arch" in settings.given:
        return settings
    arch, options = arch_of(facts)
    if not arch:
        raise UserError(
            f"--snapshot {settings.network.snapshot} holds {facts.architecture}, and no "
            "architecture here has its size; --arch names the network to put it into"
        )
    default, model = ModelConfig(), settings.MODEL
    unset = {k: v for k, v in options.items() if getattr(model, k) == getattr(default, k)}
    return dataclasses.replace(
        settings,
        network=dataclasses.replace(settings.network, arch=arch),
        MODEL=dataclasses.replace(model, **unset),
    )
