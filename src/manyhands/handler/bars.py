"""Bars of tqdm in a terminal or a notebook, which other bars and lines may share with them."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from itertools import count
from typing import Any, Final, TextIO

from manyhands.outcome import Progress
from manyhands.workers.inlet import inlet

_MOST_ROWS: Final = 16
"""Bars of workers, at most: more of them fill a terminal."""

_making = threading.Lock()


def are_seen() -> bool:
    """Whether somebody sees bars as they change: on a terminal, or in a notebook."""
    return _is_terminal(sys.stderr) or _in_notebook()


def write_above(text: str, file: TextIO) -> None:
    """Writes whole lines to a file; if it is a terminal with bars, above all of these, which stay in one piece.

    Args:
        text: ends with a newline.
        file: standard output or error, say; any other file is written to as it is.
    """
    if not _is_terminal(file):
        file.write(text)
        return
    with curtain():
        file.write(text)
        file.flush()


@contextmanager
def curtain() -> Iterator[None]:
    """The bars of terminals are taken away meanwhile."""
    std = sys.modules.get("tqdm.std")
    if std is None or not getattr(std.tqdm, "_instances", None):
        yield
        return
    with bar_class().external_write_mode(file=sys.stderr):
        yield


class Bars:
    """The bar of one map and, if asked for, one for each of its workers.

    Args:
        label: stands before the bar.
        unit: what is counted.
        total: how many there are; None: nobody knows.
        given: the user's class; None: tqdm's own for where this is.
        rows: bars of workers, at most.
    """

    def __init__(
        self, label: str, unit: str, total: int | None, given: type[Any] | None = None, rows: int = 0
    ) -> None:
        # A class of the user's may be slow to draw, and says itself how often that is.
        inlet.curtain = curtain
        self._often = {} if given else {"mininterval": 0, "miniters": 1, **_size(sys.stderr)}
        self._make: Any = bar_class(given)
        self._marked = False  # whether it tells what was done here, too
        try:
            self._bar: Any = self._make(total=total, desc=" ".join(label.split()), unit=unit, **self._often)
        except BaseException:
            _release(self._make)
            raise
        self._rows = _Rows(self._row, self._bar, min(rows, _MOST_ROWS)) if rows else None
        self._unit = unit
        self._done = self._others = 0

    def show(self, progress: Progress, workers: Mapping[str, int]) -> None:
        """Draws it as it is now.

        Args:
            progress: of the map.
            workers: for each worker, in the order in which they were last heard of, how much it has done since the
                last time.
        """
        bar = self._bar
        marks = self._marks(progress)
        if marks:
            bar.set_postfix(marks, refresh=False)
        if self._often:
            # What others have done says nothing of how fast this goes.
            others, self._others = progress.elsewhere - self._others, progress.elsewhere
            for name in ("n", "initial", "last_print_n"):
                setattr(bar, name, getattr(bar, name) + others)
            self._done += others
        more, self._done = progress.done - self._done, progress.done
        drawn = bar.update(more)
        if self._often and not drawn and progress.seconds and not progress.ended:
            bar.refresh()  # the time goes on
        if self._rows is not None:
            self._rows.show(workers)

    def close(self) -> None:
        """The map has ended: its bar stays as it is; those of its workers go."""
        if self._rows is not None:
            self._rows.close()
        self._bar.close()

    def let_go(self) -> None:
        """Drawing was interrupted: lets go of the lock that tqdm keeps then."""
        _release(self._make)

    def drop(self) -> None:
        """It can't be drawn: lets go of it, and of the lock."""
        for bar in [self._bar, *(self._rows.bars if self._rows is not None else [])]:
            bar.disable = True  # or it would try once more
            getattr(type(bar), "_instances", set()).discard(bar)  # or other bars would leave room for it
        self.let_go()

    def _marks(self, progress: Progress) -> dict[str, int]:
        """What stands behind the bar."""
        self._marked |= bool(progress.elsewhere or progress.claimed)
        marks = {
            "here": progress.values * self._marked,  # else all that is done was done here
            "elsewhere": progress.elsewhere,
            "claimed": progress.claimed,
            "failed": progress.failures,
            "discarded": progress.discarded,
            "retried": progress.retries,
        }
        return {name: number for name, number in marks.items() if number}

    def _row(self, name: str) -> Any:
        return self._make(desc=f"  {name}", unit=self._unit, leave=False, **self._often)


