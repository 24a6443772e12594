"""One call in a process of its own, whose result is what joining it returns."""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import CancelledError, Future
from concurrent.futures import wait as wait_for_futures
from typing import Any, Self

from manyhands import Controller, parallel
from manyhands.calls import short_repr
from manyhands.compat.carried import Bound, Inherited, forks_always
from manyhands.compat.checks import OnException, a_function, on_exception
from manyhands.policies.parameters import name_of
from manyhands.policies.star import StarRule
from manyhands.settings import StartMethod
from manyhands.shutdown import at_end
from manyhands.waiting import wait

_numbers = itertools.count(1)


class ReturnProcess:
    """One call in a process of its own, whose result is what ``join()`` returns.

    The process ends when the call has, joined or not. A program that ends before waits for it, unless it is
    a ``daemon``: then it is ended with the program.

    Args:
        target: the function.
        exception: "raise" what it raises in ``join()``, "return" it there; "proc" is the same as "raise".
        args, kwargs: its arguments.
        name: of this object, for people.
        daemon: whether it is ended with the program.
        group: must be None.

    Raises:
        TypeError, ValueError: an argument is of a wrong type or out of range.
    """

    def __init__(
        self,
        target: Callable[..., Any] | None = None,
        exception: OnException = "raise",
        *,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        daemon: bool | None = None,
        group: None = None,
    ) -> None:
        function = a_function("target", target)
        if group is not None:
            raise ValueError(f"group must be None, not {short_repr(group)}")
        rule = StarRule(True, args=args, kwargs=kwargs)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        self.exception = on_exception(exception)
        self.name = f"ReturnProcess-{next(_numbers)}" if name is None else str(name)
        self.daemon = bool(daemon)
        self._call: Bound | Inherited = Bound(function, rule.args, rule.kwargs)
        self._future: Future[Any] | None = None
        self._pool: Controller | None = None
        self._ended = threading.Event()
        self._owner = os.getpid()

    def start(self) -> Self:
        """Starts the call and returns this object; RuntimeError if it was started before."""
        if self._future is not None:
            raise RuntimeError(f"{self!r} can be started only once")
        try:
            if not forks_always():
                self._submit(self._call)
        except TypeError:  # it can't be pickled; or it is something that comes again below
            pass
        if self._future is None:
            self._submit(Inherited(self._call), "fork")
        if self.daemon:
            _daemons.add(self)
        threading.Thread(target=self._close_after, name=self.name, daemon=self.daemon).start()
        return self

    def join(self, timeout: float | None = None) -> Any:
        """Waits for the end of the process and returns what the call did; again and again, if asked to.

        Raises:
            TimeoutError: it has not ended after ``timeout`` seconds. It goes on, and may be joined again.
            WorkerDied: the process was killed, or ended without a result.
            CancelledError: it was ended before the call had begun.
            RuntimeError: it was never started, or belongs to a process that forked this one.
        """
        if self._future is None:
            raise RuntimeError(f"{self!r} can't be joined before it is started")
        if self._owner != os.getpid():
            raise RuntimeError(f"{self!r} can be joined only in the process that made it")
        try:
            ended = wait(self._ended, timeout)
        except BaseException:  # an interrupted user wants the cores back
            self.terminate()
            raise
        if not ended:
            raise TimeoutError(f"{self!r} has not ended after {timeout} seconds")
        error = CancelledError() if self._future.cancelled() else self._future.exception()
        if error is None:
            return self._future.result()
        if self.exception == "return":
            return error
        raise error

    def is_alive(self) -> bool:
        """Whether the process runs, or is about to."""
        return self._future is not None and not self._ended.is_set()

    def terminate(self) -> None:
        """Ends the process within half a second; ``join()`` then raises WorkerDied, or CancelledError."""
        if self._pool is not None and self._owner == os.getpid():
            self._pool.close(kill=True)

    kill = terminate

    def __repr__(self) -> str:
        state = "not started" if self._future is None else "running" if self.is_alive() else "ended"
        return f"<ReturnProcess {self.name} of {name_of(self._call)}: {state}>"

    def _submit(self, call: Bound | Inherited, start_method: StartMethod | None = None) -> None:
        pool = Controller(workers=1, start_method=start_method)
        try:
            self._future = parallel(call).options(backend=pool).submit()
        except BaseException:
            pool.close(kill=True)
            raise
        self._pool, self._call = pool, call  # which is held here, so that a worker finds it when it is forked

    def _close_after(self) -> None:
        assert self._future is not None
        assert self._pool is not None
        try:
            wait_for_futures([self._future])
            self._pool.close()
        finally:
            self._ended.set()
            _daemons.discard(self)


_daemons: weakref.WeakSet[ReturnProcess] = weakref.WeakSet()


def _end_daemons() -> None:
    for process in list(_daemons):
        process.terminate()


at_end(_end_daemons)  # before pools wait for what was submitted to them, since they registered before
