"""MODULE:FUNCTION on a command line: the function that is meant."""

from __future__ import annotations

import ast
import importlib
import os
import sys
import traceback
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from manyhands.cli import exits

METAVAR: Final = "MODULE:FUNCTION"

_SCRIPT: Final = "__mp_main__"
"""The name that Python's own multiprocessing gives a script that is imported. What belongs to it travels to workers by
value, as what belongs to a program does that was started by its name; they never run the script."""


class CanNotImport(click.ClickException):
    """The module raised as it was imported; shows where, without frames of ours."""

    exit_code = exits.USAGE

    def __init__(self, module: str, error: BaseException) -> None:
        if isinstance(error, SystemExit):
            why = (
                f"it called sys.exit({error.code!r}); put what it does as a program "
                f'under if __name__ == "__main__":'
            )
        else:
            shown = traceback.format_exception(type(error), error, _own_frames(error.__traceback__))
            why = f"it raised\n\n{''.join(shown).rstrip()}"
            if _is_path(module) and "relative import" in str(error):
                why += "\n\nA part of a package is given by its name: package.module:function"
        super().__init__(f"{module!r} can't be imported: {why}")


def found(text: str) -> Callable[..., Any]:
    """The function that MODULE:FUNCTION names.

    MODULE is the name of a module, which is looked for in the current directory first, or the path of a script,
    ``count.py`` or ``photos/count.py``: with a slash, or ending in ``.py``. A script finds its neighbours as if it had
    been started; its ``__name__`` is not ``"__main__"``.

    Raises:
        click.BadParameter: it is written otherwise, or there is no such module, script or function.
        CanNotImport: the module raised as it was imported.
    """
    module, _, path = text.rpartition(":")
    if not module.strip(":") or not path:
        raise _bad(f"{text!r} is not MODULE:FUNCTION, such as {_example(module or path)!r}")
    place: Any = _script(Path(module)) if _is_path(module) else _module(module)
    owner = place
    for name in path.split("."):
        if not hasattr(owner, name):
            raise _bad(f"{module!r} has no {path!r}{_hint(name, owner)}")
        owner = getattr(owner, name)
    if not callable(owner):
        raise _bad(f"{text!r} is no function, but {type(owner).__qualname__}")
    return owner  # type: ignore[no-any-return]


def functions_in(script: Path) -> list[str]:
    """The functions that a script defines at its top, by their names; it is not imported. None if it can't be read."""
    try:
        tree = ast.parse(script.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return []
    return [each.name for each in tree.body if isinstance(each, ast.FunctionDef) and each.name[0] != "_"]


def completed(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """For a shell: ``count.py:count`` for each function of the scripts whose names begin so, and directories."""
    file, colon, _ = incomplete.partition(":")
    place = Path(file)
    if colon:
        scripts = [place]
    else:
        folder = place if file.endswith(os.sep) else place.parent
        scripts = sorted(each for each in folder.glob("*.py") if str(each).startswith(file.removeprefix("./")))
    dot = f".{os.sep}" * file.startswith(f".{os.sep}")
    names = [f"{dot}{script}:{name}" for script in scripts for name in functions_in(script)]
    items = [CompletionItem(name) for name in names if name.startswith(incomplete)]
    # click's script for bash forgets what stands before a directory.
    return items if colon else [CompletionItem(incomplete, type="dir"), *items]


def completed_input(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """For a shell: files; or functions, since bash takes ``count.py:co`` for three words."""
    given = ctx.params.get(parameter.name or "") or ()
    if given == (":",) or incomplete == ":":
        names = functions_in(Path(ctx.params["function"]))
        return [CompletionItem(name) for name in names if name.startswith(incomplete.removeprefix(":"))]
    return [CompletionItem(incomplete, type="file")]


def _bad(message: str) -> click.BadParameter:
    return click.BadParameter(message, param_hint=METAVAR)


def _is_path(module: str) -> bool:
    return module.endswith(".py") or os.sep in module


def _example(module: str) -> str:
    names = functions_in(Path(module)) if _is_path(module) else []
    return f"{module}:{names[-1]}" if names else "photos:count"


def _hint(name: str, owner: object) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, [each for each in dir(owner) if callable(getattr(owner, each, None))], 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _look_first_in(directory: Path) -> None:
    if sys.path[:1] != [str(directory)]:
        sys.path.insert(0, str(directory))


def _module(name: str) -> ModuleType:
    _look_first_in(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise CanNotImport(name, error) from None  # another one that this one needs
        raise _bad(
            f"there is no module {error.name!r}, neither here nor among those that are installed"
        ) from None
    except (Exception, SystemExit) as error:
        raise CanNotImport(name, error) from None


def _script(path: Path) -> ModuleType:
    if not path.is_file():
        raise _bad(f"there is no file {str(path)!r} in {Path.cwd()}")
    file = path.absolute()
    _look_first_in(file.resolve().parent)
    spec = spec_from_file_location(_SCRIPT, file, loader=SourceFileLoader(_SCRIPT, str(file)))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[_SCRIPT] = module  # dataclasses and pickle look there
    arguments, sys.argv = sys.argv, [str(path)]  # ours are not for it
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[_SCRIPT]
        raise CanNotImport(str(path), error) from None
    finally:
        sys.argv = arguments
    return module


def _own_frames(trace: TracebackType | None) -> TracebackType | None:
    """What is left of a traceback without the frames of this file and of the import system at its beginning."""
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if name not in (__file__, importlib.__file__) and not name.startswith("<frozen importlib"):
            break
        trace = trace.tb_next
    return trace
