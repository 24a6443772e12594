"""Maps over lists of claimed items: what is there is found at once and takes no place; others are kept clear of."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tqdm import tqdm

from manyhands import OUTPUT, DuplicateOutput, Progress, claimed_output, parallel
from manyhands.claims import Claims, Log, Mine
from manyhands.testing import fail_at, inline, race
from tests.end_to_end import tasks
from tests.helpers import lines, tell, wait_for

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that this process asks for with lstat."""
    asked, lstat = [], os.lstat

    def noting(path: Any, *args: Any, **options: Any) -> os.stat_result:
        asked.append(os.fspath(path))
        return lstat(path, *args, **options)

    monkeypatch.setattr(os, "lstat", noting)
    return asked


def test_what_is_there_is_found_by_listing(here: Path, log: Path, looks: list[str]) -> None:
    """It is not looked for one by one, nor claimed, and the whole list comes, in order."""
    items = [f"item {n}" for n in range(500)]
    (here / "out").mkdir()
    for item in items[:250] + items[260:]:
        (here / "out" / f"{item}.txt").touch()
    outcomes = list(tasks.write.map(items, args=(log,), backend="inline").outcomes())
    assert [outcome.value for outcome in outcomes] == [here / "out" / f"{item}.txt" for item in items]
    assert [outcome.index for outcome in outcomes if outcome.result.computed] == list(range(250, 260))  # type: ignore[union-attr]
    assert tasks.calls(log) == dict.fromkeys(items[250:260], 1)
    assert len([path for path in looks if path.endswith(".txt")]) < 100


