"""``manyhands version``: what a report of a bug should say."""

from __future__ import annotations

import json
import platform
import sys
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from typing import Any, Final

import click

from manyhands import __version__
from manyhands.settings import MapOptions, available_cores

_PACKAGES: Final = ("cloudpickle", "click", "rich", "tqdm", "psutil", "tenacity", "decorator")
_OPTIONAL: Final = ("numpy", "pydantic", "scikit-image", "matplotlib", "distributed", "pandas", "pyarrow")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def version(as_json: bool) -> None:
    """Print the versions of what is installed, and what workers would be like here.

    \b
    Example: manyhands version
    """  # noqa: D301  # \b is click's mark for lines that stay as they are
    told = _told()
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    packages = told.pop("packages")
    lines = {**told, **{name: found or "not installed" for name, found in packages.items()}}
    width = max(map(len, lines))
    for name, value in lines.items():
        click.echo(f"{name.replace('_', ' '):{width}}  {value}")


def _told() -> dict[str, Any]:
    pool = MapOptions().pool()
    return {
        "manyhands": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "executable": sys.executable,
        "platform": platform.platform(),
        "cores": available_cores(),
        "workers": pool.workers,
        "start_method": pool.start_method,
        "packages": {name: _installed(name) for name in (*_PACKAGES, *_OPTIONAL)},
    }


def _installed(package: str) -> str | None:
    try:
        return version_of(package)
    except PackageNotFoundError:
        return None
