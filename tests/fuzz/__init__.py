"""Fuzzing: every machine that reads bytes from outside, each with a budget of CPU time that fails the run.

``python -m tests.fuzz --seconds 3600`` shares an hour among all targets; ``--help`` says the rest.  A target runs one
input, holds what comes out against what must be so (the same wherever it is cut, for one), and may raise only what its
caller expects.  Its budget grows with the input's length and with nothing else, so what is quadratic is found by a
flood and what has no end by an alarm.
"""
