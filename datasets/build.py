# SPDX-License-Identifier: Apache-2.0
"""From flags and configuration to items, data sets and loaders."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader

from config import Config, UserError
from datasets import nullloader, room, uniform, verify
from datasets.base import DataError, ExtraMaps, SegmentationDataset, item_size
from datasets.centroids import Centroids
from datasets.loader import Batch, Source, make_loader
from datasets.prepare import Checker, alone, check_batches, checked_centroids
from datasets.registry import dataset_spec, label_root
from datasets.samplers import Draw, EvalSampler, TrainSampler
from datasets.sets import Sets, train_items
from datasets.spec import DatasetSpec, Item
from runtime.parallel import in_threads
from runtime.progress import Log
from transforms.joint import CropRules, RandomScale
from transforms.pipeline import Blur, eval_pipeline, mmseg_train_pipeline, train_pipeline
from transforms.sample import Transform

NUM_DUMPED = 32
ENLARGED = 2.0  # --scf


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
        scale=RandomScale(
            scale_min=args.scale_min * (ENLARGED if args.scf else 1),
            scale_max=args.scale_max * (ENLARGED if args.scf else 1),
            pre_size=args.pre_size,
            pre_size_short=args.pre_size_of == "short",
        ),
        crop=CropRules(
            full_crop=args.full_crop_training,
            slide_small=args.translate_aug_fix,
            no_pad=args.crop_nopad,
        ),
        rotate=args.rrotate,
        rand_augment=args.rand_augment,
        color_aug=args.color_aug,
        blur=blur,
    )


def boundary_source(
    args: argparse.Namespace, cfg: Config, spec: DatasetSpec, items: list[Item], log: Log = print
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
    with alone(cache, log):
        dt_offset.check_stored(items, root, out, cache, max(args.num_workers, 1))
    return dt_offset.stored_maps(root, out, turn_angles=turn_angles)


def make_train_loader(
    args: argparse.Namespace,
    cfg: Config,
    rank: int,
    world: int,
    seed: int,
    log: Log = print,
    sets: Sets | None = None,
) -> tuple[DataLoader[Batch], TrainSampler, DatasetSpec]:
    """Loader and sampler of the training set, class-uniform as the flags say.

    `log` gets lines about the set, on the first rank; `sets` are the images of the run where they
    are listed already. Every file of train and val is checked before the first batch. Raises
    UserError for data that does not fit.
    """
    sets = Sets(args, cfg) if sets is None else sets
    spec, items = dataset_spec(args, cfg), sets.train
    video, coarse = sets.video, sets.coarse(spec)
    dataset: Source
    found: list[Centroids] = [{}, {}, {}]
    if args.dataset == "nullloader":
        if args.class_uniform_pct > 0:
            raise UserError("--dataset nullloader has no labels; add --class_uniform_pct 0")
        dataset = nullloader.NullDataset(items, args.crop_size)
    else:
        found = _checked_centroids(args, cfg, spec, sets, rank, world, log)
        if args.dt_offset_wt and args.dt_offset_source == "files" and (video or coarse):
            raise UserError(
                "--dt_offset_source files: there are no boundary files of coarse images and video "
                "frames; leave it out, the maps are then computed from the labels"
            )
        every = [*items, *video, *coarse]
        extra_maps = boundary_source(args, cfg, spec, every, log)
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
    sets: Sets,
    rank: int,
    world: int,
    log: Log,
) -> list[Centroids]:
    """Check train and val, then the centroids of fine images, video frames and coarse images.

    The first rank works, the rest read.
    """
    kinds, val = (sets.train, sets.video, sets.coarse(spec)), sets.val
    checker = Checker(
        spec=spec,
        cache=_cache_dir(cfg),
        workers=max(args.num_workers, 1),
        stamps=sets.stamps,
        rank=rank,
        log=log,
        tile=args.class_uniform_tile if args.class_uniform_pct else None,
    )
    for line in sets.lines():
        checker.say(line)
    found, train, held = checked_centroids(checker, kinds, val)
    if args.bs_val > 1:
        check_batches(val, held.sizes, eval_transform(args, spec), args.bs_val, world)
    if args.full_crop_training and args.bs_trn > 1:
        check_batches([*kinds[0], *kinds[1], *kinds[2]], train.sizes, None, len(train.sizes), 1)
    return found


def _cache_dir(cfg: Config) -> Path:
    """Where centroids and the facts of checked sets are kept."""
    return Path(cfg.expand(cfg.DATASET.CENTROID_ROOT or "ASSETS_PATH/uniform_centroids"))


def eval_transform(args: argparse.Namespace, spec: DatasetSpec) -> Transform:
    """What the flags do with images of an evaluation."""
    return eval_pipeline(
        ignore_label=spec.ignore_label,
        pre_size=args.pre_size,
        map_crop_val=args.map_crop_val,
        enlarge=ENLARGED if args.scf else 1.0,
        test_scale=args.test_scale,
        size_divisor=args.size_divisor,
    )


def make_eval_loader(
    args: argparse.Namespace,
    cfg: Config,
    spec: DatasetSpec,
    rank: int,
    world: int,
    items: list[Item],
    log: Log = print,
) -> DataLoader[Batch]:
    """This rank's share of `items`, every image on exactly one rank.

    Unreadable files of `--eval folder` are reported in the batch, all others are errors.
    Raises UserError when labels with 0 for void turn out to be shifted already, and for images of
    different sizes in one batch.
    """
    is_folder = args.eval == "folder"
    dataset: Source
    if args.dataset == "nullloader" and not is_folder:
        dataset = nullloader.NullDataset(items, args.crop_size)
    else:
        workers = max(args.num_workers, 1)
        if spec.zero_label and args.eval and not is_folder and not args.no_metrics:
            cache = _cache_dir(cfg)
            with alone(cache, log):
                facts = verify.verify_items(items, spec, cache, workers)
            verify.refuse_shifted(spec, (facts,), items[0].label)
        transform = eval_transform(args, spec)
        if args.bs_val > 1 and args.eval:
            sizes = list(in_threads(_known_size, items, workers))
            check_batches(items, sizes, transform, args.bs_val, world)
        dataset = SegmentationDataset(items, spec, transform, check_labels=not args.no_metrics)
    sampler = EvalSampler(len(items), rank, world)
    workers = room.check_evaluation(args, items, len(sampler))
    return make_loader(dataset, sampler, args.bs_val, workers, report_unreadable=is_folder)


def _known_size(item: Item) -> tuple[int, int] | None:
    """(H, W) of an image; None for one that cannot be read, which others report."""
    try:
        return item_size(item)
    except DataError:
        return None


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
        raise UserError(f"{out_dir}: cannot be written: {error}") from error
    return count
