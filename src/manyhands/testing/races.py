"""Races: the same function in several real processes, which are let go at the same instant."""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder
from typing import IO, Any, Final, Generic, TypeVar

from manyhands.spelling import suggesting
from manyhands.testing.racer import ERROR, NUMBERS, READY, SIZE

T = TypeVar("T")

DEADLINE: Final = 60.0
"""Seconds that a round may take, and how long racers may need to get ready."""

_LOOK_SECONDS: Final = 0.2
"""How often it is looked whether who does not answer has died, where its end of the socket has gone on to others."""


class RacerDied(Exception):
    """A racer's process ended in the midst of a round; ``exitcode`` is its status, or minus the signal."""

    def __init__(self, racer: int, pid: int, exitcode: int) -> None:
        super().__init__(racer, pid, exitcode)
        self.racer, self.pid, self.exitcode = racer, pid, exitcode

    def __str__(self) -> str:
        how = f"with status {self.exitcode}" if self.exitcode >= 0 else f"by {_signal_name(-self.exitcode)}"
        return f"racer {self.racer} (process {self.pid}) ended {how}"


class RacerHung(Exception):
    """A racer had not answered at the deadline, ``seconds`` after the start; it was killed."""

    def __init__(self, racer: int, pid: int, seconds: float) -> None:
        super().__init__(racer, pid, seconds)
        self.racer, self.pid, self.seconds = racer, pid, seconds

    def __str__(self) -> str:
        return f"racer {self.racer} (process {self.pid}) did not answer in {self.seconds:g} s, and was killed"


@dataclass(frozen=True, slots=True)
class Lap(Generic[T]):
    """What one racer came to in one round.

    Attributes:
        round: from 0.
        racer: from 0.
        value: what the function returned; None if it did not.
        error: what it raised; ``RacerDied`` or ``RacerHung`` if it did neither.
    """

    round: int
    racer: int
    value: T | None = None
    error: Exception | None = None

    def result(self) -> T:
        """The value; raises the error if there is one."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]  # pyright: ignore[reportReturnType]


@suggesting("race", example="race(function, 2, 10, deadline=60)")
def race(
    function: Callable[[int, int], T],
    processes: int = 2,
    rounds: int = 1,
    *,
    deadline: float = DEADLINE,
    meanwhile: Callable[[list[int]], object] | None = None,
) -> list[list[Lap[T]]]:
    """Calls ``function(round, racer)`` in ``processes`` processes at the same instant, ``rounds`` times.

    In each round all racers say that they are ready, and then one event lets all go. They are processes of their own,
    started afresh as programs are, and stay for all rounds; who dies or is killed is replaced in the next one. The
    function travels as those of maps do: closures and lambdas may be given, and hold what the racers share, a
    directory say. One function for all says what differs by its arguments; to race two functions, choose by ``racer``.

    What racers have started, and that lives on in their session, is killed at the end.

    Args:
        function: what is raced.
        processes: how many.
        rounds: how often.
        deadline: seconds that each round may take, from the start to the last answer. To get ready, and to end after
            the last round, racers have a minute.
        meanwhile: called here with the process ids of the racers, in their order, as soon as they were let go in a
            round: to kill or stop some, say. What it raises ends the race.

    Returns:
        list[list[Lap]]: for each round, what each racer came to, in their order.

    Raises:
        TypeError: the function can't be sent.
        RacerDied, RacerHung: a racer did not even come to the start, or does not end after the last round.
        Exception: what loading the function raised in a racer.
    """
    for name, number in (("processes", processes), ("rounds", rounds)):
        if not isinstance(number, int) or number < 1:
            raise ValueError(f"{name} must be a whole number of 1 or more, not {number!r}")
    field: list[Racer] = []
    with tempfile.TemporaryFile() as program:
        program.write(packed(function))
        program.flush()
        try:
            laps = []
            for number in range(rounds):
                for place in range(processes):
                    if place == len(field):
                        field.append(Racer(place, program))
                    elif field[place].has_ended:
                        field[place].end()
                        field[place] = Racer(place, program)
                laps.append(_run_round(field, number, deadline, meanwhile))
            for racer in field:
                racer.let_go()
            for racer in field:
                racer.finish()
            return laps
        finally:
            for racer in field:
                racer.end()


def _run_round(
    field: Sequence[Racer], number: int, deadline: float, meanwhile: Callable[[list[int]], object] | None
) -> list[Lap[Any]]:
    gate, start = os.pipe()
    try:
        for racer in field:
            racer.prepare(number, gate)
        os.close(gate)
        gate = -1
        for racer, (kind, answer) in _answers(field, DEADLINE).items():
            if kind != READY:
                answer.add_note(f"as racer {racer.number} got ready for round {number}")
                raise answer
        os.close(start)  # all see the end of the pipe: they are off
        start = -1
        if meanwhile is not None:
            meanwhile([racer.pid for racer in field])
        laps = []
        for racer, (kind, answer) in _answers(field, deadline).items():
            failed = kind == ERROR
            laps.append(Lap(number, racer.number, None if failed else answer, answer if failed else None))
        return laps
    finally:
        for end in (gate, start):
            if end >= 0:
                os.close(end)


def _answers(field: Sequence[Racer], deadline: float) -> dict[Racer, tuple[bytes, Any]]:
    """One answer of each; ``RacerDied`` and ``RacerHung`` stand for those that give none."""
    until = time.monotonic() + deadline
    answers: dict[Racer, tuple[bytes, Any]] = {}
    waiting = list(field)
    while waiting:
        left = until - time.monotonic()
        if left <= 0:
            for racer in waiting:
                racer.kill()
                answers[racer] = ERROR, RacerHung(racer.number, racer.pid, deadline)
            break
        select.select([racer.socket for racer in waiting], [], [], min(left, _LOOK_SECONDS))
        for racer in list(waiting):
            dead = racer.has_ended  # before it is read what it has said
            answer = racer.read()
            if answer is None and (dead or racer.is_mute):
                racer.kill()  # who closes its socket takes part no more
                answer = ERROR, RacerDied(racer.number, racer.pid, racer.exitcode())
            if answer is not None:
                answers[racer] = answer
                waiting.remove(racer)
    return {racer: answers[racer] for racer in field}


class Racer:
    """A racer, as seen from here.

    Args:
        number: from 0.
        program: the file that holds the function, packed.
        environment: of its process; None: this one's.
        output: where it writes what goes to its standard output and error; None: where this process does.
    """

    def __init__(
        self,
        number: int,
        program: IO[bytes],
        environment: dict[str, str] | None = None,
        output: IO[bytes] | None = None,
    ) -> None:
        self.number = number
        self.is_mute = False
        self.socket, theirs = socket.socketpair()
        self.socket.setblocking(False)
        self._data = b""
        life = f"from manyhands.testing.racer import main; main({theirs.fileno()}, {program.fileno()})"
        with theirs:
            self._popen = subprocess.Popen(
                [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {life}"],
                pass_fds=[theirs.fileno(), program.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
            )
        self.pid = self._popen.pid

    def __repr__(self) -> str:
        return f"<racer {self.number}, process {self.pid}>"

    @property
    def has_ended(self) -> bool:
        """Whether its process has; it is not yet reaped, so that its session's number is not given to another."""
        import psutil

        try:
            status: str = psutil.Process(self.pid).status()
        except psutil.NoSuchProcess:
            return True
        return status == psutil.STATUS_ZOMBIE

    def prepare(self, number: int, gate: int) -> None:
        """Tells it of a round, and hands it what it waits at."""
        try:
            socket.send_fds(self.socket, [NUMBERS.pack(number, self.number)], [gate])
        except OSError:
            pass  # it has died, which will be seen

    def read(self) -> tuple[bytes, Any] | None:
        """What it has answered, if it is all there."""
        try:
            while piece := self.socket.recv(1 << 16):
                self._data += piece
            self.is_mute = True
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno != errno.ECONNRESET:
                raise
            self.is_mute = True
        if len(self._data) < SIZE.size:
            return None
        kind, size = SIZE.unpack_from(self._data)
        if len(self._data) < SIZE.size + size:
            return None
        data, self._data = self._data[SIZE.size : SIZE.size + size], self._data[SIZE.size + size :]
        return _opened(kind, data)

    def status(self) -> int | None:
        """How it has ended; None: it runs. It is reaped."""
        return self._popen.poll()

    def kill(self) -> None:
        """Ends it now."""
        self._popen.send_signal(signal.SIGKILL)

    def exitcode(self) -> int:
        """How it has ended; waits for that."""
        _kill_session(self.pid)
        return self._popen.wait()

    def let_go(self) -> None:
        """There is nothing more for it to do: it ends by itself."""
        self.socket.close()

    def finish(self) -> None:
        """Waits for its end; raises RacerHung if that does not come."""
        until = time.monotonic() + DEADLINE
        while not self.has_ended:
            if time.monotonic() > until:
                error = RacerHung(self.number, self.pid, DEADLINE)
                error.add_note("its last round was over, and it had nothing left to do but to end")
                raise error
            time.sleep(0.002)  # nobody tells of its end without reaping it

    def end(self) -> None:
        """Kills it if it runs, and what it has left in any case."""
        self.socket.close()
        if self._popen.returncode is None:
            self.kill()
            _kill_session(self.pid)
            self._popen.wait()


