"""Settings of Hypothesis for the tests of the pure cores: what matters is the examples, not their time."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("unit", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unit")
