# SPDX-License-Identifier: Apache-2.0
"""The predictor and the page of an export, in ONNX Runtime."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from deploy import Predictor
from runtime.errors import UserError
from tests.deploy.conftest import scene
from tests.deploy.page_server import ask, ask_port, png, serving, started
from tests.program import assert_one_line_error, environment, run

pytest.importorskip("onnxruntime", reason='pip install ".[export]"')
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def export(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of an export of 64x96 images, of ids or of scores."""
    root, made = tmp_path_factory.mktemp("exports"), {}

    def of(output: str) -> Path:
        if output not in made:
            made[output] = root / output
            done = run(
                "-m", "deploy.export", "--snapshot", str(checkpoint), "--out", str(root / output),
                "--size", "64,96", "--output", output,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
        return made[output]

    return of


def test_scores_of_an_export_are_those_of_its_checkpoint(
    export: Callable[[str], Path], checkpoint: Path
) -> None:
    predictor, wanted = Predictor(export("scores")), Predictor(checkpoint).predict(scene())
    found = predictor.predict(scene())
    assert predictor.classes == wanted.known and predictor.arch == "ocrnet.HRNet_Mscale"
    assert (found.ids != wanted.ids).mean() < 1e-3
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-3)
    np.testing.assert_allclose(found.confidence, wanted.confidence, atol=1e-3)
    again = predictor.predict_batch([scene(), scene(seed=1)])
    np.testing.assert_array_equal(again[0].ids, found.ids)


def test_an_export_of_ids_says_what_it_does_not_have(export: Callable[[str], Path]) -> None:
    found = Predictor(export("ids")).predict(scene())
    np.testing.assert_array_equal(found.ids, Predictor(export("scores")).predict(scene()).ids)
    for part in ("scores", "confidence", "probabilities"):
        with pytest.raises(UserError, match="gives ids alone; export with --output scores"):
            getattr(found, part)


def test_an_export_is_used_without_torch(export: Callable[[str], Path], tmp_path: Path) -> None:
    program = (
        "import sys, numpy; from deploy import Predictor\n"
        f"found = Predictor({str(export('ids'))!r}).predict(numpy.zeros((64, 96, 3), 'uint8'))\n"
        "print(found.size, found.show().size[0], 'torch' in sys.modules)"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment(PYTHONPATH=root),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["(64,", "96)", "360", "False"], done.stderr


def test_options_and_sizes_that_an_export_does_not_take_are_one_line(
    export: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = export("ids")
    with pytest.raises(UserError, match=r"n_scales= has no effect on .*export again"):
        Predictor(folder, n_scales=(0.5, 1.0))
    with pytest.raises(UserError, match="device=cpu has no effect"):
        Predictor(folder, device="cpu")
    with pytest.raises(UserError, match="image 1: an image of 50x40 pixels: .*96x64"):
        Predictor(folder).predict(scene(40, 50))
    other = tmp_path / "later"
    other.mkdir()
    spec = json.loads((folder / "model.json").read_text())
    (other / "model.json").write_text(json.dumps({**spec, "version": 99}))
    with pytest.raises(UserError, match="99") as told:
        Predictor(other)
    assert "\n" not in str(told.value)


def test_the_page_of_an_export_leaves_out_what_it_does_not_know(
    export: Callable[[str], Path],
) -> None:
    predictor = Predictor(export("ids"))
    with serving(predictor) as server:
        facts, parts = ask(server, "/predict", png(scene())).parts()
        np.testing.assert_array_equal(parts["ids"], predictor.predict(scene()).ids)
        assert facts["parts"]["confidence"] == 0
        refused = ask(server, "/predict", png(scene(40, 50)))
        assert refused.status == 400 and "96x64" in refused.error


def test_the_program_serves_an_export_and_refuses_options_for_it(
    export: Callable[[str], Path],
) -> None:
    process, port = started("--model", str(export("ids")))
    try:
        assert ask_port(port).body.count(b"ocrnet.HRNet_Mscale") == 2  # title and heading
        assert ask_port(port, "/predict", png(scene())).status == 200
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    done = run("-m", "deploy.serve", "--model", str(export("ids")), "--do_flip")
    assert_one_line_error(done, "--do_flip has no effect on --model")
