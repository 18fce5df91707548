# SPDX-License-Identifier: Apache-2.0
"""Every declared setting, collected from the groups of `Settings`."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from settings.declare import METADATA, Declaration, Group, Resume, Task
from settings.tree import ASSETS, Settings

SECTIONS = ("DATASET", "MODEL", "LOSS")  # groups whose fields are keys of `cfg` and `--set`


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One field of a group, with all that is known of it.

    group, field: where its value stands in `Settings`. kind: its annotated type. name: what users
    and files call it, the first flag without dashes, else the key. key: SECTION.name, empty for a
    setting that has only a flag. title: its group in `--help`.
    """

    group: str
    field: str
    kind: Any
    default: object
    name: str
    key: str
    title: str
    declared: Declaration
    task: Task
    resume: Resume
    decides: bool

    def of(self, settings: Settings) -> object:
        """Its value."""
        return getattr(getattr(settings, self.group), self.field)

    @property
    def shown(self) -> str:
        """As messages call it: the flag, else the key."""
        return f"--{self.name}" if self.declared.flags else self.key

    @property
    def is_optional(self) -> bool:
        """Whether it may be None."""
        return isinstance(self.kind, types.UnionType)

    @property
    def base(self) -> Any:
        """Its type without None."""
        return typing.get_args(self.kind)[0] if self.is_optional else self.kind

    @property
    def parts(self) -> tuple[type, int | None]:
        """Of a tuple: type of an entry, how many there are (None: any number)."""
        kinds = typing.get_args(self.base)
        return kinds[0], None if kinds[-1] is Ellipsis else len(kinds)


def _home(cls: type, field: str) -> Group:
    """The group of the class that declares `field`."""
    owner = next(base for base in cls.__mro__ if field in vars(base).get("__annotations__", {}))
    found: Group = vars(owner)["GROUP"]
    return found


def _settings_of(group: str, cls: type) -> Iterator[Setting]:
    kinds = typing.get_type_hints(cls)
    for item in dataclasses.fields(cls):
        declared: Declaration = item.metadata[METADATA]
        home = _home(cls, item.name)
        key = f"{group}.{item.name}" if group in SECTIONS else ""
        name = declared.flags[0].lstrip("-").replace("-", "_") if declared.flags else key
        yield Setting(
            group=group,
            field=item.name,
            kind=kinds[item.name],
            default=item.default,
            name=name,
            key=key,
            title=home.title,
            declared=declared,
            task=home.task if declared.task is None else declared.task,
            resume=home.resume if declared.resume is None else declared.resume,
            decides=home.decides if declared.decides is None else declared.decides,
        )


def groups() -> dict[str, type]:
    """Name in `Settings` -> its dataclass."""
    return {
        item.name: type(item.default)
        for item in dataclasses.fields(Settings)
        if dataclasses.is_dataclass(item.default)
    }


@functools.cache
def catalogue() -> Mapping[str, Setting]:
    """Name -> setting, in the order of the groups."""
    every = [each for group, cls in groups().items() for each in _settings_of(group, cls)]
    found = {each.name: each for each in every}
    assert len(found) == len(every), "two settings of one name"
    return types.MappingProxyType(found)


@functools.cache
def keys() -> Mapping[str, Setting]:
    """SECTION.name -> setting, for those that have a key."""
    return types.MappingProxyType({each.key: each for each in catalogue().values() if each.key})


def known_keys() -> list[str]:
    """Every key that `--set` takes, in the spelling of the tree."""
    return [ASSETS, *keys()]


def with_values(settings: Settings, values: Mapping[str, object]) -> Settings:
    """`settings` with other values, by the names of the catalogue."""
    changes: dict[str, dict[str, object]] = {}
    for name, value in values.items():
        found = catalogue()[name]
        changes.setdefault(found.group, {})[found.field] = value
    parts: dict[str, Any] = {
        group: dataclasses.replace(getattr(settings, group), **fields)
        for group, fields in changes.items()
    }
    return dataclasses.replace(settings, **parts)


def flag_values(settings: Settings) -> dict[str, object]:
    """Name -> value of every flag, as `run.json` keeps them."""
    return {name: each.of(settings) for name, each in catalogue().items() if each.declared.flags}


def tree_of(settings: Settings) -> dict[str, object]:
    """The published sections as plain dictionaries, as written to `run.json`."""
    sections = {name: dataclasses.asdict(getattr(settings, name)) for name in SECTIONS}
    return {ASSETS: settings.ASSETS_PATH, **sections}
