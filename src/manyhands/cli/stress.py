"""``manyhands stress``: a user's function in a storm, from the command line."""

from __future__ import annotations

import csv
import glob
import importlib
import json
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from manyhands.errors import ManyhandsError
from manyhands.policies.texts import Texts

if TYPE_CHECKING:
    from manyhands.testing import StormReport


@click.command()
@click.argument("function", metavar="MODULE:FUNCTION")
@click.argument("more", nargs=-1, metavar="[INPUT]...")
@click.option(
    "--inputs",
    multiple=True,
    metavar="INPUT",
    help='A value, a path, a pattern of paths, or "-": lines of stdin.',
)
@click.option("--star", is_flag=True, help="Each input is a row of comma-separated arguments.")
@click.option("--processes", type=click.IntRange(min=1), default=8, show_default=True, help="At any time.")
@click.option("--workers", type=click.IntRange(min=1), default=2, show_default=True, help="Of each of them.")
@click.option("--minutes", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Of disturbance.")
@click.option("--rounds", type=click.IntRange(min=1), help="So many at most.")
@click.option("--seed", type=int, help="Of what is done to whom, as a report names it.")
@click.option(
    "--lease", type=click.FloatRange(min=0.01), help="Seconds after which who is stopped is taken over."
)
@click.option("--vary", is_flag=True, help="Outputs may differ from run to run.")
@click.option(
    "--directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where the directories of rounds are made; else where the system has temporary ones.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def stress(
    function: str, more: tuple[str, ...], inputs: tuple[str, ...], star: bool, as_json: bool, **options: Any
) -> None:
    """Run a function with @claimed_output in processes that are killed and stopped, and check its outputs.

    The function runs over all inputs, first by itself, twice; then, in one round after the other, in several
    processes with a directory of their own. Parents and workers are killed, stopped and sent SIGTERM meanwhile.
    In the end all outputs must be there, whole, and nothing else. The directory of a round in which something
    was wrong is kept.

    Inputs become what the annotation of the function's parameter says; paths, and what patterns match, are made
    absolute. Exit status 0 if all is well, 1 if not, 2 if the storm could not begin, 130 if it was interrupted.

    \b
    Example: manyhands stress photos:count --inputs 'photos/*.png' --processes 8 --minutes 2
    """  # noqa: D301  # \b is click's mark for lines that stay as they are
    from manyhands.testing import SerialRunFailed, storm

    options["seconds"] = 60.0 * options.pop("minutes")
    if options["lease"] is None:
        del options["lease"]
    found = _found(function)
    try:
        items = list(_items(found, (*inputs, *more), star))
        with _interruptible(), _progress() as tell:
            report = storm(found, items, star=star, tell=tell, **options)
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except (ManyhandsError, SerialRunFailed, TypeError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    click.echo(_as_json(report) if as_json else str(report))
    sys.exit(0 if report.ok else 1)


def _found(text: str) -> Any:
    """The function that MODULE:FUNCTION names; the directory that the command was given in is looked through first."""
    module, _, path = text.partition(":")
    if not module or not path:
        raise click.BadParameter(
            f"{text!r} is not MODULE:FUNCTION, such as 'photos:count'", param_hint="MODULE:FUNCTION"
        )
    sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # another one that this one needs
        raise click.BadParameter(
            f"there is no module {error.name!r}, neither here nor among those that are installed",
            param_hint="MODULE:FUNCTION",
        ) from None
    for name in path.split("."):
        if not hasattr(found, name):
            raise click.BadParameter(f"{module!r} has no {path!r}", param_hint="MODULE:FUNCTION")
        found = getattr(found, name)
    return found


def _items(function: Any, inputs: Iterable[str], star: bool) -> Iterator[Any]:
    if not callable(function):
        raise TypeError(f"{function!r} is no function")
    texts = Texts.of(function)
    for text in _texts(inputs):
        row = next(csv.reader([text], skipinitialspace=True), []) if star else [text]
        try:
            arguments = texts.arguments(row)
        except ValueError as error:
            if star or texts.required < 2:
                raise ValueError(f"the input {text!r}: {error}") from None
            raise ValueError(
                f"the input {text!r}: {error}; with --star an input is a row of arguments"
            ) from None
        arguments = tuple(value.absolute() if isinstance(value, Path) else value for value in arguments)
        yield arguments if star else arguments[0]


def _texts(inputs: Iterable[str]) -> Iterator[str]:
    """Inputs one by one, with lines of stdin and what matches patterns in their places."""
    for text in inputs:
        if text == "-":
            yield from filter(None, (line.rstrip("\r\n") for line in sys.stdin))
        elif glob.has_magic(text):
            matching = sorted(glob.glob(text, recursive=True))  # noqa: PTH207  # it may be absolute
            if not matching:
                raise ValueError(f"no file matches the input {text!r}")
            yield from (str(Path(path).absolute()) for path in matching)
        else:
            yield text


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C and SIGTERM end what is in it in order; more of them don't disturb that."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def interrupt(*_: object) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _progress() -> Iterator[Any]:
    """One line that changes, if somebody sees it."""
    if not sys.stderr.isatty():
        yield None
        return
    try:
        yield lambda line: print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
    finally:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _as_json(report: StormReport) -> str:
    told = {
        "function": report.function,
        "ok": report.ok,
        "seed": report.seed,
        "rounds": report.rounds,
        "seconds": round(report.seconds, 3),
        "figures": dict(report.figures),
        "problems": [
            {"rule": each.rule, "message": each.message, "names": each.names} for each in report.problems
        ],
        "directory": None if report.directory is None else str(report.directory),
    }
    return json.dumps(told, indent=2)
