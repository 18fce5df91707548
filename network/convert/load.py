# SPDX-License-Identifier: Apache-2.0
"""Loading weights into a network: map the names, compare everything, then copy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from network.contract import Network, SeveralScales
from network.convert import foreign, hanet, hila, hub, imagenet, input_norm, timm
from network.convert.adapt import adapt
from network.convert.checkpoint import read_checkpoint, split_weights
from network.convert.dead_entries import dead_names, is_dead
from network.convert.names import Translated
from network.convert.nvidia import (
    BACKBONE_PREFIX,
    WRAPPER_PREFIX,
    official_name,
    strip_saved_prefix,
    to_wanted,
)
from network.convert.refusal import (
    Source,
    another_trunk,
    bare_trunk,
    net_title,
    only_trunk,
    other_classes,
    refusal,
)
from network.convert.report import LoadReport
from network.convert.value_checks import COUNTER, not_a_weight, not_finite
from runtime.errors import UserError

HRVIT_START = "stem.conv1.weight"  # of a classifier, which has no group around its trunk
MMSEG_HEADS = {"decode_head", "context_branch"}  # the second: UN-EPT


def detect(state: Mapping[str, Tensor], facts: Mapping[str, Any]) -> str:
    """Name of the key layout: `hiseg`, `nvidia`, `hanet`, `hrvit`, `mmseg` or `imagenet`."""
    if "model_options" in facts:
        return "hiseg"
    if imagenet.is_trunk(state):
        return "imagenet"
    if HRVIT_START in state:
        return "hrvit"
    if hanet.is_hanet(state):
        return "hanet"
    groups = {key.split(".", 1)[0] for key in state}
    return "mmseg" if "backbone" in groups and groups & MMSEG_HEADS else "nvidia"


OWN_NAMES: dict[str, Callable[[str], str]] = {  # key of a layout -> key without `net.`
    "imagenet": imagenet.trunk_name,
    "hanet": hanet.our_name,
}


def _levelled(net: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` with the group of a multi-scale wrapper exactly where `net` is one."""
    if not isinstance(net, SeveralScales):
        return {_bare(key): value for key, value in state.items()}
    if any(key.startswith(WRAPPER_PREFIX) for key in state):
        return dict(state)
    return {WRAPPER_PREFIX + key: value for key, value in state.items()}


def _bare(name: str) -> str:
    """A name of ours without the group of a multi-scale wrapper."""
    return name.removeprefix(WRAPPER_PREFIX)


def _own_name(key: str, layout: str) -> str:
    rename = OWN_NAMES.get(layout)
    return key if rename is None else rename(key)


def _allowed(key: str, partial: Sequence[str]) -> bool:
    """Whether `key` lies under one of the names in `partial`, in either spelling."""
    names = {key, official_name(key), official_name(key, "deeper."), hanet.official_name(key)}
    return any(
        name == prefix or name.startswith(prefix.rstrip(".") + ".")
        for prefix in partial
        for name in names
    )


Shapes = dict[str, tuple[tuple[int, ...], tuple[int, ...]]]  # name: in the file, in the network


def _plan(
    net: nn.Module, state: Mapping[str, Tensor], partial: Sequence[str], layout: str
) -> tuple[dict[str, Tensor], Shapes, LoadReport]:
    """Tensors to copy by name of the network, those of another shape, what becomes of all names."""
    own = net.state_dict()
    dead = [official_name(name) for name in dead_names(net)]
    dropped = [key for key in state if layout == "imagenet" and imagenet.is_classifier(key)]
    spellings = {
        key: (official_name(key), BACKBONE_PREFIX + key) for key in state if key not in own
    }
    dropped += [key for key, names in spellings.items() if any(is_dead(n, dead) for n in names)]
    found: dict[str, Tensor] = {}
    unexpected: list[str] = []
    misfits: Shapes = {}
    for key, value in state.items():
        if key in dropped:
            continue
        name = to_wanted(_own_name(key, layout), own.keys())
        if name not in own:
            (dropped if _allowed(key, partial) else unexpected).append(key)
        elif value.shape != own[name].shape:
            misfits[name] = tuple(value.shape), tuple(own[name].shape)
        else:
            found[name] = value
    missing = [
        name
        for name in own
        if name not in found and name not in misfits and not name.endswith(COUNTER)
    ]
    report = LoadReport(
        layout=layout,
        loaded=tuple(found),
        dropped=tuple(dropped),
        missing=tuple(missing),
        unexpected=tuple(unexpected),
        mismatched=tuple(
            f"{name} {there}, wanted {here}" for name, (there, here) in misfits.items()
        ),
    )
    return found, misfits, report


def _copy(net: nn.Module, found: Mapping[str, Tensor]) -> None:
    own = net.state_dict()
    for name, value in found.items():
        own[name].copy_(value)


