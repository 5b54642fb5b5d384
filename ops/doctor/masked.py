"""Lines without the keys, tokens and secrets that a check has met."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote

from ops.finding import Finding


class Masked:
    """Takes secrets out of findings, as they are and as a URL writes them."""

    def __init__(self, secrets: Iterable[str | None]) -> None:
        self._secrets = {form for secret in secrets if secret for form in (secret, quote(secret, safe=""))}

    def __call__(self, finding: Finding) -> Finding:
        return Finding(finding.level, finding.subject, self._text(finding.text), self._text(finding.fix))

    def _text(self, text: str) -> str:
        # A word of the sandbox's own, not a secret; masking it would blank ordinary text.
        for secret in sorted(self._secrets - {"sandbox"}, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text
