"""``python -m ops doctor``: whether this machine and these credentials can deploy a stack, and what to do where not.

Nothing is changed, and no key, token or secret is printed: every line goes through :class:`_Masked`.
"""

from __future__ import annotations

import email.utils
import json
import os
import re
import select
import shutil
import subprocess
import sys
import threading
import time
import tomllib
import urllib.error
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import yaml

from ops import doctor_kubernetes, ram_policy
from ops.engine import PROJECT_DIR, short_name
from ops.finding import Finding
from provider.clients import NO_CREDENTIALS, Clients, CloudSettings, one_line
from provider.oss import oss_error
from tfserving import stack_file
from tfserving.errors import CloudError, TFServingError
from tfserving.hosts import is_loopback_endpoint, opener

LEAST_CLI = (3, 227)
"""The first Pulumi CLI with the exit statuses that the drift check relies on (7: changes found)."""

MOST_SKEW_SECONDS = 900
"""Alibaba Cloud refuses requests that are signed with a time further off than this."""

_NAMESPACE = "tf-serving"
_SANDBOX = "the sandbox cloud of this checkout"
_KEYS = ("accessKey", "secretKey", "securityToken")
_SECONDS = 5.0
_PLUGIN_SECONDS = 30.0
_CLI_SECONDS = 60.0
_WIDTH = 20


class DoctorError(TFServingError):
    """There is nothing to examine: no such project or stack."""


@dataclass(frozen=True)
class StackConfig:
    """What the stack file says, as far as the doctor needs it. Encrypted values are not there.

    Attributes:
        name: stack name.
        file: the stack file.
        values: by full key.
        encrypted: keys with an encrypted value.
        passphrase: the stack's secrets are encrypted with a passphrase.
    """

    name: str
    file: Path
    values: Mapping[str, Any] = field(repr=False)
    encrypted: frozenset[str]
    passphrase: bool

    def text(self, key: str) -> str:
        """A value that is one word; empty where there is none."""
        value = self.values.get(key)
        return "" if value is None or isinstance(value, dict | list) else str(value).strip()

    @property
    def endpoint(self) -> str:
        """``host:port`` of a sandbox cloud; empty on Alibaba Cloud."""
        return self.text(f"{_NAMESPACE}:endpoint")

    @property
    def is_local(self) -> bool:
        """Whether everything is deployed to this machine."""
        return bool(self.endpoint) and is_loopback_endpoint(self.endpoint)

    @property
    def region(self) -> str:
        return self.text("alicloud:region")

    @property
    def protocol(self) -> str:
        return (self.text("alicloud:protocol") or "HTTPS").upper()

    def host(self, product: str) -> str:
        """``host[:port]`` of a product's API."""
        given = self.values.get(f"{_NAMESPACE}:endpoints")
        own = str(given.get(product) or "") if isinstance(given, dict) else ""
        regional = {
            "oss": f"oss-{self.region}.aliyuncs.com",
            "eas": f"pai-eas.{self.region}.aliyuncs.com",
            "sts": f"sts.{self.region}.aliyuncs.com",
        }
        return own or self.endpoint or regional[product]

    @property
    def services(self) -> dict[str, dict[str, Any]]:
        """What the stack file says of each service."""
        found = self.values.get(f"{_NAMESPACE}:services")
        described = found.items() if isinstance(found, dict) else ()
        return {str(name): entry if isinstance(entry, dict) else {} for name, entry in described}

    @property
    def ack_services(self) -> dict[str, dict[str, Any]]:
        """The services that run on Kubernetes."""
        return {name: entry for name, entry in self.services.items() if entry.get("target") == "ack"}

    @property
    def needs(self) -> ram_policy.Needs:
        """What the stack deploys."""
        bucket = self.values.get(f"{_NAMESPACE}:bucket")
        options = bucket if isinstance(bucket, dict) else {"name": bucket}
        root = (self.text(f"{_NAMESPACE}:modelRoot") or "models/tf_serving/").strip("/")
        models = self.values.get(f"{_NAMESPACE}:models")
        entries = models.values() if isinstance(models, dict) else ()
        sources = {str(entry.get("source") or "") for entry in entries if isinstance(entry, dict)}
        return ram_policy.Needs(
            region=self.region or "*",
            bucket=str(options.get("name") or ""),
            existing_bucket=options.get("existing") is True,
            model_root=f"{root}/" if root else "",
            sources=sorted(
                f"{source.removeprefix('oss://').rstrip('/')}/" for source in sources if source.startswith("oss://")
            ),
            services={
                name: str(entry.get("resource") or "")
                for name, entry in self.services.items()
                if name not in self.ack_services
            },
        )


