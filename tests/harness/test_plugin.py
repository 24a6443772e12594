"""The plugin of pytest, in runs of its own, found as an installed one is: by its entry point."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

import manyhands
from tests.helpers import DEADLINE
from tests.unit.test_imports import loaded_by

ROOT = Path(__file__).parents[2]

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs pytest on a file with this text; returns what it says."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    installed = tmp_path / "installed" / "manyhands-0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: manyhands\nVersion: 0\n")
    points = project["entry-points"]["pytest11"]
    lines = [f"{name} = {module}\n" for name, module in points.items()]
    (installed / "entry_points.txt").write_text("".join(["[pytest11]\n", *lines]))
    place = tmp_path / "project"
    place.mkdir()

    def run_pytest(text: str, status: int = 0) -> str:
        (place / "test_it.py").write_text(textwrap.dedent(text))
        path = [
            str(installed.parent),
            str(Path(manyhands.__file__).parents[1]),
            os.environ.get("PYTHONPATH", ""),
        ]
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", "-W", "error", "-q", "-rA", "-p", "no:cacheprovider"],
            cwd=place,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path), "PYTEST_ADDOPTS": ""},
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
        assert ran.returncode == status, ran.stdout + ran.stderr
        return ran.stdout

    return run_pytest


def test_the_fixtures_work(run: Run) -> None:
    """A user's test file that uses all of them passes, with warnings as errors."""
    told = run("""
        import os
        import signal

        from manyhands import OUTPUT, claimed_output, parallel, retry_on


        @parallel(workers=2)
        @retry_on(OSError, wait=3600.0)
        def fragile(item, failed=[]):
            if item not in failed:
                failed.append(item)
                raise OSError("not yet")
            return os.getpid()


        def test_inline(manyhands_inline):
            assert set(fragile.map([1, 2])) == {os.getpid()}
            assert manyhands_inline.waits


        def test_claims(claims_directory, race):
            def write(number, racer):
                @claimed_output(f"{claims_directory}/a.txt")
                def write(output=OUTPUT):
                    output.write_text("whole")
                    if racer == 0:
                        os.kill(os.getpid(), signal.SIGKILL)
                return write().read_text()

            race(write)


        def test_nemesis(nemesis, race):
            def wait(number, racer):
                signal.pause()

            def end(pids):
                for pid in pids:
                    nemesis.give(pid)
                    nemesis.stop(pid)
                    nemesis.kill(pid)

            assert [lap.error.exitcode for lap in race(wait, meanwhile=end)[0]] == [-9, -9]
    """)
    assert "3 passed" in told


def test_what_claims_leave_fails_the_test(run: Run) -> None:
    """A file of a claim that gc does not remove is named, wherever it is below; other files are the user's."""
    told = run(
        """
        def test_it(claims_directory):
            (claims_directory / "below").mkdir()
            (claims_directory / "below" / ".a.csv.claim-0").write_text("somebody else's")
            (claims_directory / "a.csv").write_text("an output")
        """,
        status=1,
    )
    assert "also after gc: below/.a.csv.claim-0" in told
    assert "1 error" in told


def test_a_nemesis_rests_when_the_test_fails(run: Run) -> None:
    """The fixture undoes what was done, whatever the test came to."""
    told = run(
        """
        import subprocess
        import sys

        waiter = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)

        def test_one(nemesis):
            nemesis.give(waiter)
            nemesis.stop(waiter)
            assert False

        def test_two():
            waiter.communicate(b"\\n")
            assert waiter.returncode == 0
        """,
        status=1,
    )
    assert "1 failed, 1 passed" in told


def test_other_peoples_runs_are_left_alone(run: Run) -> None:
    """The plugin is there, and neither the package nor anything else was imported for it."""
    told = run("""
        import sys

        def test_it():
            assert "pytest_manyhands" in sys.modules
            assert "manyhands" not in sys.modules
            assert "psutil" not in sys.modules
    """)
    assert "1 passed" in told
    assert loaded_by("import pytest; before = set(sys.modules); import pytest_manyhands") == {
        "pytest_manyhands"
    }
