"""TensorFlow Serving on Kubernetes (ACK): typed descriptions of a GPU node pool and a deployment, rules, and manifests.

:func:`validate` and :func:`validate_pool` name everything wrong, :func:`build` turns a deployment into the objects of
the Kubernetes API. Names in problems are those of the stack config (camelCase).
"""

from tfserving.kubernetes.checks import validate, warnings
from tfserving.kubernetes.description import (
    CONFIG_FILE_NAME,
    DEFAULT_CONFIG_MAP,
    DEFAULT_IMAGE,
    GPU_MEMORY_RESOURCE,
    GPU_RESOURCE,
    GRPC_PORT,
    HTTP_PORT,
    GrpcIngress,
    KubernetesServingSpec,
    LoadBalancer,
    ModelVolume,
    PodAutoscaler,
    PodMetric,
    config_map_name,
    gpu_memory_fraction,
    image,
    model_name,
    tf_serving_flags,
)
from tfserving.kubernetes.gpu import parse_instance_type
from tfserving.kubernetes.manifests import Manifest, Manifests, alert_rules, build, selector
from tfserving.kubernetes.names import Taint, Toleration
from tfserving.kubernetes.node_pool import (
    KUBELET_KEYS,
    KUBELET_LISTS,
    KUBELET_OBJECTS,
    SHARING_MODES,
    DataDisk,
    GpuNodePoolSpec,
    Scaling,
    Spot,
    node_labels,
    pool_warnings,
    scaling_type,
    validate_pool,
)

__all__ = [
    "CONFIG_FILE_NAME",
    "DEFAULT_CONFIG_MAP",
    "DEFAULT_IMAGE",
    "GPU_MEMORY_RESOURCE",
    "GPU_RESOURCE",
    "GRPC_PORT",
    "HTTP_PORT",
    "KUBELET_KEYS",
    "KUBELET_LISTS",
    "KUBELET_OBJECTS",
    "SHARING_MODES",
    "DataDisk",
    "GpuNodePoolSpec",
    "GrpcIngress",
    "KubernetesServingSpec",
    "LoadBalancer",
    "Manifest",
    "Manifests",
    "ModelVolume",
    "PodAutoscaler",
    "PodMetric",
    "Scaling",
    "Spot",
    "Taint",
    "Toleration",
    "alert_rules",
    "build",
    "config_map_name",
    "gpu_memory_fraction",
    "image",
    "model_name",
    "node_labels",
    "parse_instance_type",
    "pool_warnings",
    "scaling_type",
    "selector",
    "tf_serving_flags",
    "validate",
    "validate_pool",
    "warnings",
]
