# SPDX-License-Identifier: Apache-2.0
"""Models of timm by name: built without weights, asked for their maps, nothing downloaded.

timm is imported when a model is wanted and not before: that takes a second.
"""

from __future__ import annotations

import copy
import inspect
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from network.backbones.pyramid import PYRAMID, STRIDES
from network.ops.resize import Size, size_of
from runtime.errors import UserError, near
from runtime.limits import one_line

LEADING = re.compile(r"[a-z0-9_]+")  # a model without its tag
FINEST, MOST = 4, len(STRIDES)  # stride of the finest map that is taken, number of maps
ODD = (101, 135)  # a size that no stride divides
NEAR = 0.2  # maps of convolutions without padding are smaller than their strides say
LARGE = 2  # so many times the size of its training tells a model of any size from one of a few
# Files of timm whose models are tied to one size without an error that shapes alone would show:
# tables of positions that end there. A recurrent network is too slow for any other.
FIXED = frozenset({"mvitv2", "sequencer"})


def known(name: str) -> bool:
    """Whether timm has a model `name`, with or without a tag."""
    import timm

    return bool(timm.is_model(name.partition(".")[0]))


def named(text: str) -> str:
    """The model of timm with which `text`, the name of a model or a file, begins; "": none.

    What follows it begins with a sign that no such name holds, as in "resnet50.a1_in1k.pth".
    """
    found = LEADING.match(text)
    return found[0] if found and known(found[0]) else ""


def check_name(name: str) -> None:
    """Raise UserError, with the nearest name, for a model or tag that timm does not know."""
    import timm

    base, _, tag = name.partition(".")
    if not known(name):
        raise UserError(
            f"--trunk {name} is no model of timm {timm.__version__}"
            f"{near(base, timm.list_models())}; timm.list_models() lists all"
        )
    if tag and not timm.is_model_pretrained(name):
        tags = [each.partition(".")[2] for each in timm.list_pretrained(f"{base}.*")]
        there = f"there are {', '.join(tags)}" if tags else "it has none"
        raise UserError(f"--trunk {name}: timm knows no weights {tag} of {base}; {there}")


def create(name: str, **options: Any) -> nn.Module:
    """The model without its classifier, from random weights; UserError for an option it has not.

    Transformers that can be told to take any size are.
    """
    import timm

    check_name(name)
    stride = options.get("output_stride")
    if stride not in OUTPUT_STRIDES:
        raise UserError(
            f"--trunk {name} cannot be built with --output_stride {stride}: 8, 16 or 32 wanted"
        )
    given = {key: value for key, value in options.items() if value is not None}
    try:
        model: nn.Module = timm.create_model(name, num_classes=0, dynamic_img_size=True, **given)
        return model
    except TypeError:  # it has no such option
        pass
    try:
        model = timm.create_model(name, num_classes=0, **given)
    except (TypeError, ValueError, AssertionError, NotImplementedError) as error:
        if not given:
            raise UserError(f"--trunk {name} cannot be built: {_line(error)}") from error
        wanted = ", ".join(f"{FLAGS[key]} {_shown(value)}" for key, value in given.items())
        raise UserError(f"--trunk {name} cannot be built with {wanted}: {_line(error)}") from error
    return model


OUTPUT_STRIDES = (None, 8, 16, 32)
FLAGS = {
    "output_stride": "--output_stride",
    "drop_path_rate": "--drop_path",
    "img_size": "MODEL.trunk_size",
}


