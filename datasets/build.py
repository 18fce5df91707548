# SPDX-License-Identifier: Apache-2.0
"""From flags and configuration to items, data sets and loaders."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader

from config import Config, UserError
from datasets import cityscapes, folder, nullloader, room, uniform, verify
from datasets.base import ExtraMaps, SegmentationDataset
from datasets.centroids import Centroids, Log, Progress, load_or_build
from datasets.loader import Batch, Source, make_loader
from datasets.registry import data_root, dataset_spec, label_root, split_items
from datasets.samplers import Draw, EvalSampler, TrainSampler
from datasets.spec import AutoLabel, DatasetSpec, Item
from transforms.pipeline import Blur, eval_pipeline, mmseg_train_pipeline, train_pipeline
from transforms.sample import Transform

AUTO_FLAGS = ("custom_coarse_dropout_classes", "custom_coarse_prob", "mask_out_cityscapes")
SET_TITLES = ("fine images", "video frames", "coarse images")
WITH_COARSE = ("cityscapes", "synthetic")
NUM_DUMPED = 32
ENLARGED = 2.0  # --scf
PROGRESS_SECONDS = 5.0


def train_items(args: argparse.Namespace, cfg: Config) -> list[Item]:
    """Training images of `--dataset`, all with labels."""
    return _with_labels(split_items(args, cfg, "train"), args)


def val_items(args: argparse.Namespace, cfg: Config) -> list[Item]:
    """Validation images of `--dataset`, all with labels."""
    return _with_labels(split_items(args, cfg, "val"), args)


def test_items(args: argparse.Namespace, cfg: Config) -> list[Item]:
    """Test images of `--dataset`, with labels where these are public."""
    return split_items(args, cfg, "test")


def extra_items(args: argparse.Namespace, cfg: Config) -> list[Item]:
    """The extra training images of `--dataset` cityscapes or synthetic, without labels."""
    if args.dataset not in WITH_COARSE:
        raise UserError(
            f"--dataset {args.dataset} has no train_extra images; {' and '.join(WITH_COARSE)} have"
        )
    return cityscapes.list_extra(data_root(args.dataset, cfg))


def coarse_items(args: argparse.Namespace, cfg: Config, spec: DatasetSpec) -> list[Item]:
    """The extra images that training draws from; none without `--coarse_boost_classes` and kin.

    With DATASET.CITYSCAPES_CUSTOMCOARSE the labels are those of a network, and the rules of
    AUTO_FLAGS hold; without it the annotators' coarse ones. Raises UserError for classes out of
    range, missing files, and rules without auto labels.
    """
    for flag in ("coarse_boost_classes", "custom_coarse_dropout_classes"):
        unknown = [value for value in getattr(args, flag) or () if value >= spec.num_classes]
        if unknown:
            raise UserError(
                f"--{flag}: there is no class {unknown[0]}; "
                f"{spec.name} has 0..{spec.num_classes - 1}"
            )
    if not args.coarse_boost_classes and not args.only_coarse:
        return []
    root, auto_root = data_root(args.dataset, cfg), cfg.DATASET.CITYSCAPES_CUSTOMCOARSE
    if auto_root:
        path = Path(cfg.expand(auto_root))
        if not path.is_dir():
            raise UserError(f"DATASET.CITYSCAPES_CUSTOMCOARSE is {path}, which is no folder")
        rules = AutoLabel(
            threshold=args.custom_coarse_prob,
            union_classes=tuple(args.custom_coarse_dropout_classes or ()),
            mask_out=args.mask_out_cityscapes,
        )
        return cityscapes.list_auto(root, path, rules)
    for flag in AUTO_FLAGS:
        if getattr(args, flag):
            raise UserError(
                f"--{flag} is a rule for auto-labelled images, but DATASET.CITYSCAPES_CUSTOMCOARSE "
                "is not set: name their folder there or leave the flag out"
            )
    return cityscapes.list_coarse(root)


def video_items(args: argparse.Namespace, cfg: Config, items: list[Item]) -> list[Item]:
    """The frames around the training images that `--maxSkip` adds; none without it."""
    if not args.maxSkip:
        return []
    key = "DATASET.CITYSCAPES_VIDEO_DIR"
    path = Path(cfg.expand(cfg.DATASET.CITYSCAPES_VIDEO_DIR))
    if not cfg.DATASET.CITYSCAPES_VIDEO_DIR or not path.is_dir():
        state = f"is {path}, which is no folder" if str(path) != "." else "is not set"
        raise UserError(f"--maxSkip needs further frames, but {key} {state}: name their root there")
    return cityscapes.list_video(path, items, args.maxSkip)


def _with_labels(items: list[Item], args: argparse.Namespace) -> list[Item]:
    bare = [item for item in items if item.label is None]
    if bare and args.dataset != "nullloader":
        raise UserError(
            f"{bare[0].image} has no label ({len(bare)} of {len(items)} images have none); "
            "training and validation need labels"
        )
    return items


def eval_items(args: argparse.Namespace, cfg: Config) -> list[Item]:
    """Images of `--eval val|trn|folder|test|train_extra`, of which --split_index is evaluated.

    The parts of --split_count are consecutive. Raises UserError for a part without any image.
    """
    if args.eval == "folder":
        items = folder_items(args.eval_folder)
    else:
        listing = {"val": val_items, "trn": train_items, "test": test_items}
        items = {**listing, "train_extra": extra_items}[args.eval](args, cfg)
    first, stop = (
        part * len(items) // args.split_count for part in (args.split_index, args.split_index + 1)
    )
    if first == stop:
        raise UserError(f"--split_count {args.split_count}: there are only {len(items)} images")
    return items[first:stop]


def folder_items(path: str) -> list[Item]:
    """Pictures of `--eval_folder`, sub-folders included."""
    return folder.list_items(Path(path))


def fingerprint(args: argparse.Namespace, cfg: Config) -> dict[str, object]:
    """What identifies the data of a run: counts, and a hash of file names, sizes and times."""
    if args.dataset == "nullloader":
        return {"dataset": "nullloader"}
    if args.eval == "folder":
        items = folder_items(args.eval_folder)
        digest = verify.fingerprint(items, cityscapes.SPEC, missing_ok=True)
        return {"folder": args.eval_folder, "images": len(items), "digest": digest}
    spec = dataset_spec(args, cfg)
    splits = {args.eval: eval_items} if args.eval else {"train": train_items, "val": val_items}
    found: dict[str, object] = {"dataset": args.dataset, "root": str(data_root(args.dataset, cfg))}
    for split, listing in splits.items():
        items = listing(args, cfg)
        found[split] = {"images": len(items), "digest": verify.fingerprint(items, spec)}
    if args.eval:
        return found
    extras = {
        "video": video_items(args, cfg, train_items(args, cfg)),
        "coarse": coarse_items(args, cfg, spec),
    }
    for kind, items in extras.items():
        if items:
            found[kind] = {"images": len(items), "digest": verify.fingerprint(items, spec)}
    return found


def train_transform(args: argparse.Namespace, spec: DatasetSpec) -> Transform:
    """The augmentation that the flags describe."""
    if args.augmentation == "mmseg":
        return mmseg_train_pipeline(
            crop_size=args.crop_size,
            ignore_label=spec.ignore_label,
            img_scale=args.img_scale,
            ratio_range=args.ratio_range,
            cat_max_ratio=args.cat_max_ratio,
        )
    blur: Blur | None = "bilateral" if args.bblur else "gauss" if args.gblur else None
    return train_pipeline(
        crop_size=args.crop_size,
        ignore_label=spec.ignore_label,
        scale_min=args.scale_min * (ENLARGED if args.scf else 1),
        scale_max=args.scale_max * (ENLARGED if args.scf else 1),
        pre_size=args.pre_size,
        color_aug=args.color_aug,
        blur=blur,
        full_crop=args.full_crop_training,
        translate_aug_fix=args.translate_aug_fix,
        rand_augment=args.rand_augment,
        no_pad=args.crop_nopad,
        pre_size_short=args.pre_size_of == "short",
        rotate=args.rrotate,
    )


def boundary_source(
    args: argparse.Namespace, cfg: Config, spec: DatasetSpec, items: list[Item]
) -> ExtraMaps | None:
    """Where boundary supervision takes its maps from; None without it.

    Raises UserError for an item whose file is missing or does not fit, if files are wanted.
    """
    if args.dt_offset_wt == 0:
        return None
    from datasets import dt_offset  # loads SciPy's file formats, which no other run needs

    turn_angles = not cfg.LOSS.BOUNDARY_OFFICIAL
    if args.dt_offset_source == "compute":
        return dt_offset.computed_maps(spec, turn_angles=turn_angles)
    root, cache = label_root(args.dataset, cfg), _cache_dir(cfg)
    out = dt_offset.offset_root(root, cfg)
    with _alone(cache):
        dt_offset.check_stored(items, root, out, cache, max(args.num_workers, 1))
    return dt_offset.stored_maps(root, out, turn_angles=turn_angles)


def make_train_loader(
    args: argparse.Namespace, cfg: Config, rank: int, world: int, seed: int, log: Log = print
) -> tuple[DataLoader[Batch], TrainSampler, DatasetSpec]:
    """Loader and sampler of the training set, class-uniform as the flags say.

    `log` gets lines about the set, on the first rank. Every label is checked before the first
    batch. Raises UserError for data that does not fit.
    """
    spec, items = dataset_spec(args, cfg), train_items(args, cfg)
    video, coarse = video_items(args, cfg, items), coarse_items(args, cfg, spec)
    dataset: Source
    found: list[Centroids] = [{}, {}, {}]
    if args.dataset == "nullloader":
        if args.class_uniform_pct > 0:
            raise UserError("--dataset nullloader has no labels; add --class_uniform_pct 0")
        dataset = nullloader.NullDataset(items, args.crop_size)
    else:
        found = _checked_centroids(args, cfg, spec, (items, video, coarse), rank, log)
        if args.dt_offset_wt and args.dt_offset_source == "files" and (video or coarse):
            raise UserError(
                "--dt_offset_source files: there are no boundary files of coarse images and video "
                "frames; leave it out, the maps are then computed from the labels"
            )
        every = [*items, *video, *coarse]
        extra_maps = boundary_source(args, cfg, spec, every)
        transform = train_transform(args, spec)
        dataset = SegmentationDataset(every, spec, transform, extra_maps=extra_maps)
    plan = uniform.EpochPlan(
        num_fine=len(items),
        fine=found[0],
        num_video=len(video),
        video=found[1],
        coarse=found[2],
        boost=args.coarse_boost_classes or (),
        only_coarse=args.only_coarse,
        max_cu_epoch=args.max_cu_epoch,
        pct=args.class_uniform_pct,
        num_classes=spec.num_classes,
        seed=seed,
        bias=cfg.DATASET.CLASS_UNIFORM_BIAS,
    )
    sampler = TrainSampler(plan, seed, rank, world, args.bs_trn)
    room.check_training(args, items, len(sampler))
    loader = make_loader(dataset, sampler, args.bs_trn, args.num_workers)
    return loader, sampler, spec


def _checked_centroids(
    args: argparse.Namespace,
    cfg: Config,
    spec: DatasetSpec,
    sets: tuple[list[Item], ...],
    rank: int,
    log: Log,
) -> list[Centroids]:
    """Check all labels, then the centroids of fine images, video frames and coarse images.

    The first rank works, the rest read. Validation labels are checked too.
    """
    cache = _cache_dir(cfg)
    workers = max(args.num_workers, 1)
    tile, own_log = args.class_uniform_tile, log if rank == 0 else _silent
    found: list[Centroids] = []
    with _alone(cache):
        verify.verify_items([*sets[0], *val_items(args, cfg)], spec, cache, workers)
        for items in filter(None, sets[1:]):
            verify.verify_items(items, spec, cache, workers)
        for items, title in zip(sets, SET_TITLES, strict=True):
            if args.class_uniform_pct == 0 or not items:
                found.append({})
                continue
            progress = None if rank else _progress("centroids")
            found.append(load_or_build(items, spec, tile, cache, workers, progress, own_log, title))
    return found


def _cache_dir(cfg: Config) -> Path:
    """Where centroids and the marks of checked sets are kept."""
    return Path(cfg.expand(cfg.DATASET.CENTROID_ROOT or "ASSETS_PATH/uniform_centroids"))


@contextlib.contextmanager
def _alone(folder_path: Path) -> Iterator[None]:
    """Only one process of this machine at a time; without a lock where none can be written."""
    try:
        folder_path.mkdir(parents=True, exist_ok=True)
        stream = (folder_path / ".lock").open("w")
    except OSError:
        yield
        return
    with stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _silent(text: str) -> None:
    del text


def _progress(title: str) -> Progress:
    """A counter on one line of a terminal, else a line every few seconds."""
    last = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal last
        is_terminal = sys.stdout.isatty()
        if is_terminal:
            print(f"\r{title}: {done}/{total}", end="\n" if done == total else "", flush=True)
        elif time.monotonic() - last > PROGRESS_SECONDS:
            last = time.monotonic()
            print(f"{title}: {done}/{total}", flush=True)

    return report


def make_eval_loader(
    args: argparse.Namespace,
    cfg: Config,
    spec: DatasetSpec,
    rank: int,
    world: int,
    items: list[Item],
) -> DataLoader[Batch]:
    """This rank's share of `items`, every image on exactly one rank.

    Unreadable files of `--eval folder` are reported in the batch, all others are errors.
    Raises UserError when labels with 0 for void turn out to be shifted already.
    """
    is_folder = args.eval == "folder"
    dataset: Source
    if args.dataset == "nullloader" and not is_folder:
        dataset = nullloader.NullDataset(items, args.crop_size)
    else:
        if spec.zero_label and not is_folder and not args.no_metrics:
            cache = _cache_dir(cfg)
            with _alone(cache):
                verify.verify_items(items, spec, cache, max(args.num_workers, 1))
        transform = eval_pipeline(
            ignore_label=spec.ignore_label,
            pre_size=args.pre_size,
            map_crop_val=args.map_crop_val,
            enlarge=ENLARGED if args.scf else 1.0,
            test_scale=args.test_scale,
            size_divisor=args.size_divisor,
        )
        dataset = SegmentationDataset(items, spec, transform, check_labels=not args.no_metrics)
    sampler = EvalSampler(len(items), rank, world)
    workers = room.check_evaluation(args, items, len(sampler))
    return make_loader(dataset, sampler, args.bs_val, workers, report_unreadable=is_folder)


def dump_augmentations(args: argparse.Namespace, cfg: Config, out_dir: Path) -> int:
    """Write augmented training images and labels to `out_dir`; returns how many."""
    spec, items = dataset_spec(args, cfg), train_items(args, cfg)
    dataset = SegmentationDataset(items, spec, train_transform(args, spec))
    count = min(NUM_DUMPED, len(items))
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            sample = dataset[Draw(number, None, (args.seed, 0, number))]
            Image.fromarray(sample.image).save(out_dir / f"{number:03d}_image.png")
            assert sample.label is not None
            label = Image.fromarray(np.ascontiguousarray(sample.label))
            label.putpalette(spec.flat_palette())
            label.save(out_dir / f"{number:03d}_label.png")
    except OSError as error:
        raise UserError(f"{out_dir}: can not be written: {error}") from error
    return count
