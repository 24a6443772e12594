"""``manyhands run``: a function over inputs, without a line of code."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from manyhands import ManyhandsError, parallel
from manyhands.cli import exits
from manyhands.cli.function import METAVAR, completed, completed_input, found
from manyhands.cli.inputs import Input, arguments_for, inputs_for
from manyhands.cli.telling import Teller, summary

if TYPE_CHECKING:
    from manyhands import Results


@click.command(epilog=exits.EPILOG)
@click.argument("function", metavar=METAVAR, shell_complete=completed)
@click.argument("inputs", nargs=-1, metavar="INPUT...", shell_complete=completed_input)
@click.option("--star", is_flag=True, help="Each input is a row of comma-separated arguments; see above.")
@click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE", help="An argument that all calls have in common."
)
@click.option(
    "-w",
    "--workers",
    type=int,
    metavar="N",
    help="Worker processes; -1: all cores, -2: all but one, and so on.",
)
@click.option("--threads", type=int, metavar="N", help="Calls at the same time in each worker.")
@click.option("--backend", metavar="NAME", help='"threads", "inline", or a Dask scheduler, "dask://host:port".')
@click.option(
    "--timeout", type=float, metavar="SECONDS", help="A call that takes longer is ended, and has failed."
)
@click.option(
    "--on-error",
    type=click.Choice(["return", "raise", "skip"]),
    default="return",
    show_default=True,
    help='Go on, tell of each failure ("return"); stop at the first ("raise"); count them, exit status 0 ("skip").',
)
@click.option("--ordered/--no-ordered", default=None, help="Results in the order of inputs, or as they come.")
@click.option(
    "--no-wait", is_flag=True, help="Leave out what other processes are computing; else wait for that."
)
@click.option("--progress/--no-progress", default=None, help="A bar on stderr; else one if that is a terminal.")
@click.option(
    "--record/--no-record",
    default=None,
    help="A journal in the outputs' directory, for status, watch and report; there is one with @claimed_output.",
)
@click.option("--report", type=click.Path(dir_okay=False), metavar="FILE", help="Write a page about the run.")
@click.option("--trace", type=click.Path(dir_okay=False), metavar="FILE", help="Write a trace for Perfetto.")
@click.option("--traceback", is_flag=True, help="Tell where each failure was raised.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each input.")
def run(
    function: str,
    inputs: tuple[str, ...],
    star: bool,
    settings: tuple[str, ...],
    on_error: str,
    no_wait: bool,
    progress: bool | None,
    record: bool | None,
    report: str | None,
    traceback: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Run a function over inputs, in worker processes.

    MODULE is the name of a module or the path of a script, which is imported: what it does as a program belongs under
    if __name__ == "__main__". FUNCTION may have the decorators of manyhands; their options hold where none is given
    here.

    An INPUT is a value, a path, a quoted pattern ('images/*.png'; ** goes into directories), or - for the lines of
    standard input. Inputs become what the annotation of the function's parameter says: an int, a Path, ... With --star
    each is a row of arguments, a.png,0.5, and - reads a CSV table; if its first row names parameters, columns go by
    those names. Before one that begins with a dash, write --.

    Prints what the function returns, a line for each input; of a function with @claimed_output, the paths. What the
    function prints itself goes to standard error, as do failures and a summary. Several of these commands at once, on
    one machine or many, share the work of a function with @claimed_output.

    \b
    Examples:
      manyhands run count.py:count_objects 'images/*.png' --set threshold=0.5
      manyhands run count.py:count_objects - --star < table.csv
      find images -name '*.png' | manyhands run os.path:getsize - --json
    """  # noqa: D301  # \b is click's mark for lines that stay as they are
    if not inputs:
        raise click.UsageError("there is no INPUT: give values, paths, 'patterns', or - for standard input")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names of files may be anything but text, and this may be a terminal that knows few letters.
        is_wide = sys.stdout.encoding.lower().replace("-", "") == "utf8"
        sys.stdout.reconfigure(errors="surrogateescape" if is_wide else "backslashreplace")
    if report is not None and not Path(report).absolute().parent.is_dir():
        raise click.BadParameter(f"there is no directory for {report!r}", param_hint="--report")
    options = {name: value for name, value in options.items() if value is not None}
    target = _target(function, options, no_wait)
    try:
        common = arguments_for(target, settings)
        items = inputs_for(target, inputs, _lines, star, common)
    except (TypeError, ValueError) as error:
        raise _usage(error) from error
    label = target.task.parallel.progress
    shows = sys.stderr.isatty() if progress is None else progress
    teller = Teller(
        [item.text for item in items],
        is_claimed=target.task.claim is not None,
        wants_json=as_json,
        wants_failures=on_error != "skip",
        wants_traceback=traceback,
    )
    if progress:
        os.environ["MANYHANDS_PROGRESS"] = "1"  # the bar was asked for, whoever sees it
    target = target.options(
        progress=(label or True) if shows else False, record=_record(target, record, report)
    )
    with redirect_stdout(sys.stderr):  # what the function prints is no result
        status = _Run(target, items, teller, on_error, report).status(star, common)
    sys.exit(status)


