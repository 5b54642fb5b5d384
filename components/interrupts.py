"""What happens when the engine ends the program before the program has ended itself."""

from __future__ import annotations

import os
import signal
import threading

_ALREADY_SAID = 32
"""Exit status with which the Python language host reports nothing more (``pulumi-language-python``)."""


def end_quietly() -> None:
    """Makes an interrupt end the program at once and without a word.

    The CLI interrupts programs when a resource fails or the run is cancelled. It has said why by then, and what the
    program still waits for will not come; by default, Python would print a traceback into that report.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, lambda *_: os._exit(_ALREADY_SAID))
