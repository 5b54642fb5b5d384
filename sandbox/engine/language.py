"""Runs a Pulumi program in Python against the engine. Started as a script, in the project's own interpreter.

What the CLI's language host does (sdk/python/cmd/pulumi-language-python-exec). The first line of stdin is a JSON
object: the fields of ``pulumi.runtime.Settings``, ``config`` and ``secret_keys``. stdin stays open as long as the
engine lives, and the program ends with it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import runpy
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def _end_with_the_engine() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def _of_the_program(error: BaseException, root: str) -> str:
    """The traceback from the first frame that is the program's own."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [i for i, f in enumerate(frames) if f.filename.startswith(root) and not f.filename.startswith(sys.prefix)]
    kept = frames[own[0] :] if own else [] if isinstance(error, SyntaxError) else frames
    return "".join(
        ["Traceback (most recent call last):\n"] * bool(kept)
        + traceback.format_list(kept)
        + traceback.format_exception_only(error)
    )


def main(arguments: dict[str, Any]) -> int:
    """Runs ``__main__.py`` of the project in the current directory. Returns the exit status."""
    try:
        import pulumi
        import pulumi.runtime
    except ImportError as error:
        print(f"the Pulumi SDK is not installed for {sys.executable}: {error}")
        return 1
    pulumi.runtime.set_all_config(arguments.pop("config"), arguments.pop("secret_keys"))
    pulumi.runtime.configure(pulumi.runtime.Settings(**arguments))
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # a failed program leaves futures behind; that is no news
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.set_default_executor(ThreadPoolExecutor(arguments["parallel"] * 4))

    def program() -> None:
        # The file and not the directory: of that Python would keep the bytecode, by a time in whole seconds and a size,
        # and run a program again that has been changed since.
        sys.path.insert(0, os.getcwd())
        runpy.run_path(os.path.join(os.getcwd(), "__main__.py"), run_name="__main__")

    try:
        loop.run_until_complete(pulumi.runtime.run_in_stack(program))
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else error.code is not None
    except pulumi.RunError as error:
        pulumi.log.error(str(error))
    except Exception as error:
        pulumi.log.error(f"Program failed with an unhandled exception:\n{_of_the_program(error, os.getcwd())}")
    else:
        return 0
    return 1


if __name__ == "__main__":
    settings = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_engine, daemon=True).start()
    status = main(settings)
    sys.stdout.flush()
    os._exit(status)
