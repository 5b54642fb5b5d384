"""The official message classes, and the answers REST and gRPC share: model status and metadata.

Source: ``get_model_status_impl.cc``, ``get_model_metadata_impl.cc``.
"""

from __future__ import annotations

import importlib
from typing import Any

from sandbox.model_server.core import ServerCore
from sandbox.model_server.runtime import runtime
from sandbox.model_server.states import ServableId, ServableState
from sandbox.model_server.status import invalid_argument, not_found

SIGNATURE_DEF = "signature_def"


class Api:
    """Message classes of ``tensorflow_serving.apis``, which need the TensorFlow runtime imported first.

    Attributes:
        check_method: ``--enable_signature_method_name_check``.
    """

    def __init__(self, check_method: bool = False) -> None:
        runtime()
        self.check_method = check_method
        self.model_pb2 = self._module("model_pb2")
        self.status_pb2 = self._module("get_model_status_pb2")
        self.metadata_pb2 = self._module("get_model_metadata_pb2")
        self.predict_pb2 = self._module("predict_pb2")
        self.classification_pb2 = self._module("classification_pb2")
        self.regression_pb2 = self._module("regression_pb2")
        self.inference_pb2 = self._module("inference_pb2")
        self.management_pb2 = self._module("model_management_pb2")
        self.prediction_log_pb2 = self._module("prediction_log_pb2")
        # The descriptions of the services, for reflection; the stubs do without.
        self._module("model_service_pb2")
        self._module("prediction_service_pb2")
        self.prediction_grpc = self._module("prediction_service_pb2_grpc")
        self.model_grpc = self._module("model_service_pb2_grpc")

    @staticmethod
    def _module(name: str) -> Any:
        return importlib.import_module(f"tensorflow_serving.apis.{name}")

    def classification_pair(self) -> tuple[Any, Any]:
        """An empty request and response."""
        return self.classification_pb2.ClassificationRequest(), self.classification_pb2.ClassificationResponse()

    def regression_pair(self) -> tuple[Any, Any]:
        """An empty request and response."""
        return self.regression_pb2.RegressionRequest(), self.regression_pb2.RegressionResponse()

    def model_status(self, core: ServerCore, spec: Any) -> Any:
        """``GetModelStatusResponse`` of one version, or of all there ever were, highest first. A label is ignored.

        Raises:
            StatusError: ``NOT_FOUND``.
        """
        states: list[ServableState]
        if spec.HasField("version"):
            version = spec.version.value
            state = core.monitor.state(ServableId(spec.name, version))
            if state is None:
                raise not_found(f"Could not find version {version} of model {spec.name}")
            states = [state]
        else:
            states = core.monitor.versions(spec.name)
            if not states:
                raise not_found(f"Could not find any versions of model {spec.name}")
        response = self.status_pb2.GetModelStatusResponse()
        for state in states:
            item = response.model_version_status.add(version=state.id.version, state=int(state.state))
            item.status.SetInParent()
            if state.error is not None:
                item.status.error_code = int(state.error.code)
                item.status.error_message = state.error.message
        return response

    def model_metadata(self, core: ServerCore, spec: Any) -> tuple[Any, Any]:
        """The resolved ``ModelSpec`` and the ``SignatureDefMap`` of the servable a spec means.

        Raises:
            StatusError: no such servable.
        """
        signatures = self.metadata_pb2.SignatureDefMap()
        resolved = self.model_pb2.ModelSpec()
        with core.use(spec) as (version, model):
            resolved.name = spec.name
            resolved.version.value = version
            for name, signature in model.signatures.items():
                signatures.signature_def[name].CopyFrom(signature)
        return resolved, signatures

    def metadata_response(self, core: ServerCore, request: Any) -> Any:
        """``GetModelMetadataResponse``.

        Raises:
            StatusError: no spec, no or an unknown field, or no such servable.
        """
        if not request.HasField("model_spec"):
            raise invalid_argument("Missing ModelSpec")
        if not request.metadata_field:
            raise invalid_argument("GetModelMetadataRequest must specify at least one metadata_field")
        for name in request.metadata_field:
            if name != SIGNATURE_DEF:
                raise invalid_argument(f"Metadata field {name} is not supported")
        resolved, signatures = self.model_metadata(core, request.model_spec)
        response = self.metadata_pb2.GetModelMetadataResponse()
        response.model_spec.CopyFrom(resolved)
        response.metadata[SIGNATURE_DEF].Pack(signatures)
        return response
