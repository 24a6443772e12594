"""The checker of histories: what a simple model does is valid, and what is then made wrong is found."""

from __future__ import annotations

import ast
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from manyhands.testing import checker, events
from manyhands.testing.checker import Verdict, check
from manyhands.testing.events import Event, from_line, to_line

Histories = list[list[Event]]


# -- a model of processes that share outputs ---------------------------------------------------------------------


@dataclass
class Log:
    """The slots of one output, as (what, token, attempt), and the output."""

    name: str
    slots: list[tuple[str, str, int]] = field(default_factory=list)
    staged: dict[tuple[int, str], str] = field(default_factory=dict)
    final: str = ""


@dataclass
class Run:
    """What came of a run of the model."""

    histories: Histories
    listing: dict[str, str]


class Thread:
    """One that claims outputs, computes and ends its claims, one step at a time; it may be killed at any."""

    def __init__(self, name: str, logs: list[Log], luck: random.Random) -> None:
        self.name, self.logs, self.luck = name, logs, luck
        self.events: list[Event] = []
        self.lives = itertools.count()
        self.token = ""
        self.killed: set[str] = set()
        self.steps = self.work()

    def say(self, kind: str, action: str, log: Log, **known: object) -> None:
        self.events.append(Event(self.name, len(self.events), kind, action, log.name, **known))

    def work(self) -> Iterator[None]:
        """Yields before everything that others can see, or that may be the last."""
        for log in self.luck.sample(self.logs, len(self.logs)):
            while not log.final:
                self.token = f"{self.name}-{next(self.lives)}"
                yield from self.one(log)
                yield
            self.say("invoke", "claim", log, token=self.token)
            yield
            self.say("fail", "claim", log, note="finished")

    def one(self, log: Log) -> Iterator[None]:
        self.say("invoke", "claim", log, token=self.token)
        yield
        head = log.slots[-1] if log.slots else ("", "", 0)
        if head[0] == "commit":
            log.final = log.staged[len(log.slots) - 2, head[1]]
        if log.final or (head[0] == "claim" and head[1] not in self.killed):
            yield
            self.say("fail", "claim", log, note="finished" if log.final else "busy")
            return
        slot = len(log.slots)
        attempt = 1 + sum(what == "failure" for what, _, _ in log.slots)
        log.slots.append(("claim", self.token, attempt))
        yield
        known = {"slot": slot, "token": self.token}
        self.say("ok", "claim", log, attempt=attempt, **known)
        yield
        self.say("invoke", "compute", log, **known)
        yield
        digest = log.staged[slot, self.token] = f"bytes of {self.token}"
        self.say("ok", "compute", log, digest=digest, **known)
        yield
        action = self.luck.choice(("commit", "commit", "failure", "release"))
        known = {"slot": slot + 1, "token": self.token}
        known |= (
            {"digest": digest} if action == "commit" else {"attempt": attempt} if action == "failure" else {}
        )
        self.say("invoke", action, log, **known)
        yield
        if len(log.slots) > slot + 1:
            yield
            self.say("fail", action, log, note="fenced", **known)
            return
        log.slots.append((action, self.token, attempt))
        yield
        if self.luck.random() < 0.1:
            self.say("unknown", action, log, note="given up", **known)  # the reply was lost
            return
        self.say("ok", action, log, **known)
        if action == "commit":
            log.final = digest
            yield
            known = {"slot": slot, "token": self.token}
            self.say("invoke", "publish", log, **known)
            yield
            self.say("ok", "publish", log, digest=digest, **known)


def play(luck: random.Random, threads: int, outputs: int, kills: int) -> Run:
    """Threads in an order that ``luck`` chooses; who is killed is replaced, and taken for dead by all, or suspected."""
    logs = [Log(f"{number}.csv") for number in range(outputs)]
    names = (f"p{number}" for number in itertools.count())
    all_threads = [Thread(next(names), logs, luck) for _ in range(threads)]
    running = list(all_threads)
    while running:
        thread = luck.choice(running)
        if kills and luck.random() < 0.1:
            kills -= 1
            for other in all_threads:
                other.killed.add(thread.token)
            if luck.random() < 0.5:  # else it was only stopped, and goes on
                running.remove(thread)
                replacement = Thread(next(names), logs, luck)
                replacement.killed |= thread.killed
                all_threads.append(replacement)
                running.append(replacement)
                continue
        if thread not in running:
            continue
        # Who gave up without knowing whether it was heard is not waited for.
        for other in all_threads:
            if other.events and other.events[-1].kind == "unknown":
                for each in all_threads:
                    each.killed.add(other.events[-1].token)
        if next(thread.steps, thread) is thread:
            running.remove(thread)
    return Run([thread.events for thread in all_threads], {log.name: log.final for log in logs})


