"""Project and stack files: read as the CLI reads them, and everything real refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.engine import config, properties, secrets
from sandbox.engine.state import Snapshot
from tfserving.errors import ConfigError
from tfserving.property_values import UNKNOWN_TEXT

SALT = secrets.new_salt(secrets.SANDBOX_PASSPHRASE)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "stacks").mkdir()
    (tmp_path / "Pulumi.yaml").write_text("name: shop\nruntime: python\nstackConfigDir: stacks\n")
    return tmp_path


def load(root: Path, stack: str = "", project: str = "") -> config.Stack:
    (root / "stacks" / "Pulumi.dev.yaml").write_text(stack)
    if project:
        (root / "Pulumi.yaml").write_text(f"name: shop\nruntime: python\nstackConfigDir: stacks\n{project}")
    return config.load(root, "dev")


def problems(root: Path, stack: str = "", project: str = "") -> str:
    with pytest.raises(ConfigError) as caught:
        load(root, stack, project)
    return str(caught.value)


def test_values_become_the_text_programs_get(root: Path) -> None:
    stack = load(
        root,
        """
config:
  shop:count: 3
  size: 1.5
  shop:on: true
  shop:deep: {b: {1: x}, a: [1, true, null]}
  shop:floats: {a: 8.0, b: [1e-7, -0.0]}
  shop:text: "007"
  other:config:key: old form
  shop:day: 2030-01-01
  shop:time: 12:30
  shop:word: yes
""",
    )
    assert stack.config == {
        "shop:count": "3", "shop:size": "1.5", "shop:on": "true",
        "shop:deep": '{"a":[1,true,null],"b":{"1":"x"}}', "shop:floats": '{"a":8,"b":[1e-7,0]}',
        "shop:text": "007", "other:key": "old form",
        "shop:day": "2030-01-01 00:00:00 +0000 UTC", "shop:time": "12:30", "shop:word": "yes",
    }  # fmt: skip
    assert stack.secret_keys == set()


def test_secure_values_are_decrypted_at_any_depth(root: Path) -> None:
    hidden = secrets.crypter(SALT).encrypt("hush")
    stack = load(
        root,
        f"encryptionsalt: {SALT}\nconfig:\n  a: {{secure: {hidden}}}\n  b: {{c: [{{secure: {hidden}}}]}}\n  d: x\n",
    )
    assert stack.config == {"shop:a": "hush", "shop:b": '{"c":["hush"]}', "shop:d": "x"}
    assert stack.secret_keys == {"shop:a", "shop:b"}


def test_a_secure_value_needs_a_salt(root: Path) -> None:
    assert "no encryptionsalt" in problems(root, "config:\n  a: {secure: v1:x:y}\n")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("secretsprovider: awskms://alias/x?region=us-east-1", "secretsprovider: names 'awskms://alias/x'"),
        ("secretsprovider: 5", "secretsprovider: names '5'"),
        ("encryptedkey: AQICAHg=", "encryptedkey: holds the key of a cloud's key service"),
        ("encryptionsalt: 5", "encryptionsalt: is no salt"),
        ("encryptionsalt: v1:abc", "encryptionsalt: is no salt"),
        ("encryptionsalt: [1]", "encryptionsalt: is no salt"),
        ("environment: [prod]", "environment: names environments of Pulumi ESC"),
    ],
)
def test_keys_beside_config_that_cannot_be_honoured_are_refused_by_name(root: Path, line: str, words: str) -> None:
    text = problems(root, f"{line}\nconfig: {{a: x, b: {{secure: 'v1:x:y'}}}}\n")
    assert words in text
    assert "Fix: " in text


@pytest.mark.parametrize(
    "lines",
    ["environment:", "encryptionsalt:", "secretsprovider: passphrase", "secretsprovider: default", "config:", "x: 1"],
)
def test_keys_beside_config_that_mean_nothing_here_are_fine(root: Path, lines: str) -> None:
    assert load(root, f"{lines}\n").config == {}


def test_a_stack_file_of_the_cli_without_a_secret_needs_no_passphrase(root: Path) -> None:
    salt = secrets.new_salt("of somebody else")
    stack = load(root, f"encryptionsalt: {salt}\nconfig: {{a: x}}\n")
    assert stack.config == {"shop:a": "x"}
    stack.state_file.parent.mkdir(parents=True)
    for value in ("first", "second"):
        snapshot = Snapshot(stack.state_file, stack.salt)
        snapshot.put({"urn": "urn:1", "outputs": {"token": properties.secret(value)}}, *snapshot.left)
        (kept,) = Snapshot(stack.state_file, stack.salt).resources
        assert kept["outputs"]["token"] == properties.secret(value)
        assert value not in stack.state_file.read_text()


@pytest.mark.parametrize("text", ["config: []", "config: 5", "config: ''", "config: {5: x}", "1: x", "[]", "5"])
def test_what_is_no_stack_file_is_refused_in_words(root: Path, text: str) -> None:
    assert "Pulumi.dev.yaml: " in problems(root, text)


def test_of_several_documents_the_first_is_read(root: Path) -> None:
    assert load(root, "config: {a: x}\n---\nconfig: {a: y}\n").config == {"shop:a": "x"}


def test_defaults_of_the_project_fill_in(root: Path) -> None:
    project = """