def _kill_session(leader: int) -> None:
    """Kills who is in the session of a process that is not yet reaped."""
    import psutil

    for process in psutil.process_iter():
        try:
            if process.pid != leader and os.getsid(process.pid) == leader:
                process.kill()
        except (psutil.Error, OSError):
            pass  # it has ended, or is somebody else's


def _opened(kind: bytes, data: bytes) -> tuple[bytes, Any]:
    from manyhands.workers import payload

    if kind == READY:
        return kind, None
    try:
        value = payload.loads(data)
    except Exception as error:
        error.add_note("raised as the answer of a racer was unpickled")
        return ERROR, error
    return kind, value.error if kind == ERROR else value


def packed(function: Callable[[int, int], object], written: object = None) -> bytes:
    """The function as maps send it; by value where another process would not find its module, as pytest does.

    Args:
        function: what racers call.
        written: whose module that is; None: that of the function itself.
    """
    import cloudpickle

    from manyhands.workers import payload

    if not callable(function):
        raise TypeError(f"race takes a function of (round, racer), not {function!r}")
    module = sys.modules.get(getattr(written or function, "__module__", None) or "")
    try:
        if (
            module is None
            or module.__name__ in ("__main__", "__mp_main__")
            or _can_be_imported(module.__name__)
        ):
            return payload.dumps(function)
        cloudpickle.register_pickle_by_value(module)
        try:
            return bytes(cloudpickle.dumps(function))
        finally:
            cloudpickle.unregister_pickle_by_value(module)
    except Exception as error:
        raise TypeError(f"{function!r} can't be sent to a racer: {error}") from error


def _can_be_imported(module: str) -> bool:
    """Whether a new process with this one's path finds the module."""
    if module.partition(".")[0] in sys.stdlib_module_names:
        return True
    path, name = None, ""
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        try:
            spec = PathFinder.find_spec(name, path)
        except (ImportError, KeyError):  # a part of a package that was put together by hand
            return False
        if spec is None:
            return False
        path = spec.submodule_search_locations
    return True


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
