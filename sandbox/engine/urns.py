"""URNs of resources, and the others under which a state may hold them: their aliases.

The rules are those of pkg/resource/deploy/step_generator.go (generateAliases, collapseAliasToURN, inheritedChildAlias).
"""

from __future__ import annotations

from collections.abc import Iterable

from pulumi.runtime.proto import resource_pb2 as pb
from pulumi.runtime.proto.alias_pb2 import Alias

STACK_TYPE = "pulumi:pulumi:Stack"


def urn(stack: str, project: str, kind: str, name: str, parent: str = "") -> str:
    """The URN of a resource. Without a parent it stands below the stack."""
    above = parent.split("::")[2] if parent else STACK_TYPE
    kind = kind if above == STACK_TYPE else f"{above}${kind}"
    return f"urn:pulumi:{stack}::{project}::{kind}::{name}"


def name_of(urn: str) -> str:
    """The name at the end of a URN."""
    return urn.split("::", 3)[3]


def aliases(goal: pb.RegisterResourceRequest, stack: str, project: str, of_parent: Iterable[str]) -> list[str]:
    """The other URNs of a resource: its aliases, and what it was called below each alias of its parent.

    Args:
        goal: the resource.
        stack: the stack it is in.
        project: the project of the stack.
        of_parent: aliases of its parent.
    """

    def stands_for(alias: Alias.Spec) -> str:
        """What an alias does not say is as it is now."""
        parent = "" if alias.noParent else alias.parentUrn or goal.parent
        return urn(
            alias.stack or stack, alias.project or project, alias.type or goal.type, alias.name or goal.name, parent
        )

    own = [*goal.aliasURNs, *(alias.urn or stands_for(alias.spec) for alias in goal.aliases)]
    inherited = []
    for parent in of_parent:
        place, of_project, _, before = parent.split("::", 3)
        above = name_of(goal.parent)
        for each in (urn(stack, project, goal.type, goal.name, goal.parent), *own):
            kind, name = each.split("::", 3)[2:]
            if name.startswith(above):  # a child is named after its parent
                name = before + name.removeprefix(above)
            inherited.append(urn(place.removeprefix("urn:pulumi:"), of_project, kind.rpartition("$")[2], name, parent))
    return list(dict.fromkeys([*own, *inherited]))
