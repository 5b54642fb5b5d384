from __future__ import annotations

import json
import os
import struct
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st

from tfserving import saved_model
from tfserving.errors import SavedModelError
from tfserving.manifest import HashCache
from tfserving.protos import tf_serving_pb2 as pb
from tfserving.saved_model import Signature, TensorInfo, VersionDir

PATH = "tf-serving:models.modelA"
SHARD = "variables/variables.data-00000-of-00001"


def tensor(dtype: int = pb.DT_FLOAT, shape: Sequence[int] | None = (-1, 28, 28, 1)) -> pb.TensorInfo:
    """A tensor; a size of -1 is open, no shape is an open rank."""
    if shape is None:
        sizes = pb.TensorShapeProto(unknown_rank=True)
    else:
        sizes = pb.TensorShapeProto(dim=[pb.TensorShapeProto.Dim(size=size) for size in shape])
    info = pb.TensorInfo(name="x:0", tensor_shape=sizes)
    info.dtype = pb.DataType.ValueType(dtype)
    return info


SERVE = pb.SignatureDef(
    inputs={"keras_tensor": tensor()},
    outputs={"output_0": tensor(shape=(-1, 10))},
    method_name="tensorflow/serving/predict",
)


def graph(
    *,
    tags: Sequence[str] = ("serve",),
    signatures: Mapping[str, pb.SignatureDef] | None = None,
    ops: Sequence[str] = ("Placeholder", "VarHandleOp"),
    assets: Sequence[str] = (),
) -> pb.MetaGraphDef:
    return pb.MetaGraphDef(
        meta_info_def=pb.MetaGraphDef.MetaInfoDef(tags=tags),
        graph_def=pb.GraphDef(node=[pb.NodeDef(name=f"n{i}", op=op) for i, op in enumerate(ops)]),
        signature_def={"serving_default": SERVE} if signatures is None else signatures,
        asset_file_def=[pb.AssetFileDef(filename=name) for name in assets],
    )


def export(
    directory: Path, *graphs: pb.MetaGraphDef, files: Sequence[str] = ("variables/variables.index", SHARD)
) -> Path:
    """Writes a version directory."""
    directory.mkdir(parents=True)
    model = pb.SavedModel(saved_model_schema_version=1, meta_graphs=graphs or [graph()])
    (directory / "saved_model.pb").write_bytes(model.SerializeToString())
    for name in files:
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_bytes(b"x")
    return directory


def problems(model_dir: Path) -> list[str]:
    return [str(problem) for _, problem in saved_model.examine(model_dir, PATH, HashCache(), {saved_model.SERVE_TAG})]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    export(tmp_path / "modelA" / "1")
    return tmp_path / "modelA"


# ---- versions


def test_versions_are_the_numeric_directories_in_the_order_of_their_numbers(model: Path) -> None:
    for name in ("10", "2", "0", "latest", "v3", "1.manifest.json"):
        (model / name).mkdir()
    (model / "7").write_text("a file")
    assert [version.number for version in saved_model.versions(model)] == [0, 1, 2, 10]
    assert saved_model.versions(model)[1] == VersionDir(1, model / "1")


def test_of_two_directories_with_one_number_tensorflow_serving_takes_the_last_by_name(model: Path) -> None:
    (model / "001").mkdir()
    (model / "01").mkdir()
    assert saved_model.versions(model) == (VersionDir(1, model / "1"),)


def test_a_missing_model_directory_has_no_versions_to_speak_of(tmp_path: Path) -> None:
    with pytest.raises(SavedModelError, match="there is no directory"):
        saved_model.versions(tmp_path / "missing")
    (tmp_path / "file").write_text("x")
    with pytest.raises(SavedModelError, match="is not a directory"):
        saved_model.versions(tmp_path / "file")


# ---- check


def test_a_complete_model_has_no_problem(model: Path) -> None:
    export(
        model / "2",
        files=("variables/variables.index", *(f"variables/variables.data-0000{i}-of-00003" for i in range(3))),
    )
    export(model / "3", graph(ops=("Const", "MatMul")), files=())
    export(model / "4", graph(tags=("train",)), graph(), graph(tags=("serve", "tpu")))
    export(model / "5", graph(assets=("vocab.txt",)), files=("variables/variables.index", SHARD, "assets/vocab.txt"))
    # TensorFlow writes an empty checkpoint for a model without variables.
    export(model / "6", graph(ops=("Const",)))
    assert problems(model) == []
    assert saved_model.warnings(model) == []


