"""Models that would write or read files outside of themselves: refused when they are loaded, others are not."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sandbox.model_server import graph_files
from sandbox.model_server.loader import LoaderOptions, SavedModel, load_saved_model
from sandbox.model_server.runtime import runtime
from sandbox.model_server.status import Code, StatusError
from tests.syntax_trees import tree_of

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("make_file_models.py")


def _names(table: str) -> list[str]:
    """The models of the script, which needs the whole of TensorFlow to run."""
    for statement in tree_of(SCRIPT).body:
        if isinstance(statement, ast.AnnAssign) and ast.unparse(statement.target) == table:
            assert isinstance(statement.value, ast.Dict)
            return [key.value for key in statement.value.keys if isinstance(key, ast.Constant)]
    raise AssertionError(table)


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outside") / "file"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, evil: Path) -> Path:
    directory = tmp_path_factory.mktemp("file-models")
    subprocess.run([sys.executable, str(SCRIPT), str(directory), str(evil)], check=True, capture_output=True)
    return directory


def load(path: Path) -> SavedModel:
    return load_saved_model(path, "/models/m/1", LoaderOptions())


@pytest.mark.parametrize("name", _names("REFUSED"))
def test_a_model_that_reaches_out_of_the_container_is_refused(models: Path, evil: Path, name: str) -> None:
    with pytest.raises(StatusError) as refused:
        load(models / "refused" / name / "1")
    assert refused.value.code is Code.UNIMPLEMENTED
    what = "write files" if name.startswith("writes") else "read files other than the model's assets"
    assert f"does not run operations that {what}: " in refused.value.message
    assert not evil.exists()


@pytest.mark.parametrize("name", _names("KEPT"))
def test_a_model_that_keeps_to_its_own_files_is_served(models: Path, name: str) -> None:
    model = load(models / "kept" / name / "1")
    signature = model.signatures["serving_default"]
    import numpy as np

    feeds = {signature.inputs["x"].name: np.array(b"two", object)}
    (answer,) = model.run(feeds, [signature.outputs["y"].name])
    model.close()
    expected: dict[str, Any] = {
        "looks_up_in_an_asset": 1,
        "reads_an_asset": b"one\ntwo\n",
        "reads_lines_of_an_asset": b"two",
        "caches_in_memory": 3,
        "prints_to_the_log": b"two",
        "has_variables": 1.0,
    }
    assert answer.item() == expected[name]


def _meta_graph() -> Any:
    meta_graph = runtime().meta_graph_pb2.MetaGraphDef()
    meta_graph.graph_def.node.add(name="x", op="Placeholder")
    signature = meta_graph.signature_def["serving_default"]
    signature.inputs["x"].name, signature.outputs["y"].name = "x:0", "y:0"
    return meta_graph


def _check(meta_graph: Any, fed: tuple[str, ...] = ("asset:0",), init: str = "") -> None:
    graph_files.check(meta_graph, fed, "", init)


def test_what_nothing_served_calls_may_write() -> None:
    meta_graph = _meta_graph()
    meta_graph.graph_def.node.add(name="y", op="Identity", input=["x"])
    meta_graph.graph_def.node.add(name="save", op="SaveV2", input=["x"])
    _check(meta_graph)
    meta_graph.graph_def.node[1].input.append("^save")
    with pytest.raises(StatusError, match=re.escape("write files: SaveV2, {{node save}}.")):
        _check(meta_graph)


def test_the_initializer_may_not_write_either() -> None:
    meta_graph = _meta_graph()
    meta_graph.graph_def.node.add(name="y", op="Identity", input=["x"])
    meta_graph.graph_def.node.add(name="init", op="NoOp", input=["^write"])
    meta_graph.graph_def.node.add(name="write", op="WriteFile", input=["x", "x"])
    _check(meta_graph)
    with pytest.raises(StatusError, match="WriteFile"):
        _check(meta_graph, init="init")


def test_an_asset_that_a_signature_takes_as_its_input_is_no_asset() -> None:
    meta_graph = _meta_graph()
    meta_graph.graph_def.node.add(name="asset", op="Placeholder")
    meta_graph.graph_def.node.add(name="y", op="ReadFile", input=["asset"])
    _check(meta_graph)
    meta_graph.signature_def["other"].inputs["path"].name = "asset:0"
    with pytest.raises(StatusError, match="ReadFile"):
        _check(meta_graph)


def test_a_constant_that_stands_for_an_asset_holds_its_own_text_once_the_model_is_started() -> None:
    meta_graph = _meta_graph()
    asset = meta_graph.graph_def.node.add(name="asset", op="Const")
    asset.attr["value"].tensor.string_val.append(b"/etc/hostname")
    meta_graph.graph_def.node.add(name="y", op="Identity", input=["x"])
    meta_graph.graph_def.node.add(name="table", op="InitializeTableFromTextFileV2", input=["x", "asset"])
    _check(meta_graph, init="table")
    meta_graph.graph_def.node[2].input.append("^table")
    with pytest.raises(StatusError, match="InitializeTableFromTextFileV2"):
        _check(meta_graph, init="table")


@pytest.mark.parametrize("name", ["../../secret", "/etc/hostname", "a/../../b", ""])
def test_an_asset_file_lies_among_the_assets(tmp_path: Path, name: str) -> None:
    saved_model = runtime().saved_model_pb2.SavedModel()
    meta_graph = saved_model.meta_graphs.add()
    meta_graph.meta_info_def.tags.append("serve")
    asset = meta_graph.asset_file_def.add(filename=name)
    asset.tensor_info.name = "asset:0"
    (tmp_path / "saved_model.pb").write_bytes(saved_model.SerializeToString())
    with pytest.raises(StatusError, match="no path inside the model's assets"):
        load(tmp_path)


NAMES_FILES = re.compile(
    r"file|path|dir(?!ection)|(?<!counter_)prefix|uri|url|address|region|data_source", re.IGNORECASE
)


def test_every_operation_of_tensorflow_that_names_files_is_known() -> None:
    import importlib

    op_def_pb2 = importlib.import_module("tensorflow.core.framework.op_def_pb2")
    runtime()
    client = runtime().client
    listed = op_def_pb2.OpList.FromString(client.TF_GetBuffer(client.TF_GetAllOpList()))
    assert len(listed.op) > 1000
    unknown = set()
    for op in listed.op:
        names = [item.name for item in op.input_arg]
        names += [item.name for item in op.attr if item.type in ("string", "list(string)")]
        if any(NAMES_FILES.search(name) for name in names) and op.name not in graph_files.KNOWN:
            unknown.add(op.name)
    assert {name for name in unknown if not name.startswith("Debug")} == set()
