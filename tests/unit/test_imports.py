"""What `import manyhands` loads, and which room may import which."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import manyhands

PACKAGE = Path(manyhands.__file__).parent

LAYERS = (
    {"decorators", "compat", "cli", "demo", "testing"},
    {"handler", "controller", "claims"},
    {"reporting"},
    {"workers", "policies"},
    {"memory", "logs"},
    {
        "settings",
        "outcome",
        "calls",
        "errors",
        "shutdown",
        "traces",
        "future",
        "spelling",
        "waiting",
        "hashing",
    },
)
"""From the top down, as the design page has them: imports point down."""

ABOVE_ALL = {"__init__", "__main__", "face"}
"""The package's face and its command: they may import anything, and only they are above the layers."""

DEPENDENCIES = (
    "click",
    "cloudpickle",
    "dask",
    "distributed",
    "matplotlib",
    "numpy",
    "psutil",
    "pydantic",
    "rich",
    "skimage",
    "tenacity",
    "tqdm",
)


def loaded_by(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter has after ``statement``, and had not before."""
    program = f"import sys; before = set(sys.modules); {statement}; print(*(set(sys.modules) - before))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in ran.stdout.split()}


def room(module: str) -> str:
    """The room of a dotted name below the package: its first part."""
    return module.split(".")[1] if "." in module else "__init__"


def imports(path: Path) -> Iterator[str]:
    """The modules of the package that a file imports, anywhere in it, by their full names."""
    package = ("manyhands", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*start, *filter(None, [node.module])))
            # "from manyhands import claims" names a room, "from manyhands import gc" the package's face
            names = [f"{base}.{alias.name}" for alias in node.names] if base == "manyhands" else [base]
            names = [name if (PACKAGE / room(name)).exists() or _is_file(name) else base for name in names]
        else:
            continue
        yield from (name for name in names if name.partition(".")[0] == "manyhands")


def _is_file(module: str) -> bool:
    return (PACKAGE / f"{room(module)}.py").exists()


def edges() -> set[tuple[str, str]]:
    """Which room imports which other, with the package itself as ``__init__``."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found |= {(parts[0], room(name)) for name in imports(path)}
    return {(here, there) for here, there in found if here != there}


def layer(name: str) -> int:
    """How far down a room is."""
    return next(number for number, rooms in enumerate(LAYERS) if name in rooms)


def allowed(here: str, there: str) -> bool:
    """Whether the room ``here`` may import ``there``."""
    if here in ABOVE_ALL:
        return there != "testing"
    if there in ABOVE_ALL:
        return here in ("cli", "demo", "testing", "compat")  # users of the public face
    if there == "testing":
        return here == "cli"
    if layer(here) == layer(there):
        return (here, there) in {
            ("cli", "demo"),
            ("outcome", "calls"),
            ("outcome", "errors"),
            ("calls", "traces"),
            ("outcome", "traces"),
            ("future", "traces"),
            ("future", "waiting"),
            ("traces", "errors"),
            ("settings", "spelling"),
            ("settings", "calls"),
            ("settings", "errors"),
        }
    return layer(here) < layer(there)


def test_import_loads_nothing_but_the_standard_library() -> None:
    """``import manyhands`` loads no third-party module but the small one that binds arguments."""
    third_party = loaded_by("import manyhands") - set(sys.stdlib_module_names) - loaded_by("pass")
    assert third_party == {"manyhands", "decorator"}


@pytest.mark.parametrize("module", DEPENDENCIES)
def test_import_loads_no_heavy_module(module: str) -> None:
    """What only some calls need is imported by those calls, not by ``import manyhands``."""
    assert module not in loaded_by("import manyhands")


def test_decorating_does_not_load_pydantic() -> None:
    """Bare ``@validated`` loads it at the first call: a worker may never come to that."""
    decorate = "import manyhands; exec('def f(x: int): return x'); g = manyhands.validated(f)"
    assert "pydantic" not in loaded_by(decorate)
    assert "pydantic" in loaded_by(f"{decorate}; g(1)")


def test_every_room_has_its_layer() -> None:
    """A new room is put into the layers above before it imports anything."""
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert rooms - ABOVE_ALL <= set.union(*LAYERS)


def test_imports_point_down() -> None:
    """No room imports one above or beside it, so handler, controller and claims don't know one another."""
    assert sorted(edge for edge in edges() if not allowed(*edge)) == []


def test_the_graph_is_seen() -> None:
    """The reading of imports finds what is known to be there, at the top of modules and inside functions."""
    assert {
        ("decorators", "handler"),
        ("handler", "outcome"),
        ("cli", "demo"),
        ("face", "claims"),
    } <= edges()