def load(stack: str, project_dir: Path = PROJECT_DIR) -> StackConfig:
    """Reads a stack file.

    Raises:
        DoctorError: there is none, or it is no YAML.
    """
    stack = short_name(stack)
    project = _yaml(project_dir / "Pulumi.yaml")
    directory = project_dir / str(project.get("stackConfigDir") or "")
    file = directory / f"Pulumi.{stack}.yaml"
    if not file.is_file():
        known = sorted(
            path.name.removeprefix("Pulumi.").removesuffix(".yaml") for path in directory.glob("Pulumi.*.yaml")
        )
        raise DoctorError(f"there is no stack file {file}; stacks with one: {', '.join(known) or 'none'}")
    document = _yaml(file)
    config = document.get("config")
    values: dict[str, Any] = {}
    encrypted = set()
    for key, value in (config if isinstance(config, dict) else {}).items():
        full = str(key) if ":" in str(key) else f"{_NAMESPACE}:{key}"
        if isinstance(value, dict) and list(value) == ["secure"]:
            encrypted.add(full)
        else:
            values[full] = value
    return StackConfig(stack, file, values, frozenset(encrypted), bool(document.get("encryptionsalt")))


def _yaml(file: Path) -> dict[str, Any]:
    try:
        document = stack_file.load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DoctorError(f"{file} cannot be read: {one_line(error)}") from None
    return document if isinstance(document, dict) else {}


def examine(stack: StackConfig, project_dir: Path = PROJECT_DIR) -> Iterator[Finding]:
    """Every finding about a stack, in the order in which they matter. Slow ones come as they are made."""
    yield from _python(project_dir)
    yield from _pulumi(stack, project_dir)
    yield from _own_plugin(project_dir)
    yield from _state(stack, project_dir)
    yield from _stack_file(stack)
    if stack.ack_services:
        key = f"{_NAMESPACE}:kubernetes"
        kubernetes = {"kubeconfig": {"secure": ""}} if key in stack.encrypted else stack.values.get(key)
        yield from doctor_kubernetes.findings(kubernetes, stack.ack_services, project_dir, local=stack.is_local)
    if not stack.region:
        return
    reachable = True
    for product in ("sts", "oss", *(["eas"] if stack.needs.services else [])):
        finding = _endpoint(stack, product)
        reachable = reachable and finding.level != "error"
        yield finding
        if stack.is_local:
            break  # all products answer at the same address
    if not reachable:
        yield Finding("skipped", "credentials", "not tried, because an endpoint does not answer", "see above")
        return
    yield from _access(stack, project_dir)


# ---- this machine --------------------------------------------------------------------------------------------------


