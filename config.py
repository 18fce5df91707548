# SPDX-License-Identifier: Apache-2.0
"""The one configuration of a run: a typed tree `cfg`, filled once and then frozen.

Values come, in rising order, from the defaults below, `paths.yml` in the project root, the
environment (`HISEG_CITYSCAPES_DIR=...`), the flags of `flags/` and `--set KEY=VALUE`:

    cfg.DATASET.CITYSCAPES_DIR          # published spelling, keys are found in any case
    python train.py --set DATASET.CV_SPLITS=3 --set MODEL.HRNET_WIDTH=18

Only the entry points and the `*/build.py` files import `cfg`; everything else takes plain
arguments. This module imports nothing but the standard library and PyYAML.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import os
import sys
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from runtime.limits import brief, value_problem

PROJECT_ROOT = Path(__file__).resolve().parent
PATHS_FILE = "paths.yml"
ENV_PREFIX = "HISEG_"
PATH_KEYS = ("_DIR", "_YAML", "_ROOT", "_LIST", "CUSTOMCOARSE")  # ends of keys that hold a path
DATASETS = (
    "cityscapes", "camvid", "synthetic", "custom", "folder", "nullloader", "mapillary", "bdd100k",
    "gtav", "kitti", "ade20k", "pascal_context", "pascal_context_59", "imagenet",
)  # fmt: skip


class UserError(ValueError):
    """The user's input is wrong: shown as one line, exit code 2, never a traceback."""


