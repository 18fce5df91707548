# SPDX-License-Identifier: Apache-2.0
"""Folders in the format of model hubs: `config.json`, weights, `preprocessor_config.json`.

The configuration says what the names and shapes of the weights leave open: activation, heads,
window, classes by name, and how images are normalised. What this program would compute in
another way is refused in one line.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from network.convert.value_checks import Check, flag, many, whole
from runtime.errors import UserError
from runtime.normalisation import IMAGENET, Color, Normalisation, problem_of

KEY = "hub"  # entry beside the weights of such a folder
CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
NEAR = 1e-3  # some files round the deviations
RESCALE = 1 / 255

# Architecture of transformers -> values of its configuration that must be these, if they are
# given; all else shows in the names and shapes of the weights.
_SEGFORMER: dict[str, Any] = {
    "hidden_act": "gelu",
    "num_attention_heads": [1, 2, 5, 8],
    "num_encoder_blocks": 4,
    "patch_sizes": [7, 3, 3, 3],
    "reshape_last_stage": True,
    "sr_ratios": [8, 4, 2, 1],
    "strides": [4, 2, 2, 2],
}
_SWIN: dict[str, Any] = {
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,
    "patch_size": 4,
    "use_absolute_embeddings": False,
}
_UPERNET: dict[str, Any] = {
    "auxiliary_concat_input": False,
    "auxiliary_num_convs": 1,
    "pool_scales": [1, 2, 3, 6],
}
_DEIT: dict[str, Any] = {"hidden_act": "gelu", "patch_size": 16, "num_attention_heads": 12}
_SIZE = whole(1, 2**16)
_SIZES: dict[str, Check] = {  # entries that choose the architecture, and their kinds
    "depths": many(whole(1, 1000), 4),
    "hidden_sizes": many(_SIZE, 4),
    "decoder_hidden_size": _SIZE,
    "embed_dim": _SIZE,
    "use_auxiliary_head": flag,
}
KNOWN: dict[str, dict[str, Any]] = {
    "SegformerForSemanticSegmentation": _SEGFORMER,
    "SegformerForImageClassification": _SEGFORMER,
    "SegformerModel": _SEGFORMER,
    "SwinForImageClassification": _SWIN,
    "SwinForMaskedImageModeling": _SWIN,
    "SwinModel": _SWIN,
    "SwinBackbone": _SWIN,
    "UperNetForSemanticSegmentation": _UPERNET,
    "DeiTForImageClassificationWithTeacher": _DEIT,
    "DeiTForImageClassification": _DEIT,
    "DeiTModel": _DEIT,
}


@dataclass(frozen=True, kw_only=True)
class HubFacts:
    """What a folder says about its weights.

    architecture: the name of the class in transformers, or of the model in timm. class_names is
    empty where the classes have only numbers; num_classes is None where the folder does not say.
    mean, std: of the inputs, for values 0..1; None where the folder does not say.
    """

    architecture: str
    config: Mapping[str, Any]
    num_classes: int | None = None
    class_names: tuple[str, ...] = ()
    mean: Color | None = None
    std: Color | None = None

    @property
    def norm(self) -> Normalisation | None:
        """Both together, None where one is not said; what is nearly ImageNet's is ImageNet's."""
        if self.mean is None or self.std is None:
            return None
        norm = Normalisation(self.mean, self.std)
        return IMAGENET if _is_near(norm.mean + norm.std, IMAGENET.mean + IMAGENET.std) else norm

    def note(self) -> str:
        """One phrase for the log: which network, its classes, and its normalisation."""
        parts = [self.architecture]
        if self.class_names:
            shown = ", ".join(self.class_names[:3])
            parts.append(f"{len(self.class_names)} classes ({shown}, ...)")
        if self.mean is None or self.std is None:
            parts.append("it says nothing of mean and std of its inputs, the network keeps its own")
        return "; ".join(parts)


def model_name(facts: Mapping[str, Any], title: str) -> str:
    """What tells the model in a file: its folder's word, else the beginning of its name."""
    found = facts.get(KEY)
    return found.architecture if isinstance(found, HubFacts) else Path(title).name


def weights_file(folder: Path) -> Path:
    """The file of weights in a folder; UserError if there is none."""
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return folder / name
    split = [path.name for path in folder.glob("*.index.json")]
    hint = (
        f"; {split[0]} points to several files, which this program does not join" if split else ""
    )
    raise UserError(f"{folder} holds neither {' nor '.join(WEIGHT_FILES)}{hint}")


def read_facts(folder: Path) -> HubFacts:
    """What `config.json` and `preprocessor_config.json` of a folder say.

    Raises UserError for a folder of another architecture, for options of a known one that this
    program lacks, and for images that are not normalised channel by channel.
    """
    if not (folder / CONFIG).is_file():
        raise UserError(
            f"{folder} is a folder without {CONFIG}: a folder in hub format holds {CONFIG} and "
            f"{' or '.join(WEIGHT_FILES)}; for a run directory name the checkpoint itself"
        )
    config = _json(folder / CONFIG)
    if "architecture" in config and "architectures" not in config:
        facts = _timm_facts(config)
    else:
        facts = _transformers_facts(folder, config)
    _check_inputs(folder, facts)
    return facts


