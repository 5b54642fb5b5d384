"""A few public instance types of EAS, with the sizes Alibaba Cloud publishes for them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """An instance type.

    Attributes:
        cpu: vCPUs.
        memory_gb: memory in GiB.
        gpus: number of GPUs.
        gpu: model of the GPU, empty without one.
        gpu_memory_gb: memory of one GPU.
    """

    cpu: int
    memory_gb: float
    gpus: int = 0
    gpu: str = ""
    gpu_memory_gb: float = 0


MACHINES = {
    "ecs.c7.large": Machine(2, 4),
    "ecs.c7.xlarge": Machine(4, 8),
    "ecs.c7.2xlarge": Machine(8, 16),
    "ecs.g7.large": Machine(2, 8),
    "ecs.g7.xlarge": Machine(4, 16),
    "ecs.g7.2xlarge": Machine(8, 32),
    "ecs.gn6i-c4g1.xlarge": Machine(4, 15, 1, "NVIDIA T4", 16),
    "ecs.gn6i-c8g1.2xlarge": Machine(8, 31, 1, "NVIDIA T4", 16),
    "ecs.gn6v-c8g1.2xlarge": Machine(8, 32, 1, "NVIDIA V100", 16),
    "ecs.gn7i-c8g1.2xlarge": Machine(8, 30, 1, "NVIDIA A10", 24),
}
"""By name. Not the whole catalogue: types that are not listed can be used as well."""
