"""The included logger of process_controller: what the controller and its workers tell, in a file."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from manyhands.compat import process_controller
from manyhands.compat.process_controller import ProcessController
from tests.helpers import run_script, write_script

LOGGER = "manyhands.process_controller"


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the logs go: it is made when it is needed."""
    logs = tmp_path / "more" / "logs"
    monkeypatch.setattr(process_controller, "log_server_dir", str(logs))
    return logs


def told(file: Path) -> Iterator[tuple[str, str, str]]:
    """Logger, level and message of each line."""
    for line in file.read_text().splitlines():
        record = json.loads(line)
        yield record["name"], record["levelname"], record["message"]


def servers() -> int:
    """How many log servers run in this process."""
    return sum(thread.name == "manyhands-log-server" for thread in threading.enumerate())


def speak(number: int) -> int:
    logger = logging.getLogger("of.the.function")
    logger.debug("nobody wants %d", number)
    logger.info("number %d", number)
    if number < 0:
        raise ValueError(f"{number} is below 0")
    return os.getpid()


def speak_and_die(number: int) -> None:
    logging.getLogger("last words").warning("number %d", number)
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_arrives(directory: Path) -> None:
    """What the controller tells, and what workers log from INFO on, is in the file; of failures the traceback."""
    pc = ProcessController(speak)
    assert not directory.exists()  # until there is something to run
    pc.create_new_pool(2)
    pc.use_pool([1, 2])
    pc.use_pool([-3])
    (pids, _), _ = pc.get_pool_results()
    pc.quit()
    pc.use_process([-4])
    pc.quit()
    file = directory / "process_controller.log"
    found = list(told(file))
    assert {("of.the.function", "INFO", f"number {number}") for number in (1, 2, -3, -4)} < set(found)
    assert [(level, text) for name, level, text in found if name == LOGGER] == [
        ("INFO", "Made a pool of 2 processes."),
        ("INFO", "Started 2 jobs, Pool_Batch_ID: 0."),
        ("INFO", "Started 1 jobs, Pool_Batch_ID: 1."),
        ("ERROR", "A job failed, Pool_Batch_ID: 1."),
        ("INFO", "Closed the pool."),
        ("INFO", "Started Process-1."),
        ("ERROR", "The job of Process-1 failed."),
    ]
    assert len(found) == 11
    records = [json.loads(line) for line in file.read_text().splitlines()]
    assert {record["process"] for record in records if record["message"] in ("number 1", "number 2")} == set(
        pids
    )
    failures = [record["exc_info"] for record in records if record["levelname"] == "ERROR"]
    assert "ValueError: -3 is below 0" in failures[0] and "ValueError: -4 is below 0" in failures[1]


def test_last_words(directory: Path) -> None:
    """What a worker logs just before it is killed is there."""
    pc = ProcessController(speak_and_die)
    pc.use_process(7)
    pc.quit()
    assert ("last words", "WARNING", "number 7") in list(told(directory / "process_controller.log"))


@pytest.mark.parametrize("end", ["quit", "clear", "exit"])
def test_the_server_ends(directory: Path, end: str) -> None:
    """It runs as long as the controller is at work, leaves no thread, and comes back with the next work."""
    pc = ProcessController(speak)
    for _ in range(2):
        pc.create_new_pool(1)
        assert servers() == 1
        getattr(pc, end)()
        assert servers() == 0
    made = [text for _, _, text in told(directory / "process_controller.log") if text.startswith("Made")]
    assert len(made) == 2


def test_none_without(directory: Path) -> None:
    """Without the included logger there is no server, no file and no directory."""
    pc = ProcessController(speak, included_logger=False)
    pc.create_new_pool(1)
    assert servers() == 0
    pc.quit()
    assert not directory.exists()


def test_two_at_once(directory: Path) -> None:
    """Each controller has a file of its own, so that none moves the other's away."""
    first, second = ProcessController(speak), ProcessController(speak)
    first.create_new_pool(1)
    second.create_new_pool(2)
    second.quit()
    first.quit()
    assert ("Made a pool of 1 processes.") in [text for *_, text in told(directory / "process_controller.log")]
    assert ("Made a pool of 2 processes.") in [
        text for *_, text in told(directory / "process_controller-2.log")
    ]


def test_a_directory_that_cannot_be_written(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told, with what to do, before anything is started."""
    directory.parent.mkdir()
    directory.write_text("a file")
    pc = ProcessController(speak)
    starts: list[Any] = [lambda: pc.create_new_pool(1), lambda: pc.use_process(1)]
    for start in starts:
        with pytest.raises(OSError, match=r"log_server_dir can't be written.*included_logger=False") as caught:
            start()
        assert caught.value.filename == str(directory)
    assert pc.pool is None and not pc.processes
    pc.exit()


def test_at_the_end_of_the_program(tmp_path: Path) -> None:
    """A program that does not quit has all of it in the file all the same."""
    script = write_script(
        tmp_path / "script.py",
        """
        import logging
        from manyhands.compat import process_controller
        process_controller.log_server_dir = sys.argv[1]
        def slow(number):
            logging.info("number %d", number)
        pc = process_controller.ProcessController(slow)
        pc.create_new_pool(2)
        pc.use_pool(range(20))
        """,
    )
    assert run_script(script, tmp_path) == ""
    messages = [text for *_, text in told(tmp_path / "process_controller.log")]
    assert sorted(messages) == sorted(
        ["Made a pool of 2 processes.", "Started 20 jobs, Pool_Batch_ID: 0.", "Closed the pool."]
        + [f"number {number}" for number in range(20)]
    )
