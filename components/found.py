"""Asks this project's provider which versions are in the bucket, before a component decides what it consists of."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi

from components import surroundings
from components.component import PutBack
from config.stack import Settings
from tfserving.contract import VERSION
from tfserving.contract.found import (
    FIND_VERSIONS,
    FindVersionsArgs,
    FindVersionsResult,
    FoundDirectory,
    WantedDirectory,
)
from tfserving.errors import CloudError
from tfserving.late_values import is_stand_in


class FindError(CloudError, pulumi.RunError):
    """OSS does not say which versions are there. Pulumi shows its message without a traceback."""


def find(
    settings: Settings, put_back: PutBack, parent: pulumi.Resource, provider: pulumi.ProviderResource | None = None
) -> FindVersionsResult:
    """What is in the directories that the settings ask for.

    Args:
        settings: the part of the stack that the component is, as far as it is known without an answer.
        put_back: sets late values in the place of their stand-ins.
        parent: the component, whose providers are taken.
        provider: the provider, where the component has made it.

    Raises:
        FindError: OSS does not say.
        pulumi.RunError: the engine has ended the run.
    """
    # The SDK asks nothing at all where one value is not known yet: what may be one is a question of its own.
    groups: dict[str, dict[str, WantedDirectory]] = {}
    for each in settings.asked:
        wanted = WantedDirectory(bucket=each.bucket, prefix=each.prefix, tflite=each.tflite, tags=each.tags)
        groups.setdefault(each.bucket if is_stand_in(each.bucket) else "", {})[each.place] = wanted
    where = pulumi.InvokeOptions(parent=parent, provider=provider, version=VERSION)
    found: dict[str, FoundDirectory] = {}
    for directories in groups.values():
        found |= _ask(directories, put_back, where)
    return FindVersionsResult(directories=found)


def _ask(
    directories: Mapping[str, WantedDirectory], put_back: PutBack, where: pulumi.InvokeOptions
) -> Mapping[str, FoundDirectory]:
    owner, preview = surroundings.owner(), pulumi.runtime.is_dry_run()
    asked = FindVersionsArgs(directories=directories, owner=owner, preview=preview)
    try:
        answer = pulumi.runtime.invoke(FIND_VERSIONS, put_back(asked.write()), where).value
    except pulumi.RunError:
        raise
    except Exception as error:  # what the SDK makes of a refusal
        reason = str(error).removeprefix(f"invoke of {FIND_VERSIONS} failed: ").removeprefix(f"{FIND_VERSIONS}: ")
        buckets = ", ".join(dict.fromkeys(each.bucket for each in directories.values()))
        raise FindError(f"which versions are in bucket {buckets} is not known: {reason}") from None
    # An engine that knows the provider's settings only during the update answers nothing.
    told = FindVersionsResult.read(answer) if answer else FindVersionsResult(known=False, directories={})
    return {name: told.directories.get(name, FoundDirectory(known=False)) for name in directories}
