"""The outputs of a list of items: what they are called, and which are there, at little cost for each."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Final

from manyhands.calls import Call, Failed
from manyhands.claims import is_plain, others_at_work
from manyhands.decorators.decorated import Decorated
from manyhands.decorators.gate import ClaimGate
from manyhands.handler.pump import Prepare
from manyhands.handler.walk import Walk
from manyhands.handler.walking import Found
from manyhands.policies.star import StarRule
from manyhands.policies.template import folded

_ENTRIES_MIN: Final = 1000
_ENTRIES_PER_ITEM: Final = 20
"""A directory with more entries for each item is not listed: to ask for each item is faster."""

_ITEM: Final = object()


class ListedOutputs:
    """The outputs of a sequence of items, for one map.

    Args:
        function: that makes them.
        items: the sequence.
        rule: how items become calls.
        prepare: makes calls of them.
        gate: of the map; knows the directory.
    """

    def __init__(
        self,
        function: Decorated[..., Any],
        items: Sequence[Any],
        rule: StarRule,
        prepare: Prepare,
        gate: ClaimGate,
    ) -> None:
        self._items = items
        self._prepare = prepare
        self._gate = gate
        self._quick = _quick_name(function, rule, gate)
        self._paths: list[str] = []  # until they have been looked for
        gate.are_distinct = self._quick is not None and self._all_distinct(self._quick)

    @property
    def has_met_others(self) -> bool:
        """Whether somebody else has been seen at work on them."""
        return self._gate.has_met_others

    @property
    def are_distinct(self) -> bool:
        """Whether it is known that all items can be named, and no two have the same output."""
        return self._gate.are_distinct

    def walk(self, ordered: bool, room: int) -> Walk:
        """One over these items, which keeps so many outcomes."""
        walk = Walk(len(self._items), ordered=ordered, loads=self._gate.loads, room=room)
        self._gate.brings_value = walk.brings_value
        return walk

    def survey(self, items: Sequence[int] | None) -> Found:
        """Which of these outputs are there, of all if it is None; it may miss some."""
        name = self._quick
        if name is None or not self.are_distinct or not len(self._items) or not self._gate.has_agreed():
            return Found()
        every = range(len(self._items)) if items is None else items
        paths = self._paths if items is None and self._paths else [name(self._items[index]) for index in every]
        self._paths = []
        listings, finished = _Listings(max(_ENTRIES_MIN, _ENTRIES_PER_ITEM * len(every))), []
        last, present = None, set[str]()
        for index, path in zip(every, paths, strict=True):
            directory, _, entry = path.rpartition("/")
            if directory != last:
                last, present = directory, listings.of(directory)
            if entry in present:
                finished.append(index)
        if items is not None:
            return Found(finished, listings.entries)
        others = False
        for directory, names in listings.claims().items():
            self._gate.was_listed(directory, names)
            others = others or others_at_work(directory, names)
        return Found(finished, listings.entries, others)

    def is_finished(self, index: int) -> bool:
        """Whether that output is there; if in doubt, it is not."""
        if not self.are_distinct or self._quick is None or not self._gate.has_agreed():
            return False
        path = self._quick(self._items[index])
        try:
            os.lstat(path)
        except FileNotFoundError:
            self._gate.missed = index, path
            return False
        except OSError:
            return False
        return True

    def value(self, index: int) -> Any:
        """What stands for a finished output that needs no loading."""
        if self._quick is not None:
            return self._gate.answer((self._quick(self._items[index]),))
        call = self._prepare(index, self._items[index])
        if isinstance(call, Failed):
            raise call.error
        return self._gate.answer(self._gate.log(index, call).finals)

    def _all_distinct(self, name: Callable[[Any], str]) -> bool:
        try:
            paths = [name(item) for item in self._items]
        except Exception:  # it will be told of the item when its turn has come
            return False
        # Of texts that are equal the hashes are too; the other way round, a closer look is taken for nothing.
        if len(set(map(hash, map(folded, paths)))) < len(paths) or not all(map(is_plain, paths)):
            return False
        self._paths = paths
        return True


def _quick_name(function: Decorated[..., Any], rule: StarRule, gate: ClaimGate) -> Callable[[Any], str] | None:
    """The path of an item's output, if that takes no more than to fill in the item."""
    validation = function.task.validation
    converts = validation is not None and validation.checks_arguments("parent")
    if converts or rule.star is not False or rule.kwstar or not gate.has_one_file:
        return None
    try:
        arguments = function.bind_arguments(Call((_ITEM, *rule.args), dict(rule.kwargs)))
    except TypeError:
        return None
    parameters = [name for name, value in arguments.items() if value is _ITEM]
    if len(parameters) != 1:
        return None
    return gate.template.filler(parameters[0], arguments, str(gate.directory))


class _Listings:
    """What is in some directories, each listed once; nothing in those that are too large, or can't be listed."""

    def __init__(self, most: int) -> None:
        self.entries = 0
        self._left = most
        self._names: dict[str, set[str]] = {}
        self._failed: set[str] = set()

    def of(self, directory: str) -> set[str]:
        """The names in there."""
        if directory not in self._names:
            self._names[directory] = self._listed(directory)
        return self._names[directory]

    def claims(self) -> dict[str, list[str]]:
        """What may be files of claims in those that were listed whole."""
        return {
            directory: [name for name in names if not is_plain(name)]
            for directory, names in self._names.items()
            if directory not in self._failed
        }

    def _listed(self, directory: str) -> set[str]:
        names: set[str] = set()
        try:
            with os.scandir(directory) as entries:
                names = {entry.name for entry in islice(entries, self._left + 1)}
        except FileNotFoundError:
            pass
        except OSError:
            self._failed.add(directory)
        self.entries += len(names)
        self._left -= len(names)
        if self._left < 0:
            self._failed.add(directory)
            return set()
        return names
