"""Illegal uses: mypy --strict and pyright must reject each line that is marked so, for the reason it says.

An expectation that a checker does not meet any more is itself an error there. Nothing here is called, and the
module is not even imported, since some uses are refused at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

from manyhands import (
    OUTPUT,
    Controller,
    Results,
    claimed_output,
    configure,
    gc,
    parallel,
    retry_on,
    validated,
    worker_info,
)
from manyhands.compat.parmapper import ReturnProcess, parmap


def known(value: object) -> bool:
    return value is not None


def save_text(value: object, path: Path) -> None:
    path.write_text(str(value))


def no_progress(done: str) -> None: ...


@parallel
def scaled(x: int, scale: float = 1.0) -> float:
    return x * scale


@retry_on(OSError)
def plain(x: int) -> int:
    return x


@validated
def annotated(x: int) -> int:
    return x


@claimed_output("{x}.txt")
def written(x: int, output: Path = OUTPUT) -> None:
    output.write_text(str(x))


@parallel
@claimed_output("{x}.txt", save=save_text, load=Path.read_text)
def loaded(x: int) -> int:
    return x


class Scale:
    @parallel
    def method(self, x: int) -> int:
        return x

    @parallel
    @classmethod
    def of_class(cls, x: int) -> int:
        return x

    @parallel
    @staticmethod
    def static(x: int) -> int:
        return x


def arguments_of_calls(scale: Scale) -> None:
    scaled("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    scaled(1, 2.0, 3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    scaled(y=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    plain()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    written("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    loaded.submit("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    scaled.submit(1, factor=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    scale.method("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    scale.method(scale, 1)  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue]
    Scale.method(1)  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue]
    Scale.of_class("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    scale.of_class(Scale, 1)  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue]
    Scale.static("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    scale.static(scale, 1)  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue]


def what_is_mixed_in() -> None:
    plain.map([1])  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    written.map([1])  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    plain.submit(1)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    annotated.map([1])  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    print(scaled.claims)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownArgumentType, reportUnknownMemberType]
    scaled.map_reduce([1])  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


def arguments_of_map() -> None:
    scaled.map()  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    scaled.map(1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    scaled.map([1], star="yes")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    scaled.map([1], kwstar=None)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    scaled.map([1], args=1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    scaled.map([1], kwargs=[1])  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    scaled.map([1], total="many")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    scaled.map([1], on_error="ignore")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    scaled.map([1], progress=3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    scaled.map([1], progress=no_progress)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    scaled.map([1], worker=2)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    scaled.map([1], workers="two")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    scaled.map([1], start_method="thread")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    scaled.map([1], timeout="1 s")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    scaled.map([1], threads=1.5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    scaled.map([1], max_tasks_per_child=5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    scaled.options(max_memory_per_worker="1G")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    scaled.map_blocks([1.0], rows="all")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    scaled.map_blocks([1.0], on_error="skip")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    scaled.options(max_shared_memory="1G")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    scaled.options(readonly="yes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    scaled.options(chunksize="large")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    scaled.options(retries=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def what_comes_out() -> None:
    paths: Results[Path] = scaled.map([1])  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    values: list[float] = list(scaled.map([1], on_error="return"))  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]
    text: str = scaled(1)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    nothing: None = written(1)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    number: int = loaded(1)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    print(paths, values, text, nothing, number)


def arguments_of_decorators() -> None:
    parallel(1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    parallel(workers="two")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    parallel(retries=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    parallel(initializer=known)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    parallel(timeout="1 s")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    parallel(threads="two")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    parallel(max_tasks_per_worker=1.5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    parallel(backend=5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    parallel(initargs=(1,))  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    parallel(2, workers=2)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    claimed_output()  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    claimed_output(1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    claimed_output("{x}.txt", failed="again")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    claimed_output("{x}.txt", save=known)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    claimed_output("{x}.txt", load="text")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    claimed_output("{x}.txt")(1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    retry_on("OSError")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    retry_on(OSError, attempts="three")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    retry_on(OSError, wait="a while")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    retry_on(OSError, 3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    retry_on(OSError)(1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    validated(known, invalid="raise")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    validated(3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    validated(arguments=True)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    validated(result=known, invalid="skip")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    validated(result=known, result_in="here")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    annotated("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def what_is_awaited() -> None:
    scaled.asubmit("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    text: str = await scaled.asubmit(1)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    await scaled.submit(1)  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
    plain.asubmit(1)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    async for path in scaled.map([1]):
        text = path  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    print(text)


def executors(pool: Controller) -> None:
    pool.submit(scaled, "1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    pool.submit(scaled)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    number: Future[int] = pool.submit(scaled, 1)  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]
    numbers: Iterator[int] = pool.map(scaled, [1])  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]
    pool.map(scaled, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    pool.map(scaled, [1], buffer=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    pool.kill(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    pool.shutdown(kill=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Controller(2, "spawn")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Controller(max_workers="two")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Controller(idle_seconds="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Controller(timeout=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    print(number, numbers, worker_info().pid)  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]


def the_rest() -> None:
    Controller("two")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Controller(start_method="thread")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    configure(2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    configure(workers="two")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    gc()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    gc("results", later=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def the_face_of_parmapper() -> None:
    parmap(known)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    parmap(known, 3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    parmap(known, [1], N="two")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    parmap(known, [1], exception="skip")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    parmap(known, [1], workers=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ReturnProcess(known, (1,))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
