"""An object of a kind that a cluster knows only with some component: a schedule, alerts.

Beyond what a generic tool does: the preview is refused where the cluster does not know the kind, or where an object of
that name is somebody else's. Rights needed in the namespace: ``get``, ``create``, ``update``, ``delete`` of the kind.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from provider.claims import STAMP, found_by, is_anothers, stays
from provider.clients import READ_SECONDS
from provider.cluster import FIELD_MANAGER, ClusterApi
from provider.properties import Change
from provider.resource import Context, Diff, Failure, Found, Resource
from tfserving.contract import CLUSTER_OBJECT
from tfserving.contract.cluster import ClusterObjectInputs, ClusterObjectOutputs
from tfserving.errors import CloudError, OwnershipError
from tfserving.kubernetes.gateway_api import held_by, marks, owner_of
from tfserving.kubernetes.names import is_subdomain
from tfserving.property_values import UNKNOWN, Properties, has_unknown, plain

_API_VERSION = re.compile(r"[a-z0-9.-]+/v[0-9]+((alpha|beta)[0-9]+)?")
_KIND = re.compile(r"[A-Z][A-Za-z0-9]*")


class NoKindError(CloudError):
    """The cluster does not know the kind of an object."""


class ClusterObject(Resource):
    """One object."""

    contract = CLUSTER_OBJECT
    refresh_before_update = True

    # ---- without the cluster ---------------------------------------------------------------------------------------

    def validate(self, inputs: Properties) -> Iterable[Failure]:
        for path, fits, form in (
            ("apiVersion", _API_VERSION.fullmatch, "group/version"),
            ("kind", _KIND.fullmatch, "a kind"),
            ("namespace", is_subdomain, "the name of a namespace"),
            ("name", is_subdomain, "the name of an object"),
        ):
            value = inputs[path]
            if value is not UNKNOWN and not fits(str(plain(value))):
                yield Failure(path, f"{plain(value)!r} is not {form}")

    def diff(self, old_inputs: Properties, old_outputs: Properties, news: Properties) -> Diff:
        diff = super().diff(old_inputs, old_outputs, news)
        if ClusterObjectOutputs.read(old_outputs).taken:
            diff.changes[STAMP,] = (Change.UPDATE, False)
        return diff

    # ---- with the cluster ------------------------------------------------------------------------------------------

    def preview(
        self, ctx: Context, inputs: Properties, old_inputs: Properties | None, old_outputs: Properties | None
    ) -> Properties:
        uid = old_outputs["uid"] if old_outputs is not None and "uid" in old_outputs else UNKNOWN
        if not has_unknown(inputs):
            wanted = ClusterObjectInputs.read(inputs)
            try:
                _refuse_other(_Place(wanted).read(), wanted)
            except NoKindError:
                raise
            except CloudError as error:
                ctx.warning(f"it is not known yet whether the cluster takes {wanted.kind} {wanted.name}: {error}")
        return inputs | {"uid": uid}

    def create(self, ctx: Context, inputs: Properties) -> tuple[str, Properties]:
        wanted = ClusterObjectInputs.read(inputs)
        return f"{wanted.namespace}/{wanted.name}", self._apply(ctx, inputs, wanted)

    def update(
        self, ctx: Context, id_: str, old_inputs: Properties, old_outputs: Properties, news: Properties
    ) -> Properties:
        return self._apply(ctx, news, ClusterObjectInputs.read(news))

    def read(self, ctx: Context, id_: str, inputs: Properties | None, outputs: Properties) -> Found | None:
        if inputs is None:
            raise CloudError(
                "ClusterObject is an object in a cluster that its id does not name, and cannot be imported. "
                "Fix: remove it from the cluster, then `pulumi up` makes it"
            )
        declared = ClusterObjectInputs.read(inputs)
        try:
            found = _Place(declared).read()
        except NoKindError:
            return None
        if found is None:
            return None
        labels = found["metadata"].get("labels") or {}
        read = {**inputs, "spec": found.get("spec") or {}, "owner": owner_of(found)}
        if declared.labels is not None:
            read["labels"] = {key: labels[key] for key in declared.labels if key in labels}
        held = found_by(held_by(found), ctx.stamp, imported=False)
        return Found(read, read | {"uid": found["metadata"]["uid"]} | held)

    def delete(self, ctx: Context, id_: str, inputs: Properties, outputs: Properties) -> None:
        wanted = ClusterObjectInputs.read(inputs)
        place = _Place(wanted)
        try:
            found = place.read()
        except NoKindError:
            return
        if found is None or owner_of(found) not in ("", wanted.owner):
            return
        if is_anothers(held_by(found), ctx.stamp):
            ctx.info(stays(f"{wanted.kind} {wanted.namespace}/{wanted.name}"))
            return
        place.delete()

    @staticmethod
    def _apply(ctx: Context, inputs: Properties, wanted: ClusterObjectInputs) -> Properties:
        place = _Place(wanted)
        existing = place.read()
        _refuse_other(existing, wanted)
        return inputs | {"uid": place.put(existing, ctx.stamp)["metadata"]["uid"]}


def _refuse_other(found: Mapping[str, Any] | None, wanted: ClusterObjectInputs) -> None:
    """Raises OwnershipError where an object is somebody else's."""
    if found is not None and (owner := owner_of(found)) != wanted.owner:
        whose = f"belongs to {owner}" if owner else "was not made by this project"
        raise OwnershipError(
            f"{wanted.kind} {wanted.namespace}/{wanted.name} exists already and {whose}. "
            "Fix: remove it, or give the service another name"
        )


