"""Only the parts of TensorFlow that serving needs are imported, and the rest is still there for who asks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def run(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def test_loading_a_model_imports_no_keras(tiny_models: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from sandbox.model_server.api import Api
from sandbox.model_server.loader import LoaderOptions, load_saved_model
Api()
load_saved_model(Path({str(tiny_models / "counter_tf2/1")!r}), "m", LoaderOptions())
print([name for name in ("keras", "tensorflow.python.data", "tensorflow._api") if name in sys.modules])
"""
    assert run(code) == "[]"


def test_the_whole_package_is_imported_for_who_asks() -> None:
    code = """
from sandbox.model_server.runtime import runtime
runtime()
import tensorflow as tf
assert not hasattr(tf, "__no_such_name__")
print(tf.make_tensor_proto([1.0, 2.0]).dtype, int(tf.constant(1) + 1))
"""
    assert run(code) == "1 2"


def test_a_package_that_is_imported_already_is_used() -> None:
    code = """
import tensorflow as tf
from sandbox.model_server.runtime import runtime
print(runtime().session.Session is tf.compat.v1.Session)
"""
    assert run(code) == "True"
