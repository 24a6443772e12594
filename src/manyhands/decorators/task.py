"""The plan that decorators add to: one frozen ``Task``, whatever the order they are stacked in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from manyhands.errors import OutputDirectoryError
from manyhands.policies.retry import RetryBudget
from manyhands.policies.template import Template
from manyhands.policies.validation import Validation
from manyhands.settings import LEASE, MAX_CRASHES, MapOptions

OnFailed = Literal["retry", "report"]


@dataclass(frozen=True)
class ClaimPolicy:
    """One ``@claimed_output``.

    Attributes:
        finals: where the files of the output lie, in the order in which they are published: usually one.
        is_several: whether it was given as several, so that calls return so many paths.
        temp: where the claim lies, and its prefix; None: beside the output.
        save: writes a value to a path; None: the body writes its output.
        load: reads what a call returns from the output; None: a call returns the path.
        wait: whether outputs that are claimed elsewhere are waited for.
        failed: "retry" reopens failures recorded before the map began; "report" believes them.
        durable: whether outputs are brought to the disk before they count as done.
        lease: seconds without a sign of life after which an owner that can't be judged is taken for dead.
        max_crashes: owners that an output may end, one after the other, before it has failed.
        fingerprint: the parameters that outputs depend on, as a text; None: nobody asks for them.
        claims: makes what stands for the ``Claims`` of each thread: a storm has them recorded; None: plain ones.
    """

    finals: tuple[Template, ...]
    is_several: bool = False
    temp: Template | None = None
    save: Callable[[Any, Path], object] | None = None
    load: Callable[[Path], Any] | None = None
    wait: bool = True
    failed: OnFailed = "retry"
    durable: bool = True
    lease: float = LEASE
    max_crashes: int = MAX_CRASHES
    fingerprint: str | None = None
    claims: Callable[..., Any] | None = None

    @property
    def final(self) -> Template:
        """The last of ``finals``: if it is there, the output is whole."""
        return self.finals[-1]

    def text(self) -> str:
        """As it is written: ``claimed_output('{x}.txt')``."""
        return f"claimed_output({', '.join(repr(template.text) for template in self.finals)})"

    def answer(self, paths: Sequence[str]) -> Any:
        """What stands for the output: its ``Path``, or those of all its files."""
        return tuple(map(Path, paths)) if self.is_several else Path(paths[-1])


def current_directory() -> Path:
    """What templates are relative to; raises OutputDirectoryError if it is gone."""
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise OutputDirectoryError(
            error.errno, "the current directory, from which the paths of outputs go, has been removed"
        ) from error


@dataclass(frozen=True)
class Task:
    """What the decorators of a function say, in one value.

    Attributes:
        parallel: the options of ``@parallel``, or None.
        claim: ``@claimed_output``, or None.
        validation: ``@validated``, or None.
        retries: one budget for each ``@retry_on``, in an order of their own.
    """

    parallel: MapOptions | None = None
    claim: ClaimPolicy | None = None
    validation: Validation | None = None
    retries: tuple[RetryBudget, ...] = ()

    def __repr__(self) -> str:
        """``<task: parallel(workers=2), retry_on(OSError, attempts=3)>``."""
        parts = [f"parallel({self.parallel.changes_text()})"] if self.parallel is not None else []
        parts += [self.claim.text()] if self.claim is not None else []
        parts += [self.validation.text()] if self.validation is not None else []
        parts += [budget.text() for budget in self.retries]
        return f"<task: {', '.join(parts) or 'plain'}>"