def test_a_link_to_a_version_directory_is_a_version(model: Path, tmp_path: Path) -> None:
    export(tmp_path / "elsewhere")
    (model / "2").symlink_to(tmp_path / "elsewhere")
    assert problems(model) == []
    assert [version.number for version in saved_model.versions(model)] == [1, 2]


def test_a_missing_model_directory_is_a_problem(tmp_path: Path) -> None:
    (found,) = problems(tmp_path / "nowhere")
    assert found.startswith(f"{PATH}: there is no directory {tmp_path / 'nowhere'}")


def test_a_model_without_versions_says_what_is_there_instead(tmp_path: Path) -> None:
    (tmp_path / "modelA" / "v1").mkdir(parents=True)
    (tmp_path / "modelA" / "__MACOSX").mkdir()
    (found,) = problems(tmp_path / "modelA")
    assert found == (
        f"{PATH}: modelA has no version directory, only v1. Allowed: directories named by a number: 1, 2, .... "
        "Fix: put the model's files into a directory called 1."
    )


def test_an_export_without_a_version_directory_is_recognized(tmp_path: Path) -> None:
    export(tmp_path / "modelA")
    (found,) = problems(tmp_path / "modelA")
    assert "modelA is a SavedModel itself, where version directories are expected" in found
    assert "Fix: put the model's files into a directory called 1" in found


@pytest.mark.parametrize(
    ("name", "is_file", "message"),
    [
        ("7", True, "modelA/7 is a file, and TensorFlow Serving would try to load it as version 7"),
        ("-1", False, "modelA/-1 is a negative version"),
        ("-1", True, "modelA/-1 is a negative version"),
    ],
)
def test_a_stray_number_is_a_problem(model: Path, name: str, is_file: bool, message: str) -> None:
    if is_file:
        (model / name).write_text("x")
    else:
        (model / name).mkdir()
    (found,) = problems(model)
    assert message in found


def test_two_directories_for_one_version_are_a_problem(model: Path) -> None:
    export(model / "001")
    (found,) = problems(model)
    assert "modelA/001 and modelA/1 are both version 1. Fix: keep one of them" in found


@pytest.mark.parametrize(
    ("files", "ops", "message"),
    [
        ((), ("VarHandleOp",), "has variables, but no variables/variables.index: it would load and then fail"),
        ((), ("VariableV2",), "has variables, but no variables/variables.index"),
        ((SHARD,), ("Const",), "has variables, but no variables/variables.index"),
        (("variables/variables.index",), ("VarHandleOp",), "has no variables/variables.data-* file"),
        (
            ("variables/variables.index", "variables/variables.data-00000-of-00002"),
            ("VarHandleOp",),
            "has no variables/variables.data-00001-of-00002",
        ),
        (
            ("variables/variables.index", "variables/variables.data-00002-of-00004"),
            ("VarHandleOp",),
            "has no variables/variables.data-00000-of-00004 and 2 more",
        ),
        (
            ("variables/variables.index", SHARD, "variables/variables.data-00000-of-00002"),
            ("VarHandleOp",),
            "has variables of two exports: shards of 1 and 2",
        ),
    ],
)
def test_incomplete_variables_are_a_problem(
    tmp_path: Path, files: Sequence[str], ops: Sequence[str], message: str
) -> None:
    export(tmp_path / "modelA" / "3", graph(ops=ops), files=files)
    (found,) = problems(tmp_path / "modelA")
    assert found.startswith(f"{PATH}: modelA/3 {message}")
    assert found.endswith("Fix: export the model again.")


def test_a_missing_asset_is_a_problem(tmp_path: Path) -> None:
    export(tmp_path / "modelA" / "1", graph(assets=("vocab.txt",)))
    (found,) = problems(tmp_path / "modelA")
    assert "modelA/1 has no assets/vocab.txt, which its graph reads" in found


def test_a_missing_saved_model_is_a_problem(model: Path) -> None:
    (model / "1" / "saved_model.pb").unlink()
    (found,) = problems(model)
    assert "modelA/1 has no saved_model.pb. Fix" in found


def as_text(version: Path, *, more: str = "") -> None:
    """Writes the graph in text form instead."""
    binary = version / "saved_model.pb"
    text = text_format.MessageToString(pb.SavedModel.FromString(binary.read_bytes()))
    (version / "saved_model.pbtxt").write_text(text + more)
    binary.unlink()


