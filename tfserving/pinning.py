"""Pins: policies that go by the files in a directory, spelt out before files appear there.

Under ``latest`` and ``all`` TensorFlow Serving decides by itself what to serve, as soon as it sees a version's files: a
first canary under ``latest: 1`` ends the version beside it, whatever the stack is about to say. A rollout therefore
begins with a pin: the file names the versions that are served now, every server reads it, and only then files appear.

That a server follows a pin cannot be seen from what it serves, since that is the same as before. The file therefore
carries a label of the pin's own at first, and is then written without it. TensorFlow Serving sets the labels of a file
before its policies, so the label alone proves nothing yet; but it reads the file again only when the last reading is
done. So a server whose label came, and went again, follows the pin.

A file with labels keeps a server from starting that lacks ``--allow_version_labels_for_unavailable_models``. Where one
of the readers may lack it, and where no version is AVAILABLE that the label could name, a pin is waited for by time.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from tfserving import model_config
from tfserving.model_config import Model, ModelServerConfig, VersionPolicy

_LABEL = re.compile(r"pin_[0-9a-f]{8}")


@dataclass(frozen=True)
class Coming:
    """Versions of a model whose files are about to appear.

    Attributes:
        visible: versions a server sees now.
        coming: versions it will see.
    """

    visible: frozenset[int]
    coming: frozenset[int]

    @property
    def after(self) -> frozenset[int]:
        """What a server sees then."""
        return self.visible | self.coming


def goes_by_files(model: Model, coming: Coming) -> bool:
    """Whether a server that follows ``model`` would serve something else by itself once the files are there."""
    return model.policy.select(coming.visible) != model.policy.select(coming.after)


def pinned(config: ModelServerConfig, coming: Mapping[str, Coming]) -> ModelServerConfig:
    """``config`` with the versions named that are served now, for every model that would otherwise change by itself.

    A model that serves nothing yet is left as it is: there is nothing to lose, and a policy has to name a version.

    Args:
        config: the config in force.
        coming: by model: the versions whose files are about to appear.
    """
    return ModelServerConfig(tuple(_pinned(model, coming.get(model.name)) for model in config.models))


def _pinned(model: Model, coming: Coming | None) -> Model:
    if coming is None or not goes_by_files(model, coming):
        return model
    served = model.policy.select(coming.visible)
    return replace(model, policy=VersionPolicy.specific(served)) if served else model


def harms(in_force: Model | None, wanted: Model | None, coming: Coming) -> bool:
    """Whether a server that cannot be pinned in place would drop what is still wanted, or serve what is not wanted.

    Services that read the config file only when they start keep the policy they started with. Where that leads by
    itself to what is wanted they need no restart before the files appear.

    Args:
        in_force: the model as such a server knows it; None: it does not serve it.
        wanted: the model as it is to be.
        coming: the versions whose files are about to appear.
    """
    if in_force is None or not goes_by_files(in_force, coming):
        return False
    now, then = (set(in_force.policy.select(files)) for files in (coming.visible, coming.after))
    wanted_versions = set(wanted.policy.select(coming.after)) if wanted is not None else set()
    return bool((now - then) & wanted_versions or (then - now) - wanted_versions)


@dataclass(frozen=True)
class Proof:
    """A pin that shows who follows it.

    Attributes:
        config: the pin with one label more.
        label: that label.
        model: the model that has it.
        version: the version that answers by it.
    """

    config: ModelServerConfig
    label: str
    model: str
    version: int


def proof(config: ModelServerConfig, available: Iterable[Mapping[str, Collection[int]]]) -> Proof | None:
    """``config`` with a label by which servers show that they read it; None where no version could answer by it.

    Args:
        config: the pin.
        available: by model: the AVAILABLE versions of each service that is asked. A label may only name one that all of
            them have: else a server refuses the whole file.
    """
    services = list(available)
    for model in sorted(config.models, key=lambda each: each.policy.kind != "specific"):
        everywhere = set.intersection(*(set(found.get(model.name, ())) for found in services)) if services else set()
        kept = everywhere & set(model.policy.versions) if model.policy.kind == "specific" else everywhere
        if not kept:
            continue
        content = json.dumps(model_config.to_dict(config), sort_keys=True)
        label = f"pin_{hashlib.sha256(content.encode()).hexdigest()[:8]}"
        marked = replace(model, labels={**model.labels, label: max(kept)})
        models = tuple(marked if each is model else each for each in config.models)
        return Proof(ModelServerConfig(models), label, model.name, max(kept))
    return None


def without_labels(config: ModelServerConfig) -> ModelServerConfig:
    """``config`` without the labels of pins, which a killed run leaves."""
    return ModelServerConfig(
        tuple(
            replace(model, labels={label: version for label, version in model.labels.items() if not is_label(label)})
            for model in config.models
        )
    )


def is_label(label: str) -> bool:
    """Whether a label is that of a pin."""
    return _LABEL.fullmatch(label) is not None


def announcement(before: ModelServerConfig, after: ModelServerConfig) -> str:
    """What a pin changes: ``pin: titles keeps serving 1 (policy latest 1 -> specific [1]); files appear once ...``.

    Empty where it changes no policy.
    """
    lines = []
    for model in after.models:
        was = before.get(model.name)
        if was is not None and was.policy != model.policy:
            versions = ", ".join(map(str, model.policy.versions))
            lines.append(f"{model.name} keeps serving {versions} (policy {was.policy} -> {model.policy})")
    return f"pin: {'; '.join(lines)}; files appear once every service follows" if lines else ""


def unlabelled(before: Mapping[str, Collection[int]], after: Mapping[str, Iterable[int]]) -> list[str]:
    """A line for each model whose requests without label and version move.

    TensorFlow Serving answers them by the highest version that it serves: a higher one answers as soon as it is loaded,
    before any gate and before a label moves to it; a lower one once those above it are gone.

    Args:
        before: versions served now, by model; a model that serves none has no requests to move.
        after: versions served at the end.
    """
    lines = []
    for name in sorted(before):
        old, new = max(before[name], default=None), max(after.get(name, ()), default=None)
        if old is not None and new is not None and old != new:
            when = f"once {'it' if new > old else f'version {old}'} is {'loaded' if new > old else 'gone'}"
            lines.append(f"{name}: requests without a label: version {old} -> {new} {when}")
    return lines
