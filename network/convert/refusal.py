# SPDX-License-Identifier: Apache-2.0
"""Why a file does not fit a network, in one line: another trunk, other classes, or a list."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from network.contract import Network
from network.convert.nvidia import BACKBONE_PREFIX, WRAPPER_PREFIX
from network.convert.report import LoadReport, shortened

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file as errors speak of it.

    dataset: what the classes of the network come from, if that is known. offer_partial: whether
    leaving weights out is a way out, as in training; an evaluation would score noise.
    """

    title: str
    facts: Mapping[str, Any]
    layout: str
    dataset: str = ""
    offer_partial: bool = True

    def named(self) -> str:
        """The title and what the file says about itself."""
        there = [str(self.facts["arch"])] if "arch" in self.facts else []
        classes = self.facts.get("num_classes")
        there += [f"{classes} classes"] if classes is not None else []
        return f"{self.title} ({', '.join(there) or self.layout})"


def net_title(net: nn.Module) -> str:
    """Architecture and number of classes."""
    arch, num_classes = _built_as(net)
    return f"{arch or type(net).__name__} with {num_classes} classes"


def _built_as(net: nn.Module) -> tuple[str, int | None]:
    """Architecture and number of classes, empty and None of what `build_net` did not build."""
    return (net.arch, net.num_classes) if isinstance(net, Network) else ("", None)


def _is_trunk(name: str) -> bool:
    return name.removeprefix(WRAPPER_PREFIX).startswith(BACKBONE_PREFIX)


def another_trunk(
    net: nn.Module, state: Mapping[str, Tensor], source: Source, allowed: Callable[[str], bool]
) -> str:
    """One line if most of the trunk in a file is not that of `net`, else nothing.

    `state` has the names of the network where these are known. `allowed` names may be anything.
    """
    own = {name: value.shape for name, value in net.state_dict().items() if _is_trunk(name)}
    theirs = [name for name in state if _is_trunk(name)]
    wrong = [name for name, shape in own.items() if name not in state or state[name].shape != shape]
    wrong = [name for name in wrong if not allowed(name)]
    if not theirs or 2 * (len(own) - len(wrong)) >= min(len(own), len(theirs)):
        return ""
    strange = [name for name in theirs if name not in own]
    text = (
        f"{source.named()} does not fit {net_title(net)}: it holds another network, "
        f"{len(wrong)} of {len(own)} tensors of the trunk are absent or of another shape "
        f"({shortened(wrong)})"
    )
    if 2 * len(strange) > len(theirs):
        text += f"; the file has {shortened(strange)}"
    return text + "; --arch and MODEL options must be those of the file"


def only_trunk(net: nn.Module, report: LoadReport, source: Source) -> str:
    """One line if a file fits the trunk of a network of maps and nothing else, else nothing."""
    heads = [name for name in net.state_dict() if not _is_trunk(name)]
    alike = [*report.loaded, *(text.partition(" ")[0] for text in report.mismatched)]
    if not heads or "head.weight" in heads or not alike or not all(map(_is_trunk, alike)):
        return ""
    return _only_trunk_text(net, source)


def _only_trunk_text(net: nn.Module, source: Source) -> str:
    text = (
        f"{source.named()} holds a trunk, as classifiers of whole images do, and no head of "
        f"{net_title(net)}"
    )
    if source.offer_partial:
        return f"{text}; --pretrained {source.title} starts from its trunk"
    return f"{text}; an evaluation needs the whole network"


def bare_trunk(
    net: nn.Module,
    state: Mapping[str, Tensor],
    facts: Mapping[str, Any],
    title: str,
    offer_partial: bool,
) -> str:
    """One line if a file holds most of the trunk of `net` under its own names, else nothing.

    This is for trunks with a layout of their own: elsewhere such names stand for other things.
    """
    trunk = net.trunk if isinstance(net, Network) else None
    if trunk is None or not trunk.own_layout or "model_options" in facts:
        return ""
    own = trunk.state_dict().keys()
    if 2 * sum(key in own for key in state) <= len(own):
        return ""
    source = Source(title=title, facts=facts, layout=trunk.own_layout, offer_partial=offer_partial)
    return _only_trunk_text(net, source)


def other_classes(
    net: nn.Module,
    report: LoadReport,
    misfits: Mapping[str, tuple[Shape, Shape]],
    source: Source,
) -> str:
    """One line if a file differs in nothing but the number of its classes, else nothing.

    `misfits` has the shapes in file and network of `report.mismatched`, by name.
    """
    counts = {(there[:1], here[:1]) for there, here in misfits.values()}
    same_rows = all(there[1:] == here[1:] for there, here in misfits.values())
    if report.missing or report.unexpected or len(counts) != 1 or not same_rows:
        return ""
    ((there, here),) = counts
    arch, num_classes = _built_as(net)
    if here != (num_classes,):
        return ""
    owner = source.dataset or "the network"
    trained_on = source.facts.get("dataset")
    if trained_on and trained_on == source.dataset:
        way = f"{trained_on} had other classes when the file was trained"
    elif trained_on:
        way = (
            f"it was trained on {trained_on}: give that --dataset, or custom for a set of your own"
        )
    else:
        way = "--dataset names the data set of the file"
    text = (
        f"{source.title} does not fit {arch}: the file has {there[0]} classes, {owner} has "
        f"{here[0]}; {way}"
    )
    if not source.offer_partial:
        return text
    parts = dict.fromkeys(name.rpartition(".")[0].removeprefix(WRAPPER_PREFIX) for name in misfits)
    return f"{text}; or --allow_partial {','.join(parts)} starts with a new classifier"


def refusal(net: nn.Module, source: Source, report: LoadReport, way: str = "") -> str:
    """One line: what does not fit, and the way out; `way` where a better one is known."""
    parts = []
    left = {
        "mismatched": report.mismatched,
        "missing": report.missing,
        "unexpected": report.unexpected,
    }
    for what, names in left.items():
        if names:
            parts.append(f"{len(names)} {what} ({shortened(names)})")
    if not way:
        way = "--arch and MODEL options must be those of the file"
        if source.offer_partial:
            way = "--allow_partial PREFIX,... names what may be left out"
    return f"{source.named()} does not fit {net_title(net)}: {'; '.join(parts)}; {way}"
