"""What the services of a stack serve, and the rules that span models and services."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from config.kubernetes import AckServiceSettings
from config.loading import AnyService, may_serve
from config.models import DEFAULT_MOUNT_PATH, ModelSettings
from config.services import ServiceSettings
from config.stack_config import NAMESPACE, StackConfig
from tfserving import model_config, model_sets
from tfserving.errors import Problem
from tfserving.flags import image_version
from tfserving.model_config import Model, ModelServerConfig, VersionPolicy
from tfserving.model_sets import ModelSet
from tfserving.property_path import join_path


def read_serving(
    stack: StackConfig, declared: ModelServerConfig, models: Iterable[ModelSettings], services: tuple[AnyService, ...]
) -> tuple[ModelServerConfig, tuple[ModelSet, ...]]:
    """All models as they are declared, and the sets of them that services read in config files; the rules of both."""
    path = f"{NAMESPACE}:services"
    readers: dict[str, list[AnyService]] = {}
    for service in services:
        if service.spec.config_file:
            readers.setdefault(_part(service, declared), []).append(service)
    for sharing in readers.values():
        for service in sharing[1:]:
            if service.spec.mount_path != sharing[0].spec.mount_path:
                message = (
                    f"mounts the models at {service.spec.mount_path}, {sharing[0].name} at "
                    f"{sharing[0].spec.mount_path}: one config file cannot fit both"
                )
                where, allowed = join_path(join_path(path, service.name), "mountPath"), sharing[0].spec.mount_path
                stack.problems.append(Problem(where, message, allowed, f"use {allowed} everywhere"))
    for model in declared.models:
        serving = [each for each in services if each.spec.config_file and may_serve(each, model.name)]
        _check_logging(stack, model, serving)
    if stack.whole and services and "" not in readers:
        _check_unread_models(stack, declared, services)
    # A model whose versions could not be read has its problem already; it takes part in the other checks.
    models = tuple(models)
    known = {model.name: model.versions for model in models if model.versions}
    elsewhere = frozenset(model.name for model in models if model.is_elsewhere)
    whole = _below(declared, readers.get("", []), elsewhere)
    at = f"{NAMESPACE}:models"
    policies = {name: join_path(join_path(at, name), "policy") for name in declared.names}
    unread = {name for name, policy in policies.items() if _is_unread(stack, policy)}
    for model in whole.models:
        stack.problems += _problems(model, known, at, unread)
    if not whole.models and not any(problem.path == at for problem in stack.problems):
        stack.problems += model_config.validate(whole, None, at)
    sets = []
    for part, sharing in readers.items():
        choices = sharing[0].spec.models
        config = _below(model_sets.chosen(declared, choices), sharing, elsewhere) if part else whole
        if any(choices.values()):
            where = join_path(join_path(path, sharing[0].name), "models")
            for model in config.models:
                if choices[model.name]:
                    own = {model.name} if choices[model.name].policy is not None else set()
                    stack.problems += _problems(model, known, where, unread - own)
        pods = {each.name for each in sharing if isinstance(each, AckServiceSettings)}
        polling = tuple(
            each.name for each in sharing if each.name in pods and getattr(each.spec, "rollout", "") == "poll"
        )
        on_eas = tuple(each.name for each in sharing if each.name not in pods)
        adopt = any(isinstance(each, ServiceSettings) and each.adopt for each in sharing)
        sets.append(ModelSet(part=part, config=config, services=on_eas, pods=polling, adopt=adopt))
    return whole, tuple(sorted(sets, key=lambda each: each.part))


def _part(service: AnyService, declared: ModelServerConfig) -> str:
    return model_sets.part_of(service.name, service.spec.models, declared.names)


def _below(config: ModelServerConfig, services: Sequence[AnyService], elsewhere: frozenset[str]) -> ModelServerConfig:
    """A config with base paths below where the services mount the models; ``elsewhere`` are on other mounts."""
    mount_path = services[0].spec.mount_path if services else DEFAULT_MOUNT_PATH
    return ModelServerConfig(
        tuple(
            model
            if model.name in elsewhere
            else replace(model, base_path=f"{mount_path.rstrip('/')}{model.base_path.removeprefix(DEFAULT_MOUNT_PATH)}")
            for model in config.models
        )
    )


def _is_unread(stack: StackConfig, path: str) -> bool:
    """Whether something at a path, or inside it, could not be read."""
    return any(each.path == path or each.path.startswith((f"{path}.", f"{path}[")) for each in stack.problems)


def _problems(model: Model, known: Mapping[str, tuple[int, ...]], path: str, unread: Collection[str]) -> list[Problem]:
    if model.name in unread:  # nobody knows which versions are meant, so no label names a wrong one
        model = replace(model, policy=VersionPolicy.all())
    found = model_config.validate(ModelServerConfig((model,)), known if model.name in known else None, path)
    # No stack file has base paths: they are made of mountPath and path, which are checked where they stand.
    return [each for each in found if each.path != join_path(join_path(path, model.name), "basePath")]


def _check_logging(stack: StackConfig, model: Model, readers: Iterable[AnyService]) -> None:
    """The stock server has no request logger and refuses a config that asks for one (``server_request_logger.cc``)."""
    stock = [service.name for service in readers if image_version(service.spec.image) is not None]
    if model.logging and stock:
        message = (
            f"service {stock[0]} runs the stock server, which refuses every config with a logging_config: "
            "No request-logger-creator provided."
        )
        fix = "remove logging, or use an image with a request logger in it"
        stack.problems.append(Problem(f"{join_path(f'{NAMESPACE}:models', model.name)}.logging", message, fix=fix))


def _check_unread_models(stack: StackConfig, declared: ModelServerConfig, services: Iterable[AnyService]) -> None:
    path = f"{NAMESPACE}:models"
    single = {service.spec.model for service in services}
    chosen = {name for service in services for name in service.spec.models}
    for model in declared.models:
        where = join_path(path, model.name)
        if model.name in chosen:
            continue
        if model.name not in single:
            fix = "remove the model, or give a service `configFile: true` or this model"
            stack.problems.append(Problem(where, "no service serves this model", "", fix))
        elif model.labels:
            none = "there is none" if not chosen else "none of those serves this model"
            message = f"labels are only known to services that read the config file, and {none}"
            fix = "remove the labels, or give a service `configFile: true`"
            stack.problems.append(Problem(join_path(where, "labels"), message, "", fix))
