"""Options of what stands directly below a :class:`~components.serving_stack.ServingStack`."""

from __future__ import annotations

from typing import Any

import pulumi


def child_of(parent: pulumi.Resource, **options: Any) -> pulumi.ResourceOptions:
    """Options of a direct child, which in stacks of release 0.1.0 stands below the Pulumi stack itself.

    The alias says so: the resource stays what it is, and what is below it inherits the alias.
    """
    before = pulumi.Alias(parent=pulumi.ROOT_STACK_RESOURCE)
    return pulumi.ResourceOptions(parent=parent, aliases=[before], **options)
