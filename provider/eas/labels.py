"""Labels and flags by which services of this project are known."""

from __future__ import annotations

MANAGED_BY = {"managed-by": "pulumi"}
"""Label of every service this provider makes."""

OWNER_LABEL = "pulumi-owner"
"""Label with the stack a service belongs to, ``<project>/<stack>``."""

CREATED_LABEL = "pulumi-created-by"
"""Label with the create that holds a service."""

CONFIG_FILE_FLAG = "--model_config_file="
"""In the start command of a service that reads a model config file."""
