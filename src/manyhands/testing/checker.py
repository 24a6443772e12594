"""Judges histories: did processes that share a directory keep the promises of claimed outputs?

It knows the promises and nothing of how they are kept: no module of ``manyhands.claims`` is used here.

No clock is asked. Of two events it is certain which came first only if the same thread says so, or if both won slots
of one log, which are won in the order of their numbers. What was begun and never ended may have happened or not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, Literal

from manyhands.testing.events import FOR_ANOTHER, WAS_THERE, Action, Event

_ENDS: Final = ("commit", "failure", "release")
"""What ends a claim, by winning the slot next to it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A promise that was broken, or can't be judged.

    Attributes:
        rule: which, in a word or two.
        message: how.
        events: by which events.
        names: of files, where it is about those.
    """

    rule: str
    message: str
    events: tuple[Event, ...] = ()
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n    ".join([f"{self.rule}: {self.message}", *map(str, self.events)])


@dataclass(frozen=True, slots=True)
class Verdict:
    """What ``check`` found.

    Attributes:
        problems: promises that were broken, whatever is not known.
        doubts: what can't be judged, because the histories are not complete.
    """

    problems: tuple[Problem, ...] = ()
    doubts: tuple[Problem, ...] = ()

    @property
    def result(self) -> Literal["valid", "invalid", "unknown"]:
        """All in a word."""
        return "invalid" if self.problems else "unknown" if self.doubts else "valid"

    @property
    def valid(self) -> bool:
        """Whether all promises were kept, for certain: ``assert verdict.valid, verdict``."""
        return self.result == "valid"

    def __str__(self) -> str:
        return "\n  ".join(
            [self.result, *map(str, self.problems), *(f"in doubt, {each}" for each in self.doubts)]
        )


def check(
    histories: Iterable[Iterable[Event]],
    listing: Mapping[str, str] | None = None,
    outputs: Iterable[str] = (),
    others: Iterable[str] = (),
) -> Verdict:
    """Judges the histories of all processes together, and what they have left.

    Rules, by the names that a ``Problem`` has. Per output:

    - *order*: a thread does one thing after the other; it computes, commits, fails or releases what it has claimed,
      as long as the claim has not ended, in the slot next to it.
    - *slots*: each slot is won once, by one token. So claims don't overlap, and who was taken over can't commit.
    - *commits*, *publications*: there is one at most; nothing is won above a COMMIT; only who committed publishes, and
      nobody writes to the output's place before.
    - *attempts*: a claim after a failure is for a later attempt, any other for the same one; unless failures may have
      been reopened, or the code is another.
    - *finished*: who has seen the output finished claims it no more.
    - *bytes*: the output is what its writer wrote, whole.
    - *missing*, *left over*: each output is in the listing, and nothing else is.

    Args:
        histories: what ``read_histories`` gives; in any order.
        listing: what is in the directory in the end, after ``gc(directory, now=True)``: names and digests. None: that
            is not judged.
        outputs: names of outputs that must be there, beside those that were committed.
        others: names of files that may be there.

    The histories are those of one run, in which nobody removed outputs, nor called ``gc`` before the end.
    """
    judge = _Judge()
    actions = judge.read(histories)
    for name in sorted(actions):
        judge.judge_output(_Output(name, actions[name]))
    if listing is not None:
        judge.judge_listing(actions, listing, set(outputs), set(others))
    return Verdict(tuple(judge.problems), tuple(judge.doubts))


@dataclass(frozen=True, slots=True)
class _Deed:
    """An action: its two events, of which one may be missing. ``end`` is None if it may have happened or not."""

    invoke: Event | None
    end: Event | None

    @property
    def known(self) -> Event:
        """The event that tells most."""
        known = self.end or self.invoke
        assert known is not None
        return known

    @property
    def events(self) -> tuple[Event, ...]:
        return tuple(event for event in (self.invoke, self.end) if event is not None)

    @property
    def action(self) -> Action:
        return self.known.action

    @property
    def is_done(self) -> bool:
        """Whether it happened for certain."""
        return self.end is not None and self.end.kind == "ok"

    @property
    def may_be_done(self) -> bool:
        """Whether it may have happened, and nobody can tell."""
        return self.end is None or self.end.kind == "unknown"

    @property
    def claim(self) -> int:
        """The slot of the claim that it belongs to."""
        return self.known.slot - 1 if self.action in _ENDS and self.known.slot >= 0 else self.known.slot


@dataclass
class _Output:
    """All that was done to one output, in no order but that of each thread."""

    name: str
    deeds: list[_Deed]
    by_action: dict[Action, list[_Deed]] = field(init=False)

    def __post_init__(self) -> None:
        self.by_action = defaultdict(list)
        for deed in self.deeds:
            self.by_action[deed.action].append(deed)

    def done(self, *actions: Action) -> list[_Deed]:
        """What happened for certain, by slot."""
        found = [deed for action in actions for deed in self.by_action[action] if deed.is_done]
        return sorted(found, key=lambda deed: deed.known.slot)

    def open(self, *actions: Action) -> list[_Deed]:
        """What may have happened."""
        return [deed for action in actions for deed in self.by_action[action] if deed.may_be_done]

    def by_thread(self) -> Iterator[list[_Deed]]:
        """What each thread did, in its order."""
        threads: dict[str, list[_Deed]] = defaultdict(list)
        for deed in self.deeds:
            threads[deed.known.process].append(deed)
        yield from threads.values()

    def digests(self, claim: int, token: str) -> tuple[set[str], list[Event]]:
        """What is known of the bytes that were written under a claim, and the events that tell it."""
        for action in ("commit", "compute"):  # what was committed is what counts
            told = [
                event
                for deed in self.by_action[action]
                if (deed.claim, deed.known.token) == (claim, token)
                for event in deed.events
                if event.digest
            ]
            if told:
                return {event.digest for event in told}, told
        return set(), []


def _is_of(found: str, digest: str) -> bool:
    """Whether what was found is that, or the last of several files that it is of: a listing has each by itself."""
    return found == digest or found == digest.rpartition("+")[2]


def _may_count(claim: Event, failures: list[_Deed], reopened: int) -> bool:
    """Whether the attempt is the right one if failures up to a slot have been reopened."""
    later = [deed for deed in failures if reopened < deed.known.slot < claim.slot or deed.claim < 0]
    done = sum(deed.is_done for deed in later)
    return done < claim.attempt <= 1 + done + sum(deed.may_be_done for deed in later)


class _Judge:
    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.doubts: list[Problem] = []
        self._torn: set[str] = set()  # threads of which events are missing

    def _wrong(self, rule: str, message: str, *events: Event, names: Iterable[str] = ()) -> None:
        self.problems.append(Problem(rule, message, events, tuple(names)))

    def _doubt(self, rule: str, message: str, *events: Event, names: Iterable[str] = ()) -> None:
        self.doubts.append(Problem(rule, message, events, tuple(names)))

    def _wrong_if_all_is_told(self, rule: str, message: str, *events: Event) -> None:
        """A problem that what is missing of the histories, if anything is, might explain."""
        (self._doubt if self._torn else self._wrong)(rule, message, *events)

    # -- events to actions ----------------------------------------------------------------------------------------

    def read(self, histories: Iterable[Iterable[Event]]) -> dict[str, list[_Deed]]:
        """The actions by output; finds fault with threads that do two things at a time."""
        threads: dict[str, list[Event]] = defaultdict(list)
        for history in histories:
            for event in history:
                threads[event.process].append(event)
        found: dict[str, list[_Deed]] = defaultdict(list)
        for events in threads.values():
            for deed in self._deeds(sorted(events, key=lambda event: event.number)):
                found[deed.known.output].append(deed)
        return found

    def _deeds(self, events: list[Event]) -> Iterator[_Deed]:
        begun: Event | None = None
        number = 0
        for event in events:
            if event.number < number:
                self._wrong("order", "two events have the same number", event)
                continue
            is_gap, number = event.number > number, event.number + 1
            if is_gap:
                self._torn.add(event.process)
                self._doubt("order", f"events before this one are missing, up to number {number - 1}", event)
            if event.kind == "invoke":
                if begun is not None:
                    if not is_gap:
                        self._wrong("order", "one thing is begun before the other has ended", begun, event)
                    yield _Deed(begun, None)
                begun = event
            elif begun is not None and (begun.action, begun.output) == (event.action, event.output):
                yield _Deed(begun, event)
                begun = None
            else:
                if not is_gap:
                    told = [event] if begun is None else [begun, event]
                    self._wrong("order", "something ends that was not begun", *told)
                yield _Deed(None, event)
        if begun is not None:
            yield _Deed(begun, None)

    # -- one output -----------------------------------------------------------------------------------------------

    def judge_output(self, output: _Output) -> None:
        """All rules but those about what is there in the end."""
        self._check_slots(output)
        self._check_commits(output)
        for deeds in output.by_thread():
            is_whole = deeds[0].known.process not in self._torn
            self._check_thread(deeds, judges_claims=is_whole and bool(output.by_action["claim"]))
        self._check_attempts(output)
        self._check_gaps(output)

    def _check_slots(self, output: _Output) -> None:
        """Who had each slot: by what they won, and by what only its winner can begin."""
        winners: dict[int, list[tuple[str, str, Event]]] = defaultdict(list)
        for deed in output.deeds:
            event = deed.known
            if event.slot < 0:
                continue
            if deed.is_done and deed.action not in ("compute", "publish"):
                winners[event.slot].append((deed.action, event.token, event))
            if deed.action != "claim":
                winners[deed.claim].append(("claim", event.token, (deed.invoke or event)))
        for slot, found in sorted(winners.items()):
            first = found[0]
            other = next((each for each in found if each[:2] != first[:2]), None)
            if other is not None:
                self._wrong("slots", f"slot {slot} of {output.name!r} was won by two", first[2], other[2])
                continue
            won = [event for what, _, event in found if event.action == what]
            if len(won) > 1:
                self._wrong("slots", f"slot {slot} of {output.name!r} was won twice", *won)

    def _check_commits(self, output: _Output) -> None:
        commits, publications = output.done("commit"), output.done("publish")
        if len(publications) > 1:
            told = [deed.known for deed in publications]
            self._wrong("publications", f"{output.name!r} was published twice", *told)
        for commit in commits:
            if commit.known.note == WAS_THERE:
                self._wrong("publications", f"{output.name!r} was there before it was committed", commit.known)
        for commit in commits[:1]:
            for deed in output.done("claim", *_ENDS):
                if deed.known.slot > commit.known.slot:
                    wrong = f"a {deed.action} of {output.name!r} above its COMMIT"
                    self._wrong("commits", wrong, commit.known, deed.known)
        for publication in publications:
            event = publication.known
            mine = [deed for deed in commits if deed.known.token == event.token]
            if not mine and output.by_action["commit"]:
                self._wrong_if_all_is_told(
                    "publications", f"{output.name!r} was published without a COMMIT", event
                )
            written, told = output.digests(publication.claim, event.token)
            if event.digest and written and event.digest not in written:
                self._wrong("bytes", f"{output.name!r} was published with other bytes", event, *told)

    def _check_thread(self, deeds: list[_Deed], judges_claims: bool) -> None:
        """What one thread did, in its own order."""
        held: dict[tuple[int, str], Event] = {}
        ended: dict[tuple[int, str], Event] = {}
        highest: Event | None = None
        finished: Event | None = None
        for deed in deeds:
            event, key = deed.known, (deed.claim, deed.known.token)
            if deed.is_done and deed.action not in ("compute", "publish"):
                if highest is not None and event.slot < highest.slot:
                    self._wrong("order", "slots were won in falling order", highest, event)
                highest = event
            if deed.action == "claim":
                if deed.is_done:
                    held[key] = event
                    if finished is not None:
                        self._wrong("finished", "claimed after it was seen finished", finished, event)
                elif event.kind == "fail" and event.note == "finished":
                    finished = event
            elif judges_claims and deed.action != "publish" and event.note != FOR_ANOTHER:
                if key not in held:
                    self._wrong("order", f"a {deed.action} without a claim", event)
                elif key in ended and (deed.is_done or deed.action == "compute"):
                    self._wrong("order", f"a {deed.action} after the claim had ended", ended[key], event)
                if deed.action in _ENDS and not deed.may_be_done and event.note != "missing":
                    ended[key] = event

    def _check_attempts(self, output: _Output) -> None:
        claims = output.done("claim")
        failures = output.by_action["failure"]
        # For who reopens failures those up to a slot don't count; for others, who claim after it, they do.
        reopened = {event.reopen for deed in output.by_action["claim"] for event in deed.events}
        reopened = set() if reopened <= {-1} else reopened | {-1}
        codes = {event.code for deed in output.by_action["claim"] for event in deed.events}
        for first, second in pairwise(deed.known for deed in claims):
            if first.attempt < 1 or second.attempt < 1:
                continue  # not told
            between = [
                deed for deed in failures if first.slot < deed.known.slot < second.slot or deed.claim < 0
            ]
            failed = [deed.known for deed in between if deed.is_done]
            most = first.attempt + len(failed) + sum(deed.may_be_done for deed in between)
            if any(_may_count(second, failures, slot) for slot in reopened) or len(codes) > 1:
                continue  # failures of other code count for neither
            wrong = f"those of {output.name!r} don't count what failed"
            if second.attempt < first.attempt + len(failed):
                self._wrong("attempts", wrong, first, *failed, second)
            elif second.attempt > most:
                self._wrong_if_all_is_told("attempts", wrong, first, *failed, second)

    def _check_gaps(self, output: _Output) -> None:
        """Slots are won in order: who won slot 0 of a log whose slot 1 is taken is known, or may be."""
        won = output.done("claim", *_ENDS)
        slots = {deed.known.slot for deed in won} | {deed.claim for deed in output.deeds}
        if output.open("claim", *_ENDS) or any(
            event.reopen >= 0 for deed in output.by_action["claim"] for event in deed.events
        ):
            return
        if len({event.code for deed in output.by_action["claim"] for event in deed.events}) > 1:
            return  # who mends the code reopens what failed, which takes a slot
        for deed in won:
            if deed.known.slot > 0 and deed.known.slot - 1 not in slots:
                self._doubt("slots", "no history tells who won the slot before this one", deed.known)
                return

    # -- the end --------------------------------------------------------------------------------------------------

    def judge_listing(
        self,
        actions: Mapping[str, list[_Deed]],
        listing: Mapping[str, str],
        expected: set[str],
        others: set[str],
    ) -> None:
        """What is there, after ``gc``."""
        for name in sorted(expected | actions.keys()):
            output = _Output(name, actions.get(name, []))
            proofs = [deed.known for deed in output.done("commit", "publish")]
            if name in listing:
                self._check_bytes(output, listing[name])
            elif name in expected or proofs:
                self._wrong("missing", f"{name!r} is not there", *proofs, names=[name])
        left = sorted(listing.keys() - expected - actions.keys() - others)
        if left:
            self._wrong("left over", f"{', '.join(map(repr, left))} should be gone", names=left)

    def _check_bytes(self, output: _Output, found: str) -> None:
        publications = [deed.known for deed in output.done("publish") if deed.known.digest]
        if not all(_is_of(found, event.digest) for event in publications):
            self._wrong("bytes", f"{output.name!r} has changed since it was published", *publications)
            return
        writers = output.done("commit") or output.open("commit")
        if not writers and not output.by_action["commit"]:
            writers = output.by_action["compute"]  # nobody has told of claims
        if not output.deeds:
            self._doubt("bytes", f"no history tells who wrote {output.name!r}", names=[output.name])
            return
        known: set[str] = set()
        told: list[Event] = []
        is_complete = True
        for deed in writers:
            digests, events = output.digests(deed.claim, deed.known.token)
            is_complete = is_complete and bool(digests)
            known |= digests
            told += events
        if any(_is_of(found, digest) for digest in known):
            return
        if not is_complete:
            told = [deed.known for deed in writers]
            self._doubt("bytes", f"what the writer of {output.name!r} wrote is not told", *told)
        else:
            wrong = f"{output.name!r} is not what a writer wrote"
            self._wrong_if_all_is_told("bytes", wrong, *dict.fromkeys(told))
