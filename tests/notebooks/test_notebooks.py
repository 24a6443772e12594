"""Notebooks, executed: what is defined in cells is mapped; bars are widgets or text; interrupts and ends."""

from __future__ import annotations

import ast
import re
from typing import Any

import psutil
import pytest

from tests.helpers import DEADLINE
from tests.notebooks.conftest import Calls, Kernel

nbclient = pytest.importorskip("nbclient", reason="the dependency group notebooks is not installed")
nbformat = pytest.importorskip("nbformat")

WIDGET = "application/vnd.jupyter.widget-view+json"

DEFINITIONS = [
    """
    from manyhands import configure, parallel
    configure(workers=2, start_method={method!r})
    factor = 3
    def helper(x): return factor * x
    """,
    """
    @parallel
    def f(x): return helper(x)
    list(f.map(range(4)))  # -> [0, 3, 6, 9]
    """,
    "factor = 10",
    "list(f.map(range(4)))  # -> [0, 10, 20, 30]",
    "def helper(x): return -x",
    "list(f.map(range(4)))  # -> [0, -1, -2, -3]",
    """
    @parallel
    def f(x): return x + 100
    list(f.map(range(4)))  # -> [100, 101, 102, 103]
    """,
    """
    from dataclasses import dataclass
    @dataclass
    class Point:
        x: int
        def twice(self): return Point(2 * self.x)
    class Own(Exception): pass
    @parallel
    def g(point):
        if point.x < 0: raise Own(point.x)
        return point.twice()
    """,
    """
    points = list(g.map([Point(1), Point(2)]))
    points == [Point(2), Point(4)], type(points[0]) is Point  # -> (True, True)
    """,
    """
    try: list(g.map([Point(-1)]))
    except Own as error: told = error.args
    told  # -> (-1,)
    """,
    """
    @dataclass
    class Point:
        x: int
        def twice(self): return Point(20 * self.x)
    list(g.map([Point(1)])) == [Point(20)]  # -> True
    """,
    "list(parallel(lambda x: x * factor).map(range(3)))  # -> [0, 10, 20]",
    "(await g.asubmit(Point(7))).x  # -> 140",
    """
    found = []
    async for value in f.map(range(3)):
        found.append(value)
    found  # -> [100, 101, 102]
    """,
    "g.map([Point(1), Point(-2)], on_error='skip')",
]


def dedented(cell: str) -> str:
    lines = cell.strip("\n").split("\n")
    indent = len(lines[0]) - len(lines[0].lstrip())
    return "\n".join(line[indent:] for line in lines).rstrip()


def executed(cells: list[str]) -> Any:
    """The notebook, with all outputs; no cell may fail."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(dedented(cell)) for cell in cells])
    nbformat.validate(notebook)
    client = nbclient.NotebookClient(notebook, timeout=DEADLINE, kernel_name="python3")
    client.execute()
    return notebook


def texts(cell: Any, name: str) -> str:
    """What the cell has written to this stream."""
    return "".join(output["text"] for output in cell.outputs if output.get("name") == name)


def as_seen(text: str) -> list[str]:
    """The lines that a notebook shows of a text, in which a line may be written over from its beginning."""
    return [line.rstrip("\r").rpartition("\r")[2].rstrip() for line in text.split("\n")]


def test_what_is_defined_in_cells(method: str) -> None:
    """Functions, classes and globals are those of the last cell that defined them, with every start method."""
    cells = [cell.replace("{method!r}", repr(method)) for cell in DEFINITIONS]
    notebook = executed(cells)
    for source, cell in zip(cells, notebook.cells, strict=True):
        expected = re.search(r"# -> (.*)$", source.rstrip())
        assert not texts(cell, "stderr")
        if expected is not None:
            (output,) = cell.outputs
            assert ast.literal_eval(output["data"]["text/plain"]) == ast.literal_eval(expected[1]), source
    (shown,) = notebook.cells[-1].outputs
    assert "<table>" in shown["data"]["text/html"]
    assert shown["data"]["text/plain"].startswith("<Results of g: 0 of 2 taken")


BARS = [
    "from manyhands import parallel\n@parallel(workers=2)\ndef f(x): return x",
    "sum(f.map(range(50), progress='fifty'))",
    "for x in f.map(range(3), progress='outer'):\n    list(f.map(range(30), progress='inner'))",
    "sum(f.map(range(50), progress='rows', worker_bars=True))",
]


def test_bars_are_widgets() -> None:
    """One for each map, which goes to its end; nothing is written."""
    notebook = executed(BARS)
    for cell, count in zip(notebook.cells, (0, 1, 4, None), strict=True):
        widgets = [output for output in cell.outputs if WIDGET in output.get("data", {})]
        assert len(widgets) == count or (count is None and len(widgets) >= 2)
        assert not texts(cell, "stderr") and not texts(cell, "stdout")
    states = notebook.metadata["widgets"]["application/vnd.jupyter.widget-state+json"]["state"].values()
    values = [str(state["state"].get("value", "")) for state in states]
    assert sum("50/50" in value for value in values) == 2
    assert sum("3/3" in value for value in values) == 1


def test_bars_without_widgets() -> None:
    """Each outer bar is one line of text, without a warning, whatever happens inside."""
    notebook = executed([f"import sys\nsys.modules['ipywidgets'] = None\n{BARS[0]}", *BARS[1:]])
    seen = [as_seen(texts(cell, "stderr")) for cell in notebook.cells]
    assert seen[0] == [""]
    assert "inner" not in texts(notebook.cells[2], "stderr")
    for lines, label, total in zip(seen[1:], ("fifty", "outer", "rows"), (50, 3, 50), strict=True):
        assert [line for line in lines if line] == lines[:1]
        assert lines[0].startswith(f"{label}: 100%|") and f"{total}/{total}" in lines[0]


def test_interrupt(kernel: Kernel, method: str, calls: Calls) -> None:
    """It ends the map and what runs; the next cell's map runs on the same pool."""
    kernel.run(dedented(calls.cell(method)))
    sent = kernel.send("results = block.map(range(8), progress=True)\nlist(results)")
    begun = calls.begun(2)
    kernel.manager.interrupt_kernel()
    shown = kernel.shown(sent)
    (error,) = (message for message in shown if message["type"] == "error")
    assert error["ename"] == "KeyboardInterrupt"
    assert "list" in error["traceback"][2]
    assert not psutil.wait_procs(begun, timeout=DEADLINE)[1]
    assert kernel.value("results").endswith("ended>")
    assert kernel.value("list(parallel(lambda x: x + 1).map(range(6)))") == "[1, 2, 3, 4, 5, 6]"


def test_restart_and_end(kernel: Kernel, calls: Calls) -> None:
    """A kernel that is killed at work, for a restart or for good, leaves no process behind."""
    for end in (kernel.manager.restart_kernel, kernel.manager.shutdown_kernel):
        kernel.run(dedented(calls.cell("forkserver")))
        kernel.send("list(block.map(range(8)))")
        begun = calls.begun(2)
        left = kernel.workers()
        assert {worker.pid for worker in begun} <= {process.pid for process in left}
        end(now=True)
        assert not psutil.wait_procs(left, timeout=DEADLINE)[1]
        if end == kernel.manager.restart_kernel:
            kernel.wait()