def _python(project_dir: Path) -> Iterator[Finding]:
    project = tomllib.loads((project_dir / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = str(project["requires-python"])
    version = ".".join(map(str, sys.version_info[:3]))
    # ">=3.11,<3.14"; both bounds are of the form major.minor.
    least, below = (tuple(map(int, bound.split("."))) for bound in re.findall(r"\d+\.\d+", wanted))
    if least <= sys.version_info[:2] < below:
        yield Finding("ok", "Python", version)
    else:
        fix = f"install a Python {wanted}, remove .venv and run `pulumi install` or `make up`"
        yield Finding("error", "Python", f"{version}, but {wanted} is needed", fix)
    wrong = []
    for line in (project_dir / "requirements.txt").read_text(encoding="utf-8").splitlines():
        name, _, pinned = line.partition("#")[0].partition(";")[0].strip().partition("==")
        if not pinned:
            continue
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            found = "not installed"
        if found != pinned:
            wrong.append(f"{name} is {found}, pinned is {pinned}")
    fix = f"{sys.executable} -m pip install -r requirements.txt"
    yield Finding("error", "packages", "; ".join(wrong), fix) if wrong else Finding("ok", "packages", "as pinned")


def _pulumi(stack: StackConfig, project_dir: Path) -> Iterator[Finding]:
    sdk = metadata.version("pulumi")
    executable = shutil.which("pulumi")
    if executable is None:
        fix = f"install Pulumi {sdk} or newer and put it on PATH"
        if stack.is_local:
            yield Finding("ok", "Pulumi CLI", "not on PATH; `make up` deploys this stack without it")
        else:
            yield Finding("error", "Pulumi CLI", "not on PATH", fix)
        return
    text = _cli("version", cwd=project_dir).strip().removeprefix("v")
    match = re.match(r"(\d+)\.(\d+)", text)
    if match is None:
        yield Finding("error", "Pulumi CLI", f"{executable} does not say its version", "install it again")
        return
    version = (int(match[1]), int(match[2]))
    if version < LEAST_CLI:
        least = ".".join(map(str, LEAST_CLI))
        yield Finding("error", "Pulumi CLI", f"{text}, older than {least}", f"install Pulumi {sdk} or newer")
    elif version < tuple(map(int, sdk.split(".")[:2])):
        fix = f"install Pulumi {sdk}, the version of the Python SDK this project is tested with"
        yield Finding("warning", "Pulumi CLI", f"{text}, older than the Python SDK ({sdk})", fix)
    else:
        yield Finding("ok", "Pulumi CLI", text)
    yield _plugin("alicloud", project_dir)
    if stack.values.get(f"{_NAMESPACE}:kubernetes") is not None:
        yield _plugin("kubernetes", project_dir)


def _plugin(name: str, project_dir: Path) -> Finding:
    subject, wanted = f"plugin {name}", metadata.version(f"pulumi-{name}")
    fix = f"pulumi plugin install resource {name} v{wanted}"
    try:
        plugins = json.loads(_cli("plugin", "ls", "--json", cwd=project_dir) or "[]")
        found = {str(each.get("version", "")) for each in plugins if each.get("name") == name}
    except (ValueError, AttributeError, TypeError):
        return Finding("warning", subject, "`pulumi plugin ls --json` gives no list", fix)
    if wanted in found:
        return Finding("ok", subject, wanted)
    return Finding(
        "warning", subject, f"{wanted} is not installed; the first run downloads it, where that is allowed", fix
    )


def _own_plugin(project_dir: Path) -> Iterator[Finding]:
    """Starts the provider as the engine does: it prints the port it listens on."""
    subject = "plugin tfserving"
    declared = (_yaml(project_dir / "Pulumi.yaml").get("plugins") or {}).get("providers") or []
    path = next((each.get("path") for each in declared if each.get("name") == "tfserving"), None)
    if path is None:
        fix = "restore plugins.providers of Pulumi.yaml from version control"
        yield Finding("error", subject, "Pulumi.yaml does not name it", fix)
        return
    launcher = project_dir / str(path) / "pulumi-resource-tfserving"
    fix = "run `pulumi install` or `make up`; then it starts with " + os.path.relpath(launcher, project_dir)
    try:
        process = subprocess.Popen([launcher], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    except OSError as error:
        yield Finding("error", subject, f"{launcher}: {error.strerror}", fix)
        return
    try:
        assert process.stdout is not None  # noqa: S101
        ready, _, _ = select.select([process.stdout], [], [], _PLUGIN_SECONDS)
        port = process.stdout.readline().strip() if ready else ""
    finally:
        process.kill()
        _, said = process.communicate()
    if port.isdigit():
        yield Finding("ok", subject, "starts")
    else:
        yield Finding("error", subject, f"does not start: {one_line(said) or 'no word of it'}", fix)


def _state(stack: StackConfig, project_dir: Path) -> Iterator[Finding]:
    if shutil.which("pulumi") is None:
        if stack.is_local:
            directory = project_dir / ".sandbox"
            writable = os.access(directory if directory.exists() else project_dir, os.W_OK)
            text = f"sandbox engine, {directory / 'state'}"
            fix = f"make {directory} writable, or remove it"
            yield Finding("ok", "state", text) if writable else Finding("error", "state", f"{text}: not writable", fix)
        else:
            yield Finding("skipped", "state", "needs the Pulumi CLI", "see above")
        return
    try:
        whoami = json.loads(_cli("whoami", "--json", "--non-interactive", cwd=project_dir))
        url, user = _without_userinfo(str(whoami["url"])), str(whoami.get("user") or "")
    except (ValueError, KeyError, TypeError):
        fix = "pulumi login (docs: Pulumi Cloud, an s3:// URL for OSS, or file://), or set PULUMI_BACKEND_URL"
        yield Finding("error", "state", "not logged in to a state backend", fix)
        return
    yield Finding("ok", "state", f"{url}" + (f" as {user}" if user else ""))
    try:
        names = {
            str(each["name"]).rpartition("/")[2] for each in json.loads(_cli("stack", "ls", "--json", cwd=project_dir))
        }
    except (ValueError, KeyError, TypeError):
        names = set()
    if stack.name not in names:
        fix = f"pulumi stack init {stack.name}"
        yield Finding("warning", "stack", f"{stack.name} is not in that backend yet", fix)
    if stack.passphrase and not {"PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"} & set(os.environ):
        fix = "set PULUMI_CONFIG_PASSPHRASE_FILE to a file that holds it"
        if stack.is_local:
            fix = "use the export lines of `make cloud`"
        yield Finding("error", "stack secrets", "are encrypted with a passphrase, and none is set", fix)


def _stack_file(stack: StackConfig) -> Iterator[Finding]:
    if stack.region:
        yield Finding("ok", "region", f"{stack.region} ({stack.file.name})")
    else:
        fix = f"pulumi config set -s {stack.name} alicloud:region cn-hangzhou"
        yield Finding("error", "region", f"{stack.file.name} sets no alicloud:region", fix)
    plain = [key for key in _KEYS if stack.text(f"alicloud:{key}")]
    if plain and not stack.is_local:
        fix = f"pulumi config set -s {stack.name} --secret alicloud:{plain[0]}, and have the key replaced"
        yield Finding("error", "stack file", f"alicloud:{plain[0]} is there in plain text", fix)


# ---- the cloud -----------------------------------------------------------------------------------------------------


def _endpoint(stack: StackConfig, product: str) -> Finding:
    """Whether a product's API answers, whatever it says."""
    host = stack.host(product)
    scheme = "http" if stack.protocol == "HTTP" else "https"
    subject = "sandbox cloud" if stack.is_local else f"endpoint {product}"
    path = "/-/health" if stack.is_local else "/"
    url = f"{scheme}://{host}{path}"
    started = time.monotonic()
    try:
        with opener(url).open(url, timeout=_SECONDS) as answer:
            date = answer.headers.get("Date", "")
    except urllib.error.HTTPError as error:
        date = error.headers.get("Date", "")
        error.close()
    except (OSError, ValueError) as error:
        return Finding("error", subject, f"{host}: {one_line(getattr(error, 'reason', error))}", _way_to(stack, host))
    milliseconds = (time.monotonic() - started) * 1000
    skew = _skew(date)
    if skew > MOST_SKEW_SECONDS:
        text = f"{host} answers, but the clock of this machine is {skew / 60:.0f} minutes off"
        return Finding("error", subject, text, "set the clock (NTP): signatures are refused beyond 15 minutes")
    return Finding("ok", subject, f"{host} answers ({milliseconds:.0f} ms)")


def _way_to(stack: StackConfig, host: str) -> str:
    if stack.is_local:
        return "start it with `make up` or `make cloud`"
    if "-internal." in host or "-vpc." in host:
        return "this endpoint is for machines in that region's VPCs; take tf-serving:endpoints out of the stack file"
    return f"is alicloud:region right? Else let this machine reach {host}, port 443 (firewall, DNS, HTTPS_PROXY)"


def _skew(date: str) -> float:
    """Seconds between this machine's clock and a Date header; 0 without one."""
    try:
        return abs(email.utils.parsedate_to_datetime(date).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0.0


class EncryptedError(DoctorError):
    """The credentials of a stack are encrypted and cannot be read here."""

    fix = "install the Pulumi CLI, log in, and set the passphrase if the stack has one"


def clients_of(stack: StackConfig, project_dir: Path = PROJECT_DIR) -> Clients:
    """The clients of a stack's cloud, with its credentials.

    Raises:
        EncryptedError: they are encrypted and the Pulumi CLI does not read them.
    """
    keys = {key: stack.text(f"alicloud:{key}") for key in _KEYS}
    if any(f"alicloud:{key}" in stack.encrypted for key in _KEYS):
        try:
            shown = json.loads(_cli("config", "--json", "--show-secrets", "--stack", stack.name, cwd=project_dir))
            keys |= {key: str((shown.get(f"alicloud:{key}") or {}).get("value") or "") for key in _KEYS}
        except (ValueError, AttributeError):
            message = (
                f"the credentials in {stack.file.name} are encrypted and cannot be read. Fix: {EncryptedError.fix}"
            )
            raise EncryptedError(message) from None
    if stack.is_local and not keys["accessKey"] and not stack.text("alicloud:profile"):
        keys |= _sandbox_key(project_dir)
    return Clients(
        CloudSettings(
            region=stack.region,
            eas_endpoint=stack.host("eas"),
            oss_endpoint=stack.host("oss"),
            protocol=stack.protocol,
            access_key=keys["accessKey"],
            secret_key=keys["secretKey"],
            security_token=keys["securityToken"],
            profile=stack.text("alicloud:profile"),
        ),
        threading.Event(),
    )


def _access(stack: StackConfig, project_dir: Path) -> Iterator[Finding]:
    """Whose credentials these are, and what they may do."""
    try:
        clients = clients_of(stack, project_dir)
    except EncryptedError as error:
        yield Finding("skipped", "credentials", f"are encrypted in {stack.file.name} and cannot be read", error.fix)
        return
    try:
        found = clients.credentials.get_credential()
        if not found.access_key_id:
            raise ValueError("no access key")
    except Exception:  # of the SDK, of the files and of the services it looks at
        yield Finding("error", "credentials", "none were found", NO_CREDENTIALS.partition(": ")[2])
        return
    kind = "temporary" if found.security_token else "an access key"
    of_sandbox = stack.is_local and clients.settings.access_key == _sandbox_key(project_dir).get("accessKey")
    source = _SANDBOX if of_sandbox else _source(stack, clients.settings.access_key, str(found.provider_name or ""))
    masked = _Masked((found.access_key_id, found.access_key_secret, found.security_token))
    for finding in (
        Finding("ok", "credentials", f"from {source} ({kind})"),
        *_identity(stack, clients),
        *_permissions(stack, clients),
    ):
        yield masked(finding)


def _sandbox_key(project_dir: Path) -> dict[str, str]:
    """The access key that the sandbox cloud of a checkout has made for itself; empty where there is none."""
    try:
        found = json.loads((project_dir / ".sandbox" / "access-key.json").read_text(encoding="utf-8"))
        return {"accessKey": str(found["id"]), "secretKey": str(found["secret"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _source(stack: StackConfig, access_key: str, chain: str) -> str:
    if access_key:
        return f"the stack config ({stack.file.name})"
    profile = stack.text("alicloud:profile")
    if profile:
        return f"profile {profile} of ~/.aliyun/config.json"
    if os.environ.get("ALICLOUD_ACCESS_KEY"):
        return "ALICLOUD_ACCESS_KEY"
    return f"the standard chain: {chain.removeprefix('default/') or 'unknown'}"


_IDENTITY_FIXES = (
    ("InvalidAccessKeyId", "the access key does not exist or is disabled: make a new one in the RAM console"),
    ("SignatureDoesNotMatch", "the secret does not belong to the access key: set both again"),
    ("SecurityToken", "the temporary credentials are over or incomplete: get new ones"),
)


def _identity(stack: StackConfig, clients: Clients) -> Iterator[Finding]:
    """Who calls. STS needs no right for it."""
    from alibabacloud_tea_openapi.client import Client
    from alibabacloud_tea_openapi.models import Config, OpenApiRequest, Params
    from alibabacloud_tea_util.models import RuntimeOptions

    config = Config(
        credential=clients.credentials,
        region_id=stack.region,
        endpoint=stack.host("sts"),
        protocol=stack.protocol,
        connect_timeout=int(_SECONDS * 1000),
        read_timeout=int(_SECONDS * 1000),
    )
    params = Params(
        action="GetCallerIdentity",
        version="2015-04-01",
        protocol=stack.protocol,
        pathname="/",
        method="POST",
        auth_type="AK",
        style="RPC",
        req_body_type="formData",
        body_type="json",
    )
    try:
        body = Client(config).call_api(params, OpenApiRequest(), RuntimeOptions())["body"]
    except Exception as error:  # the SDK raises its own exceptions and those of the libraries below it
        # Only the code: messages about signatures quote what was signed.
        code = str(getattr(error, "code", "") or type(error).__name__)
        fix = next(
            (text for start, text in _IDENTITY_FIXES if start in code), "run it again; if it stays, look the code up"
        )
        yield Finding("error", "identity", f"STS GetCallerIdentity: {code}", fix)
        return
    arn, kind = str(body.get("Arn", "")), str(body.get("IdentityType", ""))
    text = f"{arn} ({kind}), account {body.get('AccountId', '')}"
    if kind == "Account" and not stack.is_local:
        fix = f"use a RAM user or role with the policy of `python -m ops doctor --stack {stack.name} --ram-policy`"
        yield Finding("warning", "identity", f"{text}: the root account may do everything", fix)
    else:
        yield Finding("ok", "identity", text)


def _permissions(stack: StackConfig, clients: Clients) -> Iterator[Finding]:
    """The rights that can be tried without changing anything. What writes is only listed, by ``--ram-policy``."""
    fix = f"attach the policy of `python -m ops doctor --stack {stack.name} --ram-policy`"
    needs = stack.needs
    if needs.services:
        yield _eas(stack, clients, needs, fix)
    if not needs.bucket:
        fix = f"pulumi config set -s {stack.name} {_NAMESPACE}:bucket <name>"
        yield Finding("error", "bucket", f"{stack.file.name} names none", fix)
        return
    yield _bucket(stack, clients, needs, fix)
    if not stack.is_local:
        yield Finding("skipped", "rights to write", "are not tried, as that would change something", fix)


def _eas(stack: StackConfig, clients: Clients, needs: ram_policy.Needs, fix: str) -> Finding:
    try:
        clients.eas.labelled({"pulumi-owner": f"{_NAMESPACE}/{stack.name}"})
        found = [name for name in needs.services if clients.eas.describe(name) is not None]
    except CloudError as error:
        return Finding("error", "rights on EAS", f"{error}", fix)
    return Finding("ok", "rights on EAS", f"may read; {len(found)} of {len(needs.services)} services are there")


def _bucket(stack: StackConfig, clients: Clients, needs: ram_policy.Needs, fix: str) -> Finding:
    import alibabacloud_oss_v2 as sdk

    subject = "rights on OSS"
    try:
        info = clients.oss.get_bucket_info(sdk.GetBucketInfoRequest(bucket=needs.bucket)).bucket_info
        clients.oss.list_objects_v2(sdk.ListObjectsV2Request(bucket=needs.bucket, prefix=needs.model_root, max_keys=1))
    except Exception as error:  # the SDK raises its own exceptions and those of the libraries below it
        found = oss_error(f"bucket {needs.bucket}", sdk, error)
        if found.code != "NoSuchBucket":
            if not found.code:
                fix = "run it again; if it stays, is tf-serving:endpoints right?"
            elif not needs.existing_bucket and found.code == "AccessDenied":
                fix = f"{fix}; if the name is taken by another account, choose another one"
            return Finding("error", subject, str(found), fix)
        if needs.existing_bucket:
            make = f"make it in {stack.region}, correct the name, or take `existing: true` out"
            return Finding("error", subject, f"bucket {needs.bucket} does not exist", make)
        return Finding("ok", subject, f"bucket {needs.bucket} is not there yet; `pulumi up` makes it")
    location = str(info.location or "").removeprefix("oss-")
    if location and location != stack.region:
        move = "EAS mounts buckets of its own region only: take a bucket there, or change alicloud:region"
        return Finding("error", subject, f"bucket {needs.bucket} is in {location}, not in {stack.region}", move)
    return Finding("ok", subject, f"may read bucket {needs.bucket}")


# ---- report --------------------------------------------------------------------------------------------------------


class _Masked:
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
        print(f"{finding.level:<8} {finding.subject:<{_WIDTH}} {finding.text}", flush=True)
        if finding.fix:
            print(f"{'':8} {'':<{_WIDTH}} -> {finding.fix}", flush=True)
    errors, warnings = levels.count("error"), levels.count("warning")
    print(f"\n{_count(errors, 'error')}, {_count(warnings, 'warning')}")
    return 1 if errors else 0


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _cli(*arguments: str, cwd: Path) -> str:
    """What ``pulumi`` prints; empty where it fails, hangs or is not there."""
    executable = shutil.which("pulumi")
    if executable is None:
        return ""
    environment = {**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true"}
    try:
        done = subprocess.run(
            [executable, *arguments],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_CLI_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _without_userinfo(url: str) -> str:
    """A URL without user, password and query: a backend's may hold keys."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if parts.scheme else url