@st.composite
def runs(draw: Callable[..., int], kills: int = 3) -> Run:
    """Runs of the model."""
    luck = random.Random(draw(st.integers(0, 2**32)))
    return play(
        luck, draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(0, kills)) if kills else 0
    )


# -- what is valid -----------------------------------------------------------------------------------------------


@given(runs())
def test_what_the_model_does_is_valid(run: Run) -> None:
    """No rule is broken by threads that claim, compute, fail, are taken over and killed; nothing is in doubt."""
    verdict = check(run.histories, run.listing)
    assert verdict.valid, str(verdict)


@given(runs(), st.randoms(use_true_random=False))
def test_the_order_of_histories_says_nothing(run: Run, luck: random.Random) -> None:
    """Files and lines of several threads may come in any order: numbers tell what came first."""
    mixed = [event for history in run.histories for event in history]
    luck.shuffle(mixed)
    assert check([mixed], run.listing).valid


@given(runs())
def test_events_survive_their_lines(run: Run) -> None:
    """An event read from its line is the event; a line that is torn is none."""
    for event in itertools.chain(*run.histories):
        line = to_line(event)
        assert from_line(line) == event
        assert line.endswith(b"\n")
        assert all(from_line(line[:end]) is None for end in range(1, len(line) - 1))


# -- what is not -------------------------------------------------------------------------------------------------


def pick(run: Run, data: st.DataObject, *wanted: tuple[str, str]) -> tuple[int, int, Event]:
    """One of the events of these kinds and actions: in which history, where, and itself."""
    found = [
        (index, place, event)
        for index, history in enumerate(run.histories)
        for place, event in enumerate(history)
        if (event.kind, event.action) in wanted
    ]
    assume(found)
    return data.draw(st.sampled_from(found))


def stranger(*told: Event) -> list[Event]:
    """Another thread that says this, in this order, each action begun before."""
    said = []
    for event in told:
        said += [replace(event, kind="invoke"), event]
    return [replace(event, process="stranger", number=number) for number, event in enumerate(said)]


def renumbered(history: list[Event]) -> list[Event]:
    """The history as if it had always been so."""
    return [replace(event, number=number) for number, event in enumerate(history)]


Corrupted = tuple[Histories, dict[str, str], str, set[Event]]
"""What to judge, the rule that is broken, and the events that must be named."""

Corruption = Callable[[Run, st.DataObject], Corrupted]


def slot_won_by_two(run: Run, data: st.DataObject) -> Corrupted:
    _, _, event = pick(run, data, ("ok", "claim"))
    other = stranger(replace(event, token="another"))
    return [*run.histories, other], run.listing, "slots", {event, other[-1]}


def slot_won_twice(run: Run, data: st.DataObject) -> Corrupted:
    _, _, event = pick(run, data, ("ok", "claim"), ("ok", "failure"), ("ok", "release"))
    other = stranger(event)
    return [*run.histories, other], run.listing, "slots", {event, other[-1]}


def fenced_commit(run: Run, data: st.DataObject) -> Corrupted:
    """Who was taken over commits all the same."""
    index, place, event = pick(run, data, ("fail", "commit"))
    won = [each for each in itertools.chain(*run.histories) if each.kind == "ok" and each.action != "publish"]
    assume(
        any((each.output, each.slot) == (event.output, event.slot) and each.action != "compute" for each in won)
    )
    changed = replace(event, kind="ok", note="")
    history = [*run.histories[index]]
    history[place] = changed
    return _replaced(run, index, history), run.listing, "slots", {changed}


def second_commit(run: Run, data: st.DataObject) -> Corrupted:
    _, _, event = pick(run, data, ("ok", "commit"))
    later = replace(event, slot=event.slot + 2, token="another")
    claim = replace(event, action="claim", slot=event.slot + 1, token="another", digest="", attempt=0)
    other = stranger(claim, later)
    return [*run.histories, other], run.listing, "commits", {event, other[-1]}


def claim_above_commit(run: Run, data: st.DataObject) -> Corrupted:
    _, _, event = pick(run, data, ("ok", "commit"))
    other = stranger(replace(event, action="claim", slot=event.slot + 1, token="another", digest=""))
    return [*run.histories, other], run.listing, "commits", {event, other[-1]}


def second_publication(run: Run, data: st.DataObject) -> Corrupted:
    _, _, event = pick(run, data, ("ok", "publish"))
    other = stranger(event)
    return [*run.histories, other], run.listing, "publications", {event, other[-1]}