def _shown(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _line(error: BaseException) -> str:
    text = one_line(str(error)) or "timm's model refuses it"
    return "timm's model has no such option" if "unexpected keyword" in text else text


@dataclass(frozen=True, kw_only=True)
class Levels:
    """The maps that are taken from a model, and whether it is plain.

    `indices` are places in the list of all its maps, `places` those among the four that a trunk
    has. Images fit it whose sides are multiples of `patch`, of a plain one the stride everywhere.
    """

    indices: tuple[int, ...]
    places: tuple[int, ...]
    is_plain: bool
    patch: int


def levels_of(name: str, model: nn.Module, three: bool = False) -> Levels:
    """The last four maps from stride 4 on, of a plain transformer four layers at equal distances.

    With `three` only the first, the last but one and the last of them. Raises UserError for a
    model that gives no maps, or less than three if so many are wanted.
    """
    infos: Sequence[Mapping[str, Any]] = list(getattr(model, "feature_info", ()) or ())
    if not hasattr(model, "forward_intermediates") or len(infos) < 2:
        raise UserError(
            f"--trunk {name}: timm gives no feature maps of this model, so it cannot be a trunk"
        )
    strides = [int(info["reduction"]) for info in infos]
    is_plain = len(set(strides)) == 1 and len(infos) >= MOST
    if is_plain:
        all_four = [(place + 1) * len(infos) // MOST - 1 for place in range(MOST)]
    else:
        all_four = [place for place, stride in enumerate(strides) if stride >= FINEST][-MOST:]
    count = len(all_four)
    if count < (3 if three else 2):
        raise UserError(f"--trunk {name} has {count} maps from stride {FINEST} on, too few")
    places = (0, count - 2, count - 1) if three else tuple(range(count))
    return Levels(
        indices=tuple(all_four[place] for place in places),
        places=places,
        is_plain=is_plain,
        patch=math.lcm(*strides),
    )


@dataclass(frozen=True)
class Asked:
    """What `probe` is told: `call` gives the maps `levels` of a model and images.

    native: the size of its training. without_second: nobody reads the second map.
    """

    call: Callable[[nn.Module, Tensor], list[Tensor]]
    levels: Levels
    native: Size
    without_second: bool = False


@dataclass(frozen=True, kw_only=True)
class Probe:
    """How a model takes images: sides are padded to multiples of `grid`.

    With `tiled` it takes the size `grid` alone, and images are cut into such tiles. `maps` are
    channels and strides; no map that is read depends on the parameters `unused`.
    """

    grid: Size
    tiled: bool
    maps: tuple[tuple[int, int], ...]
    unused: tuple[str, ...]


def probe(name: str, model: nn.Module, asked: Asked) -> Probe:
    """Find out with shapes alone how `model` takes images.

    From the best to the worst: any size as it is, with maps whose sizes are rounded up; multiples
    of its strides; multiples of the native size; the native size alone. UserError for a model
    that gives no maps.
    """
    shadow, native, patch = _shadow(model, asked), asked.native, asked.levels.patch
    large = tuple(patch * -(-LARGE * side // patch) for side in native)
    tries = [] if _module(name) in FIXED else [(1, 1), (patch, patch), native]
    for grid in tries:
        sizes = {
            (1, 1): (ODD, (large[0] + 1, large[1] + 3)),
            native: (native, (native[0], 2 * native[1])),
        }.get(grid, ((2 * patch, 3 * patch), (large[0], large[1] + patch)))
        found = [_shapes(shadow, asked, size) for size in sizes]
        if any(each is None for each in found):
            continue
        if grid == (1, 1) and not _rounded_up(found[0], ODD, shadow, asked.levels):
            continue
        return _probe(grid, False, sizes[0], shadow, asked)
    if _shapes(shadow, asked, native) is None:
        raise UserError(
            f"--trunk {name}: timm gives no feature maps of this model for images of "
            f"{native[0]}x{native[1]} pixels, the size it is made for, so it cannot be a trunk"
        )
    return _probe(native, True, native, shadow, asked)


def _module(name: str) -> str:
    """The file of timm that a model stands in."""
    import timm

    return str(timm.model_entrypoint(name.partition(".")[0]).__module__.rpartition(".")[2])


def _shadow(model: nn.Module, asked: Asked) -> nn.Module:
    """A copy without numbers, where the model can do without; one that looks at values cannot."""
    shadow = copy.deepcopy(model).to("meta").eval()
    try:
        _run(shadow, asked, asked.native)
    except RuntimeError as error:
        if "meta tensors" in str(error):
            return copy.deepcopy(model).eval()
    except (AssertionError, ValueError, IndexError):
        pass
    return shadow


def _run(shadow: nn.Module, asked: Asked, size: Size) -> list[Tensor]:
    device = next(shadow.parameters()).device
    with torch.enable_grad():
        return asked.call(shadow, torch.zeros(1, 3, *size, device=device))


def _shapes(shadow: nn.Module, asked: Asked, size: Size) -> list[Size] | None:
    """Sizes of the maps of an image, None if the model cannot take it."""
    try:
        return [size_of(x) for x in _run(shadow, asked, size)]
    except (AssertionError, RuntimeError, ValueError, IndexError):
        return None


def _rounded_up(found: list[Size] | None, size: Size, shadow: Any, levels: Levels) -> bool:
    """Whether the sizes of all maps are those of the image over their strides, rounded up."""
    infos = list(shadow.feature_info)
    strides = [int(infos[place]["reduction"]) for place in levels.indices]
    sizes = [tuple(-(-side // stride) for side in size) for stride in strides]
    return found is not None and all(each in sizes for each in found)


def _probe(grid: Size, tiled: bool, size: Size, shadow: Any, asked: Asked) -> Probe:
    maps = _run(shadow, asked, size)
    reached = _reached([maps[0], *maps[2:]] if asked.without_second else maps)
    unused = [key for key, value in shadow.named_parameters() if id(value) not in reached]
    stated = sorted({int(info["reduction"]) for info in shadow.feature_info})

    def stride_of(rows: int) -> int:
        seen = size[0] / rows
        fitting = [each for each in stated if -(-size[0] // each) == rows]
        nearest = min(fitting or stated, key=lambda each: abs(each - seen))
        if fitting and not tiled:
            return nearest
        return nearest if not tiled and abs(nearest - seen) < NEAR * seen else round(seen)

    found = tuple((x.shape[1], stride_of(x.shape[2])) for x in maps)
    return Probe(grid=grid, tiled=tiled, maps=found, unused=tuple(unused))


def _reached(maps: Sequence[Tensor]) -> set[int]:
    """The identities of all parameters that `maps` depend on."""
    found: set[int] = set()
    seen: set[Any] = set()
    left: list[Any] = [x.grad_fn for x in maps]
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        left += [before for before, _ in node.next_functions]
    return found


def all_names(name: str, **options: Any) -> frozenset[str]:
    """The names of all weights of the whole classifier as files of timm hold them."""
    import timm

    given = {key: value for key, value in options.items() if value is not None}
    with torch.device("meta"):
        return frozenset(timm.create_model(name, **given).state_dict())


def converted(state: Mapping[str, Tensor], model: nn.Module, name: str) -> dict[str, Tensor]:
    """`state` as timm itself would load it into `model`: renamed, position tables resampled.

    Raises UserError for a file of another network.
    """
    import timm

    modules = (type(model).__module__, timm.model_entrypoint(name.partition(".")[0]).__module__)
    found = [getattr(sys.modules[each], "checkpoint_filter_fn", None) for each in modules]
    rule = next((each for each in found if each is not None), None)
    if rule is None:
        return dict(state)
    arguments = (dict(state), model)[: len(inspect.signature(rule).parameters)]
    try:
        own: dict[str, Tensor] = dict(rule(*arguments))
    except Exception as error:  # whatever timm's rules stumble over in a file of another network
        raise UserError(f"the file does not fit {name} of timm: {_line(error)}") from error
    return own


def layers_of(model: Any) -> dict[str, int]:
    """Parameter -> number of its layer, 0 for the stem; {} where timm knows no layers.

    What follows the last block has the next number, but for its norm, which timm counts to it.
    """
    from timm.models import group_parameters

    if not hasattr(model, "group_matcher"):
        return {}
    found = group_parameters(model, model.group_matcher(coarse=False), reverse=True)
    own = {name: layer for name, layer in found.items() if not name.startswith(PYRAMID)}
    top = 1 + max(own.values())
    return {name: own.get(name, top) for name in found}
