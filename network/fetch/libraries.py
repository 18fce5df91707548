# SPDX-License-Identifier: Apache-2.0
"""Weights that timm and torchvision list, from where these libraries say.

timm:hrnet_w18                    its default weights
timm:hrnet_w18.ms_aug_in1k        those of a tag
torchvision:resnet50              its best weights
torchvision:resnet50.IMAGENET1K_V1
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from network.fetch.hub import fetch_repository
from network.fetch.place import Fetched, Tell
from network.fetch.web import fetch_file, named_hash, torch_folder
from runtime.errors import UserError, near
from runtime.names import part
from runtime.remote import TIMM, TORCHVISION


def fetch_timm(name: str, tell: Tell) -> Fetched:
    """What timm itself would load: a repository of the hub, else a file.

    A file that torch's folder already holds is taken. UserError for a name that timm does not
    know or has no weights for.
    """
    import timm  # takes a second

    model = name.removeprefix(TIMM)
    config = _timm_config(timm, name, model)
    licence, url = config.license or "", config.url or ""
    cached = bool(url) and (torch_folder() / part(url.rsplit("/", 1)[-1])).is_file()
    if config.hf_hub_id and not cached:
        filename = config.hf_hub_filename or ""
        found = fetch_repository(name, config.hf_hub_id, filename=filename)
    elif url:
        found = fetch_file(name, url, tell)
    else:
        raise UserError(f"{name}: timm has no weights of this name{_tags(timm, model)}")
    return Fetched(name=name, path=found.path, revision=found.revision, licence=licence)


def _timm_config(timm: ModuleType, name: str, model: str) -> Any:
    """The entry of timm's table; UserError with the nearest names where there is none."""
    arch, _, tag = model.partition(".")
    if not timm.is_model(arch):
        raise UserError(f"{name}: timm knows no {arch}{near(arch, timm.list_models())}")
    try:
        config = timm.models.get_pretrained_cfg(model)
    except RuntimeError as error:
        raise UserError(f"{name}: timm has no tag {tag} of {arch}{_tags(timm, arch)}") from error
    if config is None:
        raise UserError(f"{name}: timm has no weights of {arch}")
    return config


def _tags(timm: ModuleType, model: str) -> str:
    found = timm.list_pretrained(f"{model.partition('.')[0]}.*")
    return f"; there are {', '.join(found[:6])}" if found else ""


def fetch_torchvision(name: str, tell: Tell) -> Fetched:
    """The file that torchvision lists for a network; its name holds a part of the hash.

    UserError for a network or weights that torchvision does not know.
    """
    model, _, tag = name.removeprefix(TORCHVISION).partition(".")
    models = importlib.import_module("torchvision.models")
    if model not in models.list_models():
        hint = near(model, models.list_models())
        raise UserError(f"{name}: torchvision knows no {model}{hint}")
    weights = models.get_model_weights(model)
    tags = list(weights.__members__)
    if not tags:
        raise UserError(f"{name}: torchvision has no weights of {model}")
    if tag and tag not in tags:
        raise UserError(f"{name}: torchvision has no weights {tag}; there are {', '.join(tags)}")
    chosen = weights[tag] if tag else weights.DEFAULT
    return fetch_file(name, chosen.url, tell, sha256=named_hash(chosen.url))
