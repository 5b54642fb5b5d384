"""Which program serves models in the sandbox, and how it learns where a container's paths are.

The project's own server (``python -m sandbox.model_server``) listens on loopback only and reads the mounts from
``TF_SERVING_SANDBOX_MOUNTS``. TensorFlow Serving's own binary knows neither: its flags, and a copy of its config file
that is kept up to date, are rewritten to local paths; and it listens on every network interface, having no flag for it.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sandbox import confinement, paths
from sandbox.cloud.eas import command
from sandbox.cloud.eas.command import ServerCommand
from sandbox.cloud.eas.mounts import translate

_BASE_PATH = re.compile(r"""(\bbase_path\s*:\s*)("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')""")


@dataclass(frozen=True)
class Launch:
    """What to start.

    Attributes:
        program: what is run.
        arguments: what it is given.
        env: its whole environment: nothing secret of the cloud's own is handed down.
        config_copy: the rewritten config file to keep up to date, None where the server reads the mount itself.
        warnings: what a person should know, by a word for machines.
    """

    program: tuple[str, ...]
    arguments: tuple[str, ...]
    env: Mapping[str, str]
    config_copy: ConfigCopy | None = None
    warnings: Mapping[str, str] = field(default_factory=dict)


def stock_server() -> str | None:
    """TensorFlow Serving's own binary, if it is on PATH."""
    return shutil.which(command.SERVER)


def launch(
    server: ServerCommand,
    own_server: Sequence[str],
    mounts: Mapping[str, Path],
    grpc_port: int,
    rest_port: int,
    scratch: Path,
) -> Launch:
    """Turns what a container would run into what runs here.

    Args:
        own_server: program and first arguments of a server that translates paths itself; empty for the usual choice.
        mounts: local directory by mount path.
        grpc_port: loopback port for gRPC, 0 where the container has none.
        rest_port: likewise for HTTP.
        scratch: a directory for this instance alone.
    """
    ports = [f"--port={grpc_port}"] if grpc_port else []
    ports += [f"--rest_api_port={rest_port}"] if rest_port else []
    env = confinement.environment(server.env)
    stock = None if own_server else stock_server()
    if stock is None:
        program = tuple(own_server) or (sys.executable, "-m", "sandbox.model_server")
        env["PYTHONPATH"] = paths.PYTHONPATH
        env["PYTHONUNBUFFERED"] = "1"
        env["TF_SERVING_SANDBOX_HOST"] = "127.0.0.1"
        env["TF_SERVING_SANDBOX_MOUNTS"] = json.dumps({mount: str(path) for mount, path in mounts.items()})
        return Launch(program, (*server.flags, *ports), env)
    flags = [_translated(flag, mounts) for flag in server.flags]
    copy = None
    if config := command.flag(server.flags, "model_config_file"):
        copy = ConfigCopy(Path(translate(config, mounts)), scratch / "model_config.pbtxt", mounts)
        copy.refresh()
        flags.append(f"--model_config_file={copy.path}")
    warnings = {
        "ListensEverywhere": f"{stock} listens on every network interface of this machine, not on loopback only, and "
        "answers whoever asks."
    }
    if not confinement.is_by_kernel():
        warnings["NotConfined"] = f"This kernel has no Landlock, so models in {stock} may do what its user may."
    return Launch((stock,), (*flags, *ports), env, copy, warnings)


class ConfigCopy:
    """A model config file with the base paths of this machine."""

    def __init__(self, source: Path, path: Path, mounts: Mapping[str, Path]) -> None:
        self.path = path
        self._source = source
        self._mounts = mounts
        self._text: str | None = None

    def refresh(self) -> None:
        """Writes the copy again if its source has changed. A source that is gone leaves the last copy."""
        try:
            text = self._source.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return
        if text == self._text:
            return
        self._text = text
        rewritten = _BASE_PATH.sub(self._base_path, text)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        staged = self.path.with_suffix(".new")
        staged.write_text(rewritten, encoding="utf-8", errors="surrogateescape")
        staged.replace(self.path)

    def _base_path(self, match: re.Match[str]) -> str:
        quoted = match[2]
        return f"{match[1]}{quoted[0]}{translate(quoted[1:-1], self._mounts)}{quoted[0]}"


def _translated(flag: str, mounts: Mapping[str, Path]) -> str:
    name, equals, value = flag.partition("=")
    return f"{name}={translate(value, mounts)}" if equals and name.lstrip("-") in command.PATH_FLAGS else flag
