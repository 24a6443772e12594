"""Claims on a real directory against a model in plain Python, in any order that Hypothesis makes up.

Several claimants work on several outputs: they claim, commit, fail, release, stand still, end at the worst moments;
results are deleted, failures reopened, the directory collected. Time and signs of life are the test's own.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from manyhands import OutputDirectoryError, gc
from manyhands.claims import (
    Busy,
    Claims,
    Decision,
    FailedBefore,
    Fenced,
    Finished,
    Log,
    Mine,
    Published,
    Recorded,
    Wait,
)
from manyhands.claims import filesystem as fs
from manyhands.claims.filesystem import LocalFileSystem, Operation
from manyhands.claims.watch import DOUBLINGS_MAX, LOOKS_MIN, Moment
from manyhands.testing import point_of
from manyhands.workers import pulse
from tests.helpers import names

LEASE = 1.0
MAX_CRASHES = 3
OUTPUTS = ["a.csv", "b c.txt"]
CLAIMANTS = range(3)
BACKOFF = 5.0


# -- the model ---------------------------------------------------------------------------------------------------


@dataclass
class Model:
    """What must be true of one output.

    Attributes:
        writer: whose bytes it is, if it is there.
        committed: whose bytes it will be, as soon as anybody looks.
        owner: who may commit.
        attempts: how many have failed.
        attempts_max: the highest number that any failure in the log has.
        wait: seconds until the next attempt, None: now.
        is_lost: it has failed for good.
        crashes: owners in a row that were superseded.
        has_failures: the log tells of any, be they reopened.
        failure: counts the failures, so that each is waited for anew.
    """

    writer: str | None = None
    committed: str | None = None
    owner: Claimant | None = None
    attempts: int = 0
    attempts_max: int = 0
    wait: float | None = None
    is_lost: bool = False
    crashes: int = 0
    has_failures: bool = False
    failure: int = 0

    def forget(self) -> None:
        """The log is gone."""
        self.__dict__.update(Model(self.writer, failure=self.failure).__dict__)

    def fail(self, attempt: int, wait: float | None, crashes: int = 0) -> None:
        """An attempt has failed; ``wait``: None, for good."""
        self.owner, self.attempts, self.attempts_max = None, attempt, max(attempt, self.attempts_max)
        self.wait, self.is_lost, self.crashes = wait, wait is None, crashes
        self.has_failures = True
        self.failure += 1


@dataclass(eq=False)
class Claimant:
    """One that works, stands still, or has ended: here, where that can be seen, or on another machine."""

    wire: Wire
    claims: Claims
    state: str = "works"
    held: dict[str, Mine] = field(default_factory=dict)
    memos: dict[str, Decision] = field(default_factory=dict)
    seen: dict[tuple[str, int], float] = field(default_factory=dict)
    watched: dict[str, tuple[Claimant, int, float]] = field(default_factory=dict)  # whom, how often, since when
    tokens: set[str] = field(default_factory=set)
    published: set[str] = field(default_factory=set)

    @property
    def is_there(self) -> bool:
        return self.state in ("works", "stands")


# -- the world ---------------------------------------------------------------------------------------------------


@dataclass
class World:
    """Time, and who is known to have ended on this machine."""

    seconds: float = 0.0
    ended: set[str] = field(default_factory=set)


class Wire(LocalFileSystem):
    """A claimant's way to the real directory; once it is cut, nothing that the claimant does gets there."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._is_cut = False
        self.cut_at = ""

    def cut(self) -> None:
        """The claimant has ended."""
        self._is_cut = True

    def perform(self, operation: Operation, /) -> Any:
        if point_of(operation) == self.cut_at:
            self.cut()
        if self._is_cut:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        match operation:
            case fs.Now():
                return Moment("world", self._world.seconds)
            case fs.Sync() | fs.SyncDirectory():
                return None
            case fs.Judge(claimant, str() as directory):
                here = names(directory)
                if f".manyhands-{claimant.token}.released-record" in here:
                    return "released"
                is_there = f".manyhands-{claimant.token}.claim-record" in here
                return "unknown" if is_there and claimant.token not in self._world.ended else "dead"
        return super().perform(operation)


ASKING = precondition(
    lambda self: any(who.state == "works" and len(who.held) < len(OUTPUTS) for who in self.crowd)
)
HOLDING = precondition(lambda self: any(who.state == "works" and who.held for who in self.crowd))


