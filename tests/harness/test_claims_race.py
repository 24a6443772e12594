"""All of it together: real processes race on claims, are killed and stopped, and their histories are judged."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from manyhands import OUTPUT, claimed_output, gc, parallel
from manyhands.claims import Claims, Finished, Log, Mine, protocol
from manyhands.testing import (
    History,
    Nemesis,
    RacerDied,
    RecordedClaims,
    call_at,
    check,
    crash_at,
    listing,
    race,
    read_histories,
)
from tests.helpers import Fifo, tell, wait_for

OUTPUTS = [f"{number}.csv" for number in range(4)]


def compute(claims: RecordedClaims, history: History, log: Log, size: int) -> None:
    """Ask for one output until it is there."""
    while not isinstance(decision := claims.acquire(log), Finished):
        if isinstance(decision, Mine):
            with history.body(decision.staging):
                decision.staging.write_text(f"by {decision.token} " * size)
            claims.commit(decision)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_race_with_a_nemesis_is_valid(tmp_path: Path, seed: int) -> None:
    """Racers die at points of the protocol and by signals, or stand still; who is left makes all outputs, once."""
    history = History(tmp_path / "history")
    rounds = 3
    for number in range(rounds):
        (tmp_path / str(number)).mkdir()

    def run(number: int, racer: int) -> None:
        luck = random.Random(f"{seed} {number} {racer}")
        filesystem = None
        if racer == 0:
            point = luck.choice(["claim", "sync", "commit", "publish", "sync directory", "look"])
            filesystem = crash_at(f"{luck.choice(['before', 'after'])} {point}", nth=luck.randint(1, 2))
        with RecordedClaims(history, Claims(filesystem=filesystem)) as claims:
            for name in luck.sample(OUTPUTS, len(OUTPUTS)):
                compute(
                    claims, history, Log.of(tmp_path / str(number) / f"{number}-{name}"), luck.randint(1, 5000)
                )

    def disturb(pids: list[int]) -> None:
        with Nemesis(seed) as nemesis:
            for pid in pids[1:3]:
                nemesis.give(pid)
            for blow in ("stop", "resume", "stop", "kill"):
                nemesis.strike([blow])

    laps = race(run, processes=4, rounds=rounds, meanwhile=disturb)
    for each in laps:
        assert each[3].error is None
        assert all(lap.error is None or isinstance(lap.error, RacerDied) for lap in each)
    left = {}
    for number in range(rounds):
        gc(tmp_path / str(number), now=True)
        left |= listing(tmp_path / str(number))
    expected = [f"{number}-{name}" for number in range(rounds) for name in OUTPUTS]
    verdict = check(read_histories(history.directory), left, expected)
    assert verdict.valid, str(verdict)


def test_a_weakened_protocol_is_found(tmp_path: Path) -> None:
    """Two that take each other's CLAIM for their own both have it, and the history tells."""
    history, out = History(tmp_path / "history"), tmp_path / "out"
    out.mkdir()
    fifos = [Fifo(tmp_path / str(racer)) for racer in range(2)]
    paths = [fifo.path for fifo in fifos]

    def run(number: int, racer: int) -> None:
        protocol.same = lambda found, record: type(found) is type(record)

        def meet() -> None:
            tell(paths[1 - racer], "here")
            wait_for(paths[racer])

        claims = RecordedClaims(history, Claims(filesystem=call_at("before claim", meet)))
        mine = claims.acquire(Log.of(out / "a.csv"))
        assert isinstance(mine, Mine)

    for lap in race(run, deadline=30.0)[0]:
        lap.result()
    for fifo in fifos:
        fifo.close()
    verdict = check(read_histories(history.directory))
    assert [problem.rule for problem in verdict.problems] == ["slots"]
    assert sorted(event.kind for event in verdict.problems[0].events) == ["ok", "ok"]
    assert len({event.process for event in verdict.problems[0].events}) == 2


def test_bodies_of_decorated_functions_are_judged(tmp_path: Path) -> None:
    """Several processes map the same function; one body wrote each output, and nothing else is there."""
    history, out = History(tmp_path / "history"), tmp_path / "out"

    def run(number: int, racer: int) -> list[str]:
        @parallel(workers=1)
        @claimed_output(f"{out}/{{name}}")
        def write(name: str, output: Path = OUTPUT) -> None:
            with history.body(output):
                output.write_text(f"{name} by {racer}")

        return [path.name for path in write.map(OUTPUTS)]

    for lap in race(run, processes=2)[0]:
        assert lap.result() == OUTPUTS
    gc(out, now=True)
    verdict = check(read_histories(history.directory), listing(out), OUTPUTS)
    assert verdict.valid, str(verdict)
    (out / "0.csv").write_text("by nobody")
    assert [problem.rule for problem in check(read_histories(history.directory), listing(out)).problems] == [
        "bytes"
    ]