def publication_without_commit(run: Run, data: st.DataObject) -> Corrupted:
    index, place, event = pick(run, data, ("ok", "publish"))
    other = stranger(replace(event, token="another"))
    history = renumbered(run.histories[index][: place - 1] + run.histories[index][place + 1 :])
    return [*_replaced(run, index, history), other], run.listing, "publications", {other[-1]}


def published_other_bytes(run: Run, data: st.DataObject) -> Corrupted:
    index, place, event = pick(run, data, ("ok", "publish"))
    changed = replace(event, digest="other bytes")
    history = [*run.histories[index]]
    history[place] = changed
    # What is there is what was published: only the writer knows better.
    return _replaced(run, index, history), {**run.listing, event.output: "other bytes"}, "bytes", {changed}


def output_changed(run: Run, data: st.DataObject) -> Corrupted:
    _, _, event = pick(run, data, ("ok", "publish"))
    return run.histories, {**run.listing, event.output: "other bytes"}, "bytes", {event}


def output_of_the_fenced(run: Run, data: st.DataObject) -> Corrupted:
    """What is there was written whole, but not by who committed."""
    _, _, event = pick(run, data, ("ok", "commit"))
    others = {
        each.digest
        for each in itertools.chain(*run.histories)
        if (each.output, each.action) == (event.output, "compute") and each.digest not in ("", event.digest)
    }
    assume(others)
    histories = [[each for each in history if each.action != "publish"] for history in run.histories]
    found = data.draw(st.sampled_from(sorted(others)))
    histories = [renumbered(history) for history in histories]
    named = next(
        each
        for each in itertools.chain(*histories)
        if (each.kind, each.action, each.output) == ("ok", "commit", event.output)
    )
    return histories, {**run.listing, event.output: found}, "bytes", {named}


def output_missing(run: Run, data: st.DataObject) -> Corrupted:
    _, _, event = pick(run, data, ("ok", "commit"))
    listing = {name: digest for name, digest in run.listing.items() if name != event.output}
    return run.histories, listing, "missing", {event}


def attempt_forgotten(run: Run, data: st.DataObject) -> Corrupted:
    """After a failure the next claim is for the first attempt again."""
    index, place, event = pick(run, data, ("ok", "claim"))
    assume(event.attempt > 1)
    before = [
        each
        for each in itertools.chain(*run.histories)
        if (each.kind, each.action, each.output) == ("ok", "claim", event.output) and each.slot < event.slot
    ]
    failed = [
        each
        for each in itertools.chain(*run.histories)
        if (each.kind, each.action, each.output) == ("ok", "failure", event.output) and each.slot < event.slot
    ]
    last = max(before, key=lambda each: each.slot, default=None)
    assume(last is not None and any(each.slot > last.slot for each in failed))
    changed = replace(event, attempt=last.attempt)
    history = [*run.histories[index]]
    history[place] = changed
    return _replaced(run, index, history), run.listing, "attempts", {last, changed}


def attempt_invented(run: Run, data: st.DataObject) -> Corrupted:
    index, place, event = pick(run, data, ("ok", "claim"))
    assume(event.slot > 0)
    changed = replace(event, attempt=event.attempt + 10)
    history = [*run.histories[index]]
    history[place] = changed
    known = {
        each.slot
        for each in itertools.chain(*run.histories)
        if (each.kind, each.action, each.output) == ("ok", "claim", event.output)
    }
    assume(any(slot < event.slot for slot in known))
    return _replaced(run, index, history), run.listing, "attempts", {changed}


def computed_without_claim(run: Run, data: st.DataObject) -> Corrupted:
    index, place, event = pick(run, data, ("ok", "claim"))
    assume(len(run.histories[index]) > place + 2)
    history = renumbered(run.histories[index][: place - 1] + run.histories[index][place + 1 :])
    assume(any((each.kind, each.action) == ("ok", "claim") for each in itertools.chain(*run.histories)))
    changed = _replaced(run, index, history)
    assume(any(each.action == "claim" and each.output == event.output for each in itertools.chain(*changed)))
    named = history[place]  # its end
    return changed, run.listing, "order", {named}


def went_on_after_its_end(run: Run, data: st.DataObject) -> Corrupted:
    index, place, event = pick(run, data, ("fail", "commit"), ("ok", "failure"), ("ok", "release"))
    again = [
        replace(event, kind=kind, action="compute", slot=event.slot - 1, note="", attempt=0)
        for kind in ("invoke", "ok")
    ]
    history = renumbered([*run.histories[index][: place + 1], *again, *run.histories[index][place + 1 :]])
    return _replaced(run, index, history), run.listing, "order", {history[place], history[place + 2]}


