"""Races of real processes: common start, results, errors, deaths, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import psutil
import pytest

from manyhands import parallel
from manyhands.errors import RemoteError
from manyhands.testing import Nemesis, RacerDied, RacerHung, race, races
from tests.helpers import Fifo, ends_of, lines, run_script, tell, wait_for, write_script


class Awkward(Exception):
    """Pickles, but does not unpickle."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__("awkward")


class Known(Exception):
    """An error of a test module's own."""


def fail(number: int, racer: int) -> None:
    raise Known(number, racer)


def test_each_racer_runs_each_round() -> None:
    """Results are by round and racer; all rounds are in the same processes, which are not this one."""
    laps = race(lambda number, racer: (number, racer, os.getpid()), processes=3, rounds=4)
    assert [[lap.result()[:2] for lap in each] for each in laps] == [
        [(number, racer) for racer in range(3)] for number in range(4)
    ]
    assert [(lap.round, lap.racer) for lap in laps[2]] == [(2, 0), (2, 1), (2, 2)]
    pids = {lap.result()[2] for each in laps for lap in each}
    assert len(pids) == 3
    assert os.getpid() not in pids


def test_nobody_starts_before_all_are_ready(tmp_path: Path) -> None:
    """Who begins sees all others at the start, in every round."""
    note = tmp_path / "note"

    class Slow:
        """Takes a while to be unpickled: only one racer does."""

        def __reduce__(self) -> tuple[object, ...]:
            return tell, (note, "loaded")

    slow = Slow()

    def begin(number: int, racer: int) -> int:
        assert slow is None
        return lines(note).count("loaded")

    assert [lap.result() for lap in race(begin, processes=4)[0]] == [4] * 4


def test_one_event_lets_all_go(tmp_path: Path) -> None:
    """One waits for all others to have begun: nobody's start depends on another's end."""
    fifos = [Fifo(tmp_path / str(racer)) for racer in range(3)]
    paths = [fifo.path for fifo in fifos]

    def meet(number: int, racer: int) -> None:
        for other in paths:
            if other != paths[racer]:
                end = os.open(other, os.O_WRONLY)
                os.write(end, b".")
                os.close(end)
        for _ in range(2):
            wait_for(paths[racer])

    for lap in race(meet, processes=3, rounds=2)[1]:
        lap.result()
    for fifo in fifos:
        assert fifo.empty()
        fifo.close()


def test_errors_are_told_of_who_raised_them() -> None:
    """An error has its type, its arguments and its traceback; others have their results."""
    [laps] = race(lambda number, racer: fail(number, racer) if racer else "fine", processes=2)
    assert laps[0].result() == "fine"
    assert laps[0].error is None
    with pytest.raises(Known) as caught:
        laps[1].result()
    assert caught.value.args == (0, 1)
    assert "in fail" in caught.value.__notes__[0]
    assert laps[1].value is None


def test_what_cant_be_sent_is_told() -> None:
    """Errors and results that do not travel become errors that say so; the racer goes on."""

    def awkward(number: int, racer: int) -> object:
        match number:
            case 0:
                raise Awkward(1, 2)
            case 1:
                return (nothing for nothing in ())
            case 2:
                sys.exit(3)
        return "fine"

    first, second, third, fourth = (laps[0] for laps in race(awkward, processes=1, rounds=4))
    assert isinstance(first.error, RemoteError)
    assert "awkward" in str(first.error)
    assert isinstance(second.error, TypeError)
    assert "can't be sent back" in second.error.__notes__[0]
    assert isinstance(third.error, RemoteError)
    assert "SystemExit" in str(third.error)
    assert fourth.result() == "fine"


def test_who_dies_is_named_and_replaced(tmp_path: Path) -> None:
    """The others of its round have their results, and the next round has all again."""

    def die(number: int, racer: int) -> int:
        if (number, racer) == (0, 1):
            os.kill(os.getpid(), signal.SIGKILL)
        if (number, racer) == (1, 0):
            os._exit(3)
        return os.getpid()

    first, second, third = race(die, processes=2, rounds=3)
    killed, left = first[1].error, second[0].error
    assert isinstance(killed, RacerDied)
    assert (killed.racer, killed.exitcode) == (1, -signal.SIGKILL)
    assert str(killed) == f"racer 1 (process {killed.pid}) ended by SIGKILL"
    assert str(left) == f"racer 0 (process {first[0].result()}) ended with status 3"
    assert second[1].result() != killed.pid
    assert {lap.racer: lap.error for lap in third} == {0: None, 1: None}


def test_who_hangs_is_named_and_killed_at_the_deadline() -> None:
    """So is who was stopped; who has answered is not touched."""

    def hang(number: int, racer: int) -> int:
        if racer == 1:
            signal.pause()
        if racer == 2:
            os.kill(os.getpid(), signal.SIGSTOP)
        return os.getpid()

    [laps] = race(hang, processes=3, deadline=2.0)
    hung = [lap.error for lap in laps[1:]]
    assert [isinstance(error, RacerHung) and error.racer for error in hung] == [1, 2]
    assert str(hung[0]) == f"racer 1 (process {hung[0].pid}) did not answer in 2 s, and was killed"
    assert not any(psutil.pid_exists(pid) for pid in [laps[0].result(), hung[0].pid, hung[1].pid])