def test_a_graph_in_text_form_says_the_same(model: Path) -> None:
    before = saved_model.signatures(model / "1")
    as_text(model / "1", more="# a comment\nfield_of_tomorrow { [type.googleapis.com/x.Y] { a: 1 } }\n")
    assert problems(model) == []
    assert saved_model.signatures(model / "1") == before
    files = ["saved_model.pbtxt", "variables/variables.index", SHARD]
    text = (model / "1" / "saved_model.pbtxt").read_bytes()
    assert saved_model.incomplete(files, text) == []
    assert saved_model.incomplete(files[:1], text) == [
        "has variables, but no variables/variables.index: it would load and then fail every request"
    ]


def test_the_binary_form_counts_where_both_are_there(model: Path) -> None:
    (model / "1" / "saved_model.pbtxt").write_text("not a graph {")
    assert problems(model) == []
    assert saved_model.graph_of({"saved_model.pbtxt", "saved_model.pb"}) == "saved_model.pb"


@pytest.mark.parametrize("content", [b"meta_graphs { no", b"\xff\xfe", b"meta_graphs: 7"])
def test_a_text_that_is_no_graph_is_a_problem(model: Path, content: bytes) -> None:
    (model / "1" / "saved_model.pb").unlink()
    (model / "1" / "saved_model.pbtxt").write_bytes(content)
    (found,) = problems(model)
    assert "saved_model.pbtxt is not a SavedModel (it cannot be parsed)" in found


@pytest.mark.parametrize("content", [b"not a protobuf", b"\x12\xff\xff\xff\xff\x0f"])
def test_a_saved_model_that_cannot_be_parsed_is_a_problem(model: Path, content: bytes) -> None:
    (model / "1" / "saved_model.pb").write_bytes(content)
    (found,) = problems(model)
    assert "saved_model.pb is not a SavedModel (it cannot be parsed)" in found


@pytest.mark.parametrize(
    ("graphs", "there"),
    [
        ([], "no graph at all"),
        ([graph(tags=("train",))], "train"),
        ([graph(tags=()), graph(tags=("serve", "tpu"))], "no tag; serve, tpu"),
    ],
)
def test_a_graph_that_is_not_tagged_for_serving_is_a_problem(
    model: Path, graphs: list[pb.MetaGraphDef], there: str
) -> None:
    (model / "1" / "saved_model.pb").write_bytes(pb.SavedModel(meta_graphs=graphs).SerializeToString())
    (found,) = problems(model)
    assert f"has no graph with the tag `serve` ({there})" in found


TWO_GRAPHS = [graph(tags=("serve",)), graph(tags=("gpu", "serve"))]


@pytest.mark.parametrize(
    ("graphs", "tags", "lacking"),
    [
        ([], (), []),
        ([], ("serve",), ["has no graph with the tag `serve` (no graph at all)"]),
        ([graph(tags=("train",))], ("serve",), ["has no graph with the tag `serve` (train)"]),
        ([graph(tags=("train",))], ("train",), []),
        (TWO_GRAPHS, ("serve", "gpu,serve"), []),
        (TWO_GRAPHS, ("serve, gpu",), []),
        (TWO_GRAPHS, ("gpu",), ["has no graph with the tag `gpu` (serve; gpu, serve)"]),
        (TWO_GRAPHS[:1], ("serve", "gpu,serve"), ["has no graph with the tags `gpu,serve` (serve)"]),
    ],
)
@pytest.mark.parametrize("lite", [False, True])
def test_a_graph_somewhere_else_has_the_tags_of_each_service_that_loads_it(
    graphs: list[pb.MetaGraphDef], tags: tuple[str, ...], lacking: list[str], lite: bool
) -> None:
    files = ["saved_model.pb", "variables/variables.index", SHARD, *["model.tflite"] * lite]
    content = pb.SavedModel(meta_graphs=graphs).SerializeToString()
    assert saved_model.incomplete(files, content, tags=tags) == lacking
    assert saved_model.incomplete(files, content, tags=tags, tflite=True) == ([] if lite else lacking)


def test_all_problems_of_a_model_are_found_together(model: Path) -> None:
    (model / "2").write_text("x")
    (model / "3").mkdir()
    export(model / "4", graph(tags=("train",)))
    (model / "1" / "link").symlink_to("nowhere")
    texts = problems(model)
    assert len(texts) == 4
    for text, message in zip(
        texts, ("2 is a file", "symbolic link", "3 has no saved_model.pb", "`serve`"), strict=True
    ):
        assert message in text


