# SPDX-License-Identifier: Apache-2.0
"""Values of the configuration keys: `paths.yml`, the environment, flags and `--set`, in this order.

DATASET: {CITYSCAPES_DIR: /data/cityscapes}              # paths.yml in the project root
HISEG_CITYSCAPES_DIR=/data/cityscapes python train.py    # the last part of the key
python train.py --set DATASET.CV_SPLITS=3 --set MODEL.HRNET_WIDTH=18
"""

from __future__ import annotations

import os
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path

from runtime.errors import UserError, near
from runtime.limits import brief, name_problem
from settings import tree
from settings.catalogue import Setting, catalogue, keys, known_keys
from settings.tree import ASSETS

PATHS_FILE = "paths.yml"
ENV_PREFIX = "HISEG_"


def find_key(key: str, source: str) -> str:
    """A key in the spelling of the tree, found in any case and without its section."""
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


def value_problem(setting: Setting, value: object) -> str | None:
    """What is wrong with a value of the right type; None: nothing."""
    declared = setting.declared
    parts = value if isinstance(value, tuple) else (value,)
    if declared.bounds is not None:
        low, high, above = declared.bounds
        for part in parts:
            if not isinstance(part, int | float):
                continue
            if not (low < part <= high if above else low <= part <= high):
                return f"{brief(part)} is outside {low:g}..{high:g}"
    if declared.choices and value is not None and value not in declared.choices:
        return f"{brief(value)}: there are {', '.join(declared.choices)}"
    if declared.some_above_zero and value is not None and not any(parts):
        return "all are 0; at least one above 0 wanted"
    if declared.check is not None and (problem := declared.check(value)):
        return f"{brief(value)}: {problem}"
    if declared.path and isinstance(value, str):
        problem = name_problem(value)
        return problem and f"{brief(value)}: {problem}"
    return None


def checked(key: str, value: object, source: str) -> object:
    """`value` of a known key as its type; a UserError names `source`, key and value."""
    where = f"{source}: {key}"
    if key == ASSETS:
        converted, problem = _convert(value, str, where), name_problem(str(value or ""))
    else:
        converted = _convert(value, keys()[key].kind, where)
        problem = value_problem(keys()[key], converted)
    if problem:
        raise UserError(f"{where}: {problem}")
    return converted


def read_yaml(path: Path) -> Mapping[str, object]:
    """A YAML mapping from `path`; UserError for bad syntax or another top-level type."""
    import yaml  # takes a tenth of what `--help` may take

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


def _flatten(content: Mapping[str, object]) -> Iterable[tuple[str, object]]:
    """Keys and values of a tree of two levels; what lies deeper is the value of no key."""
    for key, value in content.items():
        if isinstance(value, dict):
            yield from ((f"{key}.{leaf}", inner) for leaf, inner in value.items())
        else:
            yield str(key), value


def _absolute(key: str, value: object, base: Path) -> object:
    """Folders count from the file that names them (`base`), not from wherever Python runs."""
    is_folder = key == ASSETS or keys()[key].declared.folder
    if not (is_folder and isinstance(value, str) and value):
        return value
    value = os.path.expanduser(value)
    return value if os.path.isabs(value) else str((base / value).resolve())


def _from_file() -> dict[str, object]:
    path = tree.PROJECT_ROOT / PATHS_FILE
    if not path.exists():
        return {}
    found = {}
    for name, value in _flatten(read_yaml(path)):
        key = find_key(name, str(path))
        found[key] = _absolute(key, checked(key, value, str(path)), tree.PROJECT_ROOT)
    return found


def _from_environment() -> dict[str, object]:
    leaves = {key.split(".")[-1].upper(): key for key in known_keys()}
    found = {}
    for name, value in sorted(os.environ.items()):
        if not name.startswith(ENV_PREFIX):
            continue
        leaf = name[len(ENV_PREFIX) :]
        if leaf not in leaves:
            known = [ENV_PREFIX + candidate for candidate in leaves]
            raise UserError(f"environment: unknown variable {name}{near(name, known)}")
        found[leaves[leaf]] = checked(leaves[leaf], value, f"environment {name}")
    return found


def _from_entries(entries: Iterable[str]) -> dict[str, object]:
    """Of `--set KEY=VALUE`."""
    found = {}
    for entry in entries:
        name, separator, value = entry.partition("=")
        if not separator or not name.strip():
            raise UserError(f"--set {entry}: KEY=VALUE wanted")
        key = find_key(name.strip(), "--set")
        found[key] = checked(key, value.strip(), "--set")
    return found


def key_values(flags: Mapping[str, object], entries: Iterable[str]) -> dict[str, object]:
    """Key -> value of all that any source says; later ones win.

    `flags`: values of typed flags by name, of which those with a key count; `entries` are those of
    `--set`. UserError for unknown keys, wrong types and values out of range, with their source.
    """
    found = {**_from_file(), **_from_environment()}
    for name, value in flags.items():
        if key := catalogue()[name].key:
            found[key] = checked(key, value, f"--{name}")
    found |= _from_entries(entries)
    return {key: _absolute(key, value, Path.cwd()) for key, value in found.items()}
