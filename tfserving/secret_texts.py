"""What holds a secret: by its name, and by what a text looks like."""

from __future__ import annotations

import re

MASK = "[secret]"
"""What is shown in a secret's place; Pulumi's own word for it."""

_NAME = (
    r"secret|token|passw|passphrase|passwd|(?<![a-z0-9])pwd(?![a-z0-9])|credential|access[_.-]?key|api[_.-]?key|private[_.-]?key|"
    r"authorization|(?:docker|basic)[_.-]?auth|encryption[_.-]?salt|cookie"
)
_SECRET_NAME = re.compile(_NAME, re.IGNORECASE)

ASSIGNMENT = re.compile(
    rf"""(?ix) (?<![\w.-]) (?P<name> [\w.-]{{0,80}}? (?:{_NAME}) [\w.-]{{0,80}} ) (?P<sign> \\?["']? \s* [:=] \s* )
    (?! \s | \[secret\] ) (?: \\".*?\\" | "(?:[^"\\]|\\.)*" | '[^']*' | [^\s,;&"'{{}}]+ )"""
)
"""``name=value``, ``name: value`` and ``"name": "value"``, the name being that of a secret."""

_NO_SECRET = re.compile(r"(?i)(?:true|false|)\Z|\$[\w{(]")
"""What is given by a name of a secret and is none: a switch, and the variable that holds it."""

PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"-----BEGIN [A-Z ]+-----.*?(?:-----END [A-Z ]+-----|\Z)", re.DOTALL), MASK),
    (
        re.compile(r"(?i)(authorization\\?[\"']?\s*[:=]\s*\\?[\"']?)(?:(?:bearer|basic|token)\s+)?[^\s\"',;]+"),
        rf"\1{MASK}",
    ),
    (re.compile(r"(?i)\b(bearer)\s+[\w.~+/=-]{6,}"), rf"\1 {MASK}"),
    (re.compile(r"://[^/\s@'\"]+@"), f"://{MASK}@"),
    (
        re.compile(
            r"\b(?:LTAI[A-Za-z0-9]{12,}|STS\.[A-Za-z0-9]{10,}|AKIA[A-Z0-9]{16}|gh[pousr]_[A-Za-z0-9]{20,}"
            r"|github_pat_\w{20,}|glpat-[\w-]{20,}|pul-[0-9a-f]{40}|eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?)"
        ),
        MASK,
    ),
)
"""Texts that look like secrets, each with what is shown in their place."""


def is_secret_name(name: object) -> bool:
    """Whether a key, a flag or an environment variable of that name holds a secret."""
    return bool(_SECRET_NAME.search(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", str(name))))


def holds_secret(text: str) -> bool:
    """Whether a text looks like one that holds a secret: a URL with a password, a key, ``password=...``."""
    if any(pattern.search(text) for pattern, _ in PATTERNS):
        return True
    given = (found.group()[found.end("sign") - found.start() :].strip("\\\"'") for found in ASSIGNMENT.finditer(text))
    return not all(map(_NO_SECRET.match, given))