def records(count: int) -> bytes:
    """A TFRecord file."""
    return b"".join(struct.pack("<QI", 5, 0) + b"12345" + struct.pack("<I", 0) for _ in range(count))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (records(1), ""),
        (records(1000), ""),
        (b"", ""),
        (records(1001), "has 1001 warm-up records, and TensorFlow Serving loads no more than 1000"),
        (records(2)[:-1], "has a damaged warm-up file"),
        (records(1) + b"123", "has a damaged warm-up file"),
        (struct.pack("<QI", 1 << 60, 0), "has a damaged warm-up file"),
    ],
)
def test_the_warm_up_file_is_counted(model: Path, content: bytes, message: str) -> None:
    warmup = model / "1" / "assets.extra" / "tf_serving_warmup_requests"
    warmup.parent.mkdir()
    warmup.write_bytes(content)
    found = problems(model)
    assert [message in text for text in found] == ([True] if message else [])


# ---- warnings


def test_what_is_ignored_or_renamed_is_worth_a_warning(model: Path) -> None:
    (model / "v2").mkdir()
    (model / "README.md").write_text("x")
    (model / str(2**63)).mkdir()
    export(model / "003")
    export(model / "4", graph(signatures={"classify": SERVE}))
    export(model / "5", graph(signatures={}))
    assert problems(model) == []
    assert saved_model.warnings(model) == [
        f"{2**63} is too large for a version number and is ignored",
        "file README.md is no version (not a number) and is ignored",
        "directory v2 is no version (not a number) and is ignored",
        "directory 003 is published as version 3",
        "version 4 has no signature serving_default (classify): each request must name its signature",
        "version 5 has no signature serving_default (none): each request must name its signature",
    ]


def test_junk_and_manifests_beside_the_versions_are_not_worth_a_warning(model: Path) -> None:
    for name in (".DS_Store", "1.manifest.json", ".gitignore"):
        (model / name).write_text("x")
    (model / "__MACOSX").mkdir()
    assert saved_model.warnings(model) == []


def test_a_directory_that_cannot_be_read_is_left_to_the_check(tmp_path: Path, model: Path) -> None:
    assert saved_model.warnings(tmp_path / "missing") == []
    (model / "1" / "saved_model.pb").write_bytes(b"broken")
    assert saved_model.warnings(model) == []


# ---- signatures


def test_signatures_are_read_with_types_and_shapes(tmp_path: Path) -> None:
    other = pb.SignatureDef(
        inputs={"b": tensor(pb.DT_STRING, ()), "a": tensor(pb.DT_INT64, None)},
        outputs={"y": tensor(pb.DT_BOOL, (3,)), "z": pb.TensorInfo(dtype=pb.DT_DOUBLE)},
        method_name="tensorflow/serving/classify",
    )
    init = pb.SignatureDef(outputs={"__saved_model_init_op": tensor(pb.DT_INVALID, None)})
    signatures = {"serving_default": SERVE, "other": other, "__saved_model_init_op": init}
    version = export(tmp_path / "1", graph(tags=("train",), signatures={}), graph(signatures=signatures))
    found = saved_model.signatures(version)
    assert found == {
        "other": Signature(
            inputs={"a": TensorInfo("int64", None), "b": TensorInfo("string", ())},
            outputs={"y": TensorInfo("bool", (3,)), "z": TensorInfo("float64", None)},
            method_name="tensorflow/serving/classify",
        ),
        "serving_default": Signature(
            inputs={"keras_tensor": TensorInfo("float32", (None, 28, 28, 1))},
            outputs={"output_0": TensorInfo("float32", (None, 10))},
            method_name="tensorflow/serving/predict",
        ),
    }
    assert found["serving_default"].to_dict() == {
        "inputs": {"keras_tensor": {"dtype": "float32", "shape": [None, 28, 28, 1]}},
        "outputs": {"output_0": {"dtype": "float32", "shape": [None, 10]}},
        "methodName": "tensorflow/serving/predict",
    }
    assert list(found["other"].to_dict()["inputs"]) == ["a", "b"]
    json.dumps([signature.to_dict() for signature in found.values()])


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (pb.DT_HALF, "float16"),
        (pb.DT_BFLOAT16, "bfloat16"),
        (pb.DT_UINT8, "uint8"),
        (pb.DT_FLOAT + 100, "float32"),  # a reference
        (99, "type 99"),
    ],
)
def test_types_have_tensorflows_names(tmp_path: Path, dtype: int, name: str) -> None:
    signature = pb.SignatureDef(inputs={"x": tensor(dtype)})
    version = export(tmp_path / "1", graph(signatures={"s": signature}))
    assert saved_model.signatures(version)["s"].inputs["x"].dtype == name


def test_a_version_without_a_saved_model_has_no_signatures_to_read(tmp_path: Path) -> None:
    with pytest.raises(SavedModelError, match=r"has no saved_model\.pb"):
        saved_model.signatures(tmp_path)


