"""What ``manyhands.testing`` offers, and that it costs nothing until it is used."""

from __future__ import annotations

import pytest

import manyhands.testing
from tests.unit.test_imports import loaded_by


def test_every_public_name_is_there() -> None:
    """All names are found, once they are asked for; others are an AttributeError."""
    assert sorted(manyhands.testing.__all__) == sorted(manyhands.testing._HOMES) == dir(manyhands.testing)
    for name in manyhands.testing.__all__:
        found = getattr(manyhands.testing, name)
        assert getattr(found, "__name__", name) == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        manyhands.testing.nothing  # noqa: B018


def test_nothing_is_loaded_before_it_is_used() -> None:
    """Neither pytest, Hypothesis nor psutil come with the package of tools."""
    loaded = loaded_by("import manyhands.testing")
    assert not loaded & {"pytest", "_pytest", "hypothesis", "psutil", "cloudpickle"}
