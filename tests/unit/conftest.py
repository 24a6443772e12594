"""Settings of Hypothesis for the tests of the pure cores: what matters is the examples, not their time."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

settings.register_profile("unit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("noshrink", settings.get_profile("unit"), phases=[Phase.explicit, Phase.generate])
settings.load_profile(os.environ.get("UNITPROFILE", "unit"))
