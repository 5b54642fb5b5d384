"""What a kubeconfig says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfserving.kubeconfig import KubeconfigError, api_server, is_content, located

TEXT = """\
current-context: one
contexts:
- {name: one, context: {cluster: a, user: u}}
- {name: two, context: {cluster: b, user: u}}
clusters:
- {name: a, cluster: {server: "https://127.0.0.1:6443"}}
- {name: b, cluster: {server: "https://47.110.0.1:6443"}}
"""


@pytest.mark.parametrize(
    ("given", "content"), [(TEXT, True), ('{"clusters": []}', True), ("~/.kube/config", False), ("", False)]
)
def test_a_path_is_told_from_content(given: str, content: bool) -> None:
    assert is_content(given) is content


def test_a_relative_path_is_of_the_project_and_everything_else_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert located("kube/config", Path("/project")) == "/project/kube/config"
    assert located("~/.kube/config", Path("/project")) == "/home/me/.kube/config"
    for given in ("/etc/kubeconfig", TEXT, ""):
        assert located(given, Path("/project")) == given


def test_the_api_server_is_that_of_the_context(tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(TEXT)
    for given in (TEXT, str(file)):
        assert api_server(given) == "https://127.0.0.1:6443"
        assert api_server(given, "two") == "https://47.110.0.1:6443"


@pytest.mark.parametrize(
    "text", ["clusters: []\n", "- 1\n", "a: [\n", "current-context: x\ncontexts: []\nclusters: []\n"]
)
def test_what_is_none_is_said_to_be_none(text: str, tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match="not a kubeconfig, or its current context is missing"):
        api_server(text)
    with pytest.raises(KubeconfigError, match="its context 'three' is missing"):
        api_server(TEXT, "three")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(KubeconfigError):
        api_server(str(tmp_path / "bytes"))
    with pytest.raises(FileNotFoundError):
        api_server(str(tmp_path / "none"))
