"""Models on another mount than the stack's own: where their files are in a bucket, so that previews can look there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from config.kubernetes import AckServiceSettings
from config.loading import AnyService, may_serve
from config.models import ModelSettings
from config.stack_config import NAMESPACE, StackConfig
from tfserving.cloud_names import OSS_URI
from tfserving.errors import Problem
from tfserving.late_values import is_stand_in
from tfserving.property_path import join_path

_ALLOWED = "a path below a mount_path of an OSS bucket in extraConfig.storage of every service that serves the model"


_MOUNT = "mount the bucket there in extraConfig.storage of each of these services, or move the model below modelRoot"
_MOVE = "move the model below modelRoot, or name the models of that service without it (models)"


class _NotThereError(Exception):
    """Why a service does not see a directory in a bucket, and what to do."""

    def __init__(self, message: str, fix: str = _MOUNT) -> None:
        super().__init__(message)
        self.fix = fix


def located(
    stack: StackConfig, models: Iterable[ModelSettings], services: Sequence[AnyService]
) -> tuple[ModelSettings, ...]:
    """The models, those with an absolute path with their place in a bucket.

    Args:
        stack: the stack, which gets the problems.
        models: all models.
        services: all services.
    """
    found = []
    for model in models:
        if model.is_elsewhere:
            where = f"{join_path(f'{NAMESPACE}:models', model.name)}.path"
            try:
                model = _located(model, [each for each in services if may_serve(each, model.name)])
            except _NotThereError as error:
                stack.problems.append(Problem(where, str(error), _ALLOWED, error.fix))
        found.append(model)
    return tuple(found)


def _located(model: ModelSettings, services: Sequence[AnyService]) -> ModelSettings:
    places = {each.name: _place(each, model.path) for each in services}
    if len(set(places.values())) > 1:
        shown = ", ".join(f"oss://{bucket}/{prefix} in {name}" for name, (bucket, prefix) in places.items())
        fix = f"mount one bucket for {model.path} in all of them, or give each service a model of its own"
        raise _NotThereError(f"{model.path} is another directory in each service: {shown}", fix)
    for bucket, prefix in places.values():
        return replace(model, bucket=bucket, prefix=prefix)
    return model  # that nobody serves it is told already


def _place(service: AnyService, path: str) -> tuple[str, str]:
    """Bucket and key prefix of a directory that a service sees."""
    name = service.name
    if isinstance(service, AckServiceSettings):
        message = f"service {name} runs on Kubernetes, where pods have the one volume with the model root"
        raise _NotThereError(message, _MOVE)
    spec = service.spec
    if not spec.config_file:
        message = f"service {name} serves one model, and mounts its directory below modelRoot and nothing else"
        raise _NotThereError(
            message, "move the model below modelRoot, or let the service read a config file: configFile"
        )
    if f"{path}/".startswith(f"{spec.mount_path.rstrip('/')}/"):
        below = path.removeprefix(spec.mount_path.rstrip("/")).strip("/")
        if not below:
            message = f"{path} is modelRoot itself, as service {name} mounts it, and no directory of one model"
            raise _NotThereError(message, "write the model's directory below modelRoot, without a slash in front")
        message = f"{path} is below {spec.mount_path}, where service {name} mounts modelRoot"
        raise _NotThereError(message, f"write path: {below}")
    mount = mount_of(spec.extra_config.get("storage") if isinstance(spec.extra_config, Mapping) else None, path)
    if mount is None:
        raise _NotThereError(f"service {name} mounts nothing at {path}")
    at, found = mount
    oss = found.get("oss")
    if is_stand_in(str(oss.get("path") or "") if isinstance(oss, Mapping) else ""):
        raise _NotThereError(
            f"service {name} mounts an output of another resource at {at}, and nobody can look there before it is "
            "known",
            "write the place in OSS as a text: oss://bucket/path/",
        )
    place = place_in(at, found, path)
    if place is None:
        kinds = ", ".join(sorted(key for key in found if key != "mount_path")) or "nothing"
        raise _NotThereError(
            f"service {name} mounts {kinds} at {at}, and no bucket: nobody can see from here which versions are there",
            "put the model into a bucket, and mount that",
        )
    return place


def mount_of(storage: Any, path: str) -> tuple[str, Mapping[str, Any]] | None:
    """The mount that a path of a container lies in, with its own path; ``None`` where it is in none.

    Args:
        storage: ``extraConfig.storage`` of a service.
        path: absolute.
    """
    for mount in storage if isinstance(storage, list | tuple) else ():
        at = str(mount.get("mount_path") or "").rstrip("/") if isinstance(mount, Mapping) else ""
        if at and f"{path}/".startswith(f"{at}/"):
            return at, mount
    return None


def place_in(at: str, mount: Mapping[str, Any], path: str) -> tuple[str, str] | None:
    """Bucket and key prefix of a path below a mount; ``None`` where that is no bucket."""
    oss = mount.get("oss")
    uri = str(oss.get("path") or "") if isinstance(oss, Mapping) else ""
    if not OSS_URI.fullmatch(uri):
        return None
    bucket, _, key = uri.removeprefix("oss://").partition("/")
    prefix = "/".join(filter(None, [key.strip("/"), path.removeprefix(at).strip("/")]))
    return bucket, f"{prefix}/" if prefix else ""
