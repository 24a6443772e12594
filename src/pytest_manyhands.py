"""A plugin of pytest: fixtures for tests of functions with the decorators of manyhands.

pytest loads this module in every run in whose environment manyhands is installed. So it stands beside the package and
not in it, whose import costs something, and imports nothing of it before a fixture is used.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from manyhands.testing import Lap, Nemesis, VirtualTime


@pytest.fixture
def manyhands_inline() -> Iterator[VirtualTime]:
    """Maps and submits run in this process, in order, without waiting; see ``manyhands.testing.inline``."""
    from manyhands.testing import inline

    with inline() as time:
        yield time


@pytest.fixture
def claims_directory(tmp_path: Path) -> Iterator[Path]:
    """An empty directory for outputs. After the test and ``gc``, no file of a claim may be left in it, or below."""
    from manyhands.testing.leftovers import left_by_claims

    directory = tmp_path / "claims"
    directory.mkdir()
    yield directory
    left = left_by_claims(directory)
    if left:
        pytest.fail(f"claims have left in {directory}, also after gc: {', '.join(left)}", pytrace=False)


@pytest.fixture
def race() -> Callable[..., list[list[Lap[Any]]]]:
    """The function ``manyhands.testing.race``."""
    from manyhands.testing import race

    return race


@pytest.fixture
def nemesis(request: pytest.FixtureRequest) -> Iterator[Nemesis]:
    """A ``manyhands.testing.Nemesis``, which rests when the test has ended; its seed follows from the test's name."""
    from manyhands.testing import Nemesis

    with Nemesis(zlib.crc32(request.node.nodeid.encode())) as nemesis:
        yield nemesis
