"""A table of wrong stack configs: each is refused with its config path, and nothing else is ever raised."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from config.stack import parse
from tfserving.errors import ConfigError

Change = Callable[[dict[str, Any]], dict[str, Any]]

HTTP = "tf-serving:services.multi_http"
GRPC = "tf-serving:services.multi_grpc"
MODELS = "tf-serving:models"
SERVICES = "tf-serving:services"
BUCKET = "tf-serving:bucket"

SCENE = {"deployment": "scenario", "model": "modelA"}
SINGLE = {"deployment": "custom", "model": "modelA"}
TRITON = {
    "deployment": "custom",
    "image": "registry.example.com/nv/tritonserver:24.05",
    "command": "tritonserver",
    "port": 8000,
}
GPU = {"image": "tensorflow-serving:2.14.1-gpu", "instanceType": "ecs.gn6i-c4g1.xlarge"}
NIGHT = {"at": "0 0 1 * * *", "replicas": 1}
VPC = {"vpcId": "vpc-1", "vswitchIds": ["vsw-1"], "securityGroupId": "sg-1"}
SLICE = {"resource": "eas-r-1", "cpu": 4, "memory": 8000, "gpuMemory": 8}


def http(**keys: Any) -> dict[str, Any]:
    """Changes of service multi_http."""
    return {f"{HTTP}.{key}": value for key, value in keys.items()}


def grpc(**keys: Any) -> dict[str, Any]:
    """Changes of service multi_grpc."""
    return {f"{GRPC}.{key}": value for key, value in keys.items()}


def other(**keys: Any) -> dict[str, Any]:
    """A further service."""
    return {f"{SERVICES}.other": keys}


# (changes to a good config, the config path that must be named, words that must be in that problem)
BAD: list[tuple[dict[str, Any], str, str]] = [
    # ---- model sets
    (http(models=[]), f"{HTTP}.models", "no model is named"),
    (http(models={}), f"{HTTP}.models", "no model is named"),
    (http(models=["modelA", "modelb"]), f"{HTTP}.models", "'modelB'"),
    (http(models={"modelA": {}, "modelX": {}}), f"{HTTP}.models.modelX", "there is no model 'modelX'"),
    (http(models=["modelA", "modelA"]), f"{HTTP}.models", "named twice"),
    (http(models="modelA"), f"{HTTP}.models", "list"),
    (http(models={"modelA": "all"}), f"{HTTP}.models.modelA", "mapping"),
    (http(models={"modelA": {"polcy": "all"}}), f"{HTTP}.models.modelA.polcy", "'policy'"),
    (http(models={"modelB": {"policy": {"specific": [7]}}}), f"{HTTP}.models.modelB.policy.specific", "7"),
    (http(models={"modelB": {"policy": {"specific": [2]}}}), f"{HTTP}.models.modelB.labels.stable", "1"),
    (http(models={"modelB": {"labels": {"stable": 9}}}), f"{HTTP}.models.modelB.labels.stable", "9"),
    (http(models=["modelA"], configFile=False), f"{HTTP}.models", "configFile is false"),
    (other(**SINGLE, models=["modelA"]), f"{SERVICES}.other.model", "configFile"),
    (
        {**http(models=["modelA", "modelB"]), **grpc(models=["modelA"])},
        f"{MODELS}.modelC",
        "no service serves this model",
    ),
    (
        {**http(models=["modelA"], mountPath="/one"), **grpc(models=["modelA"], mountPath="/two"), **other(**SCENE)},
        f"{GRPC}.mountPath",
        "one config file cannot fit both",
    ),
    # ---- unknown and misspelt keys, at every level
    ({"tf-serving:modls": {}}, "tf-serving:modls", "'tf-serving:models'"),
    ({"tf-serving:service": {}}, "tf-serving:service", "'tf-serving:services'"),
    ({"tf-serving:ModelRoot": "x/"}, "tf-serving:ModelRoot", "'tf-serving:modelRoot'"),
    ({"tf-serving:bukket": "x"}, "tf-serving:bukket", "'tf-serving:bucket'"),
    ({"tf-serving:zzz": "x"}, "tf-serving:zzz", "unknown key"),
    ({"tfserving:models": {}}, "tfserving:models", "write tf-serving:models"),
    ({"tf_serving:models": {}}, "tf_serving:models", "write tf-serving:models"),
    ({"aliyun:region": "cn-hangzhou"}, "aliyun:region", "write alicloud:region"),
    ({"models": {}}, "models", "tf-serving:models"),
    ({"alicloud:regoin": "cn-hangzhou"}, "alicloud:regoin", "'alicloud:region'"),
    ({"alicloud:assumeRole": "{}"}, "alicloud:assumeRole", "only one of this stack's two providers"),
    ({"alicloud:ecsRoleName": "role"}, "alicloud:ecsRoleName", "ALIBABA_CLOUD_"),
    ({"alicloud:endpoints": "[]"}, "alicloud:endpoints", "tf-serving:endpoints"),
    ({f"{BUCKET}.nane": "x"}, f"{BUCKET}.nane", "'name'"),
    ({f"{BUCKET}.force_destroy": True}, f"{BUCKET}.force_destroy", "'forceDestroy'"),
    ({"tf-serving:endpoints": {"os": "127.0.0.1:1"}}, "tf-serving:endpoints.os", "'oss'"),
    ({f"{MODELS}.modelA.polcy": "all"}, f"{MODELS}.modelA.polcy", "'policy'"),
    ({f"{MODELS}.modelB.label": {}}, f"{MODELS}.modelB.label", "'labels'"),
    ({f"{MODELS}.modelA.policy": {"lates": 1}}, f"{MODELS}.modelA.policy.lates", "'latest'"),
    (http(prot=8501), f"{HTTP}.prot", "'port'"),
    (http(config_file=True), f"{HTTP}.config_file", "'configFile'"),
    (http(allowLabelsForUnavailableVersion=True), f"{HTTP}.allowLabelsForUnavailableVersion", "'allowLabelsFor"),
    (http(mountpath="/models"), f"{HTTP}.mountpath", "'mountPath'"),
    (http(instance_types=["ecs.c7.large"]), f"{HTTP}.instance_types", "'instanceTypes'"),
    (http(vpc={**VPC, "vpcID": "vpc-1"}), f"{HTTP}.vpc.vpcID", "'vpcId'"),
    (http(autoscaler={"min": 1, "max": 2, "metric": {"qps": 1}}), f"{HTTP}.autoscaler.metric", "'metrics'"),
    (http(rollingStrategy={"max_surge": 1}), f"{HTTP}.rollingStrategy.max_surge", "'maxSurge'"),
    (http(healthCheck={"start": {"kind": "tcp"}}), f"{HTTP}.healthCheck.start", "'startup'"),
    (http(healthCheck={"startup": {"kind": "tcp", "period": 1}}), f"{HTTP}.healthCheck.startup.period", "unknown key"),
    (http(timeouts={"creat": "10m"}), f"{HTTP}.timeouts.creat", "'create'"),
    (http(instanceTypes=[{"typ": "ecs.c7.large"}]), f"{HTTP}.instanceTypes[0].typ", "'type'"),
    (http(flags={"num_load_thread": 2}), f"{HTTP}.flags.num_load_thread", "num_load_threads"),
    (http(batching={"max_batchsize": 2}), f"{HTTP}.batching.max_batchsize", "max_batch_size"),
    (http(monitoring={"pth": "/m"}), f"{HTTP}.monitoring.pth", "'path'"),
    # ---- wrong types
    ({"tf-serving:models": "modelA"}, MODELS, "not a mapping"),
    ({"tf-serving:models": ["modelA"]}, MODELS, "not a mapping"),
    ({"tf-serving:models": '{"modelA": '}, MODELS, "not valid JSON"),
    ({"tf-serving:models": '{"modelA": {}, "modelA": {}}'}, MODELS, "written twice"),
    ({"tf-serving:services": "[]"}, SERVICES, "not a mapping"),
    ({f"{MODELS}.modelA": "all"}, f"{MODELS}.modelA", "not a mapping"),
    ({f"{MODELS}.modelA.policy": 2}, f"{MODELS}.modelA.policy", "not a version policy"),
    ({f"{MODELS}.modelA.policy": "newest"}, f"{MODELS}.modelA.policy", "not a version policy"),
    ({f"{MODELS}.modelA.policy": {"latest": "two"}}, f"{MODELS}.modelA.policy.latest", "not a whole number"),
    ({f"{MODELS}.modelA.policy": {"latest": 1.5}}, f"{MODELS}.modelA.policy.latest", "not a whole number"),
    ({f"{MODELS}.modelA.policy": {"specific": 1}}, f"{MODELS}.modelA.policy.specific", "not a list"),
    ({f"{MODELS}.modelA.policy": {"specific": ["one"]}}, f"{MODELS}.modelA.policy.specific[0]", "not a whole number"),
    ({f"{MODELS}.modelA.policy": {"latest": 1, "specific": [1]}}, f"{MODELS}.modelA.policy", "exactly one"),
    ({f"{MODELS}.modelA.policy": {"all": {}}}, f"{MODELS}.modelA.policy", "all takes no settings"),
    ({f"{MODELS}.modelB.labels": ["stable"]}, f"{MODELS}.modelB.labels", "not a mapping"),
    ({f"{MODELS}.modelB.labels.stable": "first"}, f"{MODELS}.modelB.labels.stable", "not a whole number"),
    ({f"{MODELS}.modelB.labels.stable": None}, f"{MODELS}.modelB.labels.stable", "not a whole number"),
    ({f"{MODELS}.modelB.labels.stable": True}, f"{MODELS}.modelB.labels.stable", "not a whole number"),
    ({f"{MODELS}.modelA.source": ["models"]}, f"{MODELS}.modelA.source", "not a text"),
    ({f"{MODELS}.modelA.versions": 1}, f"{MODELS}.modelA.versions", "not a list"),
    ({f"{MODELS}.modelA.versions": ["x"]}, f"{MODELS}.modelA.versions[0]", "not a whole number"),
    ({f"{SERVICES}.multi_http": None}, HTTP, "no settings"),
    ({f"{SERVICES}.multi_http": "custom"}, HTTP, "not a mapping"),
    (http(port="http"), f"{HTTP}.port", "not a whole number"),
    (http(port=8501.5), f"{HTTP}.port", "not a whole number"),
    (http(port=True), f"{HTTP}.port", "not a whole number"),
    (http(port=[8501]), f"{HTTP}.port", "not a whole number"),
    (http(port=10**30), f"{HTTP}.port", "out of range"),
    (grpc(grpc="yes"), f"{GRPC}.grpc", "neither true nor false"),
    (http(configFile=1), f"{HTTP}.configFile", "neither true nor false"),
    (http(configPollSeconds="30s"), f"{HTTP}.configPollSeconds", "not a whole number"),
    (http(image=["tensorflow-serving:2.14.1"]), f"{HTTP}.image", "not a text"),
    (http(image="tensorflow-serving:2.14.1\n"), f"{HTTP}.image", "line break"),
    (http(replicas="two"), f"{HTTP}.replicas", "not a whole number"),
    (http(env=["A=b"]), f"{HTTP}.env", "not a mapping"),
    (http(env={"A": ["b"]}), f"{HTTP}.env.A", "not a single value"),
    (http(flags="--port=1"), f"{HTTP}.flags", "not a mapping"),
    (http(flags={"num_load_threads": [1]}), f"{HTTP}.flags.num_load_threads", "not a single value"),
    (http(vpc="vpc-1"), f"{HTTP}.vpc", "not a mapping"),
    (http(instanceTypes="ecs.c7.large"), f"{HTTP}.instanceTypes", "not a list"),
    (http(extraConfig="{"), f"{HTTP}.extraConfig", "not valid JSON"),
    (http(reachable="no"), f"{HTTP}.reachable", "neither true nor false"),
    (http(adopt="please"), f"{HTTP}.adopt", "neither true nor false"),
    (http(timeouts={"create": "soon"}), f"{HTTP}.timeouts.create", "not a length of time"),
    (http(timeouts={"create": 0}), f"{HTTP}.timeouts.create", "not a length of time"),
    (http(token=12345678), f"{HTTP}.token", "not an access token"),
    (http(monitoring="on"), f"{HTTP}.monitoring", "neither true nor false"),
    (http(labels={"team": {}}), f"{HTTP}.labels.team", "not a text"),
    ({f"{BUCKET}.forceDestroy": "maybe"}, f"{BUCKET}.forceDestroy", "neither true nor false"),
    ({f"{BUCKET}.tags": "a=b"}, f"{BUCKET}.tags", "not a mapping"),
    ({f"{BUCKET}.abortUploadsAfterDays": 0}, f"{BUCKET}.abortUploadsAfterDays", "too low"),
    ({"alicloud:skipRegionValidation": "yes"}, "alicloud:skipRegionValidation", "neither true nor false"),
    ({"alicloud:clientReadTimeout": "60s"}, "alicloud:clientReadTimeout", "not a whole number"),
    # ---- cloud
    ({"alicloud:region": ...}, "alicloud:region", "no region"),
    ({"alicloud:region": ""}, "alicloud:region", "no region"),
    ({"alicloud:region": "Hangzhou"}, "alicloud:region", "not a region id"),
    ({"alicloud:protocol": "http"}, "alicloud:protocol", "HTTPS or HTTP"),
    ({"alicloud:protocol": ...}, "alicloud:protocol", "does not work with tf-serving:endpoint"),
    ({"tf-serving:endpoint": ""}, "alicloud:protocol", "in the clear"),
    ({"alicloud:accountType": "Chinese"}, "alicloud:accountType", "Domestic or International"),
    ({"alicloud:secretKey": ...}, "alicloud:secretKey", "accessKey is set and secretKey is not"),
    ({"alicloud:accessKey": ...}, "alicloud:accessKey", "secretKey is set and accessKey is not"),
    ({"alicloud:profile": "work"}, "alicloud:profile", "keep one"),
    ({"tf-serving:endpoint": "http://127.0.0.1:7580"}, "tf-serving:endpoint", "write 127.0.0.1:7580"),
    ({"tf-serving:endpoint": "127.0.0.1"}, "tf-serving:endpoint", "names no port"),
    ({"tf-serving:endpoint": "127.0.0.1:99999"}, "tf-serving:endpoint", "not an endpoint"),
    ({"tf-serving:endpoint": "127.0.0.1:0"}, "tf-serving:endpoint", "not an endpoint"),
    ({"tf-serving:endpoints": {"oss": "oss/path"}}, "tf-serving:endpoints.oss", "not an endpoint"),
    ({"tf-serving:endpoints": {"eas": "eas.example.com"}}, "alicloud:protocol", "in the clear"),
    # ---- bucket and root
    ({BUCKET: ...}, f"{BUCKET}.name", "no bucket is named"),
    ({BUCKET: ""}, BUCKET, "no bucket is named"),
    ({BUCKET: {"forceDestroy": True}}, f"{BUCKET}.name", "no bucket is named"),
    ({BUCKET: {}}, f"{BUCKET}.name", "no bucket is named"),
    ({BUCKET: "{}"}, f"{BUCKET}.name", "no bucket is named"),
    ({BUCKET: {"name": None}}, f"{BUCKET}.name", "no bucket is named"),
    ({BUCKET: ["examplebucket"]}, BUCKET, "is not a mapping"),
    ({BUCKET: "Example_Bucket"}, BUCKET, "not a bucket name"),
    ({BUCKET: "ab"}, BUCKET, "not a bucket name"),
    ({BUCKET: "oss://examplebucket/models"}, BUCKET, "write examplebucket"),
    (
        {BUCKET: {"name": "examplebucket", "existing": True, "forceDestroy": True}},
        f"{BUCKET}.forceDestroy",
        "this one exists",
    ),
    ({BUCKET: {"name": "examplebucket", "existing": True, "protect": True}}, f"{BUCKET}.protect", "this one exists"),
    ({f"{BUCKET}.storageClass": "Archive"}, f"{BUCKET}.storageClass", "restored"),
    ({f"{BUCKET}.storageClass": "standard"}, f"{BUCKET}.storageClass", "'Standard'"),
    ({f"{BUCKET}.redundancyType": "GRS"}, f"{BUCKET}.redundancyType", "LRS or ZRS"),
    ({"tf-serving:modelRoot": "/models/"}, "tf-serving:modelRoot", "leading slash"),
    ({"tf-serving:modelRoot": "oss://b/models/"}, "tf-serving:modelRoot", "name the bucket in tf-serving:bucket"),
    ({"tf-serving:modelRoot": "models//x"}, "tf-serving:modelRoot", "not a key prefix"),
    ({"tf-serving:modelRoot": "models/../x"}, "tf-serving:modelRoot", "not a key prefix"),
    ({"tf-serving:modelRoot": " models/"}, "tf-serving:modelRoot", "blanks"),
    # ---- models
    ({MODELS: {}}, MODELS, "no model is declared"),
    ({MODELS: ...}, MODELS, "no model is declared"),
    ({f"{MODELS}.modela": {}}, f"{MODELS}.modela", "only in case or blanks"),
    ({f"{MODELS}.modelA ": {}}, f'{MODELS}["modelA "]', "only in case or blanks"),
    ({f"{MODELS}.model:A": {"versions": [1]}}, f'{MODELS}["model:A"]', "not a model name"),
    ({f"{MODELS}.../../etc": {}}, MODELS, "not a model name"),
    ({f"{MODELS}.modelD": {}}, f"{MODELS}.modelD", "modelD"),
    ({"tf-serving:modelSource": "nowhere"}, f"{MODELS}.modelA", "nowhere"),
    ({"tf-serving:modelSource": ""}, f"{MODELS}.modelA", "where the versions come from"),
    ({f"{MODELS}.modelA.source": "nowhere"}, f"{MODELS}.modelA.source", "nowhere"),
    (
        {f"{MODELS}.modelA.source": "models/modelA", f"{MODELS}.modelA.versions": [1, 7]},
        f"{MODELS}.modelA.versions",
        "version 7 is not in models/modelA",
    ),
    ({f"{MODELS}.modelA.source": "oss://Bucket/x"}, f"{MODELS}.modelA.source", "not a place in OSS"),
    ({f"{MODELS}.modelA.source": "oss://bucket/x"}, f"{MODELS}.modelA", "which versions of oss://bucket/x"),
    ({"tf-serving:manifests": ["x"]}, "tf-serving:manifests", "not a text"),
    ({f"{MODELS}.modelA.versions": []}, f"{MODELS}.modelA.versions", "no version is named"),
    ({f"{MODELS}.modelA.versions": [1, 1]}, f"{MODELS}.modelA.versions", "named twice"),
    ({f"{MODELS}.modelA.versions": [-1]}, f"{MODELS}.modelA.versions[0]", "too low"),
    (
        {f"{MODELS}.modelB.policy": {"specific": [1, 3]}},
        f"{MODELS}.modelB.policy.specific",
        "version 3 of model modelB",
    ),
    ({f"{MODELS}.modelB.policy": {"specific": []}}, f"{MODELS}.modelB.policy.specific", "no version is named"),
    ({f"{MODELS}.modelB.policy": {"specific": [1, 1, 2]}}, f"{MODELS}.modelB.policy.specific", "named 2 times"),
    ({f"{MODELS}.modelC.policy": {"latest": 0}}, f"{MODELS}.modelC.policy.latest", "out of range"),
    ({f"{MODELS}.modelB.labels.stable": 3}, f"{MODELS}.modelB.labels.stable", "published versions: 1, 2"),
    ({f"{MODELS}.modelB.labels.stable": -1}, f"{MODELS}.modelB.labels.stable", "out of range"),
    ({f"{MODELS}.modelB.policy": {"specific": [2]}}, f"{MODELS}.modelB.labels.stable", "does not serve"),
    ({f"{MODELS}.modelB.policy": {"latest": 1}}, f"{MODELS}.modelB.labels.stable", "latest 2"),
    ({f"{MODELS}.modelC.labels": {"stable": 1}}, f"{MODELS}.modelC.labels.stable", "does not serve"),
    ({f"{MODELS}.modelB.labels": {"sta-ble": 1}}, f"{MODELS}.modelB.labels.sta-ble", "not a label"),
    ({f"{MODELS}.modelB.versions": [1]}, f"{MODELS}.modelB.labels.canary", "not published"),
    # ---- services: identity and deployment
    ({SERVICES: {}}, SERVICES, "no service is declared"),
    ({SERVICES: ...}, SERVICES, "no service is declared"),
    ({f"{SERVICES}.multi-http": SINGLE}, f"{SERVICES}.multi-http", "multi_http"),
    ({f"{SERVICES}.Multi": SINGLE}, f"{SERVICES}.Multi", "not a service name"),
    ({f"{SERVICES}.ab": SINGLE}, f"{SERVICES}.ab", "not a service name"),
    ({f"{SERVICES}.1model": SINGLE}, f"{SERVICES}.1model", "not a service name"),
    ({f"{SERVICES}.{'a' * 64}": SINGLE}, f"{SERVICES}.{'a' * 64}", "3 to 63"),
    ({f"{SERVICES}.Multi_http": SINGLE}, f"{SERVICES}.Multi_http", "only in case or blanks"),
    (http(deployment=...), f"{HTTP}.deployment", "scenario"),
    (http(deployment="scenery"), f"{HTTP}.deployment", "did you mean 'scenario'"),
    # ---- services: one model or the config file
    (other(deployment="custom"), f"{SERVICES}.other.model", "nothing to serve"),
    (other(deployment="scenario"), f"{SERVICES}.other.model", "nothing to serve"),
    (other(**{**SINGLE, "model": "modela"}), f"{SERVICES}.other.model", "'modelA'"),
    (other(**{**SINGLE, "model": "resnet"}), f"{SERVICES}.other.model", "modelA, modelB, modelC"),
    (http(model="modelA"), f"{HTTP}.model", "both configFile and model"),
    (http(modelName="x"), f"{HTTP}.modelName", "the config file names its models"),
    (other(**SINGLE, modelName="a/b"), f"{SERVICES}.other.modelName", "not a model name"),
    (other(**SINGLE, configPollSeconds=30), f"{SERVICES}.other.configPollSeconds", "does not read"),
    (other(**SINGLE, allowLabelsForUnavailableVersions=True), f"{SERVICES}.other.allowLabels", "does not read"),
    (http(mountPath="/data"), f"{GRPC}.mountPath", "one config file cannot fit both"),
    (http(mountPath="models"), f"{HTTP}.mountPath", "not an absolute path"),
    (http(mountPath="/usr/models"), f"{HTTP}.mountPath", "would hide the image's own"),
    ({SERVICES: {"only_a": SINGLE}}, f"{MODELS}.modelB", "no service serves this model"),
    (
        {SERVICES: {"only_b": {**SINGLE, "model": "modelB"}}},
        f"{MODELS}.modelB.labels",
        "only known to services that read",
    ),
    # ---- services: labels
    (http(allowLabelsForUnavailableVersions=False), f"{HTTP}.allowLabelsForUnavailableVersions", "refuses at start"),
    (http(allowLabelsForUnavailableVersions=...), f"{HTTP}.allowLabelsForUnavailableVersions", "refuses at start"),
    (http(configPollSeconds=...), f"{HTTP}.configPollSeconds", "read only once"),
    (http(configPollSeconds=-1), f"{HTTP}.configPollSeconds", "0 or more"),
    (http(image="tensorflow-serving:1.15.0"), f"{HTTP}.image", "2.3"),
    # ---- services: ports and protocols
    (http(port=8080), f"{HTTP}.port", "reserved by EAS"),
    (http(port="8080"), f"{HTTP}.port", "reserved by EAS"),
    (http(port=9090), f"{HTTP}.port", "reserved by EAS"),
    (http(port=0), f"{HTTP}.port", "1 to 65535"),
    (http(port=70000), f"{HTTP}.port", "1 to 65535"),
    (http(port=8500), f"{HTTP}.port", "speaks gRPC"),
    (http(port=8000), f"{HTTP}.port", "HTTP is on port 8501"),
    (grpc(port=8501), f"{GRPC}.port", "gRPC is on port 8500"),
    (other(**SCENE, grpc=True), f"{SERVICES}.other.grpc", "a custom deployment does"),
    (other(**SCENE, port=8500), f"{SERVICES}.other.port", "a custom deployment has others"),
    (other(**SCENE, flags={"enable_batching": True}), f"{SERVICES}.other.flags", "a custom deployment does"),
    (other(**SCENE, command="tensorflow_model_server"), f"{SERVICES}.other.command", "no start parameters"),
    (other(**SCENE, script="echo"), f"{SERVICES}.other.script", "no start parameters"),
    (other(**SCENE, modelName="modelA"), f"{SERVICES}.other.modelName", "always called `model`"),
    (other(**SCENE, batching={}), f"{SERVICES}.other.batching", "no start parameters"),
    (other(**SCENE, monitoring=True), f"{SERVICES}.other.monitoring", "no start parameters"),
    (
        other(deployment="scenario", configFile=True, configPollSeconds=5),
        f"{SERVICES}.other.configPollSeconds",
        "no start",
    ),
    # ---- services: image and start
    (http(image="tensorflow-serving"), f"{HTTP}.image", "has no tag"),
    (http(image="tensorflow-serving:latest"), f"{HTTP}.image", "moves"),
    (http(image="tensorflow serving:2.14.1"), f"{HTTP}.image", "not an image"),
    (http(image="tritonserver:24.05"), f"{HTTP}.image", "not TensorFlow Serving"),
    (other(**{**TRITON, "port": None}), f"{SERVICES}.other.port", "needs the port"),
    (other(**TRITON, script="x"), f"{SERVICES}.other.script", "both command and script"),
    (other(**{**TRITON, "command": "tritonserver && sleep 1"}), f"{SERVICES}.other.command", "without a shell"),
    (other(**{**TRITON, "command": "tritonserver 'x"}), f"{SERVICES}.other.command", "quote is not closed"),
    (other(**TRITON, configFile=True), f"{SERVICES}.other.configFile", "starts something else"),
    (
        other(**SINGLE, command="tensorflow_model_server --rest_api_port=8501 --model_base_path=/models/modelB"),
        f"{SERVICES}.other.model",
        "the start command serves /models/modelB",
    ),
    (other(**TRITON, flags={"enable_batching": True}), f"{SERVICES}.other.flags", "say it in the start command"),
    # ---- services: flags, batching, monitoring
    (http(flags={"--num_load_threads": 2}), f"{HTTP}.flags.--num_load_threads", "dashes"),
    (http(flags={"model_config_file": "/x"}), f"{HTTP}.flags.model_config_file", "use configFile"),
    (http(flags={"rest_api_num_threads": 1}), f"{HTTP}.flags.rest_api_num_threads", "2 or more"),
    (http(flags={"rest_api_port": 8500}), f"{HTTP}.flags.rest_api_port", "both 8500"),
    (http(flags={"file_system_poll_wait_seconds": 0}), f"{HTTP}.flags.file_system_poll_wait_seconds", "1 or more"),
    (http(flags={"enable_batching": "maybe"}), f"{HTTP}.flags.enable_batching", "true or false"),
    (http(flags={"enable_grpc_healthcheck_service": True}), f"{HTTP}.flags.enable_grpc_healthcheck_service", "2.15.1"),
    (http(flags={"version": True}), f"{HTTP}.flags.version", "ends the server"),
    (
        http(batching={"allowed_batch_sizes": [8, 16], "max_batch_size": 32}),
        f"{HTTP}.batching.allowed_batch_sizes",
        "32",
    ),
    (http(batching={"max_batch_size": 0}), f"{HTTP}.batching.max_batch_size", "or more"),
    (http(batching=True), f"{HTTP}.batching", "not a mapping"),
    (http(monitoring={"path": "metrics"}), f"{HTTP}.monitoring.path", "not a path"),
    (http(monitoring={"path": "/v1/metrics"}), f"{HTTP}.monitoring.path", "where models answer"),
    # ---- services: resources
    (http(replicas=0), f"{HTTP}.replicas", "1 or more"),
    (http(cpu=2), f"{HTTP}.memory", "go together"),
    (http(memory=4096), f"{HTTP}.cpu", "go together"),
    (http(cpu=2, memory=4), f"{HTTP}.memory", "in MB"),
    (http(cpu=2, memory=4096, instanceType="ecs.c7.large"), f"{HTTP}.cpu", "has its own cpu"),
    (http(instanceType="c7.large"), f"{HTTP}.instanceType", "ecs.c7.large"),
    (http(instanceType="ecs.c7.large", instanceTypes=["ecs.c7.large"]), f"{HTTP}.instanceType", "keep one"),
    (http(instanceTypes=[{"spotPriceLimit": 1}]), f"{HTTP}.instanceTypes[0]", "has no name"),
    (
        http(instanceTypes=[{"type": "ecs.c7.large", "spotPriceLimit": 0}]),
        f"{HTTP}.instanceTypes[0].spotPriceLimit",
        "USD",
    ),
    (http(instanceTypes=[{"type": "ecs.c7.large", "capacity": "120%"}]), f"{HTTP}.instanceTypes[0].capacity", "100%"),
    (http(disableSpotProtection=True), f"{HTTP}.disableSpotProtection", "no spot instance type"),
    (http(resource="r-1", cpu=2, memory=4096), f"{HTTP}.resource", "eas-r-"),
    (http(resource="eas-r-1"), f"{HTTP}.cpu", "needs its cpu and memory"),
    (http(resource="eas-r-1", instanceType="ecs.c7.large"), f"{HTTP}.instanceType", "public resources"),
    (http(gpuMemory=8, **GPU), f"{HTTP}.gpuMemory", "resource groups only"),
    (http(**SLICE, gpu=1), f"{HTTP}.gpuMemory", "ignores the slice"),
    (http(gpuCorePercentage=50), f"{HTTP}.gpuCorePercentage", "gpuMemory"),
    # ---- services: network and scaling
    (http(vpc={"vpcId": "vpc-1"}), f"{HTTP}.vpc.vswitchIds", "needs vpcId, vswitchIds and securityGroupId"),
    (http(vpc={**VPC, "vpcId": "1"}), f"{HTTP}.vpc.vpcId", "vpc-..."),
    (http(vpc={**VPC, "vswitchIds": ["vsw-1", ""]}), f"{HTTP}.vpc.vswitchIds[1]", "empty"),
    (http(gateway="shared"), f"{HTTP}.gateway", "not a gateway id"),
    (http(gateway="gw-1"), f"{HTTP}.vpc", "dedicated gateway"),
    (http(autoscaler={"max": 2, "metrics": {"qps": 1}}), f"{HTTP}.autoscaler.min", "missing"),
    (http(autoscaler={"min": 3, "max": 2, "metrics": {"qps": 1}}), f"{HTTP}.autoscaler", "min < max"),
    (http(autoscaler={"min": 1, "max": 2}), f"{HTTP}.autoscaler.metrics", "nothing to follow"),
    (http(autoscaler={"min": 1, "max": 2, "metrics": {"rps": 1}}), f"{HTTP}.autoscaler.metrics.rps", "qps"),
    (http(autoscaler={"min": 1, "max": 2, "metrics": {"qps": "many"}}), f"{HTTP}.autoscaler.metrics.qps", "above 0"),
    (
        http(autoscaler={"min": 1, "max": 2, "metrics": {"qps": 9}}, replicas=2),
        f"{HTTP}.replicas",
        "the autoscaler sets",
    ),
    (http(schedule={"jobs": {"a": NIGHT}}), f"{HTTP}.schedule.timeZone", "EAS does not say which one"),
    (http(schedule={"jobs": {"a": NIGHT}, "timeZone": "Asia/Shangai"}), f"{HTTP}.schedule.timeZone", "Asia/Shanghai"),
    (http(schedule={"timeZone": "UTC"}), f"{HTTP}.schedule.jobs", "no job"),
    (
        http(schedule={"timeZone": "UTC", "jobs": {"a": {"at": "0 0 1 * * *"}}}),
        f"{HTTP}.schedule.jobs.a.replicas",
        "missing",
    ),
    (http(schedule={"timeZone": "UTC", "jobs": {"a": {"replicas": 1}}}), f"{HTTP}.schedule.jobs.a.at", "missing"),
    (
        http(schedule={"timeZone": "UTC", "jobs": {"a": {**NIGHT, "at": "0 1 * * *"}}}),
        f"{HTTP}.schedule.jobs.a.at",
        "seconds",
    ),
    (http(schedule={"timeZone": "UTC", "jobs": [NIGHT]}), f"{HTTP}.schedule.jobs", "names of jobs"),
    (http(schedule={"timeZone": "UTC", "job": {"a": NIGHT}}), f"{HTTP}.schedule.job", "'jobs'"),
    (http(schedule={"timeZone": "UTC", "jobs": {"a": NIGHT}}, replicas=2), f"{HTTP}.replicas", "the schedule sets"),
    (http(rollingStrategy={"maxSurge": 0, "maxUnavailable": 0}), f"{HTTP}.rollingStrategy", "both 0"),
    (http(rollingStrategy={"maxSurge": "half"}), f"{HTTP}.rollingStrategy.maxSurge", "not a whole number"),
    (http(rollingStrategy={"maxSurge": "200%"}), f"{HTTP}.rollingStrategy.maxSurge", "100%"),
    # ---- services: health checks, environment, the rest
    (http(healthCheck={"startup": {}}), f"{HTTP}.healthCheck.startup.kind", "http or tcp or exec"),
    (http(healthCheck={"startup": {"kind": "htp"}}), f"{HTTP}.healthCheck.startup.kind", "'http'"),
    (http(healthCheck={"startup": {"kind": "http", "path": "v1"}}), f"{HTTP}.healthCheck.startup.path", "not a path"),
    (http(healthCheck={"startup": {"kind": "tcp", "path": "/"}}), f"{HTTP}.healthCheck.startup.path", "has no path"),
    (http(healthCheck={"startup": {"kind": "exec"}}), f"{HTTP}.healthCheck.startup.command", "no command"),
    (
        http(healthCheck={"startup": {"kind": "tcp", "periodSeconds": 0}}),
        f"{HTTP}.healthCheck.startup.periodSeconds",
        "1",
    ),
    (
        http(healthCheck={"liveness": {"kind": "tcp", "successThreshold": 2}}),
        f"{HTTP}.healthCheck.liveness",
        "successThreshold",
    ),
    (http(healthCheck=True), f"{HTTP}.healthCheck", "not a mapping"),
    (
        grpc(healthCheck={"startup": {"kind": "http", "path": "/x"}}),
        f"{GRPC}.healthCheck.startup.port",
        "does not speak HTTP",
    ),
    (http(startupSeconds=1), f"{HTTP}.startupSeconds", "10 or more"),
    (http(env={"MODEL_NAME": "x"}), f"{HTTP}.env.MODEL_NAME", "entry point"),
    (http(env={"1A": "x"}), f"{HTTP}.env", "not a variable name"),
    (http(token="with blanks in it"), f"{HTTP}.token", "printable"),
    (http(labels={"managed-by": "me"}), f"{HTTP}.labels", "marks what this project made"),
    (http(extraConfig={"token": "x"}), f"{HTTP}.extraConfig.token", "use token"),
    (http(extraConfig={"autoscaler": {}}), f"{HTTP}.extraConfig.autoscaler", "use autoscaler"),
    (http(extraConfig={"metadata": {"name": "x"}}), f"{HTTP}.extraConfig.metadata.name", "key in services"),
    (http(extraConfig={"metadata": 5}), f"{HTTP}.extraConfig.metadata", "not an object"),
    (http(extraConfig={"containers": None}), f"{HTTP}.extraConfig.containers", "without containers"),
    (http(extraConfig={"containers": [{"port": 8080}]}), f"{HTTP}.extraConfig.containers[0].port", "reserved"),
    (grpc(extraConfig={"networking": {"path": None}}), f"{GRPC}.extraConfig", "networking.path"),
    (http(workspaceId="my space"), f"{HTTP}.workspaceId", "not a workspace id"),
    (http(rpcKeepaliveMs=-1), f"{HTTP}.rpcKeepaliveMs", "0 or more"),
]


def test_the_table_is_large_enough() -> None:
    assert len(BAD) >= 150


@pytest.mark.parametrize(("changes", "path", "words"), BAD, ids=[f"{i}-{path}" for i, (_, path, _) in enumerate(BAD)])
def test_a_bad_config_is_refused_with_its_path(
    changed: Change, project: Path, changes: dict[str, Any], path: str, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(changed(changes), project)
    about = [str(problem) for problem in caught.value.problems if problem.path.startswith(path)]
    assert about, f"nothing about {path} in:\n{caught.value}"
    assert any(words in text for text in about), f"{words!r} is not in:\n" + "\n".join(about)
    assert "Traceback" not in str(caught.value)
