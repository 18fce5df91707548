# SPDX-License-Identifier: Apache-2.0
"""ImageNet classifiers as trunks: HRNet files with or without the prefix `model.`, and others.

A trunk whose files name things in another way has a table `file_names`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from network.backbones.trunk import Trunk
from network.contract import Network
from network.convert import foreign, hila, hub, input_norm, timm
from network.convert.adapt import adapt
from network.convert.checkpoint import read_checkpoint, split_weights
from network.convert.dead_entries import dead_names, is_dead
from network.convert.nvidia import strip_saved_prefix
from network.convert.report import LoadReport, shortened
from network.convert.value_checks import not_finite
from runtime.errors import UserError

CLASSIFIER_PREFIXES = (  # parts of the classifier that a segmentation trunk has no use for
    "incre_modules.",
    "downsamp_modules.",
    "final_layer.",
    "classifier.",
    "aux_head.",
    "cls_head.",
    "ocr_gather_head.",
    "ocr_distri_head.",
    "conv3x3_ocr.",
)
RENAMED = {"last_layer.": "aux_head.", "model.": ""}  # as the reference does, in this order


def bare_name(key: str) -> str:
    """A key of the file in the trunk's own spelling."""
    for old, new in RENAMED.items():
        if key.startswith(old):
            key = new + key.removeprefix(old)
    return key


def trunk_name(key: str) -> str:
    """The key with the group that the trunk has inside a whole network."""
    return "backbone." + bare_name(key)


def is_classifier(key: str) -> bool:
    """Whether a key belongs to the classifier, and so is dropped on purpose."""
    return bare_name(key).startswith(CLASSIFIER_PREFIXES)


def is_trunk(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is that of a bare trunk."""
    names = {bare_name(key) for key in state}
    return "conv1.weight" in names and any(name.startswith("layer1.") for name in names)


def _own_name(key: str, file_names: Mapping[str, str | None]) -> str | None:
    """A key of a file by the table of a trunk, prefix -> ours; None: dropped on purpose."""
    for theirs, ours in file_names.items():
        if key.startswith(theirs):
            return None if ours is None else ours + key.removeprefix(theirs)
    return None if is_classifier(key) else bare_name(key)


def hiseg_trunk_name(key: str, state: Mapping[str, Tensor]) -> str | None:
    """A key of a checkpoint of this program in the trunk's own spelling; None: not of the trunk.

    A network keeps its trunk under `backbone.`; a classifier may be its trunk with a `head`.
    """
    for prefix in ("backbone.", "net.backbone."):
        if any(other.startswith(prefix) for other in state):
            return key.removeprefix(prefix) if key.startswith(prefix) else None
    return None if key.startswith("head.") else key


def _trunk_state(
    trunk: Trunk, state: Mapping[str, Tensor], facts: Mapping[str, Any], title: str
) -> tuple[str, dict[str, Tensor], list[str]]:
    """Layout of a file, its weights by the trunk's own names, and what is dropped on purpose."""
    ours = "model_options" in facts
    if trunk.own_layout and not ours:
        return trunk.own_layout, *_from_file(trunk, state, title)
    other = None if ours else foreign.translate(state)
    dropped: list[str] = []
    if other is not None:
        layout = other.layout
        found, dropped = foreign.trunk_of(other)
    else:
        if ours:
            layout, renamed = "hiseg", {key: hiseg_trunk_name(key, state) for key in state}
        else:
            own = timm.respelled(state, hub.model_name(facts, title), title)
            layout = "imagenet" if own.keys() == state.keys() else timm.LAYOUT
            state, renamed = own, {key: _own_name(key, trunk.file_names) for key in own}
        found = {name: state[key] for key, name in renamed.items() if name is not None}
        dropped = [key for key, name in renamed.items() if name is None]
    dead = dead_names(trunk)
    useless = [name for name in found if is_dead(name, dead)]
    return layout, {k: v for k, v in found.items() if k not in useless}, [*dropped, *useless]


def _from_file(
    trunk: Trunk, state: Mapping[str, Tensor], title: str
) -> tuple[dict[str, Tensor], list[str]]:
    """What `trunk` makes of a file in its own layout; errors begin with `title`."""
    try:
        return trunk.from_file(state)
    except UserError as error:
        raise UserError(f"{title}: {error}") from error


def _trunk_of(net: nn.Module) -> Trunk | None:
    if isinstance(net, Network):
        return net.trunk
    return net if isinstance(net, Trunk) else None


def load_trunk(net: nn.Module, path: str, content: dict[str, Any] | None = None) -> LoadReport:
    """Load the ImageNet file `path` into the trunk of `net`, or into `net` if it is a trunk.

    A classifier may be its own trunk, with a head among its `fresh_groups`. Keys of the classifier
    are dropped and reported; anything else must fit, up to what the trunk says that such files
    may lack. `content` is what is in the file, for callers that have read it. Raises UserError.
    """
    trunk = _trunk_of(net)
    if trunk is None:
        raise UserError(f"--pretrained {path}: this architecture has no trunk to load it into")
    state, facts = split_weights(read_checkpoint(path) if content is None else content)
    norm = input_norm.agreed(net, facts, f"--pretrained {path}")
    state = strip_saved_prefix(state)
    layout, found, dropped = _trunk_state(trunk, state, facts, f"--pretrained {path}")
    found = adapt(trunk, found, f"--pretrained {path}")
    own = trunk.state_dict()
    wrong = [f"{key} is not known" for key in found if key not in own]
    missing = [key for key in own if key not in found and "num_batches" not in key]
    fresh = tuple(key for key in missing if trunk.may_lack(key, found))
    wrong += [f"{key} is missing" for key in missing if key not in fresh]
    wrong += [
        f"{key} has shape {tuple(value.shape)}, wanted {tuple(own[key].shape)}"
        for key, value in found.items()
        if key in own and value.shape != own[key].shape
    ]
    if wrong:
        title = f"--pretrained {path}"
        other_stages = hila.stage_set(found) and hila.misfit(title, own, found)
        raise UserError(other_stages or f"{title} does not fit the trunk: {shortened(wrong)}")
    broken = not_finite(found)
    if broken is not None:
        raise UserError(f"--pretrained {path}: {broken} holds NaN or infinite numbers")
    for key, value in found.items():
        own[key].copy_(value)
    input_norm.take(net, norm)
    filled = tuple(trunk.after_pretraining(found))
    return LoadReport(
        layout=layout,
        loaded=tuple(found),
        dropped=tuple(dropped),
        fresh=tuple(key for key in fresh if key not in filled),
        filled=filled,
        note=facts[hub.KEY].note() if hub.KEY in facts else "",
    )