class _Rows:
    """The bars of workers; of too many, those of which was heard last have one.

    Args:
        make: makes the bar of the worker with this name.
        main: the bar of the map.
        most: so many at a time.
    """

    def __init__(self, make: Callable[[str], Any], main: Any, most: int) -> None:
        self._make = make
        self._most = most
        self._main = main
        self._rows: dict[str, Any] = {}  # the last are those of which was heard last
        self._since = getattr(main, "start_t", None)  # when they were shown

    @property
    def bars(self) -> list[Any]:
        """All that there are."""
        return list(self._rows.values())

    def show(self, workers: Mapping[str, int]) -> None:
        """These have done so much since the last time."""
        since, self._since = self._since, getattr(self._main, "last_print_t", None)
        latest = list(workers)[-self._most :]
        for name in latest:
            if name in self._rows:
                self._rows[name] = self._rows.pop(name)
        for name in latest:
            row = self._rows.get(name)
            if row is None:
                while len(self._rows) >= self._most:
                    self._rows.pop(next(iter(self._rows))).close()
                row = self._rows[name] = self._make(name)
                if since is not None:
                    row.start_t = row.last_print_t = since  # it has worked since then
            row.update(workers[name])

    def close(self) -> None:
        """All go."""
        while self._rows:
            self._rows.popitem()[1].close()


def bar_class(given: Any = None) -> Any:
    """The class that ``_bar_class`` makes, the same for all threads: its lock is what keeps their bars apart."""
    with _making:
        return _bar_class(given)


@cache
def _bar_class(given: Any) -> Any:
    """A class of bars, the user's or tqdm's, for a process that forks and whose finalisers may run in any thread.

    The lock of tqdm itself is shared with forked processes, and its finaliser takes it: a fork that is killed
    at the wrong moment would hold it for ever, and a garbage collection in a pool's thread wait for it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tqdm has one where widgets are missing: then a text is drawn
        from tqdm.auto import tqdm as automatic  # only who wants a bar pays for it
    from tqdm.std import tqdm as plain

    base: Any = given or automatic
    if not issubclass(base, plain):
        return base

    class Bar(base):  # type: ignore[misc]
        _instances: Any  # tqdm's, of all its classes
        monitor_interval = 0  # no thread of its own
        made_in: threading.Thread | None = None  # of one that is being made, as others may see it

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.made_in = threading.current_thread()
            super().__init__(*args, **kwargs)
            with self.get_lock():
                others = [
                    bar for bar in self._instances if bar is not self and not getattr(bar, "disable", True)
                ]
            if any(getattr(bar, "made_in", self.made_in) is self.made_in for bar in others):
                self.leave = False  # a map in a loop over another one: that has the last word

        def __del__(self) -> None:
            """The map closes its bar."""

    made: Any = _lined(Bar) if base.close is plain.close and base.display is plain.display else Bar

    def renew_lock() -> None:
        made.set_lock(threading.RLock())

    renew_lock()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=renew_lock)
    return made


def _lined(base: Any) -> Any:
    """The class, whose bars are lines of text below each other, with what tqdm leaves to be desired there."""

    class Line(base):  # type: ignore[misc]
        def moveto(self, n: int) -> None:
            """Lines can be gone up in a terminal alone."""
            if _is_terminal(self.fp):
                super().moveto(n)

        def display(self, msg: str | None = None, pos: int | None = None) -> bool | None:
            """Where they can't, there is but one line."""
            if not _is_terminal(self.fp) and (self.pos if pos is None else pos):
                return False
            return super().display(msg, pos)  # type: ignore[no-any-return]

        def close(self) -> None:
            """What stays of a bar is a line above the others, which move up; nothing else stays of it."""
            if getattr(self, "disable", True):
                return
            with self.get_lock(), self.external_write_mode(file=self.fp, nolock=True):
                super().close()
                here = [bar for bar in self._instances if getattr(bar, "fp", None) == self.fp]
                fixed = {-bar.pos for bar in here if bar.pos < 0}
                places = (place for place in count() if place not in fixed)
                for bar in sorted((bar for bar in here if bar.pos >= 0), key=lambda bar: bar.pos):
                    bar.pos = next(places)

    return Line


def _release(bars: Any) -> None:
    """This thread holds their lock no more."""
    lock = getattr(bars, "_lock", None)
    while lock is not None and lock._is_owned():
        lock.release()


def _size(file: Any) -> dict[str, Any]:
    """What tells tqdm how wide a bar may be: as wide as the terminal is then, unless that does not know."""
    try:
        if not os.get_terminal_size(file.fileno()).columns:
            return {"ncols": 80, "nrows": 24}
    except (AttributeError, OSError, ValueError):  # it is none
        pass
    return {"dynamic_ncols": True}


def _is_terminal(file: Any) -> bool:
    try:
        return bool(file.isatty())
    except Exception:  # it is None, closed, or of the user's own making
        return False


def _in_notebook() -> bool:
    """Whether this is the kernel of one."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None
