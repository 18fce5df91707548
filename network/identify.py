# SPDX-License-Identifier: Apache-2.0
"""What a file or folder of weights is, and which architectures take it: found by trying them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from network.backbones import timm_models
from network.build import build_net, is_classifier, list_archs
from network.contract import Network
from network.convert import load_official, load_trunk, read_checkpoint
from network.convert.checkpoint import split_weights
from network.convert.foreign import translate
from network.convert.hub import KEY, HubFacts, model_name
from network.convert.load import detect
from network.convert.schema import check_named, is_own
from network.hub_arch import arch_of
from runtime.errors import UserError

CLASSIFIERS = (  # weights whose rows are classes, in all layouts
    "linear_pred.weight", "conv_seg.weight", "cls.weight", "cls_head.weight", "head.weight",
    "fc.weight", "classifier.weight", "classifier.1.weight", "head.fc.weight",
)  # fmt: skip
USUAL = (19, 150, 65, 1000)  # classes of a file whose classifier has another name


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What was found: `kind` in words, and names for `--arch` by the flag that takes the file.

    classes: their number, None where nothing tells it. numbers: how many the tensors hold.
    """

    kind: str
    tensors: int
    numbers: int
    classes: int | None
    class_names: tuple[str, ...] = ()
    snapshot: tuple[str, ...] = ()
    pretrained: tuple[str, ...] = ()


def identify(path: str) -> Identity:
    """What the file or folder `path` holds. UserError for one that cannot be read.

    Every architecture is built without memory for its weights and asked to load the file.
    """
    content = read_checkpoint(path)
    state, facts = split_weights(content)
    if not state:
        raise UserError(f"{path} holds no weights")
    counts = list(_class_counts(state, facts))
    numbers = sum(each.numel() for each in state.values())
    if is_own(content):
        check_named(content, path)
        return Identity(
            kind=f"a checkpoint of this program, trained on {facts['dataset']}",
            classes=facts["num_classes"],
            class_names=tuple(facts.get("class_names", ())),
            snapshot=(facts["arch"],),
            tensors=len(state),
            numbers=numbers,
        )
    hub = facts.get(KEY)
    hub = hub if isinstance(hub, HubFacts) else None
    timm_name = timm_models.named(model_name(facts, path))
    snapshot = list(_takers(path, content, hub, counts))
    told = snapshot[0][1] if snapshot else counts[0] if len(counts) == 1 else None
    return Identity(
        kind=_kind(state, hub, timm_name),
        classes=told,
        class_names=hub.class_names if hub else (),
        snapshot=tuple(dict.fromkeys(arch for arch, _ in snapshot)),
        pretrained=tuple(_trunk_takers(path, content, timm_name)),
        tensors=len(state),
        numbers=numbers,
    )


def _kind(state: Mapping[str, Tensor], hub: HubFacts | None, timm_name: str) -> str:
    """The layout and, in a folder, the name of the architecture."""
    other = translate(state)
    if hub and other is None and timm_name:
        return f"{hub.architecture} in the layout timm"
    layout = f"in the layout {other.layout if other else detect(state, {})}"
    return f"{hub.architecture} {layout}" if hub else f"weights {layout}"


def _class_counts(state: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Iterator[int]:
    """Numbers of classes that the file may have been trained for."""
    hub = facts.get(KEY)
    if isinstance(hub, HubFacts) and hub.num_classes:
        yield hub.num_classes
        return
    other = translate(state)
    named = state if other is None else other.state
    rows = {value.shape[0] for key, value in named.items()
            if key.endswith(CLASSIFIERS) and value.ndim > 1}  # fmt: skip
    yield from sorted(rows) if 0 < len(rows) <= len(USUAL) else USUAL


def _takers(
    path: str, content: dict[str, Any], hub: HubFacts | None, counts: list[int]
) -> Iterator[tuple[str, int]]:
    """Architectures that load all of the file, and for how many classes."""
    arch, options = arch_of(hub) if hub else ("", {})
    if arch:
        shown = " ".join(
            f"--set MODEL.{k}={','.join(map(str, v)) if isinstance(v, tuple) else v}"
            for k, v in options.items()
        )
        yield from ((f"{arch} {shown}".strip(), n) for n in counts
                    if _takes_all(arch, n, content, path, options))  # fmt: skip
        return
    for name in list_archs():
        yield from ((name, n) for n in counts if _takes_all(name, n, content, path, {}))


def _takes_all(
    arch: str, classes: int, content: dict[str, Any], path: str, options: Mapping[str, Any]
) -> bool:
    try:
        load_official(_empty(arch, classes, options), content, title=path)
    except UserError:
        return False
    return True


def _trunk_takers(path: str, content: dict[str, Any], timm_name: str) -> Iterator[str]:
    """Architectures whose trunk loads the file; of timm.*, with the trunk `timm_name` if given."""
    for arch in list_archs():
        options = {"trunk": timm_name} if timm_name and arch.startswith("timm.") else {}
        try:
            load_trunk(_empty(arch, 2, options), path, content)
        except UserError:
            continue
        if not is_classifier(arch):
            yield f"{arch} --trunk {timm_name}" if options else arch


def _empty(arch: str, classes: int, options: Mapping[str, Any]) -> Network:
    """A network without memory for its weights."""
    with torch.device("meta"):
        return build_net(arch, classes, **options)
