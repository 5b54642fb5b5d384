"""What batching refuses and pads. Each request is a batch of its own here: only its rules are kept, not its waiting.

Source: ``servables/tensorflow/bundle_factory_util.cc`` (``WrapSessionForBatching``), ``batching/batching_session.cc``,
``batching/batching_util.h``, and the runtime's ``shared_batch_scheduler.h``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sandbox.model_server.metrics import QUEUING_LATENCY, WRAPPED_RUNS
from sandbox.model_server.status import Code, StatusError, failed_precondition, invalid_argument
from sandbox.model_server.tensors import Array

PARAMETERS_FILE = "batching_params.pbtxt"
"""Of one version, with ``--enable_per_model_batching_parameters``."""

_DEFAULT_MAX_SIZE = 1000

Run = Callable[[Mapping[str, Array]], list[Array]]


@dataclass(frozen=True)
class Batching:
    """The parameters that decide what a request may be.

    Attributes:
        max_size: rows of a request at most.
        execution_size: rows of one run at most; larger requests are split.
        allowed_sizes: what a run is padded to.
    """

    max_size: int = _DEFAULT_MAX_SIZE
    execution_size: int = _DEFAULT_MAX_SIZE
    allowed_sizes: tuple[int, ...] = ()

    @classmethod
    def of(cls, parameters: Any) -> Batching:
        """Reads a ``BatchingParameters`` message. Each model is loaded with its own check of it.

        Raises:
            StatusError: ``INVALID_ARGUMENT``, the sizes do not go together.
        """
        given = parameters.HasField
        max_size = parameters.max_batch_size.value if given("max_batch_size") else _DEFAULT_MAX_SIZE
        allowed = tuple(parameters.allowed_batch_sizes)
        if allowed and allowed[-1] != max_size:
            raise invalid_argument(
                "Last entry in allowed_batch_sizes must match max_batch_size; last entry was "
                f"{allowed[-1]}; expected {max_size}"
            )
        split = parameters.enable_large_batch_splitting.value and given("max_execution_batch_size")
        execution_size = parameters.max_execution_batch_size.value if split else max_size
        if execution_size > max_size:
            # The real one writes the flag and both sizes behind its sentence, without a blank.
            raise invalid_argument(
                "When enable_large_batch_splitting is true, input_batch_size_limit must be greater than or equal to "
                f"max_execution_batch_size.1{max_size}{execution_size}"
            )
        return cls(max_size, execution_size, allowed)

    def run(self, feeds: Mapping[str, Array], run: Run) -> list[Array]:
        """Runs a request as a batch: refused, split, padded and cut as the real one is.

        Raises:
            StatusError: what cannot be batched, or ``run``'s own.
        """
        size = _size(list(feeds.values()))
        if size > self.max_size:
            raise invalid_argument(f"Task size {size} is larger than maximum input batch size {self.max_size}")
        if size == 0:
            raise StatusError(Code.INTERNAL, "Batch size expected to be positive; was 0")
        step = max(self.execution_size, 1)
        parts = [
            self._run_part({name: value[start : start + step] for name, value in feeds.items()}, run)
            for start in range(0, size, step)
        ]
        if len(parts) == 1:
            return parts[0]
        return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]

    def _run_part(self, feeds: Mapping[str, Array], run: Run) -> list[Array]:
        size = len(next(iter(feeds.values())))
        padded = next((allowed for allowed in self.allowed_sizes if allowed >= size), size)
        if padded > size:
            # The padding is the first row again: a value the model certainly takes.
            feeds = {
                name: np.concatenate([value, np.repeat(value[:1], padded - size, axis=0)])
                for name, value in feeds.items()
            }
        # By the name of a thread pool, which the model server leaves empty (``WrapSessionForBatching``).
        QUEUING_LATENCY.add(0, "")
        WRAPPED_RUNS.add()
        outputs = run(feeds)
        for output in outputs:
            if output.ndim == 0:
                raise failed_precondition("Batched output tensor has 0 dimensions")
            if len(output) != padded:
                raise failed_precondition(
                    "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the "
                    "input tensors"
                )
        return [output[:size] for output in outputs]


def _size(values: Sequence[Array]) -> int:
    if not values:
        raise invalid_argument("Batching Run() must have at least one input tensor")
    for value in values:
        if value.ndim == 0:
            raise invalid_argument("Batching Run() input tensors must have at least one dimension")
        if len(value) != len(values[0]):
            raise invalid_argument("Batching Run() input tensors must have equal 0th-dimension size")
    return len(values[0])
