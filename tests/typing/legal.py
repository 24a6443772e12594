"""Legal uses: mypy --strict and pyright see the types that are asserted here. Imported by a test, never called.

Each decorator is met in every stacking order on functions, methods, classmethods, staticmethods and lambdas.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from logging import StreamHandler
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, assert_type

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from manyhands import (
    OUTPUT,
    Controller,
    Counts,
    Discarded,
    Elsewhere,
    Failure,
    GiveUp,
    Handler,
    HandlerResults,
    InvalidResult,
    Outcome,
    Progress,
    Replace,
    Results,
    Retry,
    TaskTimeout,
    WorkerDied,
    WorkerInfo,
    claimed_output,
    configure,
    gc,
    parallel,
    retry_on,
    validated,
    wait_for,
    worker_info,
)
from manyhands.compat.parmapper import ParEval, ReturnProcess, parmap, parmapper
from manyhands.compat.parmapper_values import Values
from manyhands.compat.qdmp import PoolFutureException, ProcessHandler, ProcessPoolHandler
from manyhands.decorators.decorated import (
    ClaimedFunction,
    Decorated,
    OutputClaims,
    ParallelClaimedFunction,
    ParallelFunction,
)
from manyhands.logs import JSONFormatter, JSONLogHandler, LogServer, TaskFilter
from manyhands.testing import SerialRunFailed, StormReport, storm

if TYPE_CHECKING:
    from distributed import Client


def save_text(value: object, path: Path) -> None:
    path.write_text(str(value))


def save_texts(value: object, paths: tuple[Path, ...]) -> None:
    for path in paths:
        path.write_text(str(value))


def load_texts(paths: tuple[Path, ...]) -> list[str]:
    return [path.read_text() for path in paths]


def load_text(path: Path) -> str:
    return path.read_text()


def positive(x: int) -> bool:
    return x > 0


def known(value: object) -> bool:
    return value is not None


# -- one decorator, with and without options ------------------------------------------------------------------


@parallel
def bare(x: int, scale: float = 1.0) -> float:
    return x * scale


@parallel()
def called(x: int) -> str:
    return str(x)


@parallel(
    workers=2,
    backend="inline",
    chunksize="auto",
    buffersize=100,
    ordered=False,
    progress="squares",
    on_error="return",
    start_method="spawn",
    initializer=lambda: None,
    finalizer=lambda: None,
)
def optioned(x: int) -> int:
    return x * x


def told(progress: Progress) -> None:
    assert_type(progress.done, int)
    assert_type(progress.total, int | None)
    assert_type(progress.rate, float)
    assert_type(progress.left, float | None)
    assert_type(progress.ended, bool)


@parallel(progress=told, worker_bars=True)
def telling(x: int) -> int:
    return x


@parallel(progress=tqdm)
def drawing(x: int) -> int:
    return x


@retry_on(OSError, TimeoutError, attempts=3, wait=0.5)
def retried(x: int) -> int:
    return x


@parallel(
    threads=4,
    timeout=1.5,
    backend=None,
    chunksize=10,
    buffersize=None,
    progress=True,
    max_tasks_per_worker=100,
    max_memory_per_worker=1 << 30,
    max_shared_memory=0,
    readonly=True,
    record=Path("records"),
    trace="run.json",
)
def limited(x: int) -> int:
    return x


@parallel(backend="threads", threads=8, timeout=None, max_tasks_per_worker=None, max_memory_per_worker=None)
def threaded(x: int) -> int:
    return x


@parallel(backend="dask://scheduler:8786", workers=None)
def on_dask(x: int) -> int:
    return x


@retry_on(WorkerDied, TaskTimeout)
@retry_on(InvalidResult, wait=lambda state: 0.1 * state.attempt_number)
def retried_twice(x: int) -> int:
    return x


@validated(arguments=positive, result=known, invalid="raise")
def checked(x: int) -> int:
    return x


@validated
def annotated(x: int) -> int:
    return x


@parallel(workers=2)
@validated()
@retry_on(InvalidResult)
def annotated_and_mapped(x: int) -> int:
    return x


@validated(arguments=positive, annotations=True, arguments_in="worker", result_in="parent")
def checked_elsewhere(x: int) -> int:
    return x


@claimed_output("{x}.txt")
def written(x: int, output: Path = OUTPUT) -> None:
    output.write_text(str(x))


@claimed_output(Path("results") / "{x}.txt", temp="claims/{x}", save=save_text, wait=False, failed="report")
def saved(x: int) -> int:
    return x


@claimed_output(("{x}.txt", "{x}.png"), durable=False, lease=10, max_crashes=2)
def several(x: int, output: tuple[Path, Path] = OUTPUT) -> None:
    output[0].write_text(str(x))


@claimed_output(["{x}.txt", "{x}.png"], save=save_texts, load=load_texts)
def several_loaded(x: int) -> int:
    return x


@claimed_output("{x}.txt", save=save_text, load=load_text)
def loaded(x: int) -> int:
    return x


def calls_return_what_the_body_returns() -> None:
    assert_type(bare(1), float)
    assert_type(bare(1, scale=2.0), float)
    assert_type(called(1), str)
    assert_type(optioned(x=1), int)
    assert_type(limited(1), int)
    assert_type(threaded(1), int)
    assert_type(retried(1), int)
    assert_type(retried_twice(1), int)
    assert_type(checked(1), int)
    assert_type(annotated(1), int)
    assert_type(annotated_and_mapped(1), int)
    assert_type(annotated_and_mapped.map([1]), Results[int])
    assert_type(checked_elsewhere(1), int)
    assert_type(several(1), tuple[Path, ...])
    assert_type(several_loaded(1), list[str])
    assert_type(several.claims.paths(1), tuple[Path, ...])


def bare_validation_fits_everywhere() -> None:
    assert_type(p(c(r(validated(body)))), ParallelClaimedFunction[[int], Path])
    assert_type(validated(p(c(r(body)))), ParallelClaimedFunction[[int], Path])
    assert_type(validated(p(r(body))), ParallelFunction[[int], int])
    assert_type(validated(c(r(body))), ClaimedFunction[[int], Path])
    assert_type(p(validated(c(body))), ParallelClaimedFunction[[int], Path])
    assert_type(r(validated(body)), Decorated[[int], int])
    assert_type(validated()(p(body)), ParallelFunction[[int], int])


class Checked:
    @validated
    def method(self, x: int) -> int:
        return x

    @parallel
    @validated
    @classmethod
    def of_class(cls, x: int) -> Checked:
        return cls()

    @validated
    @parallel
    @staticmethod
    def static(x: int) -> int:
        return x


def bare_validation_of_methods() -> None:
    assert_type(Checked().method(1), int)
    assert_type(Checked.of_class(1), Checked)
    assert_type(Checked().static(1), int)
    assert_type(Checked.static.map([1]), Results[int])


def claimed_calls_return_paths_or_what_is_loaded() -> None:
    assert_type(written(1), Path)
    assert_type(saved(1), Path)
    assert_type(loaded(1), str)
    assert_type(written.claims, OutputClaims)
    assert_type(written.claims.path(1), Path)


# -- every stacking order, on one function --------------------------------------------------------------------

p = parallel(workers=2)
c = claimed_output("{x}.txt", save=save_text)
r = retry_on(OSError)
v = validated(result=known)


def body(x: int, /) -> int:
    return x


def every_order_of_four_makes_the_same_type() -> None:
    assert_type(p(c(r(v(body)))), ParallelClaimedFunction[[int], Path])
    assert_type(p(c(v(r(body)))), ParallelClaimedFunction[[int], Path])
    assert_type(p(r(c(v(body)))), ParallelClaimedFunction[[int], Path])
    assert_type(p(r(v(c(body)))), ParallelClaimedFunction[[int], Path])
    assert_type(p(v(c(r(body)))), ParallelClaimedFunction[[int], Path])
    assert_type(p(v(r(c(body)))), ParallelClaimedFunction[[int], Path])
    assert_type(c(p(r(v(body)))), ParallelClaimedFunction[[int], Path])
    assert_type(c(p(v(r(body)))), ParallelClaimedFunction[[int], Path])
    assert_type(c(r(p(v(body)))), ParallelClaimedFunction[[int], Path])
    assert_type(c(r(v(p(body)))), ParallelClaimedFunction[[int], Path])
    assert_type(c(v(p(r(body)))), ParallelClaimedFunction[[int], Path])
    assert_type(c(v(r(p(body)))), ParallelClaimedFunction[[int], Path])
    assert_type(r(p(c(v(body)))), ParallelClaimedFunction[[int], Path])
    assert_type(r(p(v(c(body)))), ParallelClaimedFunction[[int], Path])
    assert_type(r(c(p(v(body)))), ParallelClaimedFunction[[int], Path])
    assert_type(r(c(v(p(body)))), ParallelClaimedFunction[[int], Path])
    assert_type(r(v(p(c(body)))), ParallelClaimedFunction[[int], Path])
    assert_type(r(v(c(p(body)))), ParallelClaimedFunction[[int], Path])
    assert_type(v(p(c(r(body)))), ParallelClaimedFunction[[int], Path])
    assert_type(v(p(r(c(body)))), ParallelClaimedFunction[[int], Path])
    assert_type(v(c(p(r(body)))), ParallelClaimedFunction[[int], Path])
    assert_type(v(c(r(p(body)))), ParallelClaimedFunction[[int], Path])
    assert_type(v(r(p(c(body)))), ParallelClaimedFunction[[int], Path])
    assert_type(v(r(c(p(body)))), ParallelClaimedFunction[[int], Path])


def every_order_of_some_makes_the_same_type() -> None:
    assert_type(p(body), ParallelFunction[[int], int])
    assert_type(c(body), ClaimedFunction[[int], Path])
    assert_type(r(body), Decorated[[int], int])
    assert_type(v(body), Decorated[[int], int])
    assert_type(p(c(body)), ParallelClaimedFunction[[int], Path])
    assert_type(p(r(body)), ParallelFunction[[int], int])
    assert_type(p(v(body)), ParallelFunction[[int], int])
    assert_type(c(p(body)), ParallelClaimedFunction[[int], Path])
    assert_type(c(r(body)), ClaimedFunction[[int], Path])
    assert_type(c(v(body)), ClaimedFunction[[int], Path])
    assert_type(r(p(body)), ParallelFunction[[int], int])
    assert_type(r(c(body)), ClaimedFunction[[int], Path])
    assert_type(r(v(body)), Decorated[[int], int])
    assert_type(v(p(body)), ParallelFunction[[int], int])
    assert_type(v(c(body)), ClaimedFunction[[int], Path])
    assert_type(v(r(body)), Decorated[[int], int])
    assert_type(p(c(r(body))), ParallelClaimedFunction[[int], Path])
    assert_type(p(c(v(body))), ParallelClaimedFunction[[int], Path])
    assert_type(p(r(c(body))), ParallelClaimedFunction[[int], Path])
    assert_type(p(r(v(body))), ParallelFunction[[int], int])
    assert_type(p(v(c(body))), ParallelClaimedFunction[[int], Path])
    assert_type(p(v(r(body))), ParallelFunction[[int], int])
    assert_type(c(p(r(body))), ParallelClaimedFunction[[int], Path])
    assert_type(c(p(v(body))), ParallelClaimedFunction[[int], Path])
    assert_type(c(r(p(body))), ParallelClaimedFunction[[int], Path])
    assert_type(c(r(v(body))), ClaimedFunction[[int], Path])
    assert_type(c(v(p(body))), ParallelClaimedFunction[[int], Path])
    assert_type(c(v(r(body))), ClaimedFunction[[int], Path])
    assert_type(r(p(c(body))), ParallelClaimedFunction[[int], Path])
    assert_type(r(p(v(body))), ParallelFunction[[int], int])
    assert_type(r(c(p(body))), ParallelClaimedFunction[[int], Path])
    assert_type(r(c(v(body))), ClaimedFunction[[int], Path])
    assert_type(r(v(p(body))), ParallelFunction[[int], int])
    assert_type(r(v(c(body))), ClaimedFunction[[int], Path])
    assert_type(v(p(c(body))), ParallelClaimedFunction[[int], Path])
    assert_type(v(p(r(body))), ParallelFunction[[int], int])
    assert_type(v(c(p(body))), ParallelClaimedFunction[[int], Path])
    assert_type(v(c(r(body))), ClaimedFunction[[int], Path])
    assert_type(v(r(p(body))), ParallelFunction[[int], int])
    assert_type(v(r(c(body))), ClaimedFunction[[int], Path])


def without_parentheses_too() -> None:
    assert_type(parallel(body), ParallelFunction[[int], int])
    assert_type(parallel(r(body)), ParallelFunction[[int], int])
    assert_type(parallel(c(body)), ParallelClaimedFunction[[int], Path])
    assert_type(v(parallel(c(body))), ParallelClaimedFunction[[int], Path])


# -- maps -----------------------------------------------------------------------------------------------------


def maps_yield_what_calls_return(numbers: Iterable[int], pool: Controller, client: Client) -> None:
    assert_type(bare.map(numbers), Results[float])
    assert_type(bare.map(numbers, record=True, trace="run.json").report("run.html"), Path)
    assert_type(
        bare.map(numbers, args=(2.0,), total=10, ordered=False, workers=-1, backend=pool), Results[float]
    )
    assert_type(bare.map(numbers, backend=ThreadPoolExecutor(2)), Results[float])
    assert_type(bare.map(numbers, backend=client), Results[float])
    assert_type(bare.map([(1, 2.0)], star=True), Results[float])
    assert_type(bare.map([(1, {"scale": 2.0})], kwstar=True, kwargs={"scale": 3.0}), Results[float])
    assert_type(bare.map(range(3), star=None, args=[1]), Results[float])
    assert_type(bare.map(numbers, on_error="skip"), Results[float])
    assert_type(bare.map(numbers, timeout=1, threads=2, max_tasks_per_worker=5), Results[float])
    assert_type(bare.map(numbers, on_error="return"), Results[float | Failure | Discarded | Elsewhere])
    assert_type(written.claims.path(x=1), Path)
    assert_type(p(written).map(numbers), Results[Path])
    assert_type(p(loaded).map(numbers), Results[str])
    assert_type(next(called.map(numbers)), str)
    assert_type(list(called.map(numbers)), list[str])
    assert_type(called.map(bare.map(numbers)), Results[str])


def judge(failure: Failure) -> Retry | GiveUp | Replace:
    if failure.attempt > 3:
        return GiveUp()
    return Retry(failure.arguments, wait=0.5) if failure.worker else Replace(0)


@retry_on(OSError, lambda error: error.args == (7,), attempts=None, handle_error=judge)
def judged(x: int) -> int:
    return x


def handlers_take_plain_and_decorated_functions() -> None:
    with Handler(judged, workers=2, buffersize=10) as handler:
        assert_type(handler, Handler[int])
        assert_type(handler.add(1), int)
        assert_type(handler.results(), HandlerResults[int])
        for outcome in handler.results():
            assert_type(outcome, Outcome[int])
        assert_type(handler.drain(), list[Outcome[int]])
        assert_type(handler.counts, Counts)
    assert_type(Handler(body, arguments=positive, handle_error=judge, wait=0), Handler[int])


async def handlers_have_an_async_face(handler: Handler[str]) -> None:
    async with handler:
        assert_type(await handler.aadd("a"), int)
        async for outcome in handler.results():
            assert_type(outcome, Outcome[str])
        assert_type(await handler.adrain(), list[Outcome[str]])


def results_are_consumed_in_four_ways(results: Results[str]) -> None:
    for value in results:
        assert_type(value, str)
    for outcome in results.outcomes():
        assert_type(outcome, Outcome[str])
        assert_type(outcome.value, str)
        assert_type(outcome.failure, Failure | None)
        assert_type(outcome.discarded, Discarded | None)
        assert_type(outcome.elsewhere, Elsewhere | None)
    assert_type(results.collect(), tuple[list[str], list[Failure]])
    assert_type(results.wait(), Counts)
    with results as same:
        assert_type(same, Results[str])
    assert_type(results.failures, list[Failure])


def submit_takes_the_arguments_of_a_call() -> None:
    assert_type(bare.submit(1, scale=2.0), Future[float])
    assert_type(p(written).submit(1), Future[Path])


async def calls_and_results_are_awaited(results: Results[str]) -> None:
    assert_type(bare.asubmit(1, scale=2.0), Awaitable[float])
    assert_type(await bare.asubmit(1), float)
    assert_type(await p(written).asubmit(1), Path)
    async for value in results:
        assert_type(value, str)
    assert_type([value async for value in bare.map([1])], list[float])


def options_keep_the_type() -> None:
    assert_type(p(body).options(ordered=False, on_error="skip"), ParallelFunction[[int], int])
    assert_type(p(body).options(timeout=0.5, threads=2), ParallelFunction[[int], int])
    assert_type(p(c(body)).options(workers=1), ParallelClaimedFunction[[int], Path])


# -- lambdas, closures, callables -----------------------------------------------------------------------------


def lambdas_and_closures(factor: float) -> None:
    assert_type(parallel(lambda: 1)(), int)
    assert_type(parallel(lambda: "a").submit(), Future[str])
    assert_type(p(c(lambda: 1))(), Path)
    assert_type(v(r(p(lambda: 1))), ParallelFunction[[], int])

    @parallel
    def scaled(x: float) -> float:
        return x * factor

    assert_type(scaled.map([1.0]), Results[float])
    assert_type(parallel(len)([1, 2]), int)


def a_decorated_function_is_a_callable(names: list[str]) -> None:
    takes_a_callable(bare)
    takes_a_callable(p(r(body)))
    assert_type(called.__name__, str)


def takes_a_callable(function: Callable[[int], object]) -> None:
    function(1)


# -- methods --------------------------------------------------------------------------------------------------


class Scale:
    def __init__(self, factor: int) -> None:
        self.factor = factor

    @parallel
    def method(self, x: int, /) -> int:
        return self.factor * x

    @claimed_output("{self.factor}/{x}.txt")
    @parallel(workers=2)
    def written(self, x: int, output: Path = OUTPUT) -> None:
        output.write_text(str(self.factor * x))

    @retry_on(OSError)
    @parallel
    @claimed_output("{self.factor}/{x}.txt", save=save_text, load=load_text)
    @validated(result=known)
    def loaded(self, x: int) -> int:
        return self.factor * x

    @parallel
    @classmethod
    def of_class(cls, x: int, /) -> int:
        return x

    @validated(result=known)
    @claimed_output("class/{x}.txt", save=save_text)
    @parallel
    @retry_on(OSError)
    @classmethod
    def claimed_of_class(cls, x: int, /) -> int:
        return x

    @parallel
    @retry_on(OSError)
    @classmethod
    def made(cls, factor: int) -> Scale:
        return cls(factor)

    @parallel
    @staticmethod
    def static(x: int, /) -> int:
        return x

    @retry_on(OSError)
    @parallel
    @validated(arguments=positive)
    @claimed_output("static/{x}.txt", save=save_text)
    @staticmethod
    def claimed_static(x: int, /) -> int:
        return x

    @parallel
    @staticmethod
    def without_arguments() -> int:
        return 1

    def inside(self, numbers: list[int]) -> list[int]:
        return list(self.method.map(numbers))


class Larger(Scale):
    """Inherited methods bind to what they are asked of."""


def methods_know_self(scale: Scale, larger: Larger) -> None:
    assert_type(scale.method, ParallelFunction[[int], int])
    assert_type(Scale.method(scale, 1), int)
    assert_type(scale.method(1), int)
    assert_type(larger.method.map([1]), Results[int])
    assert_type(scale.written(1), Path)
    assert_type(scale.written.map([1]), Results[Path])
    assert_type(scale.written.claims.path(1), Path)
    assert_type(scale.loaded(x=1), str)
    assert_type(larger.loaded.submit(1), Future[str])


def classmethods_know_their_class(scale: Scale) -> None:
    assert_type(Scale.of_class, ParallelFunction[[int], int])
    assert_type(scale.of_class, ParallelFunction[[int], int])
    assert_type(Larger.of_class.map([1]), Results[int])
    assert_type(Scale.claimed_of_class, ParallelClaimedFunction[[int], Path])
    assert_type(scale.claimed_of_class(1), Path)
    assert_type(Scale.made(2), Scale)
    assert_type(Larger.made.submit(factor=2), Future[Scale])


def staticmethods_know_nobody(scale: Scale) -> None:
    assert_type(Scale.static, ParallelFunction[[int], int])
    assert_type(scale.static, ParallelFunction[[int], int])
    assert_type(scale.static.map([1]), Results[int])
    assert_type(Scale.claimed_static, ParallelClaimedFunction[[int], Path])
    assert_type(scale.claimed_static(1), Path)
    assert_type(scale.without_arguments(), int)


# -- the rest of the public names -----------------------------------------------------------------------------


def pools_and_settings(directory: Path) -> None:
    with Controller(2, start_method="spawn", initializer=lambda: None) as pool:
        assert_type(pool, Controller)
        assert_type(pool.workers, int)
    configure(workers=-2, start_method="forkserver")
    gc(directory, now=True)
    assert_type(wait_for("a", timeout=1), Path)


def a_pool_is_an_executor(pool: Controller, names: list[str]) -> None:
    executor: Executor = pool
    assert_type(pool.submit(bare, 1, scale=2.0), Future[float])
    assert_type(pool.submit(len, names), Future[int])
    assert_type(pool.submit(lambda: "a").result(timeout=1), str)
    assert_type(pool.map(len, names), Iterator[int])
    assert_type(pool.map(bare, [1], [2.0], timeout=1.5, chunksize=10, buffersize=4), Iterator[float])
    assert_type(pool.kill(pool.submit(len, names)), bool)
    for seconds in pool.running().values():
        assert_type(seconds, float)
    assert_type(list(as_completed([executor.submit(len, names)])), list[Future[int]])
    pool.shutdown(wait=False, cancel_futures=True)
    pool.close(kill=True)


def pools_take_the_keywords_of_other_executors() -> None:
    Controller(max_workers=2, mp_context=get_context("spawn"), initializer=print, initargs=("a", 1))
    Controller(max_tasks_per_child=5, finalizer=lambda: None)
    Controller(None, threads=2, start_method=None, max_tasks_per_worker=5, max_memory_per_worker=1 << 30)
    Controller(max_shared_memory=1 << 30)
    Controller(idle_seconds=None)
    Controller(idle_seconds=2.5)


def one_array_is_split_into_blocks(array: NDArray[np.float64], other: NDArray[np.int64]) -> None:
    result = bare.map_blocks(array, other, rows=100, args=(1,), kwargs={"scale": 2.0}, workers=2, readonly=True)
    assert_type(result.ndim, int)


def where_a_call_runs() -> None:
    assert_type(worker_info(), WorkerInfo | None)
    info = worker_info()
    if info is not None:
        assert_type((info.name, info.pid, info.number, info.thread), tuple[str, int, int, int])


def a_storm_is_reported(path: Path) -> None:
    @claimed_output("{image.name}")
    def write(image: Path, output: Path = OUTPUT) -> None:
        output.write_text(image.name)

    try:
        report = storm(
            write,
            [path],
            star=False,
            processes=4,
            workers=1,
            seconds=5.0,
            rounds=None,
            seed=1,
            lease=0.5,
            vary=True,
            patience=10,
            directory=path,
            tell=print,
        )
    except SerialRunFailed as error:
        print(error)
    else:
        assert_type(report, StormReport)
        assert_type(report.ok, bool)
        assert_type((report.seed, report.rounds, report.seconds), tuple[int, int, float])
        assert_type(report.figures["kills"], int)
        assert_type(report.directory, Path | None)


def errors_say_what_was_ended(died: WorkerDied, late: TaskTimeout) -> None:
    assert_type((died.index, died.pid, died.exitcode), tuple[int | None, int, int | None])
    assert_type(late.timeout, float)
    timeout: TimeoutError = late
    print(timeout)


def the_face_of_parmapper() -> None:
    def half(number: int, by: int = 2) -> float:
        return number / by

    assert_type(parmap(half, [1], 2, Nt=2, chunksize=-1, progress="half", args=(2,)), Values[float])
    assert_type(next(parmap.imap(half, iter([1]), N=None, exception="return", kwargs={"by": 3})), float)
    assert_type(list(parmapper(half, {1: 2}, star=None, kwstar=True, total=1)), list[float])
    assert_type(ReturnProcess(half, args=(1,), kwargs={"by": 2}).start(), ReturnProcess)
    ParEval(half, n_eval=3, N=2)([1, 2])


def the_face_of_qdmp() -> None:
    def handle(error: Exception, arguments: int) -> tuple[bool, int | None, PoolFutureException | None]:
        return (
            (True, arguments + 1, None) if arguments else (False, None, PoolFutureException(arguments, error))
        )

    def keep(
        setup: bool, storage: list[int], worker_id: int, debug: bool, arguments: int
    ) -> tuple[list[int], int]:
        return storage, arguments

    with ProcessPoolHandler(abs, handle_error_fn=handle, validate_args_fn=bool, debug=False) as handler:
        handler.start(4)
        handler.add_tasks([1, 2])
        _, errors = handler.process_results(count=2, wait=False)
        assert_type(len(errors), int)
        handler.cancel_processes(futures=handler.check_process_timeout(timeout=5))
        handler.stop(wait=False, cancel_futures=True)
    children = ProcessHandler(
        keep, console_level=10, logging_name="mine", validate_result_fn=lambda result: result > 0
    )
    children.start()
    assert_type(children.worker_count, int)
    assert_type(children.restart_timed_out_children(5.5), list[int])
    for worker_id in children.check_process_timeout(5):
        children.restart_child(worker_id)
    error, _, _, all_exited, codes = children.check_processes()
    assert_type((error, all_exited, codes), tuple[bool, bool, list[int | None]])
    children.stop(waiting_timeout=None)


def a_log_server() -> None:
    with LogServer(Path("log"), max_bytes=10**7, backups=3, max_record=1 << 16, patience=5) as server:
        assert_type(server, LogServer)
        assert_type(server.port, int)
        StreamHandler().addFilter(TaskFilter())
        handler = JSONLogHandler(server.address, "INFO", timeout=1, max_pending=1 << 20)
        handler.setFormatter(JSONFormatter(("asctime", "message"), datefmt="%H:%M:%S"))
        assert_type(handler.dropped, int)
    assert_type((server.received, server.dropped, server.rejected), tuple[int, int, int])
    LogServer("log", "localhost", 9020, max_connections=10).start().close()
