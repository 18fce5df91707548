# SPDX-License-Identifier: Apache-2.0
"""Loading weights into a network: map the names, compare everything, then copy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from config import UserError
from network.convert import hanet, hila, imagenet
from network.convert.checkpoint import read_checkpoint, split_weights
from network.convert.entries import dead_names, is_dead
from network.convert.fit import fitted
from network.convert.nvidia import BACKBONE_PREFIX, official_name, strip_saved_prefix, to_wanted
from network.convert.report import LoadReport, shortened

HRVIT_START = "stem.conv1.weight"  # of a classifier, which has no group around its trunk
COUNTER = "num_batches_tracked"  # absent from files of old torch versions; not a weight


def detect(state: Mapping[str, Tensor], facts: Mapping[str, Any]) -> str:
    """Name of the key layout: `hiseg`, `nvidia`, `hanet`, `hrvit` or `imagenet`."""
    if "model_options" in facts:
        return "hiseg"
    if imagenet.is_trunk(state):
        return "imagenet"
    if HRVIT_START in state:
        return "hrvit"
    return "hanet" if hanet.is_hanet(state) else "nvidia"


OWN_NAMES: dict[str, Callable[[str], str]] = {  # key of a layout -> key without `net.`
    "imagenet": imagenet.trunk_name,
    "hanet": hanet.our_name,
}


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


def _plan(
    net: nn.Module, state: Mapping[str, Tensor], partial: Sequence[str], layout: str
) -> tuple[dict[str, Tensor], LoadReport]:
    """Tensors to copy by name of the network, and what becomes of all names."""
    own = net.state_dict()
    dead = [official_name(name) for name in dead_names(net)]
    dropped = [key for key in state if layout == "imagenet" and imagenet.is_classifier(key)]
    spellings = {
        key: (official_name(key), BACKBONE_PREFIX + key) for key in state if key not in own
    }
    dropped += [key for key, names in spellings.items() if any(is_dead(n, dead) for n in names)]
    found: dict[str, Tensor] = {}
    unexpected: list[str] = []
    mismatched: list[tuple[str, str]] = []  # name, name with both shapes
    for key, value in state.items():
        if key in dropped:
            continue
        name = to_wanted(_own_name(key, layout), own.keys())
        if name not in own:
            (dropped if _allowed(key, partial) else unexpected).append(key)
        elif value.shape != own[name].shape:
            shapes = f"{name} {tuple(value.shape)}, wanted {tuple(own[name].shape)}"
            mismatched.append((name, shapes))
        else:
            found[name] = value
    misfits = {name for name, _ in mismatched}
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
        mismatched=tuple(shapes for _, shapes in mismatched),
    )
    return found, report


def _title(net: nn.Module) -> str:
    arch, num_classes = getattr(net, "arch", type(net).__name__), getattr(net, "num_classes", None)
    return f"{arch} with {num_classes} classes"


def _refusal(net: nn.Module, source: str, facts: Mapping[str, Any], report: LoadReport) -> str:
    """One line: what does not fit, and the way out."""
    there = [str(facts["arch"])] if "arch" in facts else []
    there += [f"{facts['num_classes']} classes"] if "num_classes" in facts else []
    text = f"{source} ({', '.join(there) or report.layout}) does not fit {_title(net)}: "
    parts = []
    for what in ("mismatched", "missing", "unexpected"):
        names = getattr(report, what)
        if names:
            parts.append(f"{len(names)} {what} ({shortened(names)})")
    way = "--allow_partial PREFIX,... names what may be left out"
    if all(_allowed(name, ["boundary"]) for name in (*_misfits(report), *report.unexpected)):
        fate = "are left out" if report.unexpected else "start from random weights"
        way = f"add --allow_partial boundary: the heads of --dt_offset_wt {fate}"
    hint = hanet.auxiliary_hint(report.missing, report.unexpected)
    return text + "; ".join(parts) + f"; {way}" + (f"; {hint}" if hint else "")


def _misfits(report: LoadReport) -> list[str]:
    """Names of the network that found nothing in the file, or another shape."""
    return [*report.missing, *(text.split(" ", 1)[0] for text in report.mismatched)]


def _copy(net: nn.Module, found: Mapping[str, Tensor]) -> None:
    own = net.state_dict()
    for name, value in found.items():
        own[name].copy_(value)


def load_official(
    net: nn.Module,
    source: str | Path | Mapping[str, Any],
    partial: Sequence[str] = (),
    trust: bool = False,
    title: str = "the state dict",
    optional: Sequence[str] = (),
) -> LoadReport:
    """Load a file, or the dictionary in one, into `net`; nothing is copied unless all fits.

    `title` is what errors call a dictionary.

    `partial` names prefixes of weights that may be absent or of another shape and then keep
    their present value, in our spelling or the official one (`ocr.cls_head`); `optional` those
    that this use of the network does without, in the file or in the network. `trust` lets a pickle
    run code. Raises UserError for unreadable files and for anything left over.
    """
    named = isinstance(source, str | Path)
    content = read_checkpoint(source, trust) if isinstance(source, str | Path) else dict(source)
    state, facts = split_weights(content)
    title = str(source) if named else title
    if not state:
        raise UserError(f"{title} holds no weights")
    state = fitted(net, strip_saved_prefix(state), title)
    _check_prefixes(net, state, partial)
    partial = [*partial, *optional]
    found, report = _plan(net, state, partial, detect(state, facts))
    names = _misfits(report)
    if report.unexpected or not all(_allowed(name, partial) for name in names):
        options = getattr(net, "model_options", None), facts.get("model_options")
        hint = hanet.misfit(net.state_dict(), state, *options)
        if hint and all("hanet" in name for name in (*names, *report.unexpected)):
            raise UserError(f"{title} does not fit {_title(net)}: {hint}")
        other_stages = hila.misfit(title, net.state_dict(), state)
        refusal = _refusal(net, title, facts, report) + (f"; {hint}" if hint else "")
        raise UserError(other_stages or refusal)
    _copy(net, found)
    return report


def _check_prefixes(net: nn.Module, state: Mapping[str, Tensor], partial: Sequence[str]) -> None:
    """A prefix that names nothing at all is a typing error."""
    names = [*net.state_dict(), *state]
    for prefix in partial:
        if not any(_allowed(name, [prefix]) for name in names):
            raise UserError(f"--allow_partial {prefix}: no weight of that name in file or network")
