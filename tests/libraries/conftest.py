"""The fixtures of the contract tests."""

from tests.contract.conftest import controller, how, method, processes

__all__ = ["controller", "how", "method", "processes"]