def test_differences_say_what_a_client_would_notice() -> None:
    image = TensorInfo("float32", (None, 28, 28, 1))
    old = {
        "gone": Signature({}, {}),
        "s": Signature({"x": image, "y": image}, {"p": TensorInfo("float32", None)}, "before"),
    }
    new = {
        "more": Signature({}, {}),
        "s": Signature(
            {"x": TensorInfo("float64", (None, 2)), "z": image}, {"p": TensorInfo("float32", None)}, "after"
        ),
    }
    assert saved_model.differences(old, new) == [
        "- gone",
        "+ more",
        "s: input x float32[?, 28, 28, 1] -> float64[?, 2]",
        "s: input y removed (was float32[?, 28, 28, 1])",
        "s: input z added (float32[?, 28, 28, 1])",
    ]
    assert saved_model.differences(old, old) == []
    assert str(TensorInfo("string", None)) == "string of any shape"


# ---- bytes read


def test_no_variable_is_read_and_a_second_look_reads_nothing(model: Path, tmp_path: Path) -> None:
    with open(model / "1" / SHARD, "wb") as file:
        file.truncate(1 << 40)
    old = time.time_ns() - 60 * 10**9 - 1
    os.utime(model / "1" / "saved_model.pb", ns=(old, old))
    size = (model / "1" / "saved_model.pb").stat().st_size

    def look(cache: HashCache) -> Any:
        version = saved_model.versions(model)[0].path
        return (
            saved_model.examine(model, PATH, cache),
            saved_model.warnings(model, cache),
            saved_model.signatures(version, cache),
        )

    with HashCache(tmp_path / "cache.json") as cache:
        first = look(cache)
    assert cache.bytes_read == size
    with HashCache(tmp_path / "cache.json") as cache:
        assert look(cache) == first
    assert cache.bytes_read == 0


@given(st.binary(max_size=200))
def test_no_content_breaks_the_reader(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    directory = tmp_path_factory.mktemp("model")
    (directory / "1").mkdir()
    (directory / "1" / "saved_model.pb").write_bytes(content)
    assert problems(directory)


@pytest.mark.slow
def test_what_tensorflow_exports_is_complete_and_read_the_same(tmp_path: Path) -> None:
    import tensorflow as tf

    class Net(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = tf.Variable(tf.ones((784, 10)))

        @tf.function(input_signature=[tf.TensorSpec((None, 28, 28, 1), tf.float32, name="keras_tensor")])
        def serve(self, keras_tensor: Any) -> Any:
            return {"output_0": tf.nn.softmax(tf.reshape(keras_tensor, (-1, 784)) @ self.weights)}

    class Constant(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((), tf.string)])
        def serve(self, text: Any) -> Any:
            return {"y": text}

    for number, module in ((1, Net()), (2, Constant())):
        tf.saved_model.save(module, str(tmp_path / str(number)), signatures=module.serve)
    assert problems(tmp_path) == []
    assert saved_model.warnings(tmp_path) == []
    assert saved_model.signatures(tmp_path / "1")["serving_default"] == Signature(
        inputs={"keras_tensor": TensorInfo("float32", (None, 28, 28, 1))},
        outputs={"output_0": TensorInfo("float32", (None, 10))},
        method_name="tensorflow/serving/predict",
    )
    assert saved_model.signatures(tmp_path / "2")["serving_default"].inputs == {"text": TensorInfo("string", ())}
    # The rule TensorFlow itself does not have: with its variables gone, the first still loads.
    for file in (tmp_path / "1" / "variables").iterdir():
        file.unlink()
    (found,) = problems(tmp_path)
    assert "has variables, but no variables/variables.index" in found


def test_a_tflite_model_alone_is_a_version_for_servers_that_prefer_it() -> None:
    files = ["model.tflite", "assets/labels.txt"]
    [message] = saved_model.incomplete(files)
    assert "with --prefer_tflite_model only" in message
    assert saved_model.incomplete(files, tflite=True) == []
    assert saved_model.incomplete(["other.tflite"], tflite=True) != []


@pytest.mark.parametrize(
    ("names", "preferred", "loads"),
    [
        (["model.tflite"], False, True),
        (["model.tflite", "saved_model.pb"], False, False),
        (["model.tflite", "saved_model.pbtxt"], True, True),
        (["saved_model.pb"], True, False),
    ],
)
def test_which_of_two_models_a_server_loads(tmp_path: Path, names: list[str], preferred: bool, loads: bool) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    assert saved_model.loads_tflite(tmp_path, preferred) is loads