def _json(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON file: {str(error).splitlines()[0]}") from error
    if not isinstance(tree, dict):
        raise UserError(f"{path} holds a {type(tree).__name__}, not an object of settings")
    return tree


def _transformers_facts(folder: Path, config: Mapping[str, Any]) -> HubFacts:
    names = config.get("architectures") or [str(config.get("model_type", "no architecture"))]
    architecture = str(names[0]) if isinstance(names, list) else str(names)
    if architecture not in KNOWN:
        raise UserError(
            f"{folder} holds {architecture}, which is no network of this program; of transformers "
            "it takes SegFormer, Swin, UPerNet on Swin and distilled DeiT (docs/checkpoints.md)"
        )
    _check_settings(folder, architecture, config, KNOWN[architecture])
    inner = config.get("backbone_config")
    if architecture.startswith("UperNet"):
        inner = inner if isinstance(inner, dict) else {}
        kind = inner.get("model_type", config.get("backbone", "an unknown trunk"))
        if kind != "swin":
            raise UserError(f"{folder} holds UPerNet on {kind}; this program has it on Swin")
        _check_settings(folder, "Swin", inner, _SWIN)
    count, class_names = _classes(folder, config)
    mean, std = _normalisation(folder)
    return HubFacts(
        architecture=architecture,
        config=config,
        num_classes=count,
        class_names=class_names,
        mean=mean,
        std=std,
    )


def _check_settings(
    folder: Path, architecture: str, config: Mapping[str, Any], wanted: Mapping[str, Any]
) -> None:
    problems = (check(config[name], name) for name, check in _SIZES.items() if name in config)
    if problem := next(filter(None, problems), None):
        raise UserError(f"{folder / CONFIG}: {problem}")
    for name, value in wanted.items():
        given = config.get(name, value)
        if given != value:
            raise UserError(
                f"{folder / CONFIG}: {name} is {given!r}; the {architecture} of this program has "
                f"{value!r}"
            )


def _classes(folder: Path, config: Mapping[str, Any]) -> tuple[int | None, tuple[str, ...]]:
    """Number and names of the classes; no names where all are called LABEL_0 and so on."""
    table = config.get("id2label")
    if not isinstance(table, dict) or not table:
        return None, ()
    try:
        by_number = {int(number): str(name) for number, name in table.items()}
    except ValueError:
        by_number = {}
    if sorted(by_number) != list(range(len(table))):
        raise UserError(f"{folder / CONFIG}: id2label must number the classes from 0 on")
    names = tuple(by_number[number] for number in range(len(table)))
    unnamed = names == tuple(f"LABEL_{number}" for number in range(len(names)))
    return len(names), () if unnamed else names


def _numbers(path: Path, name: str, value: Any) -> Color:
    values = value if isinstance(value, list) else [value] * 3
    if len(values) != 3 or not all(map(_is_number, values)):
        raise UserError(f"{path}: {name} must be three numbers, got {str(value)[:80]}")
    red, green, blue = map(float, values)
    return red, green, blue


def _is_number(value: Any) -> bool:
    """Whether a value of a JSON file is a number; NaN and whatever no float holds are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max


def _normalisation(folder: Path) -> tuple[Color | None, Color | None]:
    """Mean and deviation by `preprocessor_config.json`, for images of values 0..1."""
    path = folder / PREPROCESSOR
    if not path.is_file():
        return None, None
    tree = _json(path)
    scale = tree.get("rescale_factor", RESCALE)
    if not _is_number(scale):
        raise UserError(f"{path}: rescale_factor must be a number, got {str(scale)[:80]}")
    if tree.get("do_rescale", True) is False or abs(scale - RESCALE) > 1e-6:
        raise UserError(
            f"{path}: images are not scaled to 0..1 before they are normalised "
            f"(do_rescale, rescale_factor); this program scales them by 1/255"
        )
    if tree.get("do_normalize", True) is False:
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if "image_mean" not in tree or "image_std" not in tree:
        return None, None
    mean = _numbers(path, "image_mean", tree["image_mean"])
    return mean, _numbers(path, "image_std", tree["image_std"])


def _timm_facts(config: Mapping[str, Any]) -> HubFacts:
    inner = config.get("pretrained_cfg")
    inner = inner if isinstance(inner, dict) else config
    path = Path(CONFIG)
    mean = _numbers(path, "mean", inner["mean"]) if "mean" in inner else None
    std = _numbers(path, "std", inner["std"]) if "std" in inner else None
    count = config.get("num_classes", inner.get("num_classes"))
    return HubFacts(
        architecture=str(config["architecture"]),
        config=config,
        num_classes=count if isinstance(count, int) else None,
        mean=mean,
        std=std,
    )


def _check_inputs(folder: Path, facts: HubFacts) -> None:
    """Numbers that nothing can be normalised with are refused, and half of them."""
    norm = facts.norm
    if norm is not None and (problem := problem_of(norm)):
        raise UserError(f"{folder}: images cannot be normalised like this: {problem}")
    for name, given, ours in (
        ("mean", facts.mean, IMAGENET.mean),
        ("std", facts.std, IMAGENET.std),
    ):
        if norm is None and given is not None and not _is_near(given, ours):
            raise UserError(
                f"{folder} gives {name} {' '.join(f'{value:g}' for value in given)} of its inputs "
                "and not both of mean and std"
            )


def _is_near(given: Sequence[float], ours: Sequence[float]) -> bool:
    return all(abs(a - b) <= NEAR for a, b in zip(given, ours, strict=True))


def plain(name: str) -> str:
    """A class name without case, spaces and signs; of several synonyms the first."""
    first = name.replace(";", ",").split(",")[0]
    return "".join(letter for letter in first.lower() if letter.isalnum())


def other_order(there: Sequence[str], here: Sequence[str]) -> str:
    """How the classes of a folder stand in another order than here; empty if they do not.

    Names that this program does not know say nothing: spellings differ.
    """
    if len(there) != len(here):
        return ""
    places = {plain(name): number for number, name in enumerate(here)}
    for number, name in enumerate(there):
        place = places.get(plain(name), number)
        if place != number and plain(here[number]) != plain(name):
            return f"class {number} is {name} there, {here[number]} here ({name} is {place})"
    return ""
