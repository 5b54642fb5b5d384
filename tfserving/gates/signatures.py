"""Whether clients of one version can go on with another: what they send is taken, and what they read is there."""

from __future__ import annotations

from collections.abc import Mapping

from tfserving.saved_model import INIT_SIGNATURE, Signature, TensorInfo

Shape = tuple[int | None, ...] | None


def incompatibilities(old: Mapping[str, Signature], new: Mapping[str, Signature]) -> list[str]:
    """What a client of ``old`` could not do with ``new``, one line each; none where the two are compatible.

    Every signature, input and output of the old version has to be there, of the same type. An input has to take at
    least the shapes that it took, so a dimension may open; an output has to stay within those it had, so one may become
    fixed. What is new does not disturb, but for a further input: requests without it are refused.
    """
    lines = []
    for name in sorted(old.keys() - {INIT_SIGNATURE}):
        if name not in new:
            lines.append(f"signature {name} is gone")
            continue
        before, after = old[name], new[name]
        lines += [
            f"{name}: input {tensor} {problem}"
            for tensor, info in sorted(before.inputs.items())
            if (problem := _problem(info, after.inputs.get(tensor), takes=True))
        ]
        lines += [
            f"{name}: input {tensor} ({after.inputs[tensor]}) is new, and requests without it are refused"
            for tensor in sorted(after.inputs.keys() - before.inputs.keys())
        ]
        lines += [
            f"{name}: output {tensor} {problem}"
            for tensor, info in sorted(before.outputs.items())
            if (problem := _problem(info, after.outputs.get(tensor), takes=False))
        ]
    return lines


def _problem(old: TensorInfo, new: TensorInfo | None, *, takes: bool) -> str:
    if new is None:
        return f"is gone (was {old})"
    if old.dtype != new.dtype:
        return f"changes its type: {old} -> {new}"
    wide, narrow = (new.shape, old.shape) if takes else (old.shape, new.shape)
    if not covers(wide, narrow):
        return f"{'takes less' if takes else 'has another shape'}: {old} -> {new}"
    return ""


def covers(wide: Shape, narrow: Shape) -> bool:
    """Whether every shape that is within ``narrow`` is also within ``wide``."""
    if wide is None:
        return True
    if narrow is None or len(wide) != len(narrow):
        return False
    return all(one is None or one == other for one, other in zip(wide, narrow, strict=True))
