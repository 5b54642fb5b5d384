"""Our copy of TensorFlow Serving's protocol buffers: in step with its source and with the originals."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tfserving.protos import tf_serving_pb2 as pb

ROOT = Path(__file__).resolve().parents[2]
PROTO = "tfserving/protos/tf_serving.proto"


def _fields(descriptor: Any) -> dict[str, Any]:
    return {field.name: field for field in descriptor.fields}


def _differences(ours: Any, theirs: Any, seen: set[str]) -> list[str]:
    """Where a message of ours would not be read as theirs: a field missing there, renumbered or retyped."""
    if ours.full_name in seen:
        return []
    seen.add(ours.full_name)
    found = []
    original = _fields(theirs)
    for name, field in _fields(ours).items():
        other = original.get(name)
        if other is None:
            found.append(f"{ours.full_name}.{name}: not in {theirs.full_name}")
            continue
        enum_as_number = {field.type, other.type} == {field.TYPE_ENUM, field.TYPE_INT32}
        if field.number != other.number or field.is_repeated != other.is_repeated:
            found.append(f"{ours.full_name}.{name}: number or cardinality")
        elif field.type != other.type and not enum_as_number:
            found.append(f"{ours.full_name}.{name}: type")
        elif field.message_type is not None:
            found += _differences(field.message_type, other.message_type, seen)
        elif field.enum_type is not None:
            values = {value.name: value.number for value in other.enum_type.values}
            found += [
                f"{field.enum_type.full_name}.{value.name}: number"
                for value in field.enum_type.values
                if value.name in values and values[value.name] != value.number
            ]
    return found


def test_the_generated_code_is_what_the_proto_says(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}", PROTO],
        cwd=ROOT,
        check=True,
    )
    for name in ("tf_serving_pb2.py", "tf_serving_pb2.pyi"):
        generated = (tmp_path / "tfserving/protos" / name).read_text()
        committed = (ROOT / "tfserving/protos" / name).read_text()
        assert committed.removeprefix("# mypy: ignore-errors\n") == generated


def test_config_messages_have_the_fields_of_the_originals_and_load_beside_them() -> None:
    from tensorflow_serving.config import model_server_config_pb2

    original = model_server_config_pb2.ModelServerConfig.DESCRIPTOR
    assert _differences(pb.ModelServerConfig.DESCRIPTOR, original, set()) == []
    # Nothing of the original is missing either: a hand-written file with any legal field must parse.
    assert set(_fields(pb.ModelConfig.DESCRIPTOR)) == set(_fields(model_server_config_pb2.ModelConfig.DESCRIPTOR))


@pytest.mark.slow
def test_request_and_saved_model_messages_have_the_fields_of_the_originals_and_load_beside_them() -> None:
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2

    pairs = [
        (pb.SavedModel, saved_model_pb2.SavedModel),
        (pb.PredictRequest, predict_pb2.PredictRequest),
        (pb.PredictResponse, predict_pb2.PredictResponse),
        (pb.GetModelStatusRequest, get_model_status_pb2.GetModelStatusRequest),
        (pb.GetModelStatusResponse, get_model_status_pb2.GetModelStatusResponse),
        (pb.GetModelMetadataRequest, get_model_metadata_pb2.GetModelMetadataRequest),
        (pb.GetModelMetadataResponse, get_model_metadata_pb2.GetModelMetadataResponse),
        (pb.SignatureDefMap, get_model_metadata_pb2.SignatureDefMap),
    ]
    assert [line for ours, theirs in pairs for line in _differences(ours.DESCRIPTOR, theirs.DESCRIPTOR, set())] == []
