"""Independent processes over one list in one directory: each output once, the same list everywhere."""

from __future__ import annotations

import json
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from manyhands import gc
from tests.end_to_end import tasks
from tests.helpers import Fifo, descendants, ends_of, finish, names, started, write_script

ITEMS = [f"item {n}" for n in range(24)]

RACER = """
import json
import sys
from tests.end_to_end import tasks
from tests.helpers import tell, wait_for

name, log, begun, gate, items = sys.argv[1:]
tell(begun, "ready")
wait_for(gate)
function = getattr(tasks, name)
results = function.map(json.loads(items), args=(log,), on_error="return")
print(json.dumps([str(getattr(result, "error", result)) for result in results]))
"""

BLOCKER = """
import json
import sys
from tests.end_to_end import tasks

log, begun, gate, items = sys.argv[1:]
print(json.dumps([str(path) for path in tasks.write_or_block.map(json.loads(items), args=(log, begun, gate))]))
"""


def race(
    number: int, script: Path, name: str, items: list, log: Path, begun: Fifo, gate: Fifo
) -> list[list[str]]:
    """Runs processes with a common start; returns what each of them has got."""
    with ExitStack() as stack:
        arguments = (name, log, begun.path, gate.path, json.dumps(items))
        racers = [stack.enter_context(started(script, *arguments)) for _ in range(number)]
        for _ in racers:
            begun.line()
        gate.let_go(number)
        return [json.loads(finish(racer)) for racer in racers]


@pytest.mark.parametrize("number", [2, 4])
def test_undisturbed_race(number: int, here: Path, tmp_path: Path, log: Path, begun: Fifo, gate: Fifo) -> None:
    """Every output is computed exactly once, all lists are equal, and nothing but the outputs is left."""
    script = write_script(tmp_path / "racer.py", RACER)
    lists = race(number, script, "write", ITEMS, log, begun, gate)
    assert lists == [[str(here / "out" / f"{item}.txt") for item in ITEMS]] * number
    assert tasks.calls(log) == dict.fromkeys(ITEMS, 1)
    assert {name: text for name, text in tasks.found(here / "out").items() if name[0] != "."} == tasks.expected(
        ITEMS
    )
    assert [name for name in names(here / "out") if name[0] == "."] == []


def test_race_of_saved_values(here: Path, tmp_path: Path, log: Path, begun: Fifo, gate: Fifo) -> None:
    """The same with ``save`` and ``load``."""
    script = write_script(tmp_path / "racer.py", RACER)
    lists = race(3, script, "square", list(range(20)), log, begun, gate)
    assert lists == [[str(n * n) for n in range(20)]] * 3
    assert tasks.calls(log) == dict.fromkeys(sorted(map(str, range(20))), 1)
    assert names(here / "out") == sorted(f"{n}.txt" for n in range(20))


def test_attempts_are_counted_across_processes(
    here: Path, tmp_path: Path, log: Path, begun: Fifo, gate: Fifo
) -> None:
    """Of a budget of four attempts, all processes together make four, and all hear of the failure."""
    script = write_script(tmp_path / "racer.py", RACER)
    items = ["bad 1", "good", "bad 2"]
    lists = race(3, script, "write_or_fail", items, log, begun, gate)
    assert tasks.calls(log) == {"bad 1": 4, "bad 2": 4, "good": 1}
    for results in lists:
        assert "bad 1 is bad" in results[0] and "bad 2 is bad" in results[2]
        assert results[1] == str(here / "out" / "good.txt")
    gc(here / "out", now=True)
    assert tasks.found(here / "out") == tasks.expected(["good"])


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda s: s.name)
def test_takeover_in_mid_task(
    how: signal.Signals, here: Path, tmp_path: Path, log: Path, begun: Fifo, gate: Fifo
) -> None:
    """A process is ended in mid-task; another one takes its output over and has the whole list."""
    script = write_script(tmp_path / "blocker.py", BLOCKER)
    items = ["block", *ITEMS]
    with ExitStack() as stack:
        arguments = (log, begun.path, gate.path, json.dumps(["block"]))
        victim = stack.enter_context(started(script, *arguments))
        begun.line()
        heir = stack.enter_context(started(script, log, "", gate.path, json.dumps([*ITEMS, "block"])))
        with ends_of(descendants(victim.pid)) as wait:
            victim.send_signal(how)
            wait()
        assert json.loads(finish(heir)) == [str(here / "out" / f"{item}.txt") for item in [*ITEMS, "block"]]
    assert tasks.calls(log) == {**dict.fromkeys(ITEMS, 1), "block": 2}
    gc(here / "out", now=True)
    assert tasks.found(here / "out") == tasks.expected(items)


def test_takeover_by_a_map_that_waits(here: Path, tmp_path: Path, log: Path, begun: Fifo, gate: Fifo) -> None:
    """The heir has done everything else and waits when the owner is killed; it needs no lease to run out."""
    script = write_script(tmp_path / "blocker.py", BLOCKER)
    with started(script, log, begun.path, gate.path, json.dumps(["block"])) as victim:
        begun.line()
        results = tasks.write_or_block.map(["block", *ITEMS], args=(log, "", str(gate.path)), ordered=False)
        assert len([next(results) for _ in ITEMS]) == len(ITEMS)
        with ends_of(descendants(victim.pid)) as wait:
            victim.kill()
            wait()
        assert list(results) == [here / "out" / "block.txt"]
    assert tasks.calls(log)["block"] == 2
    gc(here / "out", now=True)
    assert tasks.found(here / "out") == tasks.expected(["block", *ITEMS])


def test_output_deleted_after_a_takeover_is_made_again(
    here: Path, tmp_path: Path, log: Path, begun: Fifo, gate: Fifo
) -> None:
    """A contested log does not bring a deleted output back: it is computed again."""
    script = write_script(tmp_path / "blocker.py", BLOCKER)
    with started(script, log, begun.path, gate.path, json.dumps(["block"])) as victim:
        begun.line()
        with ends_of(descendants(victim.pid)) as wait:
            victim.kill()
            wait()
    arguments = (log, "", str(gate.path))
    for times in (2, 3, 4):
        assert list(tasks.write_or_block.map(["block"], args=arguments)) == [here / "out" / "block.txt"]
        assert tasks.calls(log)["block"] == times
        (here / "out" / "block.txt").unlink()


def test_gc_while_others_work(here: Path, tmp_path: Path, log: Path, begun: Fifo, gate: Fifo) -> None:
    """``gc`` without ``now`` leaves the claims of the living alone."""
    script = write_script(tmp_path / "blocker.py", BLOCKER)
    with started(script, log, begun.path, gate.path, json.dumps(["block", "a"])) as owner:
        begun.line()
        before = names(here / "out")
        gc(here / "out")
        assert names(here / "out") == before
        gate.let_go()
        finish(owner)
    assert tasks.found(here / "out") == tasks.expected(["block", "a"])
    assert tasks.calls(log) == {"a": 1, "block": 1}
