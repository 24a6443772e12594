"""What type checkers accept in legal.py, Python accepts too; the checkers themselves run in `tox -e types`."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest

import manyhands

HERE = Path(__file__).parent


def test_legal_uses_are_legal_when_run() -> None:
    """Every decoration of legal.py works, in every stacking order, and makes what is asserted of it."""
    spec = importlib.util.spec_from_file_location("legal_uses", HERE / "legal.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.every_order_of_four_makes_the_same_type()
    module.every_order_of_some_makes_the_same_type()
    module.without_parentheses_too()
    module.options_keep_the_type()


@pytest.mark.parametrize("file", ["legal.py", "illegal.py"])
def test_the_checked_files_say_what_is_expected(file: str) -> None:
    """No expectation is so wide that it would hold of anything: ignores name their code, and no type is Any."""
    lines = (HERE / file).read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if line.rstrip().endswith("ignore") or "Any" in line]
    if file == "illegal.py":
        both = [line for line in lines if "type: ignore[" in line or "pyright: ignore[" in line]
        assert len(both) > 50
        assert all("type: ignore[" in line and "pyright: ignore[" in line for line in both)


def test_every_public_name_is_used_legally() -> None:
    """legal.py imports all of the public functions and classes but the errors that nobody passes."""
    tree = ast.parse((HERE / "legal.py").read_text(encoding="utf-8"))
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "manyhands"
        for alias in node.names
    }
    errors = {name for name in manyhands.__all__ if isinstance(getattr(manyhands, name), type)}
    errors = {name for name in errors if issubclass(getattr(manyhands, name), BaseException)}
    assert set(manyhands.__all__) - errors <= imported
