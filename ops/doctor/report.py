"""All findings of a stack, and how they are printed. No key, token or secret is: see :class:`Masked`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from ops.doctor import kubernetes as kubernetes_checks
from ops.doctor.cloud import access_findings, endpoint_finding
from ops.doctor.machine import (
    own_plugin_findings,
    pulumi_findings,
    python_findings,
    stack_file_findings,
    state_findings,
)
from ops.doctor.stack import NAMESPACE, StackConfig, load
from ops.engine import PROJECT_DIR
from ops.finding import Finding
from ops.tables import Report, Table

_WIDTHS = (7, 20)
"""Of the level and the subject."""


def examine(stack: StackConfig, project_dir: Path = PROJECT_DIR) -> Iterator[Finding]:
    """Every finding about a stack, in the order in which they matter. Slow ones come as they are made."""
    yield from python_findings(project_dir)
    yield from pulumi_findings(stack, project_dir)
    yield from own_plugin_findings(project_dir)
    yield from state_findings(stack, project_dir)
    yield from stack_file_findings(stack)
    if stack.ack_services:
        key = f"{NAMESPACE}:kubernetes"
        kubernetes = {"kubeconfig": {"secure": ""}} if key in stack.encrypted else stack.values.get(key)
        yield from kubernetes_checks.findings(kubernetes, stack.ack_services, project_dir, local=stack.is_local)
    if not stack.region:
        return
    reachable = True
    for product in ("sts", "oss", *(["eas"] if stack.needs.services else [])):
        finding = endpoint_finding(stack, product)
        reachable = reachable and finding.level != "error"
        yield finding
        if stack.is_local:
            break  # all products answer at the same address
    if not reachable:
        yield Finding("skipped", "credentials", "not tried, because an endpoint does not answer", "see above")
        return
    yield from access_findings(stack, project_dir)


def run(stack: str, project_dir: Path = PROJECT_DIR) -> int:
    """Prints the report.

    Returns:
        1 if anything will not work, else 0.

    Raises:
        DoctorError: there is nothing to examine.
    """
    levels = []
    for finding in examine(load(stack, project_dir), project_dir):
        levels.append(finding.level)
        told = (finding.text, f"-> {finding.fix}" if finding.fix else "")
        # Slow ones come as they are made, so each is a table of its own.
        Report([Table((), [(finding.level, finding.subject, told)], states=[0], widths=_WIDTHS)]).draw()
        sys.stdout.flush()
    errors, warnings = levels.count("error"), levels.count("warning")
    print(f"\n{_count(errors, 'error')}, {_count(warnings, 'warning')}")
    return 1 if errors else 0


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
