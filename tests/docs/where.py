"""Which test runs each command that a page tells a person to run.

``HERE`` and ``WITH_CLI`` are run as written by ``test_commands.py``, the latter where the Pulumi CLI is on ``PATH``.
What cannot be run by it stands in ``ELSEWHERE``, with the test that runs the same thing, and the reason.
"""

from __future__ import annotations

from typing import Final

Key = tuple[str, str]
"""Page, command."""

_OPS = ".venv/bin/python -m ops"
_SANDBOX = ".venv/bin/python -m sandbox"

HERE: Final[frozenset[Key]] = frozenset(
    {
        ("README.md", "make up"),
        ("README.md", f"{_OPS} predict multi_http modelB --label stable"),
        ("README.md", f"{_OPS} predict multi_grpc modelA --input shoe.png --classes fashion-mnist"),
        ("README.md", f"{_OPS} predict multi_http modelB --curl"),
        ("README.md", f"{_OPS} preview-comment"),
        ("README.md", f"{_OPS} drift"),
        ("README.md", "make cloud"),
        ("CONTRIBUTING.md", "make format"),
        ("CONTRIBUTING.md", "make schema"),
        ("docs/console.md", "make screenshot"),
        ("docs/operations.md", f"{_OPS} preview-comment --stack dev"),
        ("docs/operations.md", f"{_OPS} drift --stack dev"),
        ("docs/operations.md", f"{_OPS} predict multi_http modelB --label stable --stack dev"),
        ("docs/publishing.md", f"{_OPS} manifest exports/modelB"),
        ("docs/publishing.md", "git add manifests"),
        ("docs/sandbox.md", "make up"),
        ("docs/sandbox.md", f"{_SANDBOX} preview"),
        ("docs/sandbox.md", f"{_SANDBOX} up --yes"),
        ("docs/sandbox.md", f"{_SANDBOX} refresh --preview-only --expect-no-changes"),
        ("docs/sandbox.md", f"{_SANDBOX} cloud status"),
        ("docs/sandbox.md", "make down"),
    }
)

WITH_CLI: Final[frozenset[Key]] = frozenset(
    {
        ("README.md", "make up ENGINE=pulumi"),
        ("README.md", "pulumi preview -s local"),
        ("README.md", "cp stacks/Pulumi.dev.yaml stacks/Pulumi.mine.yaml"),
        ("README.md", "pulumi stack init mine && pulumi preview -s mine && pulumi up -s mine"),
        ("docs/operations.md", "cp stacks/Pulumi.dev.yaml stacks/Pulumi.mine.yaml"),
        ("docs/operations.md", 'pulumi login "$PULUMI_BACKEND_URL"'),
        ("docs/operations.md", "pulumi stack init mine"),
        ("docs/operations.md", "pulumi preview -s mine"),
        ("docs/operations.md", "pulumi up -s mine"),
        ("docs/operations.md", f"{_OPS} predict --stack mine multi_http modelB"),
        ("docs/operations.md", f"{_OPS} drift --stack mine"),
        ("docs/operations.md", "pulumi config set -s prod --path 'tf-serving:models.modelB.labels.stable' 2"),
        ("docs/stack-config.md", "pulumi config set --path 'tf-serving:models.modelB.labels.stable' 2"),
    }
)

_BUCKETS = "tests/e2e/test_buckets.py"
_KUBE = "tests/e2e/test_ack_local.py"
_POLICY = "tests/policy/test_policies.py"
_INSTALLS = "installs from a package index, and takes a policy plugin of the CLI's"

ELSEWHERE: Final[dict[Key, tuple[str, str]]] = {
    ("README.md", "make test"): ("", "runs this test"),
    ("CONTRIBUTING.md", "make test"): ("", "runs this test"),
    ("CONTRIBUTING.md", "make test-fast"): ("", "runs tests, and would run itself"),
    ("docs/kubernetes.md", "make kube"): ("tests/kube/test_build.py", "takes minutes"),
    ("docs/kubernetes.md", f"{_SANDBOX} kube start"): (_KUBE, "its fixture, on a real API server"),
    ("docs/kubernetes.md", "make cloud"): (_KUBE, "its fixture"),
    ("docs/kubernetes.md", f"{_SANDBOX} up --stack ack-local"): (_KUBE, "its fixture"),
    ("docs/kubernetes.md", f"{_OPS} predict vision modelB --label canary --stack ack-local"): (
        f"{_KUBE}::test_a_service_answers_over_both_protocols_by_version_and_label",
        "needs the cluster",
    ),
    ("docs/kubernetes.md", f"{_SANDBOX} destroy --stack ack-local && {_SANDBOX} kube stop"): (_KUBE, "its last test"),
    ("docs/operations.md", f"{_OPS} bucket show OLD-BUCKET --stack mine"): (_BUCKETS, "needs a bucket that cannot go"),
    ("docs/operations.md", f"{_OPS} bucket empty OLD-BUCKET --stack mine"): (_BUCKETS, "needs a bucket that cannot go"),
    ("docs/operations.md", f"{_OPS} bucket empty OLD-BUCKET --everything --stack mine"): (
        _BUCKETS,
        "needs a bucket that cannot go",
    ),
    ("docs/operations.md", "pulumi preview -s mine --import-file import.json"): ("tests/live/test_import.py", "CLI"),
    ("docs/operations.md", "pulumi import -s mine --file import.json --generate-code=false"): (
        "tests/live/test_pulumi_cli.py",
        "CLI",
    ),
    ("docs/policy.md", "python3 -m venv policy/.venv && policy/.venv/bin/pip install -r policy/requirements.txt"): (
        "",
        _INSTALLS,
    ),
    ("docs/policy.md", "pulumi preview -s prod --policy-pack policy"): (_POLICY, _INSTALLS),
    ("docs/policy.md", "pulumi up -s prod --policy-pack policy"): (_POLICY, _INSTALLS),
    ("docs/policy.md", "pulumi preview -s live-eu --policy-pack policy --policy-pack-config policy-config.json"): (
        _POLICY,
        _INSTALLS,
    ),
}
