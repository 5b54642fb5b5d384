"""What a TensorFlow Serving service on PAI-EAS is: a typed description, and its nested service JSON.

A :class:`ServiceSpec` holds every choice a stack can make about one service. :func:`validate` names everything wrong
with it, :func:`build` turns it into the JSON that the EAS API takes, and :func:`drift` compares such JSON with what the
API stores later.

Sources of the rules: Alibaba Cloud's pages on JSON deployment, storage mounts, GPU slicing, automatic scaling and gRPC
for EAS, its page on TensorFlow Serving in EAS, the EAS OpenAPI 2021-07-01, and the entry point of TensorFlow Serving's
image. Names in problems are those of the stack config (camelCase).
"""

from tfserving.eas_drift import OTHER_SECRET, SECRET, actual, baseline, drift, equivalent, normalize
from tfserving.eas_spec.checks import validate, warnings
from tfserving.eas_spec.description import (
    DEFAULT_IMAGE,
    DEFAULT_INSTANCE_TYPE,
    ENTRYPOINT,
    GRPC_PORT,
    HTTP_PORT,
    IMAGE_BASE_PATH,
    IMAGE_MODEL_NAME,
    SCENARIO_LABEL,
    Autoscaler,
    Deployment,
    HealthChecks,
    InstanceType,
    Probe,
    RollingStrategy,
    ScaleMetric,
    ServiceSpec,
    Vpc,
    answers_as_tf_serving,
    config_file_path,
    config_file_polls,
    gpu_memory_fraction,
    image_uri,
    model_name,
    mount_path,
    oss_uri,
    own_flags,
    runs_tf_serving,
    service_port,
    start_command,
    tf_serving_flags,
)
from tfserving.eas_spec.service_json import autoscaler, build, extra_for, merge

__all__ = [
    "DEFAULT_IMAGE",
    "DEFAULT_INSTANCE_TYPE",
    "ENTRYPOINT",
    "GRPC_PORT",
    "HTTP_PORT",
    "IMAGE_BASE_PATH",
    "IMAGE_MODEL_NAME",
    "OTHER_SECRET",
    "SCENARIO_LABEL",
    "SECRET",
    "Autoscaler",
    "Deployment",
    "HealthChecks",
    "InstanceType",
    "Probe",
    "RollingStrategy",
    "ScaleMetric",
    "ServiceSpec",
    "Vpc",
    "actual",
    "answers_as_tf_serving",
    "autoscaler",
    "baseline",
    "build",
    "config_file_path",
    "config_file_polls",
    "drift",
    "equivalent",
    "extra_for",
    "gpu_memory_fraction",
    "image_uri",
    "merge",
    "model_name",
    "mount_path",
    "normalize",
    "oss_uri",
    "own_flags",
    "runs_tf_serving",
    "service_port",
    "start_command",
    "tf_serving_flags",
    "validate",
    "warnings",
]