class _Place:
    """The place of one object in its cluster."""

    def __init__(self, wanted: ClusterObjectInputs) -> None:
        self._wanted = wanted
        self._cluster = ClusterApi.of(wanted)
        self._group, _, self._version = wanted.api_version.partition("/")
        self._known: str | None = None

    @property
    def _plural(self) -> str:
        """How URLs call the kind; raises NoKindError where the cluster does not know it."""
        if self._known is None:
            wanted = self._wanted

            def ask() -> Any:
                return self._cluster.objects.get_api_resources(
                    self._group, self._version, _request_timeout=READ_SECONDS
                )

            try:
                resources = self._cluster.call(f"look for {wanted.api_version}", ask).resources
            except CloudError as error:
                if error.code != "404":
                    raise
                resources = []
            named = [each.name for each in resources if each.kind == wanted.kind and "/" not in each.name]
            if not named:
                needs = f" {wanted.needs}" if wanted.needs else ""
                raise NoKindError(f"the cluster does not know {wanted.kind} of {wanted.api_version}.{needs}", "404")
            [self._known] = named
        return self._known

    @property
    def _at(self) -> tuple[str, str, str, str]:
        return self._group, self._version, self._wanted.namespace, self._plural

    def read(self) -> dict[str, Any] | None:
        """The object; None where there is none."""
        at = self._at

        def read() -> Any:
            return self._cluster.objects.get_namespaced_custom_object(
                *at, self._wanted.name, _request_timeout=READ_SECONDS
            )

        try:
            found: dict[str, Any] = self._call("read", read)
        except CloudError as error:
            if error.code == "404":
                return None
            raise
        return found

    def put(self, existing: Mapping[str, Any] | None, stamp: str) -> dict[str, Any]:
        """Makes the object, or what ``existing`` is into what is wanted: nothing that left the spec stays."""
        wanted, api, at = self._wanted, self._cluster.objects, self._at
        before = dict((existing or {}).get("metadata") or {})
        metadata = {
            **before,
            "name": wanted.name,
            "namespace": wanted.namespace,
            "labels": {**(before.get("labels") or {}), **(wanted.labels or {})},
            "annotations": {**(before.get("annotations") or {}), **marks(wanted.owner, stamp)},
        }
        body = {"apiVersion": wanted.api_version, "kind": wanted.kind, "metadata": metadata, "spec": wanted.spec}
        options = {"field_manager": FIELD_MANAGER, "_request_timeout": READ_SECONDS}

        def write() -> Any:
            if existing is None:
                return api.create_namespaced_custom_object(*at, body, **options)
            return api.replace_namespaced_custom_object(*at, wanted.name, body, **options)

        found: dict[str, Any] = self._call("create" if existing is None else "change", write)
        return found

    def delete(self) -> None:
        """Removes the object. It is fine if there is none."""
        at = self._at

        def remove() -> Any:
            return self._cluster.objects.delete_namespaced_custom_object(
                *at, self._wanted.name, _request_timeout=READ_SECONDS
            )

        try:
            self._call("remove", remove)
        except CloudError as error:
            if error.code != "404":
                raise

    def _call(self, verb: str, call: Callable[[], Any]) -> Any:
        wanted = self._wanted
        return self._cluster.call(f"{verb} {wanted.kind} {wanted.namespace}/{wanted.name}", call)
