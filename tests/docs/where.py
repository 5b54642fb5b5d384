"""Which test runs each command that a page tells a person to run.

``HERE`` and ``WITH_CLI`` are run as written by ``test_commands.py``, in the order of their page, the latter where the
Pulumi CLI is on ``PATH``. Pages of ``TOP_TO_BOTTOM`` are followed as a whole. ``ELSEWHERE`` is the rest: each with the
test that comes closest, if there is one, and the reason. Options of this project's own commands are looked up by
``test_pages.py`` in any case.
"""

from __future__ import annotations

from typing import Final

Key = tuple[str, str]
"""Page, command."""

_OPS = ".venv/bin/python -m ops"
_SANDBOX = ".venv/bin/python -m sandbox"

TOP_TO_BOTTOM: Final = frozenset({"docs/tutorial.md"})
"""``test_tutorial.py`` does everything that these say."""

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
        ("docs/delivery.md", f"{_OPS} golden record multi_http modelB --version 1"),
        (
            "docs/delivery.md",
            f"{_OPS} golden record multi_grpc modelB --version 1 --inputs requests.jsonl --output golden/modelB.jsonl "
            "--force",
        ),
        ("docs/delivery.md", f"{_OPS} promote modelB --to 2 --hold 10m --max-error-rate 1% --max-p99 80ms"),
        ("docs/delivery.md", f"{_OPS} promote --continue"),
        ("docs/delivery.md", f"{_OPS} promote --abort"),
        ("docs/delivery.md", f"{_OPS} rollback modelB"),
        ("docs/first-real-run.md", f"{_OPS} doctor --stack mine --first-run --output first-run.md"),
        ("docs/import.md", f"{_OPS} import multi_http multi_grpc --region cn-hangzhou --stack mine"),
        ("docs/kubernetes.md", "make kube"),
        ("docs/kubernetes.md", f"{_SANDBOX} kube start"),
        ("docs/kubernetes.md", "make cloud"),
        ("docs/kubernetes.md", f"{_SANDBOX} up --yes --stack ack-local"),
        ("docs/kubernetes.md", f"{_OPS} predict vision modelB --label canary --stack ack-local"),
        ("docs/kubernetes.md", f"{_SANDBOX} destroy --yes --stack ack-local && {_SANDBOX} kube stop"),
        ("docs/operations.md", f"{_OPS} preview-comment --stack dev"),
        ("docs/operations.md", f"{_OPS} status --stack dev"),
        ("docs/operations.md", f"{_OPS} logs multi_http --since 10m --stack dev"),
        ("docs/operations.md", f"{_OPS} events multi_http --stack dev"),
        ("docs/operations.md", f"{_OPS} metrics multi_http --stack dev"),
        ("docs/operations.md", f"{_OPS} drift --stack dev"),
        ("docs/operations.md", f"{_OPS} predict multi_http modelB --label stable --stack dev"),
        ("docs/operations.md", f"{_OPS} bucket show OLD-BUCKET --stack mine"),
        ("docs/operations.md", f"{_OPS} bucket empty OLD-BUCKET --stack mine"),
        ("docs/operations.md", f"{_OPS} bucket empty OLD-BUCKET --everything --stack mine"),
        ("docs/monitoring.md", f"{_OPS} dashboard"),
        ("docs/publishing.md", f"{_OPS} manifest exports/modelB"),
        ("docs/publishing.md", "git add manifests"),
        ("docs/releasing.md", "make version VERSION=0.2.0"),
        ("docs/releasing.md", "make release-dry-run"),
        ("docs/releasing.md", "git tag --annotate v0.2.0 --message v0.2.0"),
        ("docs/releasing.md", "git push origin v0.2.0"),
        ("docs/sandbox.md", "make up"),
        ("docs/sandbox.md", f"{_SANDBOX} preview"),
        ("docs/sandbox.md", f"{_SANDBOX} up --yes"),
        ("docs/sandbox.md", f"{_SANDBOX} refresh --preview-only --expect-no-changes"),
        ("docs/sandbox.md", f"{_SANDBOX} cloud status"),
        ("docs/sandbox.md", "make down"),
        (
            "docs/sandbox.md",
            ".venv/bin/python -m pip wheel --no-deps --wheel-dir .sandbox/wheels ./tfserving ./sandbox",
        ),
        ("docs/troubleshooting.md", f"{_OPS} doctor --stack dev"),
        ("docs/troubleshooting.md", f"{_OPS} drift --stack dev"),
        ("docs/upgrading.md", ".venv/bin/python -m pip install -r requirements.txt"),
        ("docs/upgrading.md", f"{_OPS} drift --stack dev"),
        ("examples/README.md", "make up"),
        ("examples/README.md", f"{_SANDBOX} up --yes --cwd examples/python-own-program --stack local"),
        ("examples/README.md", f"{_SANDBOX} outputs --cwd examples/python-own-program --stack local"),
        ("examples/README.md", f"{_SANDBOX} destroy --yes --cwd examples/python-own-program --stack local"),
    }
)

