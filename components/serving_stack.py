"""Everything of a stack in one component: models in a bucket, services on PAI-EAS and Kubernetes, what they serve."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pulumi

from components import arguments, surroundings
from components import cluster as kubernetes
from components.children import child_of
from components.cluster import Access, OnKubernetes
from components.component import Argument, Component, PutBack, as_it_is
from components.eas_service import ServicePlan, TensorFlowServing
from components.found import find
from components.kubernetes_serving import KubernetesServing
from components.model_repository import ConfigReaders, ModelRepository, RepositoryPlan, declared
from components.providers import Providers, make_providers
from components.resources import RetiredVersions, ServedConfig, ServedModel, later
from components.served_config import HERE, ProofArgs, RolloutArgs, prove, roll_out
from components.stack_outputs import StackOutputs
from components.traffic import TrafficGroup, TrafficPlan
from config import model_files
from config.arguments import Classes, Entries, Shape
from config.cloud import AlicloudSettings
from config.model_files import ModelFiles
from config.schema import ACK_SERVICE, EAS_SERVICE
from config.stack import Settings, StackOptions, parse
from config.stack_config import NAMESPACE
from tfserving import serving, wire
from tfserving.contract import integers
from tfserving.contract.found import FindVersionsResult
from tfserving.contract.kinds import Version
from tfserving.contract.storage import RetiredVersionsInputs
from tfserving.errors import ConfigError
from tfserving.manifest import user_cache
from tfserving.model_config import ModelServerConfig
from tfserving.model_sets import ModelSet


@dataclass(frozen=True, kw_only=True)
class StackPlan:
    """What a :class:`ServingStack` makes, already checked.

    Attributes:
        settings: the stack config.
        files: what the models hold (:func:`config.model_files.read`).
        put_back: sets late values in the place of their stand-ins.
    """

    settings: Settings
    files: ModelFiles
    put_back: PutBack = as_it_is


Planner = Callable[[FindVersionsResult | None], StackPlan]
"""Reads a stack: what is in the bucket is ``None`` the first time, and given the second time, where it was asked."""


class ServingStack(Component):
    """All of a stack as a stack file describes it: bucket, models, services on PAI-EAS and Kubernetes, and rollouts.

    Attributes:
        repository: bucket, published models and config file.
        services: every service by name, wherever it runs.
        rollouts: what services with a config file serve, by the set of models that they read (its ``part``).
        retired: removes the files of dropped versions where several config files may name them; else ``None``.
        proofs: what services of one model serve, by service.
        traffic: groups of services that share requests, by name.
    """

    shape = (StackOptions,)
    arguments = (Argument(key="alicloud", description="Region, credentials, protocol.", type=AlicloudSettings),)
    outputs = StackOutputs

    def __init__(
        self,
        name: str,
        args: Planner | Mapping[str, Any] | None = None,
        opts: pulumi.ResourceOptions | None = None,
        **options: Any,
    ) -> None:
        planned = args if callable(args) else _planner(name, arguments.given(type(self), name, args, opts, options))
        plan = planned(None)
        super().__init__(name, opts)
        self._owner = surroundings.owner()
        first = plan.settings
        providers = make_providers(first.alicloud, first.endpoints, child_of(self), plan.put_back)
        if first.asked:
            plan = planned(find(first, plan.put_back, self, providers.tfserving))
        self._settings, self._put_back = settings, put_back = plan.settings, plan.put_back
        for warning in (*settings.warnings, *plan.files.warnings):
            pulumi.log.warn(warning)
        for note in settings.notes:
            pulumi.log.info(note)
        where, cluster = None, None
        if settings.kubernetes is not None:
            where = kubernetes.access(self, settings.kubernetes, providers, put_back)
        self.repository = self._repository(plan.files, where, providers)
        on_eas = self._services(providers)
        if settings.kubernetes is not None and where is not None:
            cluster = kubernetes.deploy(
                self, settings, settings.kubernetes, where, self.repository, self._owner, providers, put_back
            )
        # What is deleted first, so that a destroy of a protected bucket ends before anything is gone.
        lasting = child_of(self, provider=providers.tfserving, protect=settings.bucket.protect or None)
        everywhere: list[TensorFlowServing | KubernetesServing] = [*on_eas, *(cluster.services if cluster else ())]
        self.services = {each.service.name: each for each in everywhere}
        self.rollouts = {each.part: self._rollout(each, cluster, lasting) for each in settings.files}
        self.retired = self._retired(lasting)
        self.proofs = self._proofs(cluster, lasting)
        self.traffic = self._traffic(cluster, providers)
        shared = {name: each.reached for name, each in self.traffic.items()}
        self.finish(
            wire.exact(
                {
                    "services": {name: self._reached(each) for name, each in self.services.items()},
                    **self._models(plan.files.signatures),
                    "unproven": settings.unproven,
                    **({"traffic": shared} if shared else {}),
                }
            )
        )

    def _repository(self, files: ModelFiles, where: Access | None, providers: Providers) -> ModelRepository:
        settings, cluster = self._settings, self._settings.kubernetes
        readers = ConfigReaders(
            serving=next((each.config for each in settings.files if not each.part), ModelServerConfig()),
            services=settings.config_readers,
            config_map=next((settings.config_map(each) for each in settings.files if not each.part), ""),
            others={each.file_name: settings.config_map(each) for each in settings.files if each.part},
            kubeconfig=where.kubeconfig if where else "",
            context=cluster.context if cluster else "",
        )
        return ModelRepository(
            "models",
            RepositoryPlan(
                bucket=settings.bucket,
                root=settings.model_root,
                owner=self._owner,
                declaration=declared(settings, settings.alicloud.region),
                models=files.sources,
                sets=tuple(each for each in settings.files if each.services),
                config_file_name=settings.config_file_name,
                readers=readers if settings.config_readers else None,
                must_exist=settings.bucket.existing,
                rolled_out=frozenset(model.name for model in settings.models if model.place in self._rolled_out()),
                put_back=self._put_back,
            ),
            child_of(self, providers=providers.all),
        )

    def _services(self, providers: Providers) -> list[TensorFlowServing]:
        return [
            TensorFlowServing(
                service.name,
                ServicePlan(
                    service=service,
                    owner=self._owner,
                    models=self._settings.models_of(service),
                    after=self.repository.contents,
                    other_services=self._settings.other_services(self._settings.set_of(service)),
                    put_back=self._put_back,
                ),
                child_of(self, providers=providers.all),
            )
            for service in self._settings.services
        ]

    def _rollout(self, models: ModelSet, cluster: OnKubernetes | None, opts: pulumi.ResourceOptions) -> ServedConfig:
        """Rolls one config file out. Those of several sets go on side by side."""
        settings = self._settings
        file = [cluster.config_files[models.part]] if cluster and models.pods else []
        place = replace(cluster.place, config_map=settings.config_map(models)) if cluster else HERE
        return roll_out(
            f"served{models.suffix}",
            RolloutArgs(
                bucket=self.repository.bucket_name,
                key=f"{settings.model_root}{models.file_name}",
                serving=models.config,
                published={name: settings.published[name] for name in models.config.names},
                services=[self.services[name] for name in (*models.services, *models.pods)],
                after=[*self.repository.contents, *file],
                owner=self._owner,
                cluster=place,
                step_seconds=settings.rollout_seconds,
                gates={name: gate for name, gate in settings.gates.items() if name in models.config.names},
                other_services=settings.other_services(models) if len(settings.files) > 1 else None,
                put_back=self._put_back,
            ),
            opts,
        )

    def _rolled_out(self) -> set[str]:
        """Directories of the models that config files name."""
        names = {name for each in self._settings.files for name in each.config.names}
        return {model.place for model in self._settings.models if model.name in names}

    def _retired(self, opts: pulumi.ResourceOptions) -> RetiredVersions | None:
        """After all rollouts: only then is it sure that nobody serves a version any more."""
        settings = self._settings
        if len(settings.files) < 2:
            return None
        rolled_out = self._rolled_out()
        published = {
            model.place: model.versions
            for model in settings.models
            if model.place in rolled_out and not model.is_elsewhere
        }
        return RetiredVersions(
            "retired",
            RetiredVersionsInputs(
                bucket=later(self.repository.bucket_name),
                root=settings.model_root,
                owner=self._owner,
                published={path: tuple(map(Version, versions)) for path, versions in sorted(published.items())},
                config_files=tuple(f"{settings.model_root}{each.file_name}" for each in settings.files),
            ),
            pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=[*self.rollouts.values()])),
            self._put_back,
        )

    def _proofs(self, cluster: OnKubernetes | None, opts: pulumi.ResourceOptions) -> dict[str, ServedModel]:
        decided = [*self.repository.contents, *self.rollouts.values(), *([self.retired] if self.retired else [])]
        return {
            name: prove(
                f"{name}-served",
                ProofArgs(
                    serving=each,
                    versions=versions,
                    after=decided,
                    cluster=cluster.place if cluster else HERE,
                    step_seconds=self._settings.rollout_seconds,
                    gate=self._settings.gates.get(each.service.spec.model),
                    put_back=self._put_back,
                ),
                opts,
            )
            for name, each in self.services.items()
            if (versions := self._settings.single_versions(each.service))
        }

    def _traffic(self, cluster: OnKubernetes | None, providers: Providers) -> dict[str, TrafficGroup]:
        """Shares change last: what is new serves by then, and has passed its gates."""
        done: list[pulumi.Resource] = [*self.rollouts.values(), *self.proofs.values()]
        found = {}
        for settings in self._settings.traffic:
            names = [*settings.weights, *([settings.mirror.to] if settings.mirror else [])]
            started = [self.services[name].started for name in names]
            plan = TrafficPlan(
                settings=settings,
                owner=self._owner,
                started=started,
                gated=[name for name in settings.weights if self._is_gated(name)],
                after=done,
                cluster=cluster.place if cluster else HERE,
            )
            options = pulumi.ResourceOptions(parent=self, providers=providers.all)
            found[settings.name] = TrafficGroup(settings.name, plan, options)
        return found

    def _is_gated(self, service: str) -> bool:
        """Whether a gate has to be passed by every version that a service answers with."""
        spec = self.services[service].service.spec
        models = [model.name for model in self._settings.serving.models] if spec.config_file else [spec.model]
        return all(model in self._settings.gates for model in models)

    @property
    def exports(self) -> Mapping[str, Any]:
        """What the program of a stack exports: how services are reached, and what they serve unless that is too much.

        Engines print every export after every update. What is left out here is in the outputs of this component.
        """
        if self._settings.export_models:
            return self.state
        services = {
            name: {key: value for key, value in each.items() if key != "models"}
            for name, each in self.state["services"].items()
        }
        left_out = {"models", "signatures"}
        return {**{name: value for name, value in self.state.items() if name not in left_out}, "services": services}

    def _models(self, signatures: Mapping[str, serving.ModelSignatures]) -> dict[str, Any]:
        settings = self._settings
        known: dict[str, Any] = {}
        models = {
            model.name: {
                **(serving.declared(listed, model.versions) if (listed := settings.serving.get(model.name)) else {}),
                "signatures": serving.grouped(signatures.get(model.name, {}), known),
            }
            for model in settings.models
        }
        return {"models": models, "signatures": known}

    def _reached(self, found: TensorFlowServing | KubernetesServing) -> dict[str, Any]:
        """How a service is reached, and what it serves: as it said itself where it was asked."""
        name, declared = found.service.name, found.models
        proof = self.proofs.get(name)
        rollout = next((self.rollouts[each.part] for each in self._settings.files if name in each.readers), None)
        models: Any = declared
        if proof is not None:
            models = proof.served.apply(lambda served: wire.exact(_decoded(proof, served) or declared))
        elif rollout is not None:
            models = rollout.served.apply(lambda served: wire.exact(_decoded(rollout, served).get(name) or declared))
        path = found.service.metrics_path
        metrics = {"metrics": path} if path else {}
        if not isinstance(found, TensorFlowServing):
            # Both ports are open, and nobody is asked for a token.
            return {"protocol": "http", "url": found.url, "target": found.target, "models": models, **metrics}
        address = {"target": found.target} if found.protocol == "grpc" else {"url": found.url}
        return {"protocol": found.protocol, **address, "token": found.token, "models": models, **metrics}


def _decoded(resource: ServedConfig | ServedModel, served: Any) -> dict[str, Any]:
    """What a resource says is served, its version numbers as integers."""
    found = integers.decode(resource.pulumi_resource_type, {"served": served})["served"]
    return found if isinstance(found, dict) else {}


def _service_shape(entry: Mapping[str, Any]) -> Classes:
    """The options of a service, which depend on where it runs."""
    return ACK_SERVICE if entry.get("target") == "ack" else EAS_SERVICE


def _planner(name: str, given: dict[str, Any]) -> Planner:
    """What the arguments come to; raises ArgumentError with everything that is wrong with them."""
    return lambda found: _plan(name, dict(given), found)


def _plan(name: str, given: dict[str, Any], found: FindVersionsResult | None) -> StackPlan:
    def plan(values: Mapping[str, Any]) -> StackPlan:
        raw = {f"{NAMESPACE}:{key}": value for key, value in values.items() if key != "alicloud"}
        region = surroundings.region()
        cloud = {**({"region": region} if region else {}), **(values.get("alicloud") or {})}
        raw |= {f"alicloud:{key}": value for key, value in cloud.items()}
        try:
            with user_cache() as cache:
                settings = parse(raw, Path.cwd(), cache=cache, found=found)
                return StackPlan(settings=settings, files=model_files.read(settings, cache))
        except ConfigError as error:
            prefix = f"{NAMESPACE}:"
            raise ConfigError(
                replace(each, path=each.path.removeprefix(prefix).replace("alicloud:", "alicloud.", 1))
                for each in error.problems
            ) from None

    own: dict[str, Shape | Entries] = {
        "alicloud": (AlicloudSettings,),
        "services": Entries(shape=_service_shape),
        "serviceDefaults": (*EAS_SERVICE, *ACK_SERVICE),
    }
    checked = arguments.check(ServingStack, name, given, plan, own=own)
    return replace(checked.plan, put_back=checked.put_back)
