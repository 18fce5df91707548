# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint of this program holds, entry by entry, checked before anything is built.

Files of other programs have no `format` and no `model_options`, and pass.
"""

from __future__ import annotations

import dataclasses
import random
import typing
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from network.convert.value_checks import (
    Check,
    any_text,
    either,
    entries,
    flag,
    is_whole,
    many,
    not_finite,
    one_of,
    plain,
    real,
    score,
    text,
    typed,
    wanted,
    weights,
    whole,
)
from runtime.errors import UserError
from runtime.normalisation import MEAN_RANGE, STD_RANGE
from settings.catalogue import keys
from settings.model import ModelConfig
from settings.sources import value_problem

FORMAT = "hiseg-1"
COUNT, INT32, WORD = whole(0, 2**62), whole(-(2**31), 2**31), whole(0, 2**32 - 1)
SINCE = whole(-1, 2**62)  # -1: never


def model_options(value: object, where: str) -> str | None:
    """Known options have the types and ranges of `settings.model.ModelConfig`.

    Others are of other versions.

    They are ignored, as options that a file of an earlier version lacks have their default.
    """
    hints = typing.get_type_hints(ModelConfig)
    names = [item.name for item in dataclasses.fields(ModelConfig)]
    problem = entries({name: typed(hints[name]) for name in names})(value, where)
    if problem is not None:
        return problem
    for name in names:
        option = typing.cast(dict[str, object], value).get(name)
        shown = tuple(option) if isinstance(option, list) else option
        problem = value_problem(keys()[f"MODEL.{name}"], shown)
        if problem is not None:
            return f"entry {where}.{name}: {problem}"
    return None


def random_state(value: object, where: str) -> str | None:
    """The generators of one process, as `runtime.seeds.random_state` gives them."""
    bytes_of = "a tensor of bytes"
    problem = entries(
        {
            "python": many(plain, 3),
            "numpy": many(plain, 5),
            "torch": lambda item, at: None if _is_bytes(item) else wanted(item, at, bytes_of),
            "cuda": lambda item, at: None if _is_bytes(item) else wanted(item, at, bytes_of),
        },
        required=("python", "numpy", "torch"),
    )(value, where)
    if problem is not None:
        return problem
    state = typing.cast(dict[str, Any], value)
    version, internal, gauss = state["python"]
    name, keys, position, has_gauss, cached = state["numpy"]
    drawn = real(-1e9, 1e9)
    problems = (
        many(WORD)(internal, f"{where}.python.1"),
        either(drawn, one_of(None))(gauss, f"{where}.python.2"),
        many(WORD)(keys, f"{where}.numpy.1"),
        whole(0, 624)(position, f"{where}.numpy.2"),
        whole(0, 1)(has_gauss, f"{where}.numpy.3"),
        drawn(cached, f"{where}.numpy.4"),
    )
    for problem in filter(None, problems):
        return problem
    try:
        torch.Generator().set_state(state["torch"])
        np.random.RandomState().set_state(  # noqa: NPY002 - the generator that is saved
            (name, np.array(keys, dtype=np.uint32), position, has_gauss, cached)
        )
        random.Random().setstate((version, tuple(internal), gauss))
    except (TypeError, ValueError, RuntimeError, IndexError, OverflowError) as error:
        return f"entry {where} is no state of the generators ({' '.join(str(error).split())[:80]})"
    return None


def _is_bytes(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype == torch.uint8 and value.ndim == 1


RATE = real(0, 1e9)
RATE_NOW = real(0, 1e36)  # `--rescale` may have multiplied it
HYPERPARAMETERS: dict[str, Check] = {
    **dict.fromkeys(("initial_lr", "weight_decay", "momentum", "dampening", "eps"), RATE),
    "lr": RATE_NOW,
    **dict.fromkeys(("lr_mult", "decay_mult"), RATE),
    "betas": many(real(0, 1), 2),
    "params": many(COUNT),
}


def optimizer(value: object, where: str) -> str | None:
    """State and groups as torch's optimisers give them."""
    group = entries(HYPERPARAMETERS, required=("params", "lr"))
    groups = {"param_groups": many(group, least=1), "state": _states}
    problem = entries(groups, required=("state", "param_groups"))(value, where)
    if problem is not None:
        return problem
    content = typing.cast(dict[str, Any], value)
    known = [number for each in content["param_groups"] for number in each["params"]]
    if len(set(known)) != len(known):
        return f"entry {where}.param_groups names a parameter twice"
    strange = content["state"].keys() - set(known)
    return f"entry {where}.state.{min(strange)} is of no parameter" if strange else None


def _states(value: object, where: str) -> str | None:
    """parameter number -> name -> tensor, number or None."""
    if not isinstance(value, dict) or not all(is_whole(key) for key in value):
        return wanted(value, where, "a dictionary by parameter number")
    for number, state in value.items():
        at = f"{where}.{number}"
        if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
            return wanted(state, at, "a dictionary of names")
        for name, item in state.items():
            is_number = is_whole(item) or isinstance(item, float | torch.Tensor)
            if not is_number and item is not None:
                return wanted(item, f"{at}.{name}", "a tensor or a number")
    return None


def scaler(value: object, where: str) -> str | None:
    """The loss scaler: empty unless half precision was used."""
    factor, step = real(1e-30, 1e30), whole(0, 2**62)
    checks: dict[str, Check] = {
        **dict.fromkeys(("scale", "growth_factor", "backoff_factor"), factor),
        **dict.fromkeys(("growth_interval", "_growth_tracker"), step),
    }
    is_used = isinstance(value, dict) and bool(value)
    return entries(checks, required=checks if is_used else ())(value, where)


