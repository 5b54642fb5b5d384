"""How the program begins and ends: what it registers at no needless cost; mistakes in one message."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pulumi
from pulumi.runtime import resource as registrations
from pulumi.runtime.proto import source_pb2

from tfserving.errors import TFServingError

SDK_MESSAGES = "TF_SERVING_SDK_MESSAGES"
"""Environment variable: set, the SDK's own messages for debugging are sent."""

_OBJECTS = 200_000
_CLASSES = 3
"""Classes of a resource that have an ``__init__``: its own, CustomResource or ComponentResource, Resource."""
_RUNNER = "<frozen runpy>"
"""What runs a program: frames from there on are not the program's."""

SAID = 32
"""Exit status of a program that has said what is wrong, or has nothing to say (``pulumi-language-python-exec``).

After any other one, :class:`pulumi.RunError` included, the Pulumi CLI adds "an unhandled error occurred".
"""


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """For the whole program: what is wrong with its config ends it with a message instead of a traceback.

    The CLI interrupts programs when a resource fails or the run is cancelled. It has said why by then, and what the
    program still waits for will not come; by default, Python would print a traceback into that report. So an interrupt
    ends the program at once and without a word.

    Raises:
        SystemExit: the message of a :class:`TFServingError` was said.
    """
    _drop_debug_messages()
    _positions_of_the_program_only()
    # Registrations are many small objects that stay: looking through them for garbage again and again finds none.
    gc.set_threshold(_OBJECTS, 20, 20)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, lambda *_: os._exit(SAID))
    try:
        yield
    except TFServingError as error:
        pulumi.log.error(str(error))
        sys.exit(SAID)


async def underway() -> None:
    """The last thing of the program, for :func:`pulumi.run`: what it has registered begins.

    Otherwise Pulumi would see no registration under way yet and wait for all outputs at once, where it looks through
    all that are left each time one is there: 16,000 of them with 1000 models, which took a third of the program's time.
    """
    await asyncio.sleep(0)


def _drop_debug_messages() -> None:
    """Pulumi's SDK sends four messages about each resource to the engine, one after another, and waits for each.

    The engine shows them with ``--debug`` only, and tells the program nothing of that.
    """
    if not os.environ.get(SDK_MESSAGES):
        pulumi.log.debug = _nothing


def _nothing(*_: object, **__: object) -> None:
    """Says nothing."""


def _positions_of_the_program_only() -> None:
    """Each registration says where in the program it is made, and where that was called from, down to the interpreter.

    Of that, the frames below the program's own (its runner, Pulumi's SDK, asyncio) tell nobody anything. They were a
    seventh of the program's time and a third of the state's size of a stack with many models.
    """
    if hasattr(registrations, "_get_stack_trace"):
        registrations._get_stack_trace = _stack_trace


def _stack_trace() -> source_pb2.StackTrace:
    """As the function of Pulumi's SDK that it takes the place of: the innermost frame, the first one here, is what
    calls the resource's own class, whose ``__init__`` is the third from within."""
    frame: FrameType | None = sys._getframe(1)
    inits = 0
    while frame is not None and inits < _CLASSES:
        inits += frame.f_code.co_name == "__init__"
        frame = frame.f_back
    frames = []
    while frame is not None and frame.f_code.co_filename != _RUNNER:
        if position := _position(frame.f_code.co_filename, frame.f_lineno):
            frames.append(source_pb2.StackFrame(pc=position))
        frame = frame.f_back
    return source_pb2.StackTrace(frames=frames)


@functools.cache
def _position(file: str, line: int) -> source_pb2.SourcePosition | None:
    path = Path(file)
    return source_pb2.SourcePosition(uri=path.as_uri(), line=line) if path.is_absolute() else None
