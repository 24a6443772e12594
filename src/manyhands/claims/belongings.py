"""What lies in a directory of claims that somebody should know of: for ``manyhands doctor``. Changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from manyhands.claims.checkup import Check
from manyhands.claims.directory import mounted
from manyhands.claims.dry import DryFileSystem
from manyhands.claims.gc import gc
from manyhands.claims.mounts import Mount
from manyhands.claims.states import OutputState
from manyhands.claims.survey import Survey

_NAMED: Final = 3


def inspect(directory: Path) -> Iterator[Check]:
    """What claims, stale or not, and what leftovers there are.

    Raises:
        OSError: the directory can't be listed.
    """
    survey = Survey(directory)
    by_state: Counter[str] = Counter()
    claimed: list[OutputState] = []
    named: dict[str, list[str]] = {"stale": [], "unreadable": []}
    for found in survey.read():
        by_state[found.state] += 1
        if found.state == "running":
            claimed.append(found)
        if found.state in named and len(named[found.state]) < _NAMED:
            place = f"{found.prefix}-{found.slot}" if found.state == "unreadable" else found.name
            named[found.state].append(f"{place!r} ({found.reason})")
    yield _at_work(claimed)
    yield _leases(claimed, mounted(directory))
    yield _stale(by_state["stale"], named["stale"])
    yield _unreadable(by_state["unreadable"], named["unreadable"])
    yield _leftovers(directory)


def _at_work(claimed: list[OutputState]) -> Check:
    owners = {found.owner.token: found.owner for found in claimed if found.owner}
    hosts = {(owner.host, owner.boot_id) for owner in owners.values()}
    text = f"outputs being computed: {len(claimed):,}; workers: {len(owners):,}; machines: {len(hosts):,}"
    return Check("at work", "ok", text if claimed else "nobody computes anything there")


def _leases(claimed: list[OutputState], mount: Mount | None) -> Check:
    """Whether owners are heard of in time; a guard touches their files eight times in a lease."""
    short = {found.owner.lease for found in claimed if found.owner}
    believes = mount.believes if mount else 0.0
    if believes and short and min(short) < 2 * believes:
        return Check(
            "leases",
            "warning",
            f"a lease of {min(short):g} s, where old attributes may be shown for {believes:g} s: work is done twice",
            f"@claimed_output(lease={2 * believes:g}), or mount with a lower acregmax",
        )
    late = [found for found in claimed if found.quiet and found.lease and found.quiet > found.lease / 2]
    if late:
        who = ", ".join(sorted({found.place for found in late})[:_NAMED])
        return Check(
            "leases",
            "warning",
            f"{len(late):,} owners were not heard of for half their lease: {who}",
            "if they live, see that the clocks agree, and that their guard process was not killed",
        )
    return Check("leases", "ok", "all owners are heard of in time" if claimed else "nobody holds one")


def _stale(count: int, named: list[str]) -> Check:
    if not count:
        return Check("stale claims", "ok", "none")
    text = f"{count:,}: {_listed(named, count)}"
    return Check(
        "stale claims", "warning", text, "the next run takes them over; manyhands retry --stale does so at once"
    )


def _unreadable(count: int, named: list[str]) -> Check:
    if not count:
        return Check("foreign files", "ok", "none in the place of a claim")
    return Check(
        "foreign files",
        "problem",
        f"{count:,} in the place of a claim: {_listed(named, count)}",
        "move them away; if they are torn claims and nobody works there: manyhands gc --now",
    )


def _leftovers(directory: Path) -> Check:
    left = gc(directory, filesystem=DryFileSystem())
    if not left:
        return Check("leftovers", "ok", "none")
    return Check("leftovers", "warning", f"{len(left):,} files that nobody needs", "manyhands gc removes them")


def _listed(named: list[str], count: int) -> str:
    return ", ".join(named) + (f" and {count - len(named):,} more" if count > len(named) else "")
