"""What is open when the program ends: it is waited for at a regular end, and ended at once by a signal.

A signal may interrupt the main thread while that holds a lock of the library, so a handler must not end pools
in its own thread: it has a helper do it, and waits for that for a limited time only. If the helper could not
get on, it does once the handler has returned or raised; if the program dies, its workers die with it anyway.
The helper is there before any signal comes, because no thread can be started at the end of a program.
"""

from __future__ import annotations

import faulthandler
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterable
from types import FrameType
from typing import Any, Final, Protocol

from manyhands.controller import caretaker as _  # noqa: F401  # it registers its own end as it is imported
from manyhands.shutdown import at_end

SIGNALS: Final = (signal.SIGTERM, signal.SIGABRT)

SIGNAL_SECONDS: Final = 2.0
"""How long a handler waits for the end of what is open; busy workers are killed after a fraction of that."""


class Open(Protocol):
    """What can be open."""

    def quit(self) -> None:
        """Waits for what is pending and ends."""

    def end_now(self) -> None:
        """Ends without waiting for what is pending."""


_Helper = queue.SimpleQueue[tuple[list[Open], queue.SimpleQueue[None]] | None]

_open: dict[int, Open] = {}  # by id, in the order of opening
_hooks: dict[signal.Signals, _Hook] = {}
_helper: _Helper | None = None


def keep(something: Open) -> None:
    """Looks after it until ``release``. To be called again after a pool was made.

    Handlers for signals can be installed in the main thread only; called in another one, this leaves them.
    """
    _open[id(something)] = something
    if _in_main_thread():
        _help()
        for signum in SIGNALS:
            if _replaceable(signum) and signal.getsignal(signum) is not _hooks.get(signum):
                _hooks[signum] = _Hook(signum)


def _replaceable(signum: signal.Signals) -> bool:
    """Whether the present handler can be put back later: Python does not know those that others installed."""
    current = signal.getsignal(signum)
    if signum is signal.SIGABRT and current is signal.SIG_DFL and faulthandler.is_enabled():
        return False  # it would lose its report; the program dies of the signal, and its workers with it
    return current is not None


def release(something: Open) -> None:
    """It has ended. With the last one, handlers go back to what they were, if this is the main thread."""
    _open.pop(id(something), None)
    _restore()


def end_aside(things: Iterable[Open]) -> None:
    """Ends them without taking a lock in this thread, so that signal handlers may; waits, but not for long."""
    ended: queue.SimpleQueue[None] = queue.SimpleQueue()
    _help().put((list(things), ended))
    try:
        ended.get(timeout=SIGNAL_SECONDS)
    except queue.Empty:
        pass


def _help() -> _Helper:
    global _helper
    if _helper is None:
        _helper = queue.SimpleQueue()
        threading.Thread(target=_serve, args=(_helper,), name="manyhands-endings", daemon=True).start()
    return _helper


def _serve(helper: _Helper) -> None:
    while (request := helper.get()) is not None:
        things, ended = request
        try:
            for something in things:
                something.end_now()
        finally:
            ended.put(None)


class _Hook:
    """A handler that ends what is open and passes the signal on to the one that was there before.

    Each has its own predecessor: who has put a handler over this one and calls it gets to that, even when
    another hook was put over theirs since.
    """

    def __init__(self, signum: signal.Signals) -> None:
        self._previous: Any = signal.getsignal(signum)
        signal.signal(signum, self)

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if _open:
            end_aside(_open.values())
        _restore()
        if callable(self._previous):
            self._previous(signum, frame)
        elif self._previous == signal.SIG_DFL:
            signal.signal(signum, signal.SIG_DFL)
            signal.raise_signal(signum)

    def remove(self, signum: signal.Signals) -> None:
        """Puts the predecessor back, unless somebody has installed another handler since."""
        current: object = signal.getsignal(signum)
        if current is self:
            signal.signal(signum, self._previous)


def _restore() -> None:
    global _helper
    if not _open and _in_main_thread():
        for signum in list(_hooks):
            _hooks.pop(signum).remove(signum)
        if _helper is not None:
            _helper.put(None)
            _helper = None


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _end_of_program() -> None:
    # Who has interrupted the program does not want to wait. At a prompt that was long ago, perhaps.
    interrupted = isinstance(getattr(sys, "last_value", None), KeyboardInterrupt) and not hasattr(sys, "ps1")
    for something in list(_open.values()):
        if interrupted:
            something.end_now()
        else:
            something.quit()


at_end(_end_of_program)  # before pools wait for what was submitted to them, since they registered before


def _forget() -> None:
    global _helper
    _helper = None
    _open.clear()


if hasattr(os, "register_at_fork"):
    # What is open is the parent's, and so is the thread. Handlers stay, and pass on what comes.
    os.register_at_fork(after_in_child=_forget)
