# SPDX-License-Identifier: Apache-2.0
"""From settings to items, data sets and loaders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader

from assembly import room
from assembly.dataset import cache_dir, dataset_spec, label_root, offset_root
from assembly.sets import Sets, train_items
from datasets import nullloader, uniform, verify
from datasets.base import DataError, ExtraMaps, SegmentationDataset, item_size
from datasets.batch import Batch
from datasets.centroids import Centroids
from datasets.loader import Source, make_loader
from datasets.prepare import Checker, alone, check_batches, checked_centroids
from datasets.registry import is_black
from datasets.samplers import Draw, EvalSampler, TrainSampler
from datasets.spec import DatasetSpec, Item
from runtime.errors import UserError
from runtime.parallel import in_threads
from runtime.progress import Log
from settings import Settings
from transforms.joint import CropRules, RandomScale
from transforms.pipeline import Blur, eval_pipeline, mmseg_train_pipeline, train_pipeline
from transforms.sample import Transform

NUM_DUMPED = 32
ENLARGED = 2.0  # --scf


def train_transform(settings: Settings, spec: DatasetSpec) -> Transform:
    """The augmentation that the settings describe."""
    augmentation = settings.augmentation
    if augmentation.augmentation == "mmseg":
        return mmseg_train_pipeline(
            crop_size=augmentation.crop_size,
            ignore_label=spec.ignore_label,
            img_scale=augmentation.img_scale,
            ratio_range=augmentation.ratio_range,
            cat_max_ratio=augmentation.cat_max_ratio,
        )
    blur: Blur | None = (
        "bilateral" if augmentation.bblur else "gauss" if augmentation.gblur else None
    )
    enlarged = ENLARGED if settings.data.scf else 1
    return train_pipeline(
        crop_size=augmentation.crop_size,
        ignore_label=spec.ignore_label,
        scale=RandomScale(
            scale_min=augmentation.scale_min * enlarged,
            scale_max=augmentation.scale_max * enlarged,
            pre_size=augmentation.pre_size,
            pre_size_short=augmentation.pre_size_of == "short",
        ),
        crop=CropRules(
            full_crop=augmentation.full_crop_training,
            slide_small=augmentation.translate_aug_fix,
            no_pad=augmentation.crop_nopad,
        ),
        rotate=augmentation.rrotate,
        rand_augment=augmentation.rand_augment,
        color_aug=augmentation.color_aug,
        blur=blur,
    )


def boundary_source(
    settings: Settings, spec: DatasetSpec, items: list[Item], log: Log = print
) -> ExtraMaps | None:
    """Where boundary supervision takes its maps from; None without it.

    Raises UserError for an item whose file is missing or does not fit, if files are wanted.
    """
    if settings.loss.dt_offset_wt == 0:
        return None
    from datasets import boundary_files  # loads SciPy's file formats, which no other run needs

    turn_angles = not settings.LOSS.BOUNDARY_OFFICIAL
    if settings.loss.dt_offset_source == "compute":
        return boundary_files.computed_maps(spec, turn_angles=turn_angles)
    root, cache = label_root(settings), cache_dir(settings)
    out = offset_root(settings)
    with alone(cache, log):
        boundary_files.check_stored(items, root, out, cache, max(settings.data.num_workers, 1))
    return boundary_files.stored_maps(root, out, turn_angles=turn_angles)


def make_train_loader(
    settings: Settings,
    rank: int,
    world: int,
    seed: int,
    log: Log = print,
    sets: Sets | None = None,
    ranks: int | None = None,
) -> tuple[DataLoader[Batch], TrainSampler, DatasetSpec]:
    """Loader and sampler of the training set, class-uniform as the settings say.

    `log` gets lines about the set, on the first rank; `sets` are the images of the run where they
    are listed already; `ranks`: see `TrainSampler`. Every file of train and val is checked before
    the first batch. Raises UserError for data that does not fit.
    """
    data = settings.data
    sets = Sets(settings) if sets is None else sets
    spec, items = dataset_spec(settings), sets.train
    video, coarse = sets.video, sets.coarse(spec)
    dataset: Source
    found: list[Centroids] = [{}, {}, {}]
    if is_black(data.dataset):
        if data.class_uniform_pct > 0:
            raise UserError(f"--dataset {data.dataset} has no labels; add --class_uniform_pct 0")
        dataset = nullloader.NullDataset(items, settings.augmentation.crop_size)
    else:
        found = _checked_centroids(settings, spec, sets, rank, world, log)
        if video or coarse:
            _check_boundary_source(settings)
        every = [*items, *video, *coarse]
        extra_maps = boundary_source(settings, spec, every, log)
        transform = train_transform(settings, spec)
        dataset = SegmentationDataset(every, spec, transform, extra_maps=extra_maps)
    plan = uniform.EpochPlan(
        num_fine=len(items),
        fine=found[0],
        num_video=len(video),
        video=found[1],
        coarse=found[2],
        boost=data.coarse_boost_classes or (),
        only_coarse=data.only_coarse,
        max_cu_epoch=data.max_cu_epoch,
        pct=data.class_uniform_pct,
        num_classes=spec.num_classes,
        seed=seed,
        bias=settings.DATASET.CLASS_UNIFORM_BIAS,
    )
    sampler = TrainSampler(plan, seed, rank, world, data.bs_trn, ranks)
    room.check_training(settings, items, len(sampler))
    loader = make_loader(dataset, sampler, data.bs_trn, data.num_workers)
    return loader, sampler, spec


def _check_boundary_source(settings: Settings) -> None:
    """Raise UserError where boundary files are wanted of coarse images or video frames."""
    if settings.loss.dt_offset_wt and settings.loss.dt_offset_source == "files":
        raise UserError(
            "--dt_offset_source files: there are no boundary files of coarse images and video "
            "frames; leave it out, the maps are then computed from the labels"
        )


def _checked_centroids(
    settings: Settings,
    spec: DatasetSpec,
    sets: Sets,
    rank: int,
    world: int,
    log: Log,
) -> list[Centroids]:
    """Check train and val, then the centroids of fine images, video frames and coarse images.

    The first rank works, the rest read.
    """
    data = settings.data
    kinds, val = (sets.train, sets.video, sets.coarse(spec)), sets.val
    checker = Checker(
        spec=spec,
        cache=cache_dir(settings),
        workers=max(data.num_workers, 1),
        stamps=sets.stamps,
        rank=rank,
        log=log,
        tile=data.class_uniform_tile if data.class_uniform_pct else None,
    )
    for line in sets.lines():
        checker.say(line)
    found, train, held = checked_centroids(checker, kinds, val)
    if data.bs_val > 1:
        check_batches(val, held.sizes, eval_transform(settings, spec), data.bs_val, world)
    if settings.augmentation.full_crop_training and data.bs_trn > 1:
        check_batches([*kinds[0], *kinds[1], *kinds[2]], train.sizes, None, len(train.sizes), 1)
    return found


def eval_transform(settings: Settings, spec: DatasetSpec) -> Transform:
    """What happens to the images of an evaluation."""
    augmentation = settings.augmentation
    return eval_pipeline(
        ignore_label=spec.ignore_label,
        pre_size=augmentation.pre_size,
        map_crop_val=augmentation.map_crop_val,
        enlarge=ENLARGED if settings.data.scf else 1.0,
        test_scale=augmentation.test_scale,
        size_divisor=augmentation.size_divisor,
    )


def make_eval_loader(
    settings: Settings,
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
    inference, data = settings.inference, settings.data
    is_folder = inference.eval == "folder"
    dataset: Source
    if is_black(data.dataset) and not is_folder:
        dataset = nullloader.NullDataset(items, settings.augmentation.crop_size)
    else:
        workers = max(data.num_workers, 1)
        if spec.zero_label and inference.eval and not is_folder and not inference.no_metrics:
            cache = cache_dir(settings)
            with alone(cache, log):
                facts = verify.verify_items(items, spec, cache, workers)
            verify.refuse_shifted(spec, (facts,), items[0].label)
        transform = eval_transform(settings, spec)
        if data.bs_val > 1 and inference.eval:
            sizes = list(in_threads(_known_size, items, workers))
            check_batches(items, sizes, transform, data.bs_val, world)
        dataset = SegmentationDataset(items, spec, transform, check_labels=not inference.no_metrics)
    sampler = EvalSampler(len(items), rank, world)
    workers = room.check_evaluation(settings, items, len(sampler))
    return make_loader(dataset, sampler, data.bs_val, workers, report_unreadable=is_folder)


def _known_size(item: Item) -> tuple[int, int] | None:
    """(H, W) of an image; None for one that cannot be read, which others report."""
    try:
        return item_size(item)
    except DataError:
        return None


def dump_augmentations(settings: Settings, out_dir: Path) -> int:
    """Write augmented training images and labels to `out_dir`; returns how many."""
    spec, items = dataset_spec(settings), train_items(settings)
    dataset = SegmentationDataset(items, spec, train_transform(settings, spec))
    count = min(NUM_DUMPED, len(items))
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            sample = dataset[Draw(number, None, (settings.run.seed, 0, number))]
            Image.fromarray(sample.image).save(out_dir / f"{number:03d}_image.png")
            assert sample.label is not None
            label = Image.fromarray(np.ascontiguousarray(sample.label))
            label.putpalette(spec.flat_palette())
            label.save(out_dir / f"{number:03d}_label.png")
    except OSError as error:
        raise UserError(f"{out_dir}: cannot be written: {error}") from error
    return count
