# SPDX-License-Identifier: Apache-2.0
"""Ids, scores, masks, colours and composites in trees of their own, and the list of all."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from config import UserError
from reports.files import colored
from reports.image_dump import composite
from reports.sinks import DumpIdentity
from reports.trees import MANIFEST, TreePlan, TreeSink, class_ids, mask_of
from reports.writers import WriterDied, Writers
from tests.full_disk import REASON, full_after
from tests.reports.cases import SPEC, alone, make_items, make_result, read
from tests.reports.jobs import Write

RAW = np.array([7, 26, 23, 31])
EVERY = TreePlan(ids="raw", scores=True, masks=(1, 2), dilate=1, color=True, composite=True)
WIDE = replace(SPEC, train_id_to_id=(7, 260, 23, 31), id_to_train_id={7: 0, 260: 1, 23: 2, 31: 3})


def result(name, index=0):
    rng = np.random.default_rng(index)
    scores = rng.dirichlet(np.ones(4), (12, 16)).transpose(2, 0, 1).astype(np.float16)
    return make_result(name, index, scores=scores, confidence=0.25 + index / 8)


def dump(out, items, plan, spec=SPEC, key="k", workers=0, names=None):
    sink = TreeSink(out, spec, items, plan, DumpIdentity(key=key), workers=workers)
    for index, item in enumerate(items):
        if (names is None or item.name in names) and not sink.done(item.name):
            sink.add(result(item.name, index))
    failed = sink.close(0, 1, alone)
    sink.report({})
    return sink, failed


def manifest(out):
    return [json.loads(line) for line in (out / MANIFEST).read_text().splitlines()]


def test_every_tree_keeps_folders_and_holds_what_it_says(tmp_path: Path) -> None:
    items = make_items(tmp_path / "in", ["city/x"])
    out = tmp_path / "out"
    dump(out, items, EVERY)
    want = result("city/x")
    assert np.array_equal(read(out / "ids/city/x.png")[1], RAW[want.pred])
    with np.load(out / "scores/city/x.npz") as content:
        assert sorted(content) == ["classes", "scores"]
        assert content["scores"].dtype == np.float16
        assert np.array_equal(content["scores"], want.scores)
        assert tuple(content["classes"]) == SPEC.class_names
    for number, name in ((1, "car"), (2, "sky")):
        mode, mask = read(out / f"masks/{name}/city/x.png")
        assert mode == "L" and np.array_equal(mask, mask_of(want.pred, number, 1))
    mode, color = read(out / "color/city/x.png")
    assert mode == "P" and np.array_equal(color, want.pred)
    blend = composite(want.image, want.pred, SPEC.flat_palette())
    assert np.array_equal(read(out / "composite/city/x.png")[1], blend)
    assert colored(want.pred, SPEC.flat_palette()).shape == blend.shape
    written = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert written == {
        "ids/city/x.png", "scores/city/x.npz", "masks/car/city/x.png", "masks/sky/city/x.png",
        "color/city/x.png", "composite/city/x.png", MANIFEST, ".trees-0.jsonl",
    }  # fmt: skip


def test_the_manifest_has_size_shares_and_confidence_in_the_order_of_the_set(
    tmp_path: Path,
) -> None:
    items = make_items(tmp_path / "in", ["b", os.fsdecode(b"a\xe9"), "c"])
    dump(tmp_path / "out", items, TreePlan(ids="train"))
    rows = manifest(tmp_path / "out")
    assert [row["name"] for row in rows] == [item.name for item in items]
    for index, (row, item) in enumerate(zip(rows, items, strict=True)):
        want = result(item.name, index)
        assert (row["file"], row["height"], row["width"]) == (str(item.image), 12, 16)
        shares = {name: (want.pred == k).mean() for k, name in enumerate(SPEC.class_names)}
        found = {name: share for name, share in shares.items() if share}
        assert row["classes"] == pytest.approx(found, abs=1e-5)
        assert row["confidence"] == 0.25 + index / 8
        assert row["files"] == {"ids": f"ids/{item.name}.png"}
        assert (tmp_path / "out" / row["files"]["ids"]).is_file()


def test_ids_above_255_take_16_bits_and_train_ids_stay(tmp_path: Path) -> None:
    items = make_items(tmp_path / "in", ["x"])
    pred = result("x").pred
    dump(tmp_path / "raw", items, TreePlan(ids="raw"), WIDE)
    mode, ids = read(tmp_path / "raw/ids/x.png")
    assert mode == "I;16" and np.array_equal(ids, np.array([7, 260, 23, 31])[pred])
    dump(tmp_path / "train", items, TreePlan(ids="train"), WIDE)
    mode, ids = read(tmp_path / "train/ids/x.png")
    assert mode == "L" and np.array_equal(ids, pred)


def test_an_image_that_was_resized_is_written_at_the_size_of_its_file(tmp_path: Path) -> None:
    items = make_items(tmp_path / "in", ["x"], size=(24, 32))
    dump(tmp_path / "out", items, EVERY)
    want = result("x")
    assert np.array_equal(read(tmp_path / "out/ids/x.png")[1][::2, ::2], RAW[want.pred])
    with np.load(tmp_path / "out/scores/x.npz") as content:
        assert np.array_equal(content["scores"][:, 1::2, 1::2], want.scores)
    assert read(tmp_path / "out/composite/x.png")[1].shape == (24, 32, 3)


def test_masks_grow_by_a_distance_in_every_direction() -> None:
    pred = np.zeros((41, 41), np.uint8)
    pred[20, 20] = 1
    rows, columns = np.mgrid[:41, :41] - 20
    for pixels in (0, 1, 7):
        want = 255 * (np.hypot(rows, columns) <= pixels)
        assert np.array_equal(mask_of(pred, 1, pixels), want)
    assert not mask_of(pred, 2, 7).any()
    assert mask_of(np.ones((3, 4), np.uint8), 1, 2).all()


def test_class_names_are_found_and_unknown_ones_get_the_nearest() -> None:
    spec = replace(SPEC, class_names=("road", "traffic light", "screen, crt", "tram"))
    assert class_ids("tram,Traffic_Light,tram", spec) == (3, 1)
    assert class_ids(" screen, crt ,road", spec) == (2, 0)
    with pytest.raises(UserError, match=r"--dump_masks: streets has no class trm; did you mean tr"):
        class_ids("road,trm", spec)
    with pytest.raises(UserError, match="has no class xyz; they are road, traffic light, screen"):
        class_ids("xyz", spec)


def test_an_interrupted_dump_continues_and_another_plan_starts_anew(tmp_path: Path) -> None:
    items = make_items(tmp_path / "in", ["a", "b", "c"])
    out, plan = tmp_path / "out", TreePlan(ids="train")
    sink = TreeSink(out, SPEC, items, plan, DumpIdentity(key="k"))
    sink.add(result("a"))  # and then it is killed
    assert not (out / MANIFEST).exists()
    sink, _ = dump(out, items, plan)
    assert [row["name"] for row in manifest(out)] == ["a", "b", "c"]
    again = TreeSink(out, SPEC, items, plan, DumpIdentity(key="k"))
    assert all(again.done(item.name) for item in items) and (out / MANIFEST).exists()
    other = TreeSink(out, SPEC, items, replace(plan, color=True), DumpIdentity(key="k"))
    assert not any(other.done(item.name) for item in items)
    assert not (out / MANIFEST).exists()  # it was about other files


def test_processes_write_the_same_files(tmp_path: Path) -> None:
    items = make_items(tmp_path / "in", [f"city/{number}" for number in range(6)])
    for workers in (0, 1):
        _, failed = dump(tmp_path / str(workers), items, EVERY, workers=workers)
        assert failed == []
    files = sorted(path.relative_to(tmp_path / "0") for path in (tmp_path / "0").rglob("*.*"))
    assert len(files) == 6 * 6 + 2
    for file in files:
        assert (tmp_path / "0" / file).read_bytes() == (tmp_path / "1" / file).read_bytes()


def test_what_a_process_cannot_write_is_named_and_the_rest_is_written(tmp_path: Path) -> None:
    done = []
    writers = Writers(1, lambda result, facts: done.append((result != os.getpid(), facts)))
    for name in ("a", "missing/b", "c"):
        writers.submit(Write(path=tmp_path / name), name, name)
    failed = writers.finish()
    assert done == [(True, "a"), (True, "c")]
    assert [(name, error.strerror) for name, error in failed] == [
        ("missing/b", "No such file or directory")
    ]
    assert writers.finish() == []


@pytest.mark.parametrize(
    ("workers", "names"), [(1, ["a", "killed", "b"]), (2, ["waits", "killed", "b"])]
)
def test_a_killed_process_is_named_and_the_others_end(
    tmp_path: Path, workers: int, names: list[str]
) -> None:
    writers = Writers(workers, lambda result, facts: None)
    with pytest.raises(WriterDied, match=r"^writer process \(pid \d+\) is killed by signal: SIGK"):
        for name in names:
            writers.submit(Write(path=tmp_path / name), name, None)
        writers.finish()
    assert len(writers._processes) == workers
    assert all(process.exitcode is not None for process in writers._processes)


def test_a_full_disk_ends_the_dump(tmp_path: Path) -> None:
    items = make_items(tmp_path / "in", ["a"])
    with full_after(10), pytest.raises(OSError, match=REASON):
        dump(tmp_path / "out", items, TreePlan(ids="train"))
