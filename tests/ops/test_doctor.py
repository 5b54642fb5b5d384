"""The doctor, against the sandbox cloud, against a fake of what refuses, and with a fake Pulumi CLI on PATH."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import alibabacloud_oss_v2 as oss
import pytest
import yaml
from alibabacloud_credentials.utils import auth_util

from ops import ram_policy
from ops.doctor import cloud as cloud_checks
from ops.doctor import machine as machine_checks
from ops.doctor import report
from ops.doctor import stack as stack_config
from ops.doctor.stack import DoctorError
from ops.finding import Finding
from tests.cloud.conftest import running_cloud
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
SDK = metadata.version("pulumi")
ALICLOUD = metadata.version("pulumi-alicloud")
KEY_ID, SECRET = "LTAI5tExampleExample12", "ExampleSecretExampleSecretEx12"


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials, no Pulumi CLI and no home directory of whoever runs the tests."""
    import os

    for name in list(os.environ):
        if name.startswith(("ALIBABA_CLOUD_", "ALICLOUD_", "PULUMI_")):
            monkeypatch.delenv(name)
    # The SDK reads the environment when it is imported. Without this it would ask the metadata service of ECS.
    monkeypatch.setattr(auth_util, "environment_ecs_metadata_disabled", "true")
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")


class Project:
    """A project directory of the tests' own, with the real provider."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("plugin", "provider", "tfserving", ".venv", "pyproject.toml", "requirements.txt"):
            (root / name).symlink_to(Path(sys.prefix) if name == ".venv" else ROOT / name)
        (root / "Pulumi.yaml").write_text((ROOT / "Pulumi.yaml").read_text(encoding="utf-8"), encoding="utf-8")
        (root / "stacks").mkdir()

    def stack(self, name: str = "mine", **config: Any) -> None:
        """Writes a stack file; ``__`` in a key is a colon."""
        values = {
            "alicloud:region": "cn-hangzhou",
            "tf-serving:bucket": "models",
            "tf-serving:services": {"multi_http": {}, "multi_gpu": {"resource": "eas-r-x"}},
        }
        values |= {key.replace("__", ":").replace("tf_", "tf-"): value for key, value in config.items()}
        document = {"config": {key: value for key, value in values.items() if value is not None}}
        (self.root / "stacks" / f"Pulumi.{name}.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")

    def local(self, port: int, **config: Any) -> None:
        """A stack whose APIs are all at a port of this machine."""
        keys = {"alicloud__accessKey": KEY_ID, "alicloud__secretKey": SECRET}
        self.stack(tf_serving__endpoint=f"127.0.0.1:{port}", alicloud__protocol="HTTP", **{**keys, **config})

    def examine(self, name: str = "mine") -> dict[str, Finding]:
        found = list(report.examine(stack_config.load(name, self.root), self.root))
        assert len({each.subject for each in found}) == len(found)
        for each in found:
            assert each.fix or each.level == "ok", f"{each} does not say what to do"
        return {each.subject: each for each in found}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    (tmp_path / "project").mkdir()
    monkeypatch.setattr(report, "own_plugin_findings", lambda _: iter(()))  # has tests of its own, and takes seconds
    return Project(tmp_path / "project")


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts a Pulumi CLI on PATH that says what the test says."""

    def install(version: str = SDK, **answers: str) -> None:
        said = {
            "version": f"v{version}",
            "plugin": json.dumps([{"name": "alicloud", "version": ALICLOUD}]),
            "whoami": json.dumps({"user": "me", "url": "s3://key:secret@bucket?endpoint=x"}),
            "stack": json.dumps([{"name": "organization/tf-serving/mine"}]),
            **answers,
        }
        cases = "".join(f"{name}) cat <<'END'\n{text}\nEND\n;;\n" for name, text in said.items() if text)
        file = tmp_path / "bin" / "pulumi"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\ncase $1 in\n{cases}*) echo 'error: no' >&2; exit 1;;\nesac\n")
        file.chmod(0o755)
        monkeypatch.setenv("PATH", f"{file.parent}:/usr/bin:/bin")

    return install


