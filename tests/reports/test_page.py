# SPDX-License-Identifier: Apache-2.0
"""The report page: what it says, and that it works in a browser (headless Chromium)."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reports.image_dump import DumpSink
from reports.page import write_page
from reports.results import make_results
from reports.stored_images import ImageRow
from tests.reports.cases import SPEC, alone, make_result, make_summary
from tests.reports.chrome import Chrome

NAMES = ["city/sharp", "city/blurred & <dark>", "100% rain#1", "fog"]
PENDING = """[...document.images].filter(i => i.src && !i.complete
    && i.getBoundingClientRect().top < innerHeight && i.getBoundingClientRect().bottom > 0)"""
SETTLED = f"""new Promise(done => {{
    const wait = () => {PENDING}.length ? setTimeout(wait, 20) : done();
    setTimeout(wait, 60);
}})"""
BROKEN = """[...document.images].filter(
    i => i.complete && !i.hidden && i.src && !i.naturalWidth).length"""
TOO_SMALL = """[...document.querySelectorAll('main *')].filter(e => e.textContent.trim()
    && !e.closest('svg') && parseFloat(getComputedStyle(e).fontSize) < 12).length"""
ON_CARDS = """[...document.querySelectorAll('.cards li')].filter(l => !l.hidden)
    .map(l => decodeURIComponent(l.querySelector('img').src))"""
CHOOSE_ORDER = """(() => { const order = document.getElementById('order');
    order.value = '%s'; order.dispatchEvent(new Event('change')); })()"""
TOGGLE_SECONDS = """(() => { const start = performance.now();
    document.querySelector('input[value=input]').click();
    document.body.offsetHeight;
    return (performance.now() - start) / 1000; })()"""


def write_report(folder: Path, labels: bool = True) -> Path:
    """Dump four images, each worse than the one before, and their page."""
    sink = DumpSink(folder, SPEC, assets=labels)
    hidden = {} if labels else {"label": None, "confusion": None}
    results = [
        make_result(name, index, wrong=0.1 + 0.2 * index, **hidden)
        for index, name in enumerate(NAMES)
    ]
    for result in results:
        sink.add(result)
    sink.close(0, 1, alone)
    unreadable = [] if labels else ["broken.jpg: truncated"]
    protocol = {"arch": "ocrnet.HRNet", "dataset": "streets", "n_scales": [0.5, 1.0]}
    run = {**protocol, "torch": "2.11", "command": "python eval.py --a <b>"}
    summary = make_results(make_summary(results, unreadable=unreadable), SPEC, protocol)
    page = folder / "index.html"
    write_page(page, title="HRNet & friends", spec=SPEC, summary=summary, rows=sink.rows, run=run)
    return page


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def folder_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(tmp_path_factory.mktemp("folder report"), labels=False)


def test_the_page_needs_no_other_file_than_its_pictures(report: Path) -> None:
    text = report.read_text()
    assert not re.findall(r"(?:https?:)?//[a-z]", text)
    links = {link for link in re.findall(r'(?:src|href)="([^"#]+)"', text) if link[:5] != "data:"}
    assert links
    assert not any(link.startswith("/") for link in links)


def test_names_and_facts_are_escaped(report: Path) -> None:
    text = report.read_text()
    assert "HRNet &amp; friends" in text and "<dark>" not in text and "--a &lt;b&gt;" in text
    assert text.count("<dt>n_scales</dt>") == 1


def test_the_page_shows_the_scores_and_the_absent_class(report: Path) -> None:
    text = report.read_text()
    summary = make_summary([make_result("", i, wrong=0.1 + 0.2 * i) for i in range(4)])
    assert summary.scores is not None
    assert f"{100 * summary.scores.mean_iu:.2f} %" in text
    assert f"{100 * summary.scores.precision[1]:.2f}" in text
    assert text.count("absent</") == 2  # tram, among the bars and in the table


def test_worst_images_come_first_without_script(report: Path) -> None:
    titles = re.findall(r'class="title" title="([^"]+)"', report.read_text())
    assert titles[0] == "fog" and titles[-1] == "city/sharp"


def test_pictures_may_lie_in_another_directory(report: Path, tmp_path: Path) -> None:
    rows = [ImageRow(name="a b", index=0, size=(4, 4), files={"input": "a b_input.png"})]
    summary = make_results(make_summary([]), SPEC, {})
    arguments = {"title": "t", "spec": SPEC, "summary": summary, "rows": rows, "run": {}}
    write_page(tmp_path / "report.html", image_root=tmp_path / "best_images", **arguments)
    assert 'src="best_images/a%20b_input.png"' in (tmp_path / "report.html").read_text()


def test_sixty_five_classes_and_no_image_still_make_a_page(tmp_path: Path) -> None:
    count = 65
    spec = replace(
        SPEC,
        class_names=tuple(f"class {i}" for i in range(count)),
        palette=tuple((i, i, i) for i in range(count)),
        id_to_train_id={i: i for i in range(count)},
        train_id_to_id=tuple(range(count)),
    )
    summary = make_results(make_summary([make_result("a")]), SPEC, {})
    classes = [{**summary["classes"][0], "id": i, "name": f"class {i}"} for i in range(count)]
    confusion = np.eye(count, dtype=int).tolist()
    content = {**summary, "classes": classes, "confusion": confusion}
    page = tmp_path / "index.html"
    write_page(page, title="t", spec=spec, summary=content, rows=[], run={})
    assert "No image was dumped" in page.read_text()


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_fits_and_loads_without_a_complaint(
    chrome: Chrome, report: Path, folder_report: Path, width: int, dark: bool
) -> None:
    for page in (report, folder_report):
        chrome.open(page, width, height=3000, dark=dark)
        chrome.run(SETTLED)
        assert chrome.problems == []
        assert chrome.run(BROKEN) == 0
        assert chrome.run("document.documentElement.scrollWidth") <= width
        assert {url.partition(":")[0] for url in chrome.requests} <= {"file", "data"}
        assert chrome.run(TOO_SMALL) == 0


def shown(chrome: Chrome) -> list[str]:
    """File names of the images on the cards, in their order."""
    return [Path(url).name for url in chrome.run(ON_CARDS)]


def test_every_toggle_changes_all_pictures(chrome: Chrome, report: Path) -> None:
    chrome.open(report, 1280, height=2000)
    kinds = chrome.run("[...document.querySelectorAll('input[name=view]')].map(i => i.value)")
    assert kinds == [
        "input", "gt", "prediction", "composited", "err_mask", "prob_mask", "attn_05x", "pred_05x",
    ]  # fmt: skip
    for kind in kinds:
        chrome.run(f"document.querySelector('input[value={kind}]').click()")
        chrome.run(SETTLED)
        assert all(kind in name for name in shown(chrome)), kind
        assert chrome.run(BROKEN) == 0
    assert chrome.problems == []


def test_order_and_filter_choose_the_pictures(chrome: Chrome, report: Path) -> None:
    chrome.open(report, 1280)
    assert shown(chrome)[0] == "composited_fog.png"
    chrome.run(CHOOSE_ORDER % "best")
    assert shown(chrome)[0] == "composited_sharp.png"
    chrome.run(CHOOSE_ORDER % "index")
    assert [Path(name).stem.removeprefix("composited_") for name in shown(chrome)] == [
        Path(name).name for name in NAMES
    ]
    chrome.run(
        "document.getElementById('filter').value = 'CITY';"
        "document.getElementById('filter').dispatchEvent(new Event('input'))"
    )
    assert len(shown(chrome)) == 2
    assert chrome.run("document.getElementById('shown').textContent") == "2 images"


def test_the_viewer_works_from_the_keyboard(chrome: Chrome, report: Path) -> None:
    chrome.open(report, 1280)
    chrome.run("document.querySelector('.shot').focus(); document.activeElement.click()")
    name = "document.getElementById('viewname').textContent"
    picture = "decodeURIComponent(document.getElementById('viewimage').src)"
    assert chrome.run("document.getElementById('viewer').open")
    assert chrome.run(name).startswith("fog")
    chrome.press("ArrowRight")
    assert chrome.run(name).startswith("100% rain#1")
    chrome.press("5")
    chrome.run(SETTLED)
    assert chrome.run(picture).endswith("100% rain#1_err_mask.png")
    assert chrome.run("document.getElementById('viewimage').naturalWidth") == 16
    chrome.press("Escape")
    assert not chrome.run("document.getElementById('viewer').open")
    assert chrome.run("document.activeElement.getAttribute('aria-label')") == "Open 100% rain#1"
    assert chrome.problems == []


def test_matrix_table_and_theme_answer(chrome: Chrome, report: Path) -> None:
    chrome.open(report, 1280)
    chrome.run("document.getElementById('matrix').focus()")
    for key in ("ArrowDown", "ArrowDown", "ArrowRight"):
        chrome.press(key)
    cell = chrome.run("document.getElementById('cell').textContent")
    assert re.fullmatch(r"sky seen as car: \d+\.\d\d % of it, \d+ pixels", cell)
    chrome.run("document.querySelectorAll('#classes thead button')[2].click()")
    ious = chrome.run(
        "[...document.querySelectorAll('#classes tbody tr')].map(r => r.cells[2].textContent)"
    )
    assert ious[-1] == "absent"
    assert [float(x) for x in ious[:-1]] == sorted((float(x) for x in ious[:-1]), reverse=True)
    before = chrome.run("getComputedStyle(document.body).backgroundColor")
    for _ in range(2):
        chrome.run("document.getElementById('theme').click()")
    assert chrome.run("document.documentElement.dataset.theme") == "dark"
    assert chrome.run("getComputedStyle(document.body).backgroundColor") != before
    assert chrome.problems == []


def test_five_hundred_images_load_only_where_one_looks(chrome: Chrome, report: Path) -> None:
    rows = []
    for i in range(500):  # files of their own, for an image in the cache is there at once
        name = f"frame_{i:04}"
        files = {"input": f"{name}_input.png", "composited": f"composited_{name}.png"}
        for file, source in zip(files.values(), ("fog_input", "composited_fog"), strict=True):
            (report.parent / file).hardlink_to(report.parent / f"{source}.png")
        row = ImageRow(name=name, index=i, size=(1024, 2048), files=files, mean_iu=i / 500)
        rows.append(row)
    summary = make_results(make_summary([make_result("a")]), SPEC, {})
    page = report.parent / "many.html"
    write_page(page, title="many", spec=SPEC, summary=summary, rows=rows, run={})
    assert page.stat().st_size < 600_000
    chrome.open(page, 1280)
    chrome.run(SETTLED)
    looked_at = "[...document.querySelectorAll('.cards img')].filter(i => i.complete).length"
    assert chrome.run(looked_at) < 100
    chrome.run("document.querySelector('.cards li:last-child').scrollIntoView()")
    chrome.run(SETTLED)
    assert chrome.run("document.querySelector('.cards li:last-child img').naturalWidth") == 16
    assert chrome.run(TOGGLE_SECONDS) < 1
    assert chrome.problems == []
