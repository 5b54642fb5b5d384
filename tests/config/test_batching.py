"""Services that batch requests, beside the models on this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from config.stack import parse
from tfserving.errors import ConfigError
from tfserving.protos import tf_serving_pb2 as pb

Change = Callable[[dict[str, Any]], dict[str, Any]]

HTTP = "tf-serving:services.multi_http"
ON = {f"{HTTP}.batching": {"max_batch_size": 4}}
OWN = {f"{HTTP}.flags": {"num_load_threads": 2, "enable_batching": True, "enable_per_model_batching_parameters": True}}
ACK: dict[str, Any] = {
    "tf-serving:kubernetes": {"kubeconfig": "kubeconfig", "volume": {"roleName": "reader"}},
    "tf-serving:services.pods": {
        "target": "ack",
        "configFile": True,
        "allowLabelsForUnavailableVersions": True,
        "flags": {"num_load_threads": 2, "file_system_poll_wait_seconds": 30},
        "batching": {"max_batch_size": 4},
    },
}
KUBECONFIG = """\
current-context: sandbox
contexts: [{name: sandbox, context: {cluster: sandbox, user: admin}}]
clusters: [{name: sandbox, cluster: {server: "https://127.0.0.1:6443"}}]
users: [{name: admin, user: {}}]
"""


def write(version: Path, tags: tuple[str, ...] = ("serve",), **shapes: tuple[int, ...]) -> None:
    """A SavedModel with these inputs, and outputs that begin with ``out_``."""
    graph = pb.MetaGraphDef()
    graph.meta_info_def.tags.extend(tags)
    for name, shape in shapes.items():
        dims = [pb.TensorShapeProto.Dim(size=size) for size in shape]
        info = pb.TensorInfo(name=f"{name}:0", dtype=pb.DT_FLOAT, tensor_shape=pb.TensorShapeProto(dim=dims))
        signature = graph.signature_def["serving_default"]
        (signature.outputs if name.startswith("out_") else signature.inputs)[name].CopyFrom(info)
    version.mkdir(parents=True, exist_ok=True)
    (version / "saved_model.pb").write_bytes(pb.SavedModel(meta_graphs=[graph]).SerializeToString())


def warnings(config: dict[str, Any], project: Path) -> list[str]:
    return [text for text in parse(config, project).warnings if "batch" in text]


def test_models_that_can_be_batched_are_not_talked_about(changed: Change, project: Path) -> None:
    assert warnings(changed(ON), project) == []


def test_a_model_that_cannot_be_batched_is_told_once_with_the_versions_that_are_served(
    changed: Change, project: Path
) -> None:
    for number in (1, 2, 3):
        write(project / "models" / "modelC" / str(number), x=(), out_y=())
    (told,) = warnings(changed(ON), project)
    assert told.startswith("service multi_http batches requests, and model modelC, version 2, 3, signature serving_def")
    assert "input x is a single value" in told
    assert "; output out_y is a single value" in told


def test_without_batching_a_signature_is_nobodys_business(changed: Change, project: Path) -> None:
    write(project / "models" / "modelC" / "3", x=(), out_y=())
    assert warnings(changed({}), project) == []


def test_a_service_of_one_model_batches_its_highest_version(changed: Change, project: Path) -> None:
    write(project / "models" / "modelC" / "2", x=())
    write(project / "models" / "modelC" / "3", x=(1, 4), out_y=(1,))
    single = {
        "deployment": "custom",
        "image": "tensorflow-serving:2.14.1",
        "port": 8501,
        "model": "modelC",
        "batching": {"max_batch_size": 4},
    }
    (told,) = warnings(changed({"tf-serving:services.single": single}), project)
    assert "service single" in told
    assert "version 3, " in told
    assert "always has 1 row" in told


def test_the_graph_that_is_looked_at_has_the_tags_of_the_service(changed: Change, project: Path) -> None:
    for name, numbers in {"modelA": [1], "modelB": [1, 2], "modelC": [1, 2, 3]}.items():
        for number in numbers:
            write(project / "models" / name / str(number), ("gpu", "serve"), x=() if name == "modelA" else (-1, 4))
    flags = {"num_load_threads": 2, "saved_model_tags": "serve,gpu"}
    config = changed({**ON, f"{HTTP}.flags": flags, "tf-serving:services.multi_grpc.flags": flags})
    (told,) = warnings(config, project)
    assert "model modelA, version 1" in told


def test_a_start_command_of_ones_own_and_pods_batch_as_well(changed: Change, project: Path) -> None:
    write(project / "models" / "modelA" / "1", x=())
    (project / "kubeconfig").write_text(KUBECONFIG)
    own = {
        "deployment": "custom",
        "image": "registry.example.com/serving:1.0",
        "port": 8501,
        "configFile": True,
        "command": "tensorflow_model_server --rest_api_port=8501 --enable_batching "
        "--model_config_file=/models/model_config.pbtxt --allow_version_labels_for_unavailable_models "
        "--model_config_file_poll_wait_seconds=5",
    }
    config = changed({**ACK, "tf-serving:services.own": own})
    config["tf-serving:kubernetes"]["kubeconfig"] = str(project / "kubeconfig")
    told = warnings(config, project)
    assert {text.split(" batches")[0] for text in told} == {"service own", "service pods"}


def test_a_batching_file_of_somebody_else_is_told_and_leaves_what_holds_for_any(changed: Change, project: Path) -> None:
    write(project / "models" / "modelA" / "1", x=())
    flags = {"num_load_threads": 2, "enable_batching": True, "batching_parameters_file": "/models/batching.pbtxt"}
    file, model = warnings(changed({f"{HTTP}.flags": flags}), project)
    assert "/models/batching.pbtxt (--batching_parameters_file) is not a file of this stack" in file
    assert "under batching" in file
    assert "model modelA" in model


def test_versions_that_bring_their_own_parameters_are_batched_with_them_and_others_not_at_all(
    changed: Change, project: Path
) -> None:
    models = project / "models"
    write(models / "modelA" / "1", x=(4, 2), out_y=(4,))
    write(models / "modelB" / "1", x=())
    (models / "modelA" / "1" / "batching_params.pbtxt").write_text("max_batch_size { value: 4 }")
    assert warnings(changed(OWN), project) == []
    (models / "modelA" / "1" / "batching_params.pbtxt").write_text("max_batch_size { value: 8 }")
    (told,) = warnings(changed(OWN), project)
    assert "model modelA, version 1" in told


def test_own_parameters_with_which_a_served_version_does_not_load_are_refused_all_of_them(
    changed: Change, project: Path
) -> None:
    models = project / "models"
    (models / "modelB" / "2" / "batching_params.pbtxt").write_text("allowed_batch_sizes: 4")
    (models / "modelC" / "3" / "batching_params.pbtxt").write_text("max_batch: 4")
    (models / "modelC" / "1" / "batching_params.pbtxt").write_text("no version that is served")
    with pytest.raises(ConfigError) as caught:
        parse(changed(OWN), project)
    assert [problem.path for problem in caught.value.problems] == [
        "tf-serving:models.modelB",
        "tf-serving:models.modelC",
    ]
    assert "modelB/2/batching_params.pbtxt: the last allowed batch size is 4" in str(caught.value)
    assert "modelC/3/batching_params.pbtxt" in str(caught.value)


def test_own_parameters_that_no_service_reads_are_told(changed: Change, project: Path) -> None:
    (project / "models" / "modelB" / "2" / "batching_params.pbtxt").write_text("allowed_batch_sizes: 4")
    (told,) = warnings(changed(ON), project)
    assert told.startswith("model modelB: batching_params.pbtxt of version 2 is read by no service")
