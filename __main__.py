"""The Pulumi program: settings, then components, then exports."""

from __future__ import annotations

import sys
from pathlib import Path

import pulumi

from components import interrupts, model_files, outputs
from components.eas_service import TensorFlowServing, TensorFlowServingArgs
from components.model_repository import ConfigReaders, ModelRepository, ModelRepositoryArgs
from components.providers import make_providers
from components.served_config import ProofArgs, RolloutArgs, prove, roll_out
from config import pulumi_config
from tfserving.errors import TFServingError
from tfserving.manifest import user_cache

TOLD = 32
"""Exit status of a program that has said what is wrong (``pulumi-language-python-exec``).

After any other one, :class:`pulumi.RunError` included, the Pulumi CLI adds "an unhandled error occurred".
"""


def main() -> None:
    """Registers the stack. Whatever is wrong with its config is said before the first resource."""
    interrupts.end_quietly()
    try:
        with user_cache() as cache:
            settings = pulumi_config.load(Path(__file__).resolve().parent, pulumi.get_stack(), cache)
            sources = model_files.sources(settings, cache)
            signatures = model_files.signatures(settings, cache)
            memory = model_files.memory_warnings(settings)
    except TFServingError as error:
        pulumi.log.error(str(error))
        sys.exit(TOLD)
    for warning in (*settings.warnings, *memory, *outputs.signature_warnings(settings, signatures)):
        pulumi.log.warn(warning)

    owner = f"{pulumi.get_project()}/{pulumi.get_stack()}"
    providers = make_providers(settings.alicloud, settings.endpoints)
    where = None
    if settings.kubernetes is not None:
        from components import cluster as kubernetes  # only here: the Kubernetes SDK takes its time

        where = kubernetes.access(settings.kubernetes, providers)
    repository = ModelRepository(
        "models",
        ModelRepositoryArgs(
            bucket=settings.bucket,
            root=settings.model_root,
            owner=owner,
            models=sources,
            initial=settings.serving if settings.config_file_services else None,
            readers=ConfigReaders(
                serving=settings.serving,
                services=settings.config_readers,
                config_map=kubernetes.config_map(settings, settings.kubernetes) if settings.kubernetes else "",
                kubeconfig=where.kubeconfig if where else "",
                context=settings.kubernetes.context if settings.kubernetes else "",
            )
            if settings.config_readers
            else None,
        ),
        providers.options(),
    )
    services = [
        TensorFlowServing(
            service.name,
            TensorFlowServingArgs(
                service=service,
                owner=owner,
                models=outputs.models_of(settings, service),
                after=repository.contents,
            ),
            providers.options(),
        )
        for service in settings.services
    ]
    cluster = None
    if settings.kubernetes is not None and where is not None:
        cluster = kubernetes.deploy(settings, settings.kubernetes, where, repository, owner, providers)
    # What is deleted first, so that a destroy of a protected bucket ends before anything is gone.
    lasting = pulumi.ResourceOptions(provider=providers.tfserving, protect=settings.bucket.protect or None)
    readers = [serving for serving in services if serving.service.spec.config_file]
    served = None
    if readers or settings.config_map_services:
        served = roll_out(
            "served",
            RolloutArgs(
                repository=repository,
                serving=settings.serving,
                published=settings.published,
                services=readers,
                owner=owner,
                cluster=cluster,
                step_seconds=settings.rollout_seconds,
            ),
            lasting,
        )
    everywhere = [*services, *(cluster.services if cluster else ())]
    decided = [*repository.contents, *([served] if served else [])]
    proofs = {
        serving.service.name: prove(
            f"{serving.service.name}-served",
            ProofArgs(
                serving=serving,
                versions=versions,
                after=decided,
                cluster=cluster,
                step_seconds=settings.rollout_seconds,
            ),
            lasting,
        )
        for serving in everywhere
        if (versions := outputs.single_versions(settings, serving.service))
    }
    for name, value in outputs.stack_outputs(settings, everywhere, served, proofs, signatures).items():
        pulumi.export(name, value)


main()