config:
  count: {type: integer, default: 3}
  plain: text
  list: {type: array, items: {type: string}, default: [a]}
  world:region: {value: here}
  given: {type: string}
"""
    stack = load(root, "config: {given: x}", project)
    assert stack.config == {
        "shop:count": "3", "shop:plain": "text", "shop:list": '["a"]', "world:region": "here", "shop:given": "x",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("{type: string}", ["x", "3", "true"], ["[1]", "{a: 1}"]),
        ("{type: integer}", ["3", "'3'", "-1"], ["x", "1.5", "true", "[1]"]),
        ("{type: boolean}", ["true", "'false'"], ["1", "x", "[true]"]),
        ("{type: object}", ["{a: 1}", "{}"], ["x", "[1]", "3"]),
        ("{type: array, items: {type: integer}}", ["[1, 2]", "[]"], ["[x]", "x", "{a: 1}"]),
        ("{type: array, items: {type: array, items: {type: string}}}", ["[[a], []]"], ["[a]", "[[{}]]"]),
    ],
)
def test_declared_types_are_checked(root: Path, kind: str, good: list[str], bad: list[str]) -> None:
    for value in good:
        load(root, f"config: {{a: {value}}}", f"config: {{a: {kind}}}")
    for value in bad:
        assert "shop:a: must be of type" in problems(root, f"config: {{a: {value}}}", f"config: {{a: {kind}}}"), value


def test_all_problems_come_in_one_error(root: Path) -> None:
    project = "config:\n  a: {type: string}\n  b: {type: integer}\n  c: {secret: true, default: x}\n"
    text = problems(root, "config: {b: x, 'a:b:c:d': 1}", project)
    assert "stack dev: 4 problems" in text
    assert "shop:a: stack dev is missing this value" in text
    assert "shop:b: must be of type integer" in text
    assert "shop:c: must be encrypted" in text
    assert "a:b:c:d: is not a config key" in text


def test_a_key_written_twice_with_and_without_its_namespace_is_an_error(root: Path) -> None:
    text = problems(root, "config:\n  size: 1\n  shop:size: 2\n  shop:config:size: 3\n")
    assert "shop:size: is shop:size, which is written twice" in text
    assert "shop:config:size: is shop:size, which is written twice" in text


def test_a_key_written_twice_is_an_error_with_its_line(root: Path) -> None:
    text = problems(root, "config:\n  models:\n    a: 1\n    a: 2\n")
    assert 'key "a" is written twice' in text
    assert "line 4" in text


@pytest.mark.parametrize("text", ["config: [", "- 1", "config: {a: *b}"])
def test_a_broken_stack_file_is_an_error_in_words(root: Path, text: str) -> None:
    assert "Pulumi.dev.yaml" in problems(root, text)


def test_a_tag_of_one_s_own_runs_nothing(root: Path) -> None:
    assert load(root, "config: {a: !!python/object/apply:os.system [x]}").config == {"shop:a": '["x"]'}


def test_an_unknown_stack_names_the_known_ones(root: Path) -> None:
    load(root)
    with pytest.raises(ConfigError, match=r"there is no stack 'prod'. Allowed: dev"):
        config.load(root, "prod")


@pytest.mark.parametrize(
    "endpoint", ["127.0.0.1:7580", "127.3.2.1", "localhost:80", "[::1]:80", "http://127.0.0.1:80/x"]
)
def test_loopback_endpoints_are_accepted(root: Path, endpoint: str) -> None:
    load(root, f"config: {{'alicloud:region': cn-hangzhou, 'tf-serving:endpoint': '{endpoint}'}}")


@pytest.mark.parametrize(
    "endpoint",
    ["oss-cn-hangzhou.aliyuncs.com", "10.0.0.1:80", "127.0.0.1.example.com", "localhost.example.com",
     "127.0.0.1@example.com",
     "https://eas.cn-hangzhou.aliyuncs.com", "0.0.0.0:80", "127.0.0.1:80,example.com"],
)  # fmt: skip
def test_other_endpoints_are_refused_wherever_they_stand(root: Path, endpoint: str) -> None:
    local = "'tf-serving:endpoint': 127.0.0.1:7580"
    for setting in (
        f"'tf-serving:endpoint': '{endpoint}'",
        f"{local}, 'tf-serving:endpoints': {{oss: '{endpoint}'}}",
        f"{local}, 'alicloud:endpoints': '[{{\"oss\": \"{endpoint}\"}}]'",
        f"{local}, 'alicloud:logEndpoint': '{endpoint}'",
    ):
        assert "is not a loopback address" in problems(root, f"config: {{{setting}}}")


def test_a_cloud_stack_without_an_endpoint_means_the_real_cloud_and_is_refused(root: Path) -> None:
    for key in ("alicloud:region", "tf-serving:bucket"):
        assert "means the real cloud" in problems(root, f"config: {{'{key}': x}}", "")
    unset = "config:\n  tf-serving:endpoint: {type: string, default: ''}\n  tf-serving:endpoints: {default: {}}\n"
    assert "means the real cloud" in problems(root, "config: {'alicloud:region': x}", unset)


@pytest.mark.parametrize("key", ["LTAI5tAbCdEfGhIjKlMnOpQr", "STS.NUabcdefghij1234"])
def test_keys_that_look_real_are_refused_without_being_shown(root: Path, key: str) -> None:
    hidden = secrets.crypter(SALT).encrypt(key)
    for value in (key, f"{{secure: {hidden}}}", f"{{deep: [{key}]}}"):
        text = problems(
            root,
            f"encryptionsalt: {SALT}\nconfig:\n  tf-serving:endpoint: 127.0.0.1:1\n  alicloud:accessKey: {value}\n",
        )
        assert "looks like a real Alibaba Cloud access key" in text
        assert key not in text


@pytest.mark.parametrize(
    ("package", "settings", "refused"),
    [
        ("tfserving", {"easEndpoint": "127.0.0.1:1", "ossEndpoint": "127.0.0.1:1"}, False),
        ("tfserving", {"easEndpoint": "127.0.0.1:1", "ossEndpoint": ""}, True),
        ("alicloud", {"endpoints": '[{"oss":"127.0.0.1:1"}]', "accessKey": "LTAI5tAbCdEfGhIjKlMnOpQr"}, True),
        ("tfserving", {"region": "cn-hangzhou"}, True),
        ("alicloud", {"endpoints": '[{"oss":"127.0.0.1:1"}]'}, False),
        ("alicloud", {"endpoints": '[{"oss":"127.0.0.1:1","vpc":"vpc.aliyuncs.com"}]'}, True),
        ("alicloud", {"endpoints": "[]"}, True),
        ("random", {}, False),
    ],
)
def test_a_provider_that_would_leave_loopback_is_refused(package: str, settings: dict[str, str], refused: bool) -> None:
    assert bool(config.refusals(settings, f"{package}:", package in config.PACKAGES)) is refused


def test_the_kubernetes_provider_is_for_a_cluster_on_this_machine(tmp_path: Path) -> None:
    text = """\