PROGRESS: dict[str, Check] = {
    "epoch": COUNT,
    "step": COUNT,
    "iteration": COUNT,
    "best": score,
    "best_epoch": SINCE,
    "skipped": COUNT,
    "best_iteration": SINCE,
    "validated": SINCE,
    "waited": COUNT,
}


def progress(value: object, where: str) -> str | None:
    """Where training stands; a field of another version cannot be gone on from."""
    strange = sorted(value.keys() - PROGRESS.keys(), key=str) if isinstance(value, dict) else []
    if strange:
        return f"entry {where} has the field {strange[0]!r}, which this version does not know"
    return entries(PROGRESS, required=("epoch", "step", "iteration"))(value, where)


def _origin(value: object, where: str) -> str | None:
    """Typed name and revision of weights that were fetched."""
    return entries({"name": text, "revision": text}, required=("name", "revision"))(value, where)


HEADER: dict[str, Check] = {
    "format": one_of(FORMAT),
    "arch": text,
    "num_classes": whole(1, 65536),
    "model_options": model_options,
    "param_rules": many(many(plain)),
    "dataset": text,
    "class_names": many(text),
    "palette": many(many(whole(0, 255), 3)),
    "train_id_to_id": many(INT32),
    "ignore_label": INT32,
    "positions": flag,
    "seed": whole(0, 2**64),
    "command": any_text,
    "fetched": entries(dict.fromkeys(("snapshot", "pretrained"), _origin)),
    "settings": lambda value, where: _settings(value, where),
    "task": one_of("segment", "classify"),
    "best_by": text,
    "img_size": whole(1, 65536),
    "crop_pct": real(0.001, 1),
    "interpolation": text,
    "input_mean": many(real(*MEAN_RANGE), 3),
    "input_std": many(real(*STD_RANGE), 3),
    "state_dict": weights,
}
TRAINING: dict[str, Check] = {
    "optimizer": optimizer,
    "scaler": scaler,
    "progress": progress,
    "random": many(random_state, least=1),
    "world_size": whole(1, 10**6),
    "live_state_dict": weights,
    "ema_updates": COUNT,
    "epoch": SINCE,
    "mean_iu": score,
    "top1": score,
    "__metric": score,
}
NAMED = ("arch", "num_classes", "dataset")  # without these nothing can be built
ALWAYS = ("format", *NAMED, "model_options", "class_names", "seed", "state_dict")
MAPS = ("palette", "train_id_to_id", "ignore_label")  # of networks that predict maps
RESUMED = ("optimizer", "scaler", "progress", "random", "world_size")
PER_CLASS = ("class_names", "palette", "train_id_to_id")


def _settings(value: object, where: str) -> str | None:
    names = list(value) if isinstance(value, dict) else []
    return entries(dict.fromkeys(names, plain))(value, where)


def is_own(content: Mapping[Any, Any]) -> bool:
    """Whether a file says that this program wrote it."""
    return "model_options" in content or str(content.get("format", "")).startswith("hiseg")


def check_own(content: Mapping[Any, Any], title: str, *, training: bool = True) -> None:
    """Raise UserError, one line that begins with `title`, for a wrong entry.

    A file that names its `format` must be complete. The entries that only `--resume` needs are
    checked where they are there, with `training`.
    """
    known = {**HEADER, **(TRAINING if training else {})}
    required: tuple[str, ...] = ()
    if "format" in content:
        required = ALWAYS if content.get("task") == "classify" else (*ALWAYS, *MAPS)
    problem = _first_problem(content, known, required)
    if problem is None and ("input_mean" in content) != ("input_std" in content):
        problem = "input_mean and input_std belong together, one is missing"
    if problem is not None:
        raise UserError(f"{title} is damaged: {problem}")
    for name in ("state_dict", "live_state_dict"):
        broken = not_finite(content[name]) if name in known and name in content else None
        if broken is not None:
            raise UserError(
                f"{title}: {broken} holds NaN or infinite numbers; take a checkpoint of before"
            )


def check_named(content: Mapping[str, Any], title: str) -> None:
    """Raise UserError unless a file of this program says what network and data it is of."""
    problem = _first_problem(content, {}, NAMED)
    if problem is not None:
        raise UserError(f"{title} is damaged: {problem}")


def check_resumable(content: Mapping[str, Any], title: str) -> None:
    """Raise UserError unless a file of this program holds the state of a training."""
    if content.get("format") != FORMAT:
        raise UserError(
            f"{title}: --resume needs a checkpoint of this program; use --snapshot instead"
        )
    if not any(name in content for name in RESUMED):
        raise UserError(f"{title} holds no training state; --snapshot takes its weights")
    problem = _first_problem(content, {}, RESUMED)
    if problem is None and len(content["random"]) != content["world_size"]:
        problem = f"entry random is of {len(content['random'])} processes, world_size is not"
    if problem is None and ("live_state_dict" in content) != ("ema_updates" in content):
        problem = "live_state_dict and ema_updates belong together, one is missing"
    if problem is not None:
        raise UserError(f"{title} is damaged: {problem}")


def _first_problem(
    content: Mapping[Any, Any], known: Mapping[str, Check], required: tuple[str, ...]
) -> str | None:
    for key in content:
        if not isinstance(key, str):
            return f"it has the key {key!r}; names of entries are text"
    for name in required:
        if name not in content:
            return f"entry {name} is missing"
    for name, check in known.items():
        problem = check(content[name], name) if name in content else None
        if problem is not None:
            return problem
    if "num_classes" in known and "num_classes" in content:
        for name in PER_CLASS:
            count = len(content.get(name, range(content["num_classes"])))
            if count != content["num_classes"]:
                return f"entry {name} has {count} classes, num_classes is {content['num_classes']}"
    return None