def two_at_a_time(run: Run, data: st.DataObject) -> Corrupted:
    index, place, event = pick(run, data, ("invoke", "compute"), ("invoke", "claim"))
    extra = replace(event, action="release")
    history = renumbered([*run.histories[index][: place + 1], extra, *run.histories[index][place + 1 :]])
    return _replaced(run, index, history), run.listing, "order", {history[place], history[place + 1]}


def end_without_beginning(run: Run, data: st.DataObject) -> Corrupted:
    index, place, _ = pick(run, data, ("ok", "claim"), ("ok", "commit"), ("fail", "claim"))
    history = renumbered(run.histories[index][: place - 1] + run.histories[index][place:])
    return _replaced(run, index, history), run.listing, "order", {history[place - 1]}


def falling_slots(run: Run, data: st.DataObject) -> Corrupted:
    """A thread wins a lower slot after a higher one."""
    index, place, event = pick(run, data, ("ok", "claim"))
    assume(event.slot > 0)
    early = [
        replace(event, kind=kind, slot=event.slot + 7, token="later", attempt=0) for kind in ("invoke", "ok")
    ]
    history = renumbered([*run.histories[index][: place - 1], *early, *run.histories[index][place - 1 :]])
    return _replaced(run, index, history), run.listing, "order", {history[place], history[place + 2]}


def claimed_when_finished(run: Run, data: st.DataObject) -> Corrupted:
    index, place, event = pick(run, data, ("ok", "claim"))
    seen = [
        Event(event.process, 0, kind, "claim", event.output, note="finished" if kind == "fail" else "")
        for kind in ("invoke", "fail")
    ]
    history = renumbered([*run.histories[index][: place - 1], *seen, *run.histories[index][place - 1 :]])
    return _replaced(run, index, history), run.listing, "finished", {history[place], history[place + 2]}


def _replaced(run: Run, index: int, history: list[Event]) -> Histories:
    return [history if at == index else each for at, each in enumerate(run.histories)]


CORRUPTIONS: list[Corruption] = [
    slot_won_by_two,
    slot_won_twice,
    fenced_commit,
    second_commit,
    claim_above_commit,
    second_publication,
    publication_without_commit,
    published_other_bytes,
    output_changed,
    output_of_the_fenced,
    output_missing,
    attempt_forgotten,
    attempt_invented,
    computed_without_claim,
    went_on_after_its_end,
    two_at_a_time,
    end_without_beginning,
    falling_slots,
    claimed_when_finished,
]


def named(verdict: Verdict, rule: str) -> list[set[Event]]:
    """The events of each problem under this rule."""
    return [set(problem.events) for problem in verdict.problems if problem.rule == rule]


@pytest.mark.parametrize("corrupt", CORRUPTIONS, ids=lambda corrupt: corrupt.__name__)
@settings(
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow]
)  # some are about rare events
@given(run=runs(kills=12), data=st.data())
def test_what_is_made_wrong_is_found(corrupt: Corruption, run: Run, data: st.DataObject) -> None:
    """Each kind of corruption is invalid, under its rule, by the events that were touched."""
    histories, listing, rule, events = corrupt(run, data)
    verdict = check(histories, listing)
    assert verdict.result == "invalid"
    assert any(events <= found for found in named(verdict, rule)), str(verdict)


@given(runs(), st.sampled_from([".0.csv.claim-0", ".manyhands-0.claim-record", "notes.txt"]))
def test_what_is_left_over_is_named(run: Run, name: str) -> None:
    """A file that is no output is a problem, unless the caller knows it."""
    listing = {**run.listing, name: "some bytes"}
    verdict = check(run.histories, listing)
    assert [(problem.rule, problem.names) for problem in verdict.problems] == [("left over", (name,))]
    assert check(run.histories, listing, others=[name]).valid


@given(runs())
def test_an_output_that_was_expected_is_missed(run: Run) -> None:
    """What must be there and is not is a problem, though no history tells of it."""
    verdict = check(run.histories, run.listing, outputs=["other.csv"])
    assert [(problem.rule, problem.names) for problem in verdict.problems] == [("missing", ("other.csv",))]


# -- what can't be judged ----------------------------------------------------------------------------------------