current-context: one
contexts: [{name: one, context: {cluster: a, user: u}}]
clusters: [{name: a, cluster: {server: "https://%s:6443"}}]
"""
    file = tmp_path / "kubeconfig"
    for host, refused in (("127.0.0.1", False), ("47.110.0.1", True)):
        file.write_text(text % host)
        for given in (str(file), text % host):
            assert bool(config.cluster_refusals({"kubeconfig": given})) is refused
    assert config.cluster_refusals({"kubeconfig": UNKNOWN_TEXT}) == []  # a cluster yet to be made
    for settings in ({}, {"kubeconfig": str(tmp_path / "none")}, {"kubeconfig": str(file), "context": "two"}):
        assert config.cluster_refusals(settings)


def test_children_get_no_credentials_endpoints_or_proxies(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ALIBABA_CLOUD_ACCESS_KEY_ID", "ALICLOUD_SECRET_KEY", "ALIYUN_PROFILE", "OSS_ENDPOINT", "https_proxy",
                 "ALIBABA_CLOUD_CREDENTIALS_URI", "ALIBABACLOUD_X", "PULUMI_CONFIG_PASSPHRASE"):  # fmt: skip
        monkeypatch.setenv(name, "real")
    environment = load(root).environment
    assert "real" not in environment.values()
    assert environment["ALIBABA_CLOUD_ACCESS_KEY_ID"] == "sandbox"


def test_the_projects_virtual_environment_runs_the_program(root: Path) -> None:
    python = root / ".venv" / "bin" / "python"
    project = "config: {}\n"
    assert load(root, "", project).python != str(python)
    python.parent.mkdir(parents=True)
    python.touch()
    (root / "Pulumi.yaml").write_text(
        "name: shop\nruntime: {name: python, options: {virtualenv: .venv}}\nstackConfigDir: stacks\n"
    )
    assert load(root).python == str(python)


def test_environments_of_pulumi_esc_are_refused_by_name(root: Path) -> None:
    assert "environments of Pulumi ESC" in problems(root, "environment: [prod-secrets]\nconfig: {}\n")