def _target(function: str, options: dict[str, Any], no_wait: bool) -> Any:
    """The function with these options; raises UsageError for what can't be."""
    body: Any = found(function)
    try:
        target: Any = (body if _is_parallel(body) else parallel(body)).options(**options)
    except (TypeError, ValueError) as error:
        raise _usage(error) from error
    if no_wait:
        if target.task.claim is None:
            raise click.UsageError(f"--no-wait is for functions with @claimed_output, which {function} has not")
        target.task = replace(target.task, claim=replace(target.task.claim, wait=False))
    return target


def _record(target: Any, record: bool | None, report: str | None) -> bool | Path:
    """What is recorded: outputs that are claimed have a directory, which others may watch."""
    claim = target.task.claim
    if record and claim is None:
        raise click.UsageError(
            "--record is for functions with @claimed_output; --report writes a page about others"
        )
    if claim is None or record is False:
        return report is not None
    if not record and not claim.final.base and "/" in claim.final.text:
        return report is not None  # they have no directory in common
    return Path(claim.final.base or ".")


def _is_parallel(function: Any) -> bool:
    task = getattr(function, "task", None)
    return hasattr(function, "map") and getattr(task, "parallel", None) is not None


def _lines() -> Iterator[str]:
    if sys.stdin is None:
        raise ValueError("the input '-' is standard input, which is closed")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
        if sys.stdin.isatty():
            click.echo("reading inputs from the terminal, one a line; Ctrl-D ends them", err=True)
    return iter(sys.stdin)


def _usage(error: BaseException) -> click.UsageError:
    return click.UsageError("\n".join([str(error), *getattr(error, "__notes__", ())]))


class _Run:
    """One map and what is told of it."""

    def __init__(
        self, target: Any, items: list[Input], teller: Teller, on_error: str, report: str | None
    ) -> None:
        self._target = target
        self._items = items
        self._teller = teller
        self._on_error = on_error
        self._report = report
        claim = target.task.claim
        self._goes_on = claim is not None and claim.failed == "retry"
        self._found = 0
        self._begin = time.monotonic()

    def status(self, star: bool, common: dict[str, Any]) -> int:
        """Runs all, and returns the exit status."""
        try:
            results = self._started(star, common)
        except (TypeError, ValueError, OSError, ImportError, ManyhandsError) as error:
            raise _usage(error) from error
        with results:
            try:
                self._take(results)
            except KeyboardInterrupt:
                with suppress(OSError):  # nobody may be there to read it
                    self._sum_up(results)
                    self._teller.say(self._advice(), "yellow")
                raise
            except (OSError, ManyhandsError) as error:
                if isinstance(error, BrokenPipeError):
                    raise
                self._sum_up(results)
                raise click.ClickException(str(error)) from error
            self._sum_up(results)
            failures = results.counts.failures
            if failures and self._goes_on:
                self._teller.say("the same command tries what failed once more")
            return exits.FAILED if failures and self._on_error != "skip" else exits.OK

    def _started(self, star: bool, common: dict[str, Any]) -> Results[Any]:
        named = any(item.kwargs for item in self._items)  # by a header, or beside what is set
        items: list[Any]
        if named:
            items = [(item.args, item.kwargs) for item in self._items]
        else:
            items = [item.args if star else item.args[0] for item in self._items]
        # Under "raise" items that don't fit are refused here, before any work; outcomes raise nothing.
        started: Results[Any] = self._target.map(
            items, star=star or named, kwstar=named, kwargs=common, on_error="raise"
        )
        return started

    def _take(self, results: Results[Any]) -> None:
        for outcome in results.outcomes():
            self._found += outcome.ok and not outcome.worker
            self._teller.tell(outcome)
            if outcome.failure is not None and self._on_error == "raise":
                return

    def _sum_up(self, results: Results[Any]) -> None:
        results.close()  # the bar, too
        seconds = time.monotonic() - self._begin
        is_claimed = self._target.task.claim is not None
        counts = results.counts
        style = "red" if counts.failures else "green" if counts.total == len(self._items) else "yellow"
        self._teller.say(summary(counts, self._found, len(self._items), seconds, is_claimed), style)
        if self._report is not None:
            results.report(self._report)

    def _advice(self) -> str:
        if self._target.task.claim is None:
            return "interrupted"
        return "interrupted; what is done stays done: the same command goes on from there"
