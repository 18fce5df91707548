# SPDX-License-Identifier: Apache-2.0
"""Write this machine's own settings: `.runx` (where runs go) and `paths.yml` (where data is).

    python -m scripts.setup_local                      # logs in ./logs, data in ./data
    python -m scripts.setup_local --logroot /big/runs --cityscapes /data/cityscapes
    python -m scripts.setup_local --force ...          # replace files that differ

Both files are ignored by git. A file that exists is kept as it is, unless its settings are
missing or `--force` is given; the earlier file then stays next to the new one as `NAME.bak`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent

# runx copies the current folder into every run directory. Base-name globs, no blanks. Without
# this list runx leaves out every name that starts with `test` or `docs`, and copies the rest.
IGNORE = (
    ".git",
    ".venv",
    "venv",
    "logs",
    "data",
    "assets",
    "build",
    "dist",
    "tests",
    "docs",
    "benchmarks",
    "*.egg-info",
    "__pycache__",
    "*.pyc",
    ".*_cache",
    ".cache",
    ".runx",
    "*.safetensors",
    "*.zip",
)

RUNX_HEADER = """\
# Settings of the experiment launcher, written by scripts/setup_local.py.
# LOGROOT must be absolute: runx changes the directory before it starts a run.
# CODE_IGNORE_PATTERNS: base names that stay out of a run's copy of the code.
"""

PATHS_HEADER = """\
# Directories of this machine (keys of config.py), written by scripts/setup_local.py.
# Relative ones would count from the folder of this file, which runx copies: keep them absolute.
"""


def runx_settings(logroot: Path) -> dict[str, object]:
    """The content of `.runx`: an absolute LOGROOT and what stays out of the code copy."""
    patterns = list(IGNORE)
    inside = logroot.is_relative_to(ROOT) and logroot != ROOT
    if inside and logroot.relative_to(ROOT).parts[0] not in patterns:
        patterns.append(logroot.relative_to(ROOT).parts[0])
    return {"LOGROOT": str(logroot), "CODE_IGNORE_PATTERNS": ",".join(patterns)}


def path_settings(assets: Path, cityscapes: Path | None, camvid: Path | None) -> dict[str, object]:
    """The content of `paths.yml`: only directories that were named, and the demo's."""
    data: dict[str, object] = {"SYNTHETIC_DIR": str(ROOT / "data" / "synthetic")}
    if cityscapes:
        data["CITYSCAPES_DIR"] = str(cityscapes.resolve())
    if camvid:
        data["CAMVID_DIR"] = str(camvid.resolve())
    return {"ASSETS_PATH": str(assets.resolve()), "DATASET": data}


def place(path: Path, header: str, settings: dict[str, object], force: bool) -> str:
    """Write `settings` to `path` unless the user has another file there; one line of report."""
    text = header + yaml.safe_dump(settings, sort_keys=False, width=1000)
    if not path.exists():
        path.write_text(text, encoding="utf-8")
        return f"{path}: written"
    if path.read_text(encoding="utf-8") == text:
        return f"{path}: up to date"
    if not force:
        return f"{path}: kept as it is (--force replaces it)"
    backup = path.with_name(path.name + ".bak")
    path.replace(backup)
    path.write_text(text, encoding="utf-8")
    return f"{path}: replaced, the earlier file is {backup.name}"


def main() -> int:
    """Write both files and say what was done; exit code 2 when a kept `.runx` cannot work."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--logroot", type=Path, default=ROOT / "logs", help="where runs go")
    parser.add_argument("--assets", type=Path, default=ROOT / "assets", help="ASSETS_PATH")
    parser.add_argument("--cityscapes", type=Path, help="root of the Cityscapes data set")
    parser.add_argument("--camvid", type=Path, help="root of the CamVid data set")
    parser.add_argument("--force", action="store_true", help="replace files that differ")
    args = parser.parse_args()
    runx_file = ROOT / ".runx"
    print(place(runx_file, RUNX_HEADER, runx_settings(args.logroot.resolve()), args.force))
    print(
        place(
            ROOT / "paths.yml",
            PATHS_HEADER,
            path_settings(args.assets, args.cityscapes, args.camvid),
            args.force,
        )
    )
    kept = yaml.safe_load(runx_file.read_text(encoding="utf-8")) or {}
    if not Path(str(kept.get("LOGROOT", ""))).is_absolute():
        print(f"error: {runx_file}: LOGROOT must be an absolute path, else no run starts")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