def load_official(
    net: nn.Module,
    source: str | Path | Mapping[str, Any],
    partial: Sequence[str] = (),
    title: str = "the state dict",
    *,
    optional: Sequence[str] = (),
    dataset: str = "",
    offer_partial: bool = True,
    class_names: Sequence[str] = (),
) -> LoadReport:
    """Load a file, or the dictionary in one, into `net`; nothing is copied unless all fits.

    `title` is what errors call a dictionary, `dataset` what they call the classes of `net`; with
    `offer_partial` they name leaving weights out as a way out. `class_names`, where they are
    known, are compared with those of a folder in hub format.

    `partial` names prefixes of weights that may be absent or of another shape and then keep
    their present value, in our spelling or the official one (`ocr.cls_head`); `optional` those
    that this use of the network does without, in the file or in the network. Raises UserError for
    unreadable files and for anything left over.
    """
    if isinstance(source, str | Path):
        title, source = str(source), read_checkpoint(source)
    state, facts = _weights_of(source, title)
    if text := bare_trunk(net, state, facts, title, offer_partial):
        raise UserError(text)
    norm = input_norm.agreed(net, facts, title)
    state, other = _in_our_names(state, facts, title)
    layout = detect(state, facts) if other is None else other.layout
    state = _levelled(net, state) if other is not None or layout == "hiseg" else state
    about = Source(
        title=title, facts=facts, layout=layout, dataset=dataset, offer_partial=offer_partial
    )
    _check_trunk(net, state, partial, about)
    state = adapt(net, state, title)
    _check_prefixes(net, state, partial)
    partial = [*partial, *optional]
    found, misfits, report = _plan(net, state, partial, layout)
    if other is not None:
        report = _with_foreign(report, other)
    names = [*report.missing, *misfits]
    if report.unexpected or not all(_allowed(name, partial) for name in names):
        raise UserError(_reason(net, state, about, report, misfits))
    if (broken := not_finite(found)) is not None:
        raise UserError(f"{title}: {broken} holds NaN or infinite numbers; take another file")
    note = _hub_note(facts, about, class_names)
    _copy(net, found)
    input_norm.take(net, norm)
    return replace(report, note=note)


def _weights_of(content: Mapping[str, Any], title: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights in a dictionary, without the prefix of a saved wrapper, and its other entries."""
    state, facts = split_weights(dict(content))
    if not state:
        raise UserError(f"{title} holds no weights")
    state = strip_saved_prefix(state)
    if problem := not_a_weight(state):
        raise UserError(f"{title}: {problem}; the file is damaged or of another kind of program")
    return state, facts


def _in_our_names(
    state: dict[str, Tensor], facts: Mapping[str, Any], title: str
) -> tuple[dict[str, Tensor], Translated | None]:
    """The weights of another program under our names, and how they were translated, if they were.

    Files of this program, which say their options, stay as they are.
    """
    if "model_options" in facts:
        return state, None
    other = foreign.translate(state)
    if other is not None:
        return other.state, other
    return timm.respelled(state, hub.model_name(facts, title), title), None


def _with_foreign(report: LoadReport, other: Translated) -> LoadReport:
    """The report with what the translation dropped and filled in."""
    return replace(
        report,
        dropped=(*other.dropped, *report.dropped),
        filled=tuple(name for name in report.loaded if _bare(name) in other.filled),
    )


def _hub_note(facts: Mapping[str, Any], about: Source, class_names: Sequence[str]) -> str:
    """What a folder in hub format says; UserError for an evaluation in another order of classes."""
    folder = facts.get(hub.KEY)
    if not isinstance(folder, hub.HubFacts):
        return ""
    order = hub.other_order(folder.class_names, class_names)
    if order and not about.offer_partial:
        raise UserError(
            f"{about.title} has the classes of {about.dataset or 'the data set'} in another order: "
            f"{order}; an evaluation would score wrong classes"
        )
    return "; ".join(text for text in (folder.note(), order) if text)


def _check_trunk(
    net: nn.Module, state: Mapping[str, Tensor], partial: Sequence[str], about: Source
) -> None:
    """Raise UserError for the file of another network, before the rest of it is compared."""
    own = net.state_dict().keys()
    named = {to_wanted(_own_name(key, about.layout), own): value for key, value in state.items()}
    text = another_trunk(net, named, about, lambda name: _allowed(name, partial))
    if text:
        raise UserError(text)


def _reason(
    net: nn.Module,
    state: Mapping[str, Tensor],
    about: Source,
    report: LoadReport,
    misfits: Shapes,
) -> str:
    """Why the file is refused, in the terms of its kind of network where these are known."""
    own = net.state_dict()
    names = (*report.missing, *misfits, *report.unexpected)
    options = net.model_options if isinstance(net, Network) else None
    hint = hanet.misfit(own, state, options, about.facts.get("model_options"))
    if hint and all("hanet" in name for name in names):
        return f"{about.title} does not fit {net_title(net)}: {hint}"
    stages = hila.misfit(about.title, own, state, about.offer_partial)
    if known := stages or other_classes(net, report, misfits, about):
        return known
    if known := only_trunk(net, report, about):
        return known
    way = ""
    if about.offer_partial and all(_allowed(name, ["boundary"]) for name in names):
        fate = "are left out" if report.unexpected else "start from random weights"
        way = f"add --allow_partial boundary: the heads of --dt_offset_wt {fate}"
    hints = (hanet.auxiliary_hint(report.missing, report.unexpected), hint)
    return "; ".join([refusal(net, about, report, way), *(text for text in hints if text)])


def _check_prefixes(net: nn.Module, state: Mapping[str, Tensor], partial: Sequence[str]) -> None:
    """A prefix that names nothing at all is a typing error."""
    names = [*net.state_dict(), *state]
    for prefix in partial:
        if not any(_allowed(name, [prefix]) for name in names):
            raise UserError(f"--allow_partial {prefix}: no weight of that name in file or network")
