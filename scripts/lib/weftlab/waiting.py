"""Waiting for a condition, with a guard against hanging: never a sleep and a hope."""

import time


class Hang(AssertionError):
    """A condition did not come true although the guard time has passed."""


def wait_until(predicate, guard_seconds=60, what=None, pause=0.01):
    """Returns the first true value of predicate()."""
    deadline = time.monotonic() + guard_seconds
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Hang(f"still not so after {guard_seconds} s: {what or predicate.__name__}")
        time.sleep(pause)
