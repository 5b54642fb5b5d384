"""A model whose operations are not registered: libraries that have them are tried, then the server's words are told."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sandbox.model_server import loader
from sandbox.model_server.runtime import runtime

pytestmark = pytest.mark.slow


def test_libraries_of_operations_are_loaded_once_a_model_needs_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved_model = runtime().saved_model_pb2.SavedModel()
    meta_graph = saved_model.meta_graphs.add()
    meta_graph.meta_info_def.tags.append("serve")
    meta_graph.meta_info_def.stripped_op_list.op.add(name="OpOfNobody")
    meta_graph.graph_def.node.add(name="x", op="OpOfNobody")
    (tmp_path / "saved_model.pb").write_bytes(saved_model.SerializeToString())
    (tmp_path / "some_ops.py").write_text("")
    (tmp_path / "broken_ops.py").write_text("raise ImportError('built for another TensorFlow')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(loader, "OP_LIBRARIES", ("no_such_ops", "broken_ops", "some_ops"))
    with pytest.raises(runtime().errors.NotFoundError, match="Op type not registered 'OpOfNobody' in binary running"):
        loader.load_saved_model(tmp_path, "/models/m/1", loader.LoaderOptions())
    assert "some_ops" in sys.modules
    monkeypatch.delitem(sys.modules, "some_ops")
