"""The TensorFlow runtime: its session, graph importer and protos, without the Python library around them.

``import tensorflow`` takes 2 s and 500 MB, much of it for Keras, tf.data, distribution strategies and the API modules,
none of which a server that runs SavedModels needs. The parts it does need import in 0.7 s and 350 MB when the package's
own ``__init__`` is put off, so that is what happens unless TensorFlow has been imported already.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import threading
from functools import cache
from typing import Any

_lock = threading.Lock()


def _import_bare_package() -> None:
    """Makes ``tensorflow.<module>`` importable without running ``tensorflow/__init__.py``.

    It still runs when anything asks the package for something it defines, so nobody can tell the difference.
    """
    if "tensorflow" in sys.modules:
        return
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or spec.loader is None or not spec.submodule_search_locations:
        raise ImportError("TensorFlow is not installed; install sandbox/requirements.txt")
    loader = spec.loader
    package = importlib.util.module_from_spec(spec)

    def import_all(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        del package.__dict__["__getattr__"]
        loader.exec_module(package)
        return getattr(package, name)

    package.__dict__["__getattr__"] = import_all
    sys.modules["tensorflow"] = package


class Runtime:
    """The modules used, under one name. Attributes are modules of ``tensorflow.python`` and ``tensorflow.core``."""

    def __init__(self) -> None:
        # Below ERROR the runtime logs which processor instructions it uses; read when the library loads.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        # Left on, it announces itself on stderr, and sums differ in the last digits from machine to machine.
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
        _import_bare_package()
        module = importlib.import_module
        self.client: Any = module("tensorflow.python.client.pywrap_tf_session")
        self.session: Any = module("tensorflow.python.client.session")
        self.importer: Any = module("tensorflow.python.framework.importer")
        self.ops: Any = module("tensorflow.python.framework.ops")
        self.errors: Any = module("tensorflow.python.framework.errors_impl")
        self.tf_record: Any = module("tensorflow.python.lib.io.tf_record")
        self.config_pb2: Any = module("tensorflow.core.protobuf.config_pb2")
        self.meta_graph_pb2: Any = module("tensorflow.core.protobuf.meta_graph_pb2")
        self.saved_model_pb2: Any = module("tensorflow.core.protobuf.saved_model_pb2")


@cache
def _runtime() -> Runtime:
    return Runtime()


def runtime() -> Runtime:
    """The runtime, imported at the first call.

    Raises:
        ImportError: TensorFlow is not installed.
    """
    with _lock:
        return _runtime()