def test_nothing_that_racers_started_is_left(tmp_path: Path, begun: Fifo) -> None:
    """Neither what they left running, nor the workers of their maps, also of those that died in them."""
    path = begun.path

    def leave(number: int, racer: int) -> None:
        child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
        tell(path, child.pid)
        if racer:
            os.kill(os.getpid(), signal.SIGKILL)
        list(parallel(lambda item: tell(path, os.getpid()), workers=1).map([1]))

    [laps] = race(leave, processes=2)
    assert laps[0].error is None
    assert isinstance(laps[1].error, RacerDied)
    pids = [int(begun.line()) for _ in range(3)]
    left = [pid for pid in pids if psutil.pid_exists(pid)]
    if left:
        with ends_of(left) as ended:  # their guard sees to it, at once but not before this
            ended()


def test_meanwhile_is_called_with_the_racers(tmp_path: Path) -> None:
    """A nemesis gets at them while they run."""
    gate = Fifo(tmp_path / "gate")
    path = gate.path

    def kill_the_second(pids: list[int]) -> None:
        with Nemesis() as nemesis:
            for pid in pids:
                nemesis.give(pid)
            nemesis.kill(pids[1])
        gate.let_go()

    def wait(number: int, racer: int) -> str:
        wait_for(path)
        return "let go"

    [laps] = race(wait, processes=2, meanwhile=kill_the_second)
    gate.close()
    assert laps[0].result() == "let go"
    assert isinstance(laps[1].error, RacerDied)


def test_what_meanwhile_raises_ends_the_race() -> None:
    """Racers that run on are killed at once."""
    pids: list[int] = []

    def stumble(racers: list[int]) -> None:
        pids.extend(racers)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        race(lambda number, racer: signal.pause(), meanwhile=stumble)
    assert not any(map(psutil.pid_exists, pids))


def test_who_does_not_end_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A racer that leaves a thread behind which never ends is killed, and told."""
    pids: list[int] = []

    def hurry(racers: list[int]) -> None:
        pids.extend(racers)
        monkeypatch.setattr(races, "DEADLINE", 1.0)

    def linger(number: int, racer: int) -> None:
        threading.Thread(target=signal.pause if racer else int).start()

    with pytest.raises(RacerHung, match="racer 1") as caught:
        race(linger, meanwhile=hurry)
    assert "nothing left to do but to end" in caught.value.__notes__[0]
    assert not any(map(psutil.pid_exists, pids))


class Unloadable:
    """A function that fails to be loaded."""

    def __reduce__(self) -> tuple[object, ...]:
        return fail, (0, 0)

    def __call__(self, number: int, racer: int) -> None: ...


class Lethal:
    """A function that ends who loads it."""

    def __reduce__(self) -> tuple[object, ...]:
        return os._exit, (9,)

    def __call__(self, number: int, racer: int) -> None: ...


def test_who_does_not_come_to_the_start_ends_the_race() -> None:
    """What loading raises is raised; a racer that dies at it is named."""
    with pytest.raises(Known) as caught:
        race(Unloadable())
    assert "as racer 0 got ready for round 0" in caught.value.__notes__
    with pytest.raises(RacerDied, match=r"racer 0 .* ended with status 9"):
        race(Lethal(), processes=1)


def test_wrong_arguments_are_refused() -> None:
    """Before anything is started."""
    with pytest.raises(TypeError, match="takes a function"):
        race("nothing")
    with pytest.raises(TypeError, match="can't be sent"):
        race(partial(fail, sys._getframe()))
    for arguments in ({"processes": 0}, {"rounds": 0}, {"processes": 1.5}):
        with pytest.raises(ValueError, match="must be a whole number of 1 or more"):
            race(fail, **arguments)


def test_functions_of_modules_that_nobody_finds(tmp_path: Path) -> None:
    """A test's module need not be on the path: pytest loads it by its file. Its classes stay what they are."""
    script = write_script(
        tmp_path / "script.py",
        f"""
        import importlib.util, sys
        spec = importlib.util.spec_from_file_location("hidden.tests", {str(tmp_path / "hidden.py")!r})
        module = importlib.util.module_from_spec(spec)
        sys.modules["hidden.tests"] = module
        spec.loader.exec_module(module)
        from manyhands.testing import race

        [laps] = race(module.play)
        assert laps[0].result() == 42, laps
        assert type(laps[1].error) is module.Own, laps
        """,
    )
    (tmp_path / "hidden.py").write_text(
        "class Own(Exception): pass\n"
        "SECRET = 42\n"
        "def helper(): return SECRET\n"
        "def play(number, racer):\n"
        "    if racer: raise Own\n"
        "    return helper()\n"
    )
    run_script(script)


def test_functions_of_scripts(tmp_path: Path) -> None:
    """A script races its own functions without a main guard."""
    script = write_script(
        tmp_path / "script.py",
        """
        from manyhands.testing import race

        def play(number, racer):
            return number + racer

        print([[lap.result() for lap in laps] for laps in race(play, rounds=2)])
        """,
    )
    assert run_script(script) == "[[0, 1], [1, 2]]\n"
