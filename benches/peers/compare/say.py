"""What the user hears: progress, and why something cannot be done.

Owns: the words on standard error. Never: the results, which `report` prints on standard output.
"""

import sys
import time

BEGAN = time.monotonic()


class Failure(Exception):
    """Something that the user has to know or to do; its text says what."""


def say(text):
    """One line of progress, with the seconds since the start."""
    print(f"[{time.monotonic() - BEGAN:6.1f}s] {text}", file=sys.stderr, flush=True)
