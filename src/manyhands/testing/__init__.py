"""Tools for tests: of functions with these decorators, and of manyhands itself. ``docs/testing.md`` shows them.

    History, RecordedClaims     what processes say that they did
    check, Verdict              whether that keeps the promises of claimed outputs
    inline                      maps run here, in order, without waiting
    race                        real processes that start at the same instant
    crash_at, pause_at, …       what happens at a point of the claim protocol, in one process
    Nemesis                     kills and stops processes, fills disks; undoes it
    storm                       a claimed function in processes that a nemesis disturbs, and what is wrong
    PlannedTask                 a function that fails as planned, attempt by attempt

``strategies`` draws items, plans and schedules by Hypothesis, if that is installed. The fixtures for pytest are found
by it without being imported. ``model`` is a filesystem in memory, ``explorer`` runs the claim
protocol on it in every order.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from manyhands.testing.checker import Problem as Problem
    from manyhands.testing.checker import Verdict as Verdict
    from manyhands.testing.checker import check as check
    from manyhands.testing.events import Event as Event
    from manyhands.testing.history import History as History
    from manyhands.testing.history import digest as digest
    from manyhands.testing.history import listing as listing
    from manyhands.testing.history import read_histories as read_histories
    from manyhands.testing.inlining import VirtualTime as VirtualTime
    from manyhands.testing.inlining import inline as inline
    from manyhands.testing.nemesis import Deed as Deed
    from manyhands.testing.nemesis import Move as Move
    from manyhands.testing.nemesis import Nemesis as Nemesis
    from manyhands.testing.planned import PlannedTask as PlannedTask
    from manyhands.testing.points import POINTS as POINTS
    from manyhands.testing.points import AtPoint as AtPoint
    from manyhands.testing.points import call_at as call_at
    from manyhands.testing.points import crash_at as crash_at
    from manyhands.testing.points import fail_at as fail_at
    from manyhands.testing.points import pause_at as pause_at
    from manyhands.testing.points import point_of as point_of
    from manyhands.testing.races import Lap as Lap
    from manyhands.testing.races import RacerDied as RacerDied
    from manyhands.testing.races import RacerHung as RacerHung
    from manyhands.testing.races import race as race
    from manyhands.testing.recorded import RecordedClaims as RecordedClaims
    from manyhands.testing.storms import SerialRunFailed as SerialRunFailed
    from manyhands.testing.storms import StormReport as StormReport
    from manyhands.testing.storms import storm as storm

_HOMES: Final = {
    "AtPoint": "points",
    "Deed": "nemesis",
    "Event": "events",
    "History": "history",
    "Lap": "races",
    "Move": "nemesis",
    "Nemesis": "nemesis",
    "POINTS": "points",
    "PlannedTask": "planned",
    "Problem": "checker",
    "RacerDied": "races",
    "RacerHung": "races",
    "RecordedClaims": "recorded",
    "SerialRunFailed": "storms",
    "StormReport": "storms",
    "Verdict": "checker",
    "VirtualTime": "inlining",
    "call_at": "points",
    "check": "checker",
    "crash_at": "points",
    "digest": "history",
    "fail_at": "points",
    "inline": "inlining",
    "listing": "history",
    "pause_at": "points",
    "point_of": "points",
    "race": "races",
    "read_histories": "history",
    "storm": "storms",
}
"""Where each public name is: its module is loaded when it is asked for. No module is called as a public name is."""

__all__ = [
    "POINTS",
    "AtPoint",
    "Deed",
    "Event",
    "History",
    "Lap",
    "Move",
    "Nemesis",
    "PlannedTask",
    "Problem",
    "RacerDied",
    "RacerHung",
    "RecordedClaims",
    "SerialRunFailed",
    "StormReport",
    "Verdict",
    "VirtualTime",
    "call_at",
    "check",
    "crash_at",
    "digest",
    "fail_at",
    "inline",
    "listing",
    "pause_at",
    "point_of",
    "race",
    "read_histories",
    "storm",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
