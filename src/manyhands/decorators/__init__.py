"""The four decorators, and what they make: one callable that is a plan plus a body.

``task`` is the plan, ``decorated`` the callable; each decorator has its file. ``work`` is what travels to where
a call runs and takes it through its order of meaning; ``gate`` is the parent's side of claims; ``mapping``
starts maps and ``submitting`` single calls.
"""