class Refusing:
    """A fake of the APIs for what the sandbox cloud never does: it answers by product as it is told."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, str, Any]] = {}
        self.date = ""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                action = self.headers.get("x-acs-action") or ""
                product = "sts" if action == "GetCallerIdentity" else "eas" if action else "oss"
                if self.path == "/-/health":
                    product = "health"
                status, kind, body = outer.answers.get(product, (200, "application/json", {}))
                data = (body if isinstance(body, str) else json.dumps(body)).encode()
                self.send_response_only(status)
                self.send_header("Date", outer.date or self.date_time_string())
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_HEAD = answer

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def sts(self, status: int, **body: Any) -> None:
        self.answers["sts"] = (status, "application/json", body)

    def oss(self, status: int, text: str) -> None:
        self.answers["oss"] = (status, "application/xml", text)


@pytest.fixture
def api() -> Iterator[Refusing]:
    made = Refusing()
    made.sts(200, Arn="acs:ram::1:user/ci", IdentityType="RAMUser", AccountId="1")
    made.answers["eas"] = (200, "application/json", {"Services": [], "TotalCount": 0})
    made.oss(200, bucket_info("oss-cn-hangzhou"))
    yield made
    made.server.shutdown()
    made.server.server_close()


def bucket_info(location: str) -> str:
    return f"<BucketInfo><Bucket><Name>models</Name><Location>{location}</Location></Bucket></BucketInfo>"


def oss_error(code: str, message: str = "no") -> str:
    return f"<Error><Code>{code}</Code><Message>{message}</Message><RequestId>1</RequestId></Error>"


# ---- a whole report ------------------------------------------------------------------------------------------------


def test_a_local_stack_that_is_well(project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running_cloud(tmp_path / "cloud") as cloud:
        project.local(cloud.port)
        found = project.examine()
        assert {each.level for each in found.values()} == {"ok"}
        assert "acs:ram::1000000000000000:root" in found["identity"].text
        assert found["rights on EAS"].text == "may read; 0 of 2 services are there"
        assert found["rights on OSS"].text == "bucket models is not there yet; `pulumi up` makes it"
        assert report.run("mine", project.root) == 0
    assert "0 errors, 0 warnings" in capsys.readouterr().out


def test_without_its_cloud_a_local_stack_is_told_to_start_it(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.local(free_port())
    found = project.examine()
    assert found["sandbox cloud"].level == "error"
    assert found["sandbox cloud"].fix == "start it with `make up` or `make cloud`"
    assert found["credentials"].level == "skipped"
    assert report.run("mine", project.root) == 1
    assert "-> start it with `make up`" in capsys.readouterr().out


@pytest.mark.slow
def test_the_command_itself(tmp_path: Path) -> None:
    def run(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ops", "doctor", *options]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    done = run("--stack", "nowhere")
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no stack file" in done.stderr
    assert "dev, local, prod" in done.stderr
    done = run("--stack", "prod", "--ram-policy")
    assert done.returncode == 0
    assert json.loads(done.stdout)["Version"] == "1"


# ---- keys ----------------------------------------------------------------------------------------------------------


def test_no_key_is_printed_even_where_the_cloud_quotes_it(
    project: Project, api: Refusing, capsys: pytest.CaptureFixture[str]
) -> None:
    token = "CAISexample/token+with=signs"
    quoted = f"string to sign: POST&AccessKeyId%3D{KEY_ID}&{SECRET}&CAISexample%2Ftoken%2Bwith%3Dsigns&{token}"
    api.sts(400, Code="SignatureDoesNotMatch", Message=quoted, RequestId="1")
    api.answers["eas"] = (403, "application/json", {"Code": "NoPermission", "Message": quoted, "RequestId": "1"})
    api.oss(403, oss_error("AccessDenied", quoted.replace("&", " ")))
    project.local(api.port, alicloud__securityToken=token)
    assert report.run("mine", project.root) == 1
    printed = "".join(capsys.readouterr())
    assert "NoPermission" in printed
    assert "AccessDenied" in printed
    assert "temporary" in printed
    for key in (KEY_ID, SECRET, token, "CAISexample%2F"):
        assert key not in printed


@pytest.mark.parametrize(
    ("code", "fix"),
    [
        ("InvalidAccessKeyId.NotFound", "make a new one"),
        ("SignatureDoesNotMatch", "does not belong to the access key"),
        ("InvalidSecurityToken.Expired", "get new ones"),
        ("Strange", "look the code up"),
    ],
)
def test_credentials_that_are_refused_say_why(project: Project, api: Refusing, code: str, fix: str) -> None:
    api.sts(400, Code=code, Message="m", RequestId="1")
    project.local(api.port)
    finding = project.examine()["identity"]
    assert finding.level == "error"
    assert code in finding.text
    assert fix in finding.fix


def test_plain_keys_in_the_file_of_a_real_stack_are_an_error(project: Project) -> None:
    project.stack(alicloud__accessKey=KEY_ID, alicloud__secretKey=SECRET)
    (finding,) = [
        each
        for each in machine_checks.stack_file_findings(stack_config.load("mine", project.root))
        if each.level == "error"
    ]
    assert "in plain text" in finding.text
    assert "--secret" in finding.fix
    assert KEY_ID not in f"{finding}"


def test_encrypted_keys_are_read_by_the_cli_or_not_at_all(
    project: Project, api: Refusing, cli: Callable[..., None]
) -> None:
    project.local(api.port, alicloud__accessKey={"secure": "v1:x"}, alicloud__secretKey={"secure": "v1:y"})
    finding = project.examine()["credentials"]
    assert (finding.level, "cannot be read" in finding.text) == ("skipped", True)
    shown = {"alicloud:accessKey": {"value": KEY_ID}, "alicloud:secretKey": {"value": SECRET}}
    cli(config=json.dumps(shown))
    assert project.examine()["credentials"].text == "from the stack config (Pulumi.mine.yaml) (an access key)"


NO_KEYS = {"alicloud__accessKey": None, "alicloud__secretKey": None}


def test_where_credentials_come_from_is_said(project: Project, api: Refusing, monkeypatch: pytest.MonkeyPatch) -> None:
    project.local(api.port, **NO_KEYS)
    for name, value in (("environment_access_key_id", KEY_ID), ("environment_access_key_secret", SECRET)):
        monkeypatch.setattr(auth_util, name, value)  # the SDK reads the environment when it is imported
    assert project.examine()["credentials"].text == "from the standard chain: env (an access key)"
    monkeypatch.setenv("ALICLOUD_ACCESS_KEY", KEY_ID)
    monkeypatch.setenv("ALICLOUD_SECRET_KEY", SECRET)
    monkeypatch.setenv("ALICLOUD_SECURITY_TOKEN", "token")
    assert project.examine()["credentials"].text == "from ALICLOUD_ACCESS_KEY (temporary)"


def test_missing_credentials_say_where_to_put_them(
    project: Project, api: Refusing, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.local(api.port, alicloud__profile="nobody", **NO_KEYS)
    finding = project.examine()["credentials"]
    assert finding.level == "error"
    for way in ("alicloud:accessKey", "ALIBABA_CLOUD_ACCESS_KEY_ID", "alicloud:profile"):
        assert way in finding.fix


# ---- the cloud -----------------------------------------------------------------------------------------------------


def test_the_root_account_is_warned_of_on_the_real_cloud(
    project: Project, api: Refusing, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.sts(200, Arn="acs:ram::1:root", IdentityType="Account", AccountId="1")
    project.local(api.port)
    assert project.examine()["identity"].level == "ok"
    monkeypatch.setattr(stack_config.StackConfig, "is_local", False)  # the same APIs, taken for the real ones
    api.answers["health"] = api.answers["oss"]
    finding = next(
        each for each in cloud_checks.access_findings(stack_config.load("mine", project.root), project.root) if each.fix
    )
    assert (finding.subject, finding.level) == ("identity", "warning")
    assert "--ram-policy" in finding.fix


def test_rights_that_are_missing_are_named_with_the_policy_that_has_them(project: Project, api: Refusing) -> None:
    api.answers["eas"] = (403, "application/json", {"Code": "NoPermission", "Message": "no", "RequestId": "1"})
    api.oss(403, oss_error("AccessDenied"))
    project.local(api.port)
    found = project.examine()
    assert "eas:ListServices" in found["rights on EAS"].text
    assert "AccessDenied" in found["rights on OSS"].text
    assert "taken by another account" in found["rights on OSS"].fix
    for subject in ("rights on EAS", "rights on OSS"):
        assert "python -m ops doctor --stack mine --ram-policy" in found[subject].fix


def test_an_existing_bucket_has_to_exist_and_to_be_in_the_region(project: Project, api: Refusing) -> None:
    project.local(api.port, tf_serving__bucket={"name": "models", "existing": True})
    assert project.examine()["rights on OSS"].text == "may read bucket models"
    api.oss(200, bucket_info("oss-cn-beijing"))
    assert project.examine()["rights on OSS"].text == "bucket models is in cn-beijing, not in cn-hangzhou"
    api.oss(404, oss_error("NoSuchBucket"))
    finding = project.examine()["rights on OSS"]
    assert (finding.level, finding.text) == ("error", "bucket models does not exist")


MOUNTED = {
    "tf_serving__models": {
        "shoes": {"source": "oss://training-bucket/exports/shoes"},
        "caps": {"path": "/mnt/team-y/caps/", "versions": {"from": "bucket"}},
        "hats": {"path": "/nfs/hats", "versions": [1]},
    },
    "tf_serving__serviceDefaults": {
        "extraConfig": {"storage": [{"mount_path": "/mnt/team-y/", "oss": {"path": "oss://team-y-bucket/exports/"}}]},
        "alerts": {"errorRate": True},
    },
    "tf_serving__services": {"web": {"configFile": True}, "pods": {"target": "ack"}},
}


def test_rights_where_models_are_read_beside_the_bucket_are_tried_and_in_the_policy(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report.kubernetes_checks, "findings", lambda *_, **__: iter(()))
    with running_cloud(tmp_path / "cloud") as cloud:
        client = cloud.client()
        client.put_bucket(oss.PutBucketRequest(bucket="team-y-bucket"))
        project.local(cloud.port, **MOUNTED)
        found = project.examine()
        training, caps = (
            f"rights on oss://{each}/" for each in ("training-bucket/exports/shoes", "team-y-bucket/exports/caps")
        )
        assert (found[training].level, found[training].text) == ("error", "bucket training-bucket does not exist")
        assert (found[caps].level, found[caps].text) == ("warning", "nothing is there")
        client.put_object(oss.PutObjectRequest("team-y-bucket", "exports/caps/1/saved_model.pb", body=b"x"))
        assert project.examine()[caps].text == "may be listed and read"
        project.examine()
    needs = stack_config.load("mine", project.root).needs
    assert needs.sources == ["team-y-bucket/exports/caps/", "training-bucket/exports/shoes/"]
    assert needs.has_alarms, "a default of the services counts"
    statements = ram_policy.policy(needs)["Statement"]
    for action, resource in (
        ("oss:GetObject", "acs:oss:*:*:team-y-bucket/exports/caps/*"),
        ("oss:ListObjects", "acs:oss:*:*:team-y-bucket"),
    ):
        assert any(each["Action"] == [action] and each["Resource"] == [resource] for each in statements)


def test_a_place_that_may_not_be_read_is_named_with_the_policy(project: Project, api: Refusing) -> None:
    api.oss(403, oss_error("AccessDenied"))
    del (models := dict(MOUNTED["tf_serving__models"]))["shoes"]
    project.local(api.port, **{**MOUNTED, "tf_serving__models": models, "tf_serving__services": {"web": {}}})
    finding = project.examine()["rights on oss://team-y-bucket/exports/caps/"]
    assert finding.level == "error"
    assert "AccessDenied" in finding.text
    assert "--ram-policy" in finding.fix


@pytest.mark.parametrize(("said", "root"), [(None, "models/tf_serving/"), ("", ""), ("/", ""), ("a/b", "a/b/")])
def test_the_model_root_is_that_of_the_stack_also_where_it_is_the_bucket_itself(
    project: Project, said: str | None, root: str
) -> None:
    project.stack(tf_serving__modelRoot=said)
    assert stack_config.load("mine", project.root).needs.model_root == root


def test_a_clock_that_is_off_is_said_before_signatures_are_refused(project: Project, api: Refusing) -> None:
    api.date = "Mon, 01 Jan 2024 00:00:00 GMT"
    project.local(api.port)
    finding = project.examine()["sandbox cloud"]
    assert finding.level == "error"
    assert "minutes off" in finding.text
    assert "NTP" in finding.fix


def test_internal_endpoints_are_known_to_need_the_vpc(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.stack(tf_serving__endpoints={"oss": "oss-cn-hangzhou-internal.aliyuncs.com"})
    stack = stack_config.load("mine", project.root)
    assert stack.host("oss") == "oss-cn-hangzhou-internal.aliyuncs.com"
    assert stack.host("eas") == "pai-eas.cn-hangzhou.aliyuncs.com"
    assert "VPC" in cloud_checks.way_to(stack, stack.host("oss"))
    assert "HTTPS_PROXY" in cloud_checks.way_to(stack, stack.host("eas"))


def test_without_a_region_nothing_in_the_cloud_is_tried(project: Project) -> None:
    project.stack(alicloud__region=None)
    found = project.examine()
    assert found["region"].level == "error"
    assert "pulumi config set -s mine alicloud:region" in found["region"].fix
    assert "credentials" not in found
    assert not [subject for subject in found if subject.startswith("endpoint")]


# ---- this machine --------------------------------------------------------------------------------------------------


def machine(project: Project) -> dict[str, Finding]:
    """What is found without the cloud."""
    project.stack(alicloud__region=None)
    return project.examine()


def test_a_real_stack_needs_the_cli(project: Project) -> None:
    found = machine(project)
    assert (found["Pulumi CLI"].level, found["Pulumi CLI"].text) == ("error", "not on PATH")
    assert SDK in found["Pulumi CLI"].fix
    assert found["state"].level == "skipped"


def test_cli_plugin_and_state_that_are_well(project: Project, cli: Callable[..., None]) -> None:
    cli()
    found = machine(project)
    assert found["Pulumi CLI"] == Finding("ok", "Pulumi CLI", SDK)
    assert found["plugin alicloud"] == Finding("ok", "plugin alicloud", ALICLOUD)
    assert found["state"] == Finding("ok", "state", "s3://bucket as me")  # neither keys nor query
    assert "stack" not in found


@pytest.mark.parametrize(
    ("version", "level"), [("3.226.9", "error"), ("3.227.0", "warning"), (SDK, "ok"), ("4.0.0", "ok"), ("odd", "error")]
)
def test_the_version_of_the_cli_is_judged(project: Project, cli: Callable[..., None], version: str, level: str) -> None:
    cli(version)
    assert machine(project)["Pulumi CLI"].level == level


def test_what_the_cli_lacks_is_told_with_the_command_that_adds_it(project: Project, cli: Callable[..., None]) -> None:
    cli(plugin="[]", stack="[]", whoami="")
    found = machine(project)
    assert found["plugin alicloud"].fix == f"pulumi plugin install resource alicloud v{ALICLOUD}"
    assert found["state"].level == "error"
    assert "pulumi login" in found["state"].fix
    cli(stack="[]")
    assert machine(project)["stack"].fix == "pulumi stack init mine"
    cli(plugin="not json", stack="{}")
    found = machine(project)
    assert found["plugin alicloud"].level == "warning"
    assert found["stack"].level == "warning"


def test_a_passphrase_that_is_needed_is_asked_for(
    project: Project, cli: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    cli()
    project.stack(alicloud__region=None)
    file = project.root / "stacks" / "Pulumi.mine.yaml"
    file.write_text(f"encryptionsalt: v1:x\n{file.read_text()}")
    assert "PULUMI_CONFIG_PASSPHRASE_FILE" in project.examine()["stack secrets"].fix
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "x")
    assert "stack secrets" not in project.examine()


def test_packages_that_are_not_as_pinned_are_named(project: Project) -> None:
    (project.root / "requirements.txt").unlink()
    (project.root / "requirements.txt").write_text("# pins\npulumi==1.0.0\nno-such-package==2.0  # comment\n")
    finding = machine(project)["packages"]
    assert f"pulumi is {SDK}, pinned is 1.0.0" in finding.text
    assert "no-such-package is not installed" in finding.text
    assert "pip install -r requirements.txt" in finding.fix


def test_a_python_that_is_too_old_is_told(project: Project) -> None:
    (project.root / "pyproject.toml").unlink()
    (project.root / "pyproject.toml").write_text('[project]\nrequires-python = ">=3.98,<3.99"\n')
    finding = machine(project)["Python"]
    assert (finding.level, ">=3.98,<3.99" in finding.text) == ("error", True)


def test_our_own_plugin_is_started_to_see_whether_it_does(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.stack()
    assert list(machine_checks.own_plugin_findings(project.root)) == [Finding("ok", "plugin tfserving", "starts")]
    (tmp_path / "plugin").unlink()
    launcher = tmp_path / "plugin" / "pulumi-resource-tfserving"
    launcher.parent.mkdir()
    (finding,) = machine_checks.own_plugin_findings(project.root)
    assert "No such file" in finding.text
    launcher.write_text("#!/bin/sh\necho 'no module named x' >&2\n")
    launcher.chmod(0o755)
    (finding,) = machine_checks.own_plugin_findings(project.root)
    assert finding.text == "does not start: no module named x"
    assert finding.fix
    (tmp_path / "Pulumi.yaml").write_text("name: tf-serving\n")
    assert [each.level for each in machine_checks.own_plugin_findings(project.root)] == ["error"]


@pytest.mark.parametrize("text", ["config: [", "\ttab: 1", "config: 5", "config: {5: x}"])
def test_a_broken_stack_file_is_no_traceback(project: Project, text: str) -> None:
    (project.root / "stacks" / "Pulumi.mine.yaml").write_text(text)
    with pytest.raises(DoctorError, match="cannot be read"):
        stack_config.load("mine", project.root)


@pytest.mark.parametrize("text", ["", "- list", "config: {tf-serving:services: [1], bucket: []}"])
def test_a_stack_file_with_the_wrong_shape_is_taken_for_an_empty_one(project: Project, text: str) -> None:
    (project.root / "stacks" / "Pulumi.mine.yaml").write_text(text)
    stack = stack_config.load("mine", project.root)
    assert stack.region == ""
    assert stack.needs.services == {}


# ---- the RAM policy ------------------------------------------------------------------------------------------------


def actions(policy: dict[str, Any], product: str) -> set[str]:
    found = {action for statement in policy["Statement"] for action in statement["Action"]}
    return {action.partition(":")[2] for action in found if action.startswith(f"{product}:")}


@pytest.fixture
def needs(project: Project) -> ram_policy.Needs:
    project.stack(tf_serving__bucket={"name": "models", "forceDestroy": True})
    return stack_config.load("mine", project.root).needs


def test_the_policy_has_every_call_the_provider_makes_to_eas_and_no_other(needs: ram_policy.Needs) -> None:
    called = {
        file: set(
            re.findall(
                r'(?:_call\(\s*|_or_none\(\s*|action, method = \(|exists else \()"([A-Z]\w+)"',
                (ROOT / "provider" / file).read_text("utf-8"),
            )
        )
        for file in ("clients.py", "group_calls.py")
    }
    assert len(called["clients.py"]) > 10
    assert len(called["group_calls.py"]) > 5
    assert actions(ram_policy.policy(needs), "eas") == called["clients.py"]
    shared = dataclasses.replace(needs, shares_traffic=True)
    assert actions(ram_policy.policy(shared), "eas") == called["clients.py"] | called["group_calls.py"]
    assert actions(ram_policy.policy(needs), "cms") == set()
    assert "PutResourceMetricRule" in actions(ram_policy.policy(dataclasses.replace(needs, has_alarms=True)), "cms")


def test_the_policy_has_every_call_the_provider_makes_to_oss(needs: ram_policy.Needs) -> None:
    rights = {
        "AbortMultipartUpload": {"AbortMultipartUpload"},
        "CompleteMultipartUpload": {"PutObject"},
        "CopyObject": {"GetObject", "PutObject"},
        "DeleteMultipleObjects": {"DeleteObject"},
        "GetObject": {"GetObject"},
        "HeadObject": {"GetObject"},
        "InitiateMultipartUpload": {"PutObject"},
        "ListMultipartUploads": {"ListMultipartUploads"},
        "ListObjectsV2": {"ListObjects"},
        "ListParts": {"ListParts"},
        "PutObject": {"PutObject"},
        "UploadPart": {"PutObject"},
        "UploadPartCopy": {"GetObject", "PutObject"},
    }
    source = (ROOT / "provider" / "oss.py").read_text(encoding="utf-8")
    called = set(re.findall(r"sdk\.(\w+)Request\(", source))
    assert called == set(rights)
    assert set().union(*rights.values()) <= actions(ram_policy.policy(needs), "oss")


def test_services_on_kubernetes_are_none_of_eas_and_need_the_plugin(project: Project, cli: Callable[..., None]) -> None:
    project.stack(tf_serving__services={"vision": {"target": "ack"}}, tf_serving__kubernetes={"clusterId": "c1"})
    policy = ram_policy.policy(stack_config.load("mine", project.root).needs)
    assert actions(policy, "eas") == set()
    cli()
    findings = {
        each.subject: each
        for each in machine_checks.pulumi_findings(stack_config.load("mine", project.root), project.root)
    }
    assert findings["plugin alicloud"].level == "ok"
    assert "pulumi plugin install resource kubernetes v" in findings["plugin kubernetes"].fix


def test_a_place_that_models_are_copied_from_may_be_read_and_no_more(project: Project) -> None:
    models = {"modelA": {}, "modelB": {"source": "oss://training/exports/modelB"}, "modelC": {"source": "exports/c"}}
    project.stack(tf_serving__models=models)
    policy = ram_policy.policy(stack_config.load("mine", project.root).needs)
    found = [
        (action, resource)
        for statement in policy["Statement"]
        for action in statement["Action"]
        for resource in statement["Resource"]
        if "training" in resource
    ]
    assert found == [
        ("oss:GetObject", "acs:oss:*:*:training/exports/modelB/*"),
        ("oss:ListObjects", "acs:oss:*:*:training"),
    ]


def test_the_policy_names_this_stacks_services_bucket_and_prefix_only(needs: ram_policy.Needs) -> None:
    policy = ram_policy.policy(needs)
    for statement in policy["Statement"]:
        assert statement["Effect"] == "Allow"
        assert "*" not in statement["Resource"]
        for action in statement["Action"]:
            assert action.partition(":")[2] not in ("*", "Get*", "Put*")
    (services,) = [each["Resource"] for each in policy["Statement"] if "eas:DeleteService" in each["Action"]]
    assert services == [
        "acs:eas:cn-hangzhou:*:service/multi_gpu",
        "acs:eas:cn-hangzhou:*:service/multi_http",
        "acs:eas:cn-hangzhou:*:resource/eas-r-x/service/multi_gpu",
    ]
    (objects,) = [each["Resource"] for each in policy["Statement"] if "oss:ListParts" in each["Action"]]
    assert objects == ["acs:oss:*:*:models/models/tf_serving/*"]


def test_a_stack_with_somebody_elses_bucket_may_neither_make_nor_delete_it(project: Project) -> None:
    project.stack(tf_serving__bucket={"name": "models", "existing": True}, tf_serving__modelRoot="/")
    needs = stack_config.load("mine", project.root).needs
    assert needs.model_root == ""
    allowed = actions(ram_policy.policy(needs), "oss")
    assert not {action for action in allowed if re.match(r"(Put|Delete)Bucket|ListBuckets|DeleteObjectVersion", action)}
    project.stack(tf_serving__bucket="models")
    allowed = actions(ram_policy.policy(stack_config.load("mine", project.root).needs), "oss")
    # What the stack published is removed with its bucket, every version of it.
    assert {"PutBucket", "DeleteBucket", "DeleteObjectVersion"} <= allowed


def test_an_address_is_shown_without_user_password_and_query() -> None:
    shown = machine_checks.without_userinfo("https://me:hush@state.example/path?key=hush")
    assert shown == "https://state.example/path"
    assert urlsplit(shown).username is None
    assert machine_checks.without_userinfo("file:///home/me") == "file:///home/me"
