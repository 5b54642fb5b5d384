"""A whole stack whose bucket, network, image, token, environment and cluster are outputs of other resources."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.arguments import Arguments, Entries, Outputs, read_arguments
from config.kubernetes import AckServiceSettings
from config.models import ModelOptions
from config.services import ServiceSettings, StartFiles
from config.stack import Settings, StackOptions, parse
from tfserving import eas_spec, kubernetes
from tfserving.late_values import put_back

GIVEN: dict[str, Any] = {
    "bucket": {"name": "BUCKET", "existing": True},
    "models": {"m": {"policy": {"specific": [1]}, "labels": {"stable": 1}, "versions": [1]}},
    "services": {
        "one": {
            "deployment": "custom",
            "config_file": True,
            "config_poll_seconds": 10,
            "allow_labels_for_unavailable_versions": True,
            "image": "IMAGE",
            "token": "TOKEN",
            "env": {"KEY": "VALUE"},
            "gateway": "GATEWAY",
            "vpc": {"vpc_id": "VPC", "vswitch_ids": ["SWITCH", "vsw-known"], "security_group_id": "GROUP"},
            "extra_config": {"metadata": {"note": "NOTE"}},
        },
        "on_group": {"deployment": "custom", "model": "m", "resource": "RESOURCE", "cpu": 2, "memory": 4096},
        "in-pods": {
            "target": "ack",
            "config_file": True,
            "image": "IMAGE",
            "env": {"KEY": "VALUE"},
            "allow_labels_for_unavailable_versions": True,
        },
    },
    "kubernetes": {"kubeconfig": "KUBECONFIG", "cluster_id": "CLUSTER", "volume": {"role_name": "reader"}},
    "gpu_node_pools": {
        "gpus": {
            "instance_types": ["ecs.gn6i-c4g1.xlarge"],
            "vswitch_ids": ["SWITCH"],
            "security_group_ids": ["GROUP"],
            "tags": {"team": "TAG"},
            "desired_size": 1,
        }
    },
}


@dataclass(frozen=True)
class Late:
    """Stands for an output."""

    name: str


def with_outputs(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: with_outputs(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_outputs(item) for item in value]
    return Late(value) if isinstance(value, str) and value.isupper() else value


def service(entry: Any) -> tuple[type, ...]:
    if entry.get("target") == "ack":
        return (kubernetes.KubernetesServingSpec, AckServiceSettings, StartFiles)
    return (eas_spec.ServiceSpec, ServiceSettings, StartFiles)


def arguments() -> Arguments:
    outputs = Outputs(is_late=lambda value: isinstance(value, Late), part=lambda value, key, _: value)
    own = {"models": Entries(shape=(ModelOptions,)), "services": Entries(shape=service)}
    return read_arguments(with_outputs(GIVEN), (StackOptions,), outputs, own=own)


def settings(found: Arguments) -> Settings:
    raw = {f"tf-serving:{key}": value for key, value in found.values.items()}
    return parse({"alicloud:region": "cn-hangzhou", **raw}, Path("/nowhere"))


def restored(found: Arguments, value: Any) -> Any:
    return put_back(value, found.late, lambda parts: "".join(p.name if isinstance(p, Late) else p for p in parts))


def test_stand_ins_pass_every_check_of_the_stack() -> None:
    found = arguments()
    assert found.problems == []
    assert len(settings(found).services) == 2


def test_the_service_json_has_the_late_values_in_their_places() -> None:
    found = arguments()
    one, group = (restored(found, eas_spec.build(each.spec)) for each in settings(found).services)
    container = one["containers"][0]
    assert container["image"] == Late("IMAGE")
    assert {"name": "KEY", "value": Late("VALUE")} in container["env"]
    assert one["token"] == Late("TOKEN")
    assert one["cloud"]["networking"] == {
        "vpc_id": Late("VPC"),
        "vswitch_id": "SWITCH,vsw-known",
        "security_group_id": Late("GROUP"),
    }
    assert one["storage"][0]["oss"]["path"] == "oss://BUCKET/models/tf_serving/"
    assert one["metadata"]["note"] == Late("NOTE")
    assert Late("GATEWAY") in one["networking"].values()
    assert group["metadata"]["resource"] == Late("RESOURCE")


def test_kubernetes_manifests_have_the_late_values_in_their_places() -> None:
    found = arguments()
    [service] = settings(found).ack_services
    made = kubernetes.build(service.spec)
    container = restored(found, made.deployment)["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == Late("IMAGE")
    assert {"name": "KEY", "value": Late("VALUE")} in container["env"]
    assert "late" not in json.dumps(restored(found, made.volume), default=lambda value: value.name).replace("Late", "")


def test_names_do_not_change_with_the_late_values() -> None:
    first, second = settings(arguments()), settings(arguments())
    assert first == second