class ClaimsMachine(RuleBasedStateMachine):
    """Each rule does one thing to the directory and to the model, and compares what both say."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="manyhands-machine-"))
        self.world = World()
        self.outputs = {name: Model() for name in OUTPUTS}
        self.crowd: list[Claimant] = []
        self.gone: list[Claimant] = []
        self.beats = 0
        pulse.through(lambda path, seconds: None)  # no guard: signs of life are the test's to give

    @initialize()
    def begin(self) -> None:
        self.crowd = [self.newcomer() for _ in CLAIMANTS]

    def newcomer(self) -> Claimant:
        wire = Wire(self.world)
        return Claimant(wire, Claims(filesystem=wire, lease=LEASE, max_crashes=MAX_CRASHES))

    def failed(self) -> list[str]:
        """Outputs that have failed for good."""
        return [name for name, output in self.outputs.items() if output.is_lost and not output.writer]

    def log(self, name: str) -> Log:
        return Log.of(self.directory / name)

    def any_of(self, data: st.DataObject, condition: Callable[[Claimant], object]) -> Claimant:
        found = [number for number in CLAIMANTS if condition(self.crowd[number])]
        return self.crowd[data.draw(st.sampled_from(found), label="claimant")]

    def asker(self, data: st.DataObject) -> tuple[Claimant, str]:
        """One that works, and an output that it has no claim on."""
        who = self.any_of(data, lambda who: who.state == "works" and len(who.held) < len(OUTPUTS))
        return who, data.draw(
            st.sampled_from([name for name in OUTPUTS if name not in who.held]), label="output"
        )

    def holder(self, data: st.DataObject) -> tuple[Claimant, str, Mine]:
        """One that works, and one of its claims, which it may have lost."""
        who = self.any_of(data, lambda who: who.state == "works" and who.held)
        name = data.draw(st.sampled_from(sorted(who.held)), label="output")
        return who, name, who.held.pop(name)

    # -- asking --------------------------------------------------------------------------------------------------

    def ask(self, who: Claimant, name: str, reopen: int = -1) -> Decision:
        last, token = who.memos.get(name), who.claims.claimant.token
        if name in who.published and self.outputs[name].writer is None:
            # It becomes somebody new, so that no late helper takes its next staging for the one from before; so do
            # all who have claims: they are given up, each in its log. A map has one at a time.
            self.give_up(who)
            who.published.clear()
            token = ""
        decision = who.claims.acquire(
            self.log(name),
            reopen=reopen,
            seen=last.memo if isinstance(last, Wait) else None,
            watch=last.memo if isinstance(last, Busy) else None,
        )
        owner = self.outputs[name].owner
        if isinstance(decision, Busy) and owner is not None:
            whom, looks, since = who.watched.get(name, (None, 0, 0.0))
            is_new = whom is not owner
            who.watched[name] = owner, 1 if is_new else looks + 1, self.world.seconds if is_new else since
        who.memos[name] = decision
        who.tokens.add(who.claims.claimant.token)
        assert not who.held or not token or token == who.claims.claimant.token, "it still has its claims"
        return decision

    def expect(self, who: Claimant, name: str, decision: Decision, *, is_outlasted: bool = False) -> None:
        """Compare what was decided with what the model says, and keep it."""
        output = self.outputs[name]
        if output.committed is not None:
            output.writer, output.committed, output.owner = output.committed, None, None
        if output.writer is not None:
            assert decision == Finished()
            return
        owner = output.owner
        if owner is not None:
            must_be_over = is_outlasted or owner.state == "ended here"
            may_be_over = must_be_over or self.is_long(who, name, owner)
            if owner.state == "works" or not may_be_over:
                assert isinstance(decision, Busy)
                return
            if not must_be_over and isinstance(decision, Busy):
                return
            output.owner = None
            if (times := output.crashes + 1) >= MAX_CRASHES:
                output.fail(output.attempts_max + times, None, times)
            else:
                output.crashes = times
        if output.is_lost:
            assert isinstance(decision, FailedBefore)
            assert decision.record.attempt == output.attempts
            return
        if output.wait is not None and owner is None:
            since = who.seen.setdefault((name, output.failure), self.world.seconds)
            if self.world.seconds - since < output.wait:
                assert isinstance(decision, Wait)
                assert decision.seconds == output.wait - (self.world.seconds - since)
                return
        assert isinstance(decision, Mine)
        assert decision.attempt == output.attempts + 1
        output.owner, output.wait = who, None
        who.held[name] = decision
        assert not decision.staging.exists()

    def is_long(self, who: Claimant, name: str, owner: Claimant) -> bool:
        """Whether it has looked so often, while time passed for others too, that it may go on."""
        whom, looks, since = who.watched.get(name, (None, 0, 0.0))
        return whom is owner and looks >= LOOKS_MIN and self.world.seconds - since >= LEASE

    @ASKING
    @rule(data=st.data(), seconds=st.sampled_from([0.1, 3.0, BACKOFF]), is_patient=st.booleans())
    def asks(self, data: st.DataObject, seconds: float, is_patient: bool) -> None:
        """Once; or again and again, until anybody's lease would be over who gives no sign of life."""
        self.pass_time(seconds)
        who, name = self.asker(data)
        if not is_patient:
            self.expect(who, name, self.ask(who, name))
            return
        decision = self.ask(who, name)
        for _ in range(LOOKS_MIN + 1):
            if isinstance(decision, Busy):
                self.pass_time(LEASE * 2**DOUBLINGS_MAX)
                decision = self.ask(who, name)
        self.expect(who, name, decision, is_outlasted=True)

    def pass_time(self, seconds: float) -> None:
        self.world.seconds += seconds
        for who in self.crowd:
            if who.state == "works":
                for path in who.claims.paths():
                    if path.exists():
                        self.beats += 1
                        os.utime(path, ns=(self.beats, self.beats))

    @HOLDING
    @rule(
        data=st.data(),
        how=st.sampled_from(["commit", "commit", "fail", "retry", "retry later", "release", "close"]),
    )
    def settles(self, data: st.DataObject, how: str) -> None:
        """One of them says what became of its claim, which it may have lost."""
        match how:
            case "commit":
                self.commits(data)
            case "release":
                self.releases(data)
            case "close":
                self.closes(data)
            case _:
                self.fails(data, {"fail": None, "retry": 0.0, "retry later": BACKOFF}[how])

    @HOLDING
    @rule(data=st.data(), what=st.sampled_from(["stop", "stop", "here", "elsewhere", "commit", "publish"]))
    def suffers(self, data: st.DataObject, what: str) -> None:
        """One of them stands still, or ends."""
        match what:
            case "stop":
                self.stands_still(data)
            case "here" | "elsewhere":
                self.ends(data, what)
            case _:
                self.ends_in_its_commit(data, what)

    # -- what becomes of a claim ---------------------------------------------------------------------------------

    def commits(self, data: st.DataObject) -> None:
        who, name, mine = self.holder(data)
        output = self.outputs[name]
        mine.staging.write_text(f"{name} by {mine.token}")
        answer = who.claims.commit(mine)
        if output.owner is who:
            assert answer == Published()
            output.writer, output.owner = mine.token, None
            output.attempts = output.crashes = 0
            who.published.add(name)
            if mine.slot == 0:
                output.forget()
        else:
            assert answer == Fenced()
        # Who has become somebody else does nothing for its old claims any more; gc finds what it writes for them.
        assert not mine.staging.exists() or mine.token != who.claims.claimant.token

    def fails(self, data: st.DataObject, backoff: float | None) -> None:
        who, name, mine = self.holder(data)
        mine.staging.write_text("half")
        answer = who.claims.fail(mine, type_name="ValueError", backoff=backoff)
        output = self.outputs[name]
        if output.owner is who:
            assert answer == Recorded()
            output.fail(mine.attempt, backoff)
        else:
            assert answer == Fenced()
        assert not mine.staging.exists()

    def releases(self, data: st.DataObject) -> None:
        who, name, mine = self.holder(data)
        answer = who.claims.release(mine)
        output = self.outputs[name]
        if output.owner is who:
            assert answer == Recorded()
            output.owner = None
        else:
            assert answer == Fenced()

    def closes(self, data: st.DataObject) -> None:
        """All its claims are given up, which is nobody's failure."""
        who = self.any_of(data, lambda who: who.state == "works" and who.held)
        who.claims.close()
        self.let_go(who)

    def let_go(self, who: Claimant) -> None:
        who.held.clear()
        who.published.clear()
        self.give_up(who)

    def give_up(self, who: Claimant) -> None:
        for output in self.outputs.values():
            if output.owner is who:
                output.owner = None

    def stands_still(self, data: st.DataObject) -> None:
        self.any_of(data, lambda who: who.state == "works" and who.held).state = "stands"

    @precondition(lambda self: any(who.state == "stands" for who in self.crowd))
    @rule(data=st.data())
    def goes_on(self, data: st.DataObject) -> None:
        """It does not know yet what it has lost."""
        self.any_of(data, lambda who: who.state == "stands").state = "works"

    def ends(self, data: st.DataObject, where: str) -> None:
        """Killed; here its end can be seen, elsewhere only its silence. Another comes in its place."""
        who = self.any_of(data, lambda who: who.held)
        for mine in who.held.values():
            mine.staging.write_text("half")
        self.end(who, where)

    def end(self, who: Claimant, where: str) -> None:
        who.wire.cut()
        who.state = f"ended {where}"
        if where == "here":
            self.world.ended |= who.tokens
        self.gone.append(who)
        self.crowd[self.crowd.index(who)] = self.newcomer()

    def ends_in_its_commit(self, data: st.DataObject, point: str) -> None:
        """Before it, the attempt is lost; after it, the output is decided, and whoever looks publishes it."""
        who, name, mine = self.holder(data)
        output = self.outputs[name]
        mine.staging.write_text(f"{name} by {mine.token}")
        who.wire.cut_at = point
        try:
            assert who.claims.commit(mine) == Fenced()
        except OutputDirectoryError:
            pass
        if point == "publish" and output.owner is who:
            output.committed, output.owner = mine.token, None
            output.attempts = output.crashes = 0
        self.end(who, "here")

    # -- what users do -------------------------------------------------------------------------------------------

    @precondition(lambda self: any(who.state == "works" for who in self.crowd) and self.failed())
    @rule(data=st.data())
    def reopens(self, data: st.DataObject) -> None:
        """A failure for good is tried again, from its first attempt; crashes are not forgotten."""
        name = data.draw(st.sampled_from(self.failed()), label="output")
        output, who = self.outputs[name], self.any_of(data, lambda who: who.state == "works")
        who.held.pop(name, None)  # which it has lost
        last = self.ask(who, name)
        assert isinstance(last, FailedBefore)
        output.is_lost, output.attempts = False, 0
        self.expect(who, name, self.ask(who, name, reopen=last.slot))

    @precondition(lambda self: any(output.writer for output in self.outputs.values()))
    @rule(data=st.data())
    def deletes_a_result(self, data: st.DataObject) -> None:
        """It is made again; what its log tells of attempts before it counts no more."""
        there = [name for name in OUTPUTS if self.outputs[name].writer]
        name = data.draw(st.sampled_from(there))
        (self.directory / name).unlink()
        self.outputs[name].writer = None

    @rule()
    def collects(self) -> None:
        """While others work: nothing that they, or who comes later, would miss."""
        gc(self.directory)
        self.after_gc()

    def after_gc(self) -> None:
        for name, output in self.outputs.items():
            if output.committed is not None and (self.directory / name).exists():
                output.writer, output.committed = output.committed, None
            if Path(self.log(name).slot(0)).exists():
                continue
            is_held = output.owner is not None and output.owner.is_there
            assert not is_held, f"{name} is being computed"
            assert output.writer or not output.has_failures, f"{name} has failed"
            output.forget()

    @precondition(lambda self: not any(who.held for who in self.crowd))
    @rule()
    def collects_all(self) -> None:
        """While nobody works: nothing is left but the outputs."""
        gc(self.directory, now=True)
        for output in self.outputs.values():
            output.writer = output.committed or output.writer
            output.forget()
        assert names(self.directory) == sorted(name for name in OUTPUTS if self.outputs[name].writer)

    # -- what always holds ---------------------------------------------------------------------------------------

    @invariant()
    def outputs_are_whole(self) -> None:
        """An output is there when the model says so, and is all of what its writer wrote."""
        for name, output in self.outputs.items():
            path = self.directory / name
            assert (path.read_text() if path.exists() else None) == (
                f"{name} by {output.writer}" if output.writer else None
            )

    def teardown(self) -> None:
        """In the end, when all have gone, ``gc`` leaves outputs and the logs that tell of failures, and no more."""
        try:
            for who in self.crowd:
                who.claims.close()
                self.let_go(who)
            for who in self.gone:
                for token in who.tokens:
                    for path in self.directory.glob(f".manyhands-{token}.*"):
                        path.unlink()  # as their guards, or a lease, would have told
                for output in self.outputs.values():
                    output.owner = None if output.owner is who else output.owner
            gc(self.directory)
            gc(self.directory)  # what the first run has published is finished by the second
            self.after_gc()
            failed = [
                name for name, output in self.outputs.items() if output.has_failures and not output.writer
            ]
            logs = tuple(self.log(name).stem for name in failed)
            left = [
                name
                for name in names(self.directory)
                if name not in OUTPUTS and not name.startswith(logs) and not name.endswith(".released-record")
            ]
            assert not left
            self.outputs_are_whole()
        finally:
            pulse.through(None)
            shutil.rmtree(self.directory)


TestClaimsMachine = ClaimsMachine.TestCase
TestClaimsMachine.settings = settings(max_examples=40, stateful_step_count=40)
