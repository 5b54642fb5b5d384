"""What a kubeconfig says, without a client. Source: the Config of client-go's ``clientcmd/api/v1``."""

from __future__ import annotations

from pathlib import Path

import yaml

from tfserving.errors import TFServingError


class KubeconfigError(TFServingError):
    """It is no kubeconfig, or the context that was asked for is not in it."""


def is_content(kubeconfig: str) -> bool:
    """Whether a kubeconfig is given by its content and not by its path."""
    return "\n" in kubeconfig or kubeconfig.lstrip()[:1] == "{"


def located(kubeconfig: str, project_dir: Path) -> str:
    """A kubeconfig as a stack file says it, its content or an absolute path.

    Args:
        kubeconfig: content, or a path that may begin with ``~`` or be relative; empty stays empty.
        project_dir: what a relative path is relative to.
    """
    if not kubeconfig or is_content(kubeconfig):
        return kubeconfig
    return str(project_dir / Path(kubeconfig).expanduser())


def api_server(kubeconfig: str, context: str = "") -> str:
    """URL of the API server of a context.

    Args:
        kubeconfig: path, or content.
        context: name of a context; empty: the current one.

    Raises:
        OSError: the file cannot be read.
        KubeconfigError: this is not a kubeconfig, or the context is missing.
    """
    try:
        text = kubeconfig if is_content(kubeconfig) else Path(kubeconfig).expanduser().read_text(encoding="utf-8")
        document = yaml.safe_load(text)
        name = context or document["current-context"]
        cluster = next(item["context"]["cluster"] for item in document["contexts"] if item["name"] == name)
        return str(next(item["cluster"]["server"] for item in document["clusters"] if item["name"] == cluster))
    except (yaml.YAMLError, KeyError, TypeError, StopIteration, ValueError):
        shown = f"context {context!r}" if context else "current context"
        raise KubeconfigError(f"this is not a kubeconfig, or its {shown} is missing") from None