def test_a_directory_with_much_else_is_not_listed(
    here: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a few items are about is looked for in another way there."""
    monkeypatch.setattr("manyhands.decorators.listed._ENTRIES_MIN", 20)
    monkeypatch.setattr("manyhands.decorators.listed._ENTRIES_PER_ITEM", 2)
    (here / "out").mkdir()
    for number in range(100):
        (here / "out" / f"else {number}").touch()
    (here / "out" / "a.txt").touch()
    outcomes = list(tasks.write.map(["a", "b"], args=(log,), backend="inline").outcomes())
    assert [outcome.result.computed for outcome in outcomes] == [False, True]  # type: ignore[union-attr]


def test_a_slow_first_item_holds_nothing_up(here: Path) -> None:
    """All others are computed while it runs, however small the buffer is."""
    last = here / "last"
    os.mkfifo(last)

    @parallel(workers=2, buffersize=2)
    @claimed_output("{number}.txt")
    def compute(number: int, output: Path = OUTPUT) -> None:
        if number == 0:
            wait_for(last)
        output.touch()
        if number == 29:
            tell(last, "done")

    assert [path.name for path in compute.map(range(30))] == [f"{number}.txt" for number in range(30)]


def test_values_are_loaded_when_they_are_due(here: Path, log: Path) -> None:
    """And no further ahead than buffersize."""

    def load(path: Path) -> str:
        tell(log / "loaded", path.name)
        return path.read_text()

    @parallel(workers=1, buffersize=4)
    @claimed_output("{number}.txt", load=load)
    def compute(number: int, output: Path = OUTPUT) -> None:
        output.write_text(f"value {number}")

    for number in range(10, 40):
        (here / f"{number}.txt").write_text(f"value {number}")
    with compute.map(range(50)) as results:
        taken = [next(results) for _ in range(15)]
    assert taken == [f"value {number}" for number in range(15)]
    loaded = lines(log / "loaded")
    assert 15 <= len(loaded) <= 15 + 4 + 1
    assert list(compute.map(range(50))) == [f"value {number}" for number in range(50)]


def test_inline_values_are_loaded_one_by_one(here: Path) -> None:
    """Each when it is asked for, where it is certain that nothing else is due."""
    loaded = []

    def load(path: Path) -> str:
        loaded.append(path.name)
        return path.name

    @parallel(backend="inline")
    @claimed_output("{number}.txt", load=load)
    def compute(number: int, output: Path = OUTPUT) -> None:
        output.touch()

    for number in range(10):
        (here / f"{number}.txt").touch()
    results = compute.map(range(10))
    assert [next(results), next(results)] == ["0.txt", "1.txt"]
    assert loaded == ["0.txt", "1.txt"]
    results.close()


def test_who_meets_others_keeps_out_of_their_way(here: Path) -> None:
    """Somebody who works there is seen before the first claim; then the order is an own one. All is given in order."""
    order: list[int] = []

    @parallel(backend="inline")
    @claimed_output("{number}.txt")
    def compute(number: int, output: Path = OUTPUT) -> None:
        order.append(number)
        output.touch()

    def other(lap: int, racer: int) -> None:
        with Claims() as claims:
            assert isinstance(claims.acquire(Log.of("another.txt")), Mine)
            tell("claimed", "yes")
            wait_for("end")

    for fifo in ("claimed", "end"):
        os.mkfifo(fifo)

    def meanwhile(pids: list[int]) -> None:
        wait_for("claimed")
        paths = list(compute.map(range(50)))
        tell("end", "now")
        assert [path.name for path in paths] == [f"{number}.txt" for number in range(50)]

    race(other, processes=1, meanwhile=meanwhile)[0][0].result()
    assert sorted(order) == list(range(50))
    assert order != list(range(50))


def test_a_list_shared_by_processes(here: Path, log: Path) -> None:
    """Each has the whole list in order, and each output is computed once."""
    items = [f"item {n}" for n in range(60)]

    def share(lap: int, racer: int) -> list[str]:
        return [path.stem for path in tasks.write.map(items, args=(log,), backend="inline")]

    for lap in race(share, processes=3)[0]:
        assert lap.result() == items
    assert tasks.calls(log) == dict.fromkeys(items, 1)


def test_an_output_claimed_elsewhere_is_left_alone(here: Path, log: Path) -> None:
    """With ``wait=False`` a map comes to the end of its list nonetheless, with all the rest."""
    leaving = parallel(claimed_output("out/{item}.txt", wait=False)(tasks.write.__wrapped__))
    (here / "out").mkdir()

    def meanwhile(pids: list[int]) -> None:
        wait_for("claimed")
        outcomes = list(leaving.map(["a", "b", "c"], args=(log,), backend="inline").outcomes())
        tell("end", "now")
        assert [outcome.elsewhere is not None for outcome in outcomes] == [False, True, False]

    def other(lap: int, racer: int) -> None:
        with Claims() as claims:
            assert isinstance(claims.acquire(Log.of(here / "out" / "b.txt")), Mine)
            tell("claimed", "yes")
            wait_for("end")

    for fifo in ("claimed", "end"):
        os.mkfifo(fifo)
    race(other, processes=1, meanwhile=meanwhile)[0][0].result()


def test_the_same_output_twice_is_told(here: Path, log: Path) -> None:
    """Also where both would be found to be there already."""
    (here / "out").mkdir()
    (here / "out" / "a.txt").touch()
    with pytest.raises(DuplicateOutput, match="items 0 and 2"):
        tasks.write.map(["a", "b", "a"], args=(log,), backend="inline")
    outcomes = list(
        tasks.write.map(["a", "b", "a"], args=(log,), backend="inline", on_error="return").outcomes()
    )
    assert [type(outcome.failure and outcome.failure.error) for outcome in outcomes] == [
        type(None),
        type(None),
        DuplicateOutput,
    ]


def test_the_bar_tells_what_others_do(here: Path, log: Path) -> None:
    """How many were done here and elsewhere, and how many are claimed elsewhere at the moment."""
    shown: list[dict[str, int]] = []

    class Bar(tqdm):
        def set_postfix(self, ordered_dict: Any = None, refresh: bool | None = True, **kwargs: Any) -> None:
            if "claimed" in ordered_dict and not any("claimed" in before for before in shown):
                tell("end", "now")
            shown.append(dict(ordered_dict))

    (here / "out").mkdir()
    for item in ("a", "b"):
        (here / "out" / f"{item}.txt").touch()

    def other(lap: int, racer: int) -> None:
        with Claims() as claims:
            mine = claims.acquire(Log.of(here / "out" / "c.txt"))
            assert isinstance(mine, Mine)
            tell("claimed", "yes")
            wait_for("end")
            mine.staging.touch()
            claims.commit(mine)

    def meanwhile(pids: list[int]) -> None:
        wait_for("claimed")
        list(tasks.write.map(["a", "b", "c", "d"], args=(log,), progress=Bar, backend="inline"))

    for fifo in ("claimed", "end"):
        os.mkfifo(fifo)
    race(other, processes=1, meanwhile=meanwhile)[0][0].result()
    assert any(marks.get("claimed") == 1 and marks.get("elsewhere") == 2 for marks in shown)
    assert shown[-1] == {"here": 1, "elsewhere": 3}


def test_failures_from_before_are_tried_again(here: Path, log: Path) -> None:
    """As in any other map: what failed before the list was looked at is open, what fails later is told."""
    items = ["bad", *(f"item {n}" for n in range(40))]

    @parallel(backend="inline")
    @claimed_output("{item}.txt")
    def write(item: str, output: Path = OUTPUT) -> None:
        tell(log / item, "called")
        if item == "bad":
            raise ValueError("as ever")
        output.touch()

    for times in (1, 2, 3):
        _, failures = write.map(items, on_error="return").collect()
        assert [failure.item for failure in failures] == ["bad"]
        assert isinstance(failures[0].error, ValueError)
        assert len(lines(log / "bad")) == times
    believing = parallel(backend="inline")(claimed_output("{item}.txt", failed="report")(write.__wrapped__))
    _, failures = believing.map(items, on_error="return").collect()
    assert len(lines(log / "bad")) == 3
    assert "as ever" in str(failures[0].error)


def load_text(path: Path) -> str:
    """What is in there."""
    return path.read_text()


@parallel
@claimed_output("{number}.txt", load=load_text, fingerprint="one")
def loaded(number: int, output: Path = OUTPUT) -> None:
    """Its value comes from its output."""
    if number == 13:
        raise ValueError("unlucky")
    output.write_text(f"value {number}")


@pytest.mark.parametrize("form", [list, iter], ids=["list", "iterator"])
def test_what_is_there_is_loaded_without_a_claim(
    here: Path, monkeypatch: pytest.MonkeyPatch, form: Callable[[range], Any]
) -> None:
    """Where nothing can be written, too."""
    list(loaded.map(range(5), backend="inline"))

    def refuse(directory: Path) -> None:
        raise AssertionError("nothing is to be written")

    monkeypatch.setattr("manyhands.decorators.gate.check_directory", refuse)
    with inline(filesystem=fail_at("before write record", errno.EROFS, nth=0)):
        assert list(loaded.map(form(range(5)))) == [f"value {number}" for number in range(5)]
        assert loaded(3) == "value 3"


@pytest.mark.parametrize("ordered", [True, False])
def test_each_item_is_counted_once(here: Path, ordered: bool) -> None:
    """Also those that are computed, or found, first and loaded later."""
    told: list[Progress] = []
    list(loaded.map(range(10), backend="inline"))
    options = {"workers": 2, "buffersize": 2, "on_error": "skip", "ordered": ordered}
    values = list(loaded.map(range(60), progress=told.append, **options))
    assert sorted(values) == sorted(f"value {number}" for number in range(60) if number != 13)
    last = told[-1]
    assert last.ended and last.done == 60
    assert (last.values, last.elsewhere, last.failures) == (49, 10, 1)


def test_a_list_that_is_changed_meanwhile(here: Path, log: Path) -> None:
    """What is mapped is what was given."""
    items = [f"item {n}" for n in range(20)]
    given = list(items)
    names = []
    for path in tasks.write.map(given, args=(log,), backend="inline"):
        names.append(path.stem)
        given.clear()
    assert names == items


def test_a_range_without_an_end(here: Path) -> None:
    """It is not gone through before the first item is."""

    @parallel(backend="inline")
    @claimed_output("{number}.txt")
    def compute(number: int, output: Path = OUTPUT) -> None:
        output.touch()

    with compute.map(range(10**30)) as results:
        assert [path.name for path in itertools.islice(results, 3)] == ["0.txt", "1.txt", "2.txt"]