WITH_CLI: Final[frozenset[Key]] = frozenset(
    {
        ("README.md", "make up ENGINE=pulumi"),
        ("README.md", "pulumi preview -s local"),
        ("README.md", "cp stacks/Pulumi.dev.yaml stacks/Pulumi.mine.yaml"),
        ("README.md", "pulumi stack init mine && pulumi preview -s mine && pulumi up -s mine"),
        ("docs/first-real-run.md", "pulumi preview -s mine"),
        ("docs/first-real-run.md", "pulumi up -s mine"),
        ("docs/import.md", "pulumi stack init mine"),
        ("docs/import.md", "pulumi up -s mine"),
        ("docs/operations.md", "cp stacks/Pulumi.dev.yaml stacks/Pulumi.mine.yaml"),
        ("docs/operations.md", 'pulumi login "$PULUMI_BACKEND_URL"'),
        ("docs/operations.md", "pulumi stack init mine"),
        ("docs/operations.md", "pulumi preview -s mine"),
        ("docs/operations.md", "pulumi up -s mine"),
        ("docs/operations.md", f"{_OPS} predict --stack mine multi_http modelB"),
        ("docs/operations.md", f"{_OPS} drift --stack mine"),
        ("docs/operations.md", "pulumi config set -s prod --path 'tf-serving:models.modelB.labels.stable' 2"),
        ("docs/operations.md", "pulumi preview -s mine --import-file import.json"),
        ("docs/operations.md", "pulumi import -s mine --file import.json --generate-code=false"),
        ("docs/stack-config.md", "pulumi config set --path 'tf-serving:models.modelB.labels.stable' 2"),
        ("docs/troubleshooting.md", "pulumi preview -s dev"),
        ("docs/upgrading.md", "pulumi preview -s dev"),
        ("docs/upgrading.md", "pulumi up -s dev"),
    }
)

PLACEHOLDERS: Final = {"OLD-BUCKET": "old-bucket"}
"""Words that a page leaves to the reader, and what stands for them here."""

MORE_OPTIONS: Final = {
    f"{_OPS} promote modelB --to 2 --hold 10m --max-error-rate 1% --max-p99 80ms": (
        "--yes --hold 4s --min-requests 20 --max-p99 20s"
    ),
    f"{_OPS} promote --continue": "--yes",
    f"{_OPS} promote --abort": "--yes",
    f"{_OPS} rollback modelB": "--yes",
}
"""Options behind a command: answers to its questions, and patience that a test has not. The command stays as it is."""

_POLICY = "tests/policy/test_policies.py"
_ITSELF = "runs this very test"
_INDEX = "downloads packages from a package index, and a policy plugin of the CLI's"
_SERVER = "needs a repository on GitHub"

ELSEWHERE: Final[dict[Key, tuple[str, str]]] = {
    ("README.md", "make test"): ("", _ITSELF),
    ("CONTRIBUTING.md", "make test"): ("", _ITSELF),
    ("CONTRIBUTING.md", "make test-fast"): ("", _ITSELF),
    ("docs/delivery.md", f"{_OPS} promote modelB --to 2 --prometheus http://prometheus:9090"): (
        "tests/ops/test_meter.py",
        "needs a Prometheus server",
    ),
    ("docs/package.md", "pulumi package add /path/to/this-project/plugin"): (
        "tests/plugin/test_dist.py",
        "needs a project in another place",
    ),
    ("docs/package.md", "pulumi package add github.com/<owner>/<repository>/plugin@v0.2.0"): ("", _SERVER),
    ("docs/policy.md", "python3 -m venv policy/.venv && policy/.venv/bin/pip install -r policy/requirements.txt"): (
        "",
        _INDEX,
    ),
    ("docs/policy.md", "pulumi preview -s prod --policy-pack policy"): (_POLICY, _INDEX),
    ("docs/policy.md", "pulumi up -s prod --policy-pack policy"): (_POLICY, _INDEX),
    ("docs/policy.md", "pulumi preview -s live-eu --policy-pack policy --policy-pack-config policy-config.json"): (
        _POLICY,
        _INDEX,
    ),
    ("docs/releasing.md", "gh attestation verify FILE --repo OWNER/NAME"): ("", _SERVER),
}