def wrong_input(error: object) -> int:
    """Show one line on stdout and stderr (runx shows that late); returns the exit code, 2."""
    line = " ".join(f"error: {error}".split())
    for stream in (sys.stdout, sys.stderr):
        encoding = stream.encoding or "utf-8"  # what it cannot show is shown as \\xNN
        print(line.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
    return 2


@dataclass(frozen=True, kw_only=True)
class DatasetConfig:
    """Where the data is, and rules of the class-uniform sampler."""

    CITYSCAPES_DIR: str = ""  # holds leftImg8bit_trainvaltest/, gtFine_trainvaltest/, ...
    CITYSCAPES_VIDEO_DIR: str = ""  # further frames and labels in the same layout, for --maxSkip
    CITYSCAPES_CUSTOMCOARSE: str = ""  # root of the auto-labelled images (ids and _prob.png)
    MAPILLARY_DIR: str = ""
    CAMVID_DIR: str = ""  # holds train/ trainannot/ val/ valannot/ test/ testannot/
    BDD100K_DIR: str = ""  # holds images/{train,val,test}/ labels/{train,val}/
    GTAV_DIR: str = ""  # holds images/{train,val}/FOLDER/ labels/{train,val}/FOLDER/
    KITTI_DIR: str = ""  # holds training/image_2/ training/semantic/ testing/image_2/
    ADE20K_DIR: str = ""  # ADEChallengeData2016: images/ annotations/
    PASCAL_CONTEXT_DIR: str = ""  # PASCAL_Context: train/ and val/ with image/ and label/
    IMAGENET_DIR: str = ""  # holds train/ and val/, one folder a class
    SYNTHETIC_DIR: str = ""  # written by `python -m datasets.synthetic`, Cityscapes layout
    CUSTOM_YAML: str = ""  # description of your own set, see docs/datasets.md
    SKIP_LIST: str = ""  # text file of known bad pairs that are left out, see docs/datasets.md
    DT_OFFSET_DIR: str = ""  # root of the boundary files; empty: the root of the data set
    CENTROID_ROOT: str = ""  # empty: ASSETS_PATH/uniform_centroids
    CV_SPLITS: int = 3  # number of city cross-validation folds of Cityscapes
    CLASS_UNIFORM_BIAS: tuple[float, ...] | None = None  # per-class multiplier of the draws


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Options of the networks; the keyword arguments of `network.build.build_net`."""

    n_scales: tuple[float, ...] | None = None  # scales of in-network inference
    mscale_lo_scale: float = 0.5  # low scale of the training pair
    align_corners: bool = False  # of every bilinear resize
    segattn_bot_ch: int = 256  # width of the attention head and the segmentation heads
    aspp_bot_ch: int = 256
    mscale_dropout: bool = False  # dropout 0.5 in the attention head
    mscale_no3x3: bool = False  # attention head without its second 3x3 convolution
    mscale_old_arch: bool = False  # attention head with plain indices, weights start at zero
    attnscale_bn_head: bool = False
    ocr_mid_channels: int = 512
    ocr_key_channels: int = 256
    hrnet_width: int | None = None  # channels of the first branch; None: the arch's own
    hrnet_modules: tuple[int, int, int] | None = None  # modules of stages 2-4; published 1,4,3
    hrnet_blocks: int | None = None  # blocks of a branch; published 4
    boundary_heads: bool = False  # mask and direction heads for --dt_offset_wt, where it has none
    drop_path: float | None = None  # largest stochastic depth rate; None: the arch's published one
    head_drop: float | None = None  # dropout before a classifier's last layer; None: published
    aux_head: bool = True  # supervise an inner map too, where the arch has such a head
    query_grid: tuple[int, int] = (60, 60)  # rows, columns of learned pixel queries: crop / 8
    batch_attention: str = "never"  # images of a batch attend to each other: never, training
    #                                 (as UN-EPT was trained) or always
    hanet: tuple[int, int, int, int, int] = (0, 0, 0, 0, 0)  # HANet blocks on (1) or off
    hanet_set: tuple[int, int, int] = (3, 64, 3)  # kernel, reduction, layers of a block
    hanet_pos: tuple[int, ...] = (2, 1)  # layer with the height code (0 none); 1 fixed, 0 learned
    hanet_pooling: str = "mean"  # over the width: mean or max
    hanet_dropout: float = 0.0  # of whole channels inside a block
    pos_rfactor: int = 8  # 128 / rows of a block; published 8: 16 rows
    pos_noise: float = 0.0  # of positions in training, standard deviation in rows
    aux_loss: bool = False  # auxiliary head on the third map of a HANet network
    fixed_aspp_pool: bool = False  # 105x105 windows in place of the image pooling of the ASPP
    stage_depths: tuple[int, int, int, int] | None = None  # blocks of a stage; None: the arch's own
    hila_stages: tuple[int, ...] | None = None  # that exchange with the one below; None: by name
    hila_stride: tuple[int, int, int, int] | None = None  # blocks from exchange to exchange
    hila_heads: tuple[int, int, int, int] | None = None  # of inter-level attention; published 1
    hila_mlp_ratios: tuple[int, int, int, int] | None = None  # published 4, in Swin 2
    hila_patch: int = 4  # side of the window of bottom tokens; 2, 4, 6 or 8
    hila_share_topdown: bool = True  # one module for all top-down steps of a stage
    hila_share_bottomup: bool = True
    hila_share_bottom: bool = True  # the same for the self-attention blocks after these steps
    hila_info_weights: tuple[float, float] = (0.5, 0.5)  # of what was there and what is new
    hila_euclidean: bool = False  # score by distance instead of by product
    hila_reuse_bottom: bool = False  # start blocks below from their stage, with --pretrained
    hila_legacy_shift: bool = False  # Swin: bottom windows go on turning from call to call
    hila_raw_levels: bool = False  # Swin: levels below a layer without exchange miss their norm
    grad_ckpt: bool = False  # recompute the trunk in the backward pass
    pretrained: str = ""  # file with ImageNet weights of the trunk; empty: random start


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the terms of the training loss."""

    OCR_ALPHA: float = 0.4  # weight of the auxiliary prediction: OCR's, or an auxiliary head's
    OCR_AUX_RMI: bool = False  # RMI for the auxiliary prediction too
    SUPERVISED_MSCALE_WT: float = 0.0  # weight of the loss on each single scale
    BOUNDARY_WEIGHTS: tuple[float, float, float, float] = (0.8, 5.0, 0.6, 1.0)
    # ^ with --dt_offset_wt: of the main loss, and, times that flag, of the boundary mask, the
    #   direction to the inside, and the scores moved along it
    BOUNDARY_OFFICIAL: bool = False  # the published habits: void and padding are supervised as
    #                                  boundaries, angles stay when the image is mirrored
    CLASS_WEIGHTS: tuple[float, ...] | None = None  # of plain cross entropy, one a class
    HANET_WEIGHTS: bool = False  # --img_wt_loss: class weights of each image unless with
    #                              --batch_weighting; --jointwtborder: mean over the images
    IMAGE_MEAN: bool = False  # --img_wt_loss: mean over the images of a batch, published: sum
    HISTOGRAM_OFFICIAL: bool = False  # --img_wt_loss: an ignore label K is counted as class K-1
    BATCH_BORDER_WEIGHTS: bool = False  # --jointwtborder as published: every image of a batch is
    #                                     divided by the border weights of all of them


SECTIONS: dict[str, type] = {"DATASET": DatasetConfig, "MODEL": ModelConfig, "LOSS": LossConfig}

FLAG_KEYS: dict[str, str] = {  # flags that are another spelling of a key of the tree
    "n_scales": "MODEL.n_scales",
    "mscale_lo_scale": "MODEL.mscale_lo_scale",
    "align_corners": "MODEL.align_corners",
    "segattn_bot_ch": "MODEL.segattn_bot_ch",
    "aspp_bot_ch": "MODEL.aspp_bot_ch",
    "mscale_dropout": "MODEL.mscale_dropout",
    "mscale_no3x3": "MODEL.mscale_no3x3",
    "mscale_old_arch": "MODEL.mscale_old_arch",
    "attnscale_bn_head": "MODEL.attnscale_bn_head",
    "drop_path": "MODEL.drop_path",
    "head_drop": "MODEL.head_drop",
    "hanet": "MODEL.hanet",
    "hanet_set": "MODEL.hanet_set",
    "hanet_pos": "MODEL.hanet_pos",
    "pooling": "MODEL.hanet_pooling",
    "dropout": "MODEL.hanet_dropout",
    "pos_rfactor": "MODEL.pos_rfactor",
    "pos_noise": "MODEL.pos_noise",
    "aux_loss": "MODEL.aux_loss",
    "fixed_aspp_pool": "MODEL.fixed_aspp_pool",
    "grad_ckpt": "MODEL.grad_ckpt",
    "pretrained": "MODEL.pretrained",
    "ocr_alpha": "LOSS.OCR_ALPHA",
    "ocr_aux_loss_rmi": "LOSS.OCR_AUX_RMI",
    "supervised_mscale_loss_wt": "LOSS.SUPERVISED_MSCALE_WT",
    "set_cityscapes_root": "DATASET.CITYSCAPES_DIR",
}


class Config:
    """The tree itself: `ASSETS_PATH` and one frozen dataclass a section.

    Attributes can be set until `configure` has run; afterwards every write is an error, so
    that a value read anywhere in a run is the value written to `run.json`.
    """

    ASSETS_PATH: str
    DATASET: DatasetConfig
    MODEL: ModelConfig
    LOSS: LossConfig

    def __init__(self) -> None:
        object.__setattr__(self, "_frozen", False)
        self.ASSETS_PATH = str(PROJECT_ROOT / "assets")
        self.DATASET, self.MODEL, self.LOSS = DatasetConfig(), ModelConfig(), LossConfig()

    def __setattr__(self, name: str, value: object) -> None:
        if getattr(self, "_frozen", False):
            raise AttributeError(f"cfg is frozen after configure(); {name} cannot be set")
        object.__setattr__(self, name, value)

    def freeze(self) -> None:
        """No write succeeds after this call."""
        object.__setattr__(self, "_frozen", True)

    def to_dict(self) -> dict[str, object]:
        """The tree as plain dictionaries, as written to `run.json`."""
        sections = {name: dataclasses.asdict(getattr(self, name)) for name in SECTIONS}
        return {"ASSETS_PATH": self.ASSETS_PATH, **sections}

    def expand(self, path: str) -> str:
        """`path` with ASSETS_PATH replaced by the directory it stands for, and ~ by the home."""
        return os.path.expanduser(path.replace("ASSETS_PATH", self.ASSETS_PATH))


cfg = Config()


def near(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """A `; did you mean X?` for the known name nearest to `name`, or an empty string."""
    plain = {each.lower().lstrip("-"): each for each in known}  # "--" is no likeness of flags
    match = difflib.get_close_matches(name.lower().lstrip("-"), list(plain), n=1, cutoff=cutoff)
    return f"; did you mean {plain[match[0]]}?" if match else ""


def known_keys() -> list[str]:
    """Every key `--set` accepts, in the spelling of the tree."""
    keys = ["ASSETS_PATH"]
    for section, cls in SECTIONS.items():
        keys += [f"{section}.{item.name}" for item in dataclasses.fields(cls)]
    return keys


def _find_key(key: str, source: str) -> str:
    for known in known_keys():
        if key.lower() in (known.lower(), known.split(".")[-1].lower()):
            return known
    raise UserError(f"{source}: unknown key {key}{near(key, known_keys())}")


def _convert(value: object, kind: object, where: str) -> object:
    """`value` (text or YAML) as the annotated type `kind`; a UserError names `where`."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        if value is None or value == "" or str(value).lower() in ("none", "null"):
            return None
        return _convert(value, arguments[0], where)
    if origin is tuple:
        parts = value.split(",") if isinstance(value, str) else value
        parts = parts if isinstance(parts, list | tuple) else [parts]
        if arguments[-1] is not Ellipsis and len(parts) != len(arguments):
            raise UserError(
                f"{where}={brief(value)}: {len(arguments)} values wanted, got {len(parts)}"
            )
        return tuple(_convert(part, arguments[0], where) for part in parts)
    if kind is str and not isinstance(value, dict | list):
        return "" if value is None else str(value)
    if kind is bool:
        text = str(value).lower()
        if text in ("true", "1", "yes", "false", "0", "no"):
            return text in ("true", "1", "yes")
        raise UserError(f"{where}={brief(value)}: true or false wanted")
    try:
        if kind is int and not isinstance(value, bool):
            return int(str(value))
        if kind is float and not isinstance(value, bool):
            return float(str(value))
    except ValueError:
        pass
    name = getattr(kind, "__name__", str(kind))
    raise UserError(f"{where}={brief(value)}: a value of type {name} wanted")


class _Overlay:
    """Values collected from the sources, each checked on arrival; later ones win."""

    def __init__(self) -> None:
        self.values: dict[str, object] = {}

    def add(self, key: str, value: object, source: str) -> None:
        known = _find_key(key, source)
        where = f"{source}: {known}"
        section, _, leaf = known.rpartition(".")
        kind = str if not section else typing.get_type_hints(SECTIONS[section])[leaf]
        converted = _convert(value, kind, where)
        problem = value_problem(known, converted)
        if problem:
            raise UserError(f"{where}: {problem}")
        self.values[known] = converted

    def apply(self, target: Config) -> None:
        if "ASSETS_PATH" in self.values:
            target.ASSETS_PATH = str(self.values["ASSETS_PATH"])
        for section in SECTIONS:
            changes = {
                key.split(".")[1]: value
                for key, value in self.values.items()
                if key.startswith(section + ".")
            }
            setattr(target, section, dataclasses.replace(getattr(target, section), **changes))


def check_entry(key: str, value: object, source: str) -> None:
    """Raise UserError, which names `source`, for a key or value that the tree cannot hold."""
    _Overlay().add(key, value, source)


def read_yaml(path: Path) -> Mapping[str, object]:
    """A YAML mapping from `path`; UserError for bad syntax or another top-level type."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise UserError(f"{path}: cannot be read as YAML: nested too deeply") from None
    except (OSError, ValueError, yaml.YAMLError) as error:  # ValueError: dates that do not exist
        raise UserError(
            f"{path}: cannot be read as YAML: {' '.join(str(error).split())}"
        ) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{path}: a mapping of keys to values wanted, got {type(content).__name__}")
    return content


def _flatten(tree: Mapping[str, object]) -> Iterable[tuple[str, object]]:
    """Keys and values of a tree of two levels; what lies deeper is the value of no key."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from ((f"{key}.{leaf}", inner) for leaf, inner in value.items())
        else:
            yield str(key), value


def _absolute_paths(overlay: _Overlay, base: Path) -> None:
    """Directories of paths.yml are relative to the project root, not to the caller's cwd."""
    for key, value in overlay.values.items():
        is_path = key == "ASSETS_PATH" or key.endswith(PATH_KEYS)
        if is_path and isinstance(value, str) and value:
            value = overlay.values[key] = os.path.expanduser(value)
            if not os.path.isabs(value):
                overlay.values[key] = str((base / value).resolve())


def configure(
    args: argparse.Namespace, given: Iterable[str] = (), target: Config | None = None
) -> Config:
    """Fill the tree from all sources, write resolved values back to `args`, freeze.

    `given` names the flags the user typed (a default must not override `paths.yml`);
    `args.set` holds `KEY=VALUE` texts. Raises UserError for unknown keys, wrong types and
    values out of range.
    """
    target = cfg if target is None else target
    overlay = _Overlay()
    paths_file = PROJECT_ROOT / PATHS_FILE
    if paths_file.exists():
        for key, value in _flatten(read_yaml(paths_file)):
            overlay.add(key, value, str(paths_file))
        _absolute_paths(overlay, PROJECT_ROOT)
    leaves = {key.split(".")[-1].upper(): key for key in known_keys()}
    for name, value in sorted(os.environ.items()):
        if name.startswith(ENV_PREFIX):
            leaf = name[len(ENV_PREFIX) :]
            if leaf not in leaves:
                known = [ENV_PREFIX + candidate for candidate in leaves]
                raise UserError(f"environment: unknown variable {name}{near(name, known)}")
            overlay.add(leaves[leaf], value, f"environment {name}")
    for flag in given:
        if flag in FLAG_KEYS:
            overlay.add(FLAG_KEYS[flag], getattr(args, flag), f"--{flag}")
    for entry in args.set or []:
        key, separator, value = entry.partition("=")
        if not separator:
            raise UserError(f"--set {entry}: KEY=VALUE wanted")
        overlay.add(key.strip(), value.strip(), "--set")
    _absolute_paths(overlay, Path.cwd())
    overlay.apply(target)
    check_scales(target.MODEL.n_scales)
    for flag, key in FLAG_KEYS.items():
        section, leaf = key.split(".")
        setattr(args, flag, getattr(getattr(target, section), leaf))
    target.freeze()
    return target


def check_scales(scales: tuple[float, ...] | None) -> None:
    """Raise UserError unless the inference scales are positive and contain 1.0."""
    if scales is None:
        return
    text = ",".join(f"{scale:g}" for scale in scales)
    if any(not 0.05 <= scale <= 8 for scale in scales):
        raise UserError(f"--n_scales {text}: every scale must lie in 0.05..8")
    if 1.0 not in scales:
        raise UserError(f"--n_scales {text}: 1.0 must be one of the scales")
    if len(set(scales)) != len(scales):
        raise UserError(f"--n_scales {text}: a scale stands twice")