@given(runs(), st.data())
def test_lines_that_are_missing_leave_doubts(run: Run, data: st.DataObject) -> None:
    """Where numbers are missing the verdict is unknown, not invalid."""
    index, place, _ = pick(run, data, *itertools.product(events.KINDS, events.ACTIONS))
    assume(place < len(run.histories[index]) - 1)
    history = [event for event in run.histories[index] if event.number != place]
    verdict = check(_replaced(run, index, history), run.listing)
    assert verdict.result == "unknown", str(verdict)
    assert any(history[place] in doubt.events for doubt in verdict.doubts)


def test_a_history_that_is_missing_leaves_a_doubt() -> None:
    """Slots are won in order: if nobody tells who won one below another, somebody's history is not there."""
    claim = Event("p", 0, "ok", "claim", "a", 2, "t", 1)
    verdict = check([stranger(claim)])
    assert (verdict.result, [doubt.rule for doubt in verdict.doubts]) == ("unknown", ["slots"])
    begun = Event("q", 0, "invoke", "claim", "a", token="u")
    assert check([stranger(claim), [begun]]).valid  # it may have been this one's


def test_two_events_of_one_number_are_wrong() -> None:
    """A thread counts its events; two histories of one name are no history."""
    said = stranger(Event("p", 0, "ok", "claim", "a", 0, "t", 1))
    [problem] = check([said, said[:1]]).problems
    assert (problem.message, problem.events) == ("two events have the same number", (said[0],))


def test_an_output_of_nobody_is_in_doubt() -> None:
    """An output that was expected and is there, without any history of it, may have been there before."""
    verdict = check([], {"a.csv": "bytes"}, outputs=["a.csv"])
    assert (verdict.result, verdict.doubts[0].names) == ("unknown", ("a.csv",))


def test_histories_of_bodies_alone_are_judged() -> None:
    """Where nobody tells of claims, an output must be what some body wrote, and a slot is one body's."""
    one = [Event("p", 0, "invoke", "compute", "a", 0, "t"), Event("p", 1, "ok", "compute", "a", 0, "t", 0, "x")]
    two = [replace(event, process="q", token="u", slot=1, digest="y") for event in one]
    assert check([one, two], {"a": "y"}).valid
    assert named(check([one, two], {"a": "z"}), "bytes") == [{one[1], two[0], two[1]}]
    other = [replace(event, slot=0) for event in two]
    assert named(check([one, other], {"a": "y"}), "slots") == [{one[0], other[0]}]


def test_an_output_by_who_was_killed_at_its_commit_is_valid() -> None:
    """A COMMIT that may have happened explains the output, and its absence too."""
    said = stranger(
        Event("", 0, "ok", "claim", "a", 0, "t", 1),
        Event("", 0, "ok", "compute", "a", 0, "t", digest="x"),
        Event("", 0, "ok", "commit", "a", 1, "t", digest="x"),
    )[:-1]
    assert check([said], {"a": "x"}).valid
    assert check([said], {}).valid
    assert [problem.rule for problem in check([said], {"a": "y"}).problems] == ["bytes"]


def test_failures_that_were_reopened_start_afresh() -> None:
    """Attempts count from 1 again only if somebody has reopened what failed."""
    claim = Event("p", 0, "ok", "claim", "a", 0, "t", 1)
    failure = Event("p", 0, "ok", "failure", "a", 1, "t", 1)
    again = replace(claim, slot=3, token="u", reopen=1)
    assert check([stranger(claim, failure, again)]).valid
    taken_over = replace(claim, slot=2, token="v", attempt=2)
    assert check([stranger(claim, failure, taken_over, again)]).valid
    assert check([stranger(claim, failure, again, replace(taken_over, slot=4))]).valid
    assert named(check([stranger(claim, failure, replace(again, attempt=3))]), "attempts")
    late = replace(again, slot=2, reopen=-1)
    assert named(check([stranger(claim, failure, late)]), "attempts")
    assert check([stranger(claim, failure, replace(late, attempt=2))]).valid


def test_the_checker_knows_nothing_of_claims() -> None:
    """What judges the protocol shares no code with it."""
    for module in (checker, events):
        tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
        names = {
            name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom | ast.Import)
            for name in (
                [node.module] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names]
            )
        }
        ours = {name for name in names if name and name.startswith("manyhands")}
        assert ours <= {"manyhands.testing.events"}


def test_a_verdict_reads_well() -> None:
    """It names the rule and the events, one in a line."""
    claim = Event("p", 0, "ok", "claim", "a", 0, "t", 1)
    other = stranger(replace(claim, token="u"))
    told = str(check([stranger(claim), [replace(event, process="q") for event in other]]))
    assert told.startswith(
        "invalid\n  slots: slot 0 of 'a' was won by two\n    stranger #1: ok claim 'a', slot 0, token t"
    )
