"""What an import finds in the buckets of strangers, by a real OSS API, and what a preview would say of it."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import alibabacloud_oss_v2 as oss
import pytest

from ops.doctor.stack import StackConfig
from ops.importing import checked, gather, sources
from ops.importing.target import Target
from provider.clients import Clients, CloudSettings
from tests.cloud.conftest import running_cloud
from tests.unit import flat_buffer
from tfserving import eas_spec
from tfserving.protos import tf_serving_pb2 as pb

pytestmark = pytest.mark.slow

REGION = "cn-hangzhou"
LITE = flat_buffer.model([flat_buffer.tensor("x", [1, 3])], [flat_buffer.tensor("y", [1, 3])])


def graph(*, variables: bool = False, tags: tuple[str, ...] = ("serve",)) -> bytes:
    model = pb.SavedModel()
    meta = model.meta_graphs.add()
    meta.meta_info_def.tags.extend(tags)
    meta.signature_def["serving_default"].method_name = "tensorflow/serving/predict"
    if variables:
        meta.graph_def.node.add(op="VarHandleOp")
    return model.SerializeToString()


class ListsOnly:
    """The client of somebody who may list and not read, which the sandbox has no policies for."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def get_object(self, request: Any) -> Any:
        raise oss.exceptions.OperationError(
            name="GetObject",
            error=oss.exceptions.ServiceError(
                status_code=403,
                code="AccessDenied",
                message="no right to read",
                request_id="1",
                ec="",
                timestamp=None,
                request_target="",
                snapshot=b"",
                headers={},
                error_fields={},
            ),
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


@dataclass
class Account:
    """A bucket of somebody, and an import into a stack of its own."""

    clients: Clients
    bucket: str
    directory: Path

    def put(self, files: Mapping[str, bytes], bucket: str = "") -> None:
        for key, body in files.items():
            self.clients.oss.put_object(oss.PutObjectRequest(bucket or self.bucket, key, body=body))

    def target(self) -> Target:
        stack = StackConfig("new", self.directory / "Pulumi.new.yaml", {}, frozenset(), True)
        return Target(stack, "", stack.file, "", {"alicloud:region": REGION}, {}, "tf-serving/new")

    def service(self, name: str, *flags: str, mounts: Mapping[str, str] | None = None) -> str:
        """A service JSON in a file, as a person has it; its path."""
        script = " ".join([eas_spec.ENTRYPOINT, *flags])
        where = mounts or {"/models": f"oss://{self.bucket}/serving/"}
        config = {
            "metadata": {"name": name, "instance": 1},
            "cloud": {"computing": {"instance_type": "ecs.c7.large"}},
            "containers": [{"image": "tensorflow/serving:2.14.1", "port": 8501, "script": script}],
            "storage": [{"mount_path": path, "oss": {"path": uri}} for path, uri in where.items()],
        }
        file = self.directory / f"{name}.json"
        file.write_text(json.dumps(config), encoding="utf-8")
        return str(file)

    def imported(self, *named: str) -> checked.Checked:
        found = gather.gather(sources.sort(named), self.target(), self.clients)
        return checked.check(found.draft, {})


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_cloud(tmp_path_factory.mktemp("cloud")) as cloud:
        yield f"127.0.0.1:{cloud.port}"


@pytest.fixture
def account(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Account:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    settings = CloudSettings(REGION, endpoint, endpoint, "HTTP", "sandbox", "sandbox")
    found = Account(Clients(settings, threading.Event()), f"bucket-{secrets.token_hex(6)}", tmp_path)
    found.clients.oss.put_bucket(oss.PutBucketRequest(bucket=found.bucket))
    return found


CONFIG_FLAG = "--model_config_file=/models/model_config.pbtxt"


def config_file(*models: str, base: str = "/models") -> bytes:
    entries = (
        f'config {{ name: "{each}" base_path: "{base}/{each}" model_platform: "tensorflow" }}' for each in models
    )
    return f"model_config_list {{ {' '.join(entries)} }}".encode()


def versions(found: checked.Checked) -> dict[str, Any]:
    """The versions of models that were taken over."""
    entries = found.draft.entries["tf-serving:models"]
    return {each.name: each.value["versions"] for each in entries if not each.disabled}


def reasons(found: checked.Checked, subject: str) -> list[str]:
    return [reason for about, reason in found.draft.left if about == subject]


WHOLE = {"saved_model.pb": graph()}
NOT_WHOLE = [
    ({"saved_model.pb": b""}, "empty"),
    ({"saved_model.pb": b"<html>moved</html>"}, "web page"),
    ({"saved_model.pb": b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n"}, "Git LFS"),
    ({"saved_model.pb": b"\x0a\xff\xff not a graph"}, "cannot be parsed"),
    ({"saved_model.pb": graph(variables=True)}, "no variables/variables.index"),
    ({"saved_model.pb": graph(), "variables/variables.index": b"x"}, "no variables/variables.data"),
    ({"saved_model.pb": b"../../blobs/4d7a21"}, "the path that a symbolic link leads to"),
    ({"saved_model.pb.tmp": graph()}, "only saved_model.pb.tmp"),
    ({"variables/variables.index": b"x"}, "no saved_model.pb"),
    ({"model.h5": b"x"}, "model.h5 is not read by TensorFlow Serving"),
]


@pytest.mark.parametrize(("files", "why"), NOT_WHOLE)
def test_a_version_that_a_preview_would_refuse_is_left_out_with_the_reason(
    account: Account, files: dict[str, bytes], why: str
) -> None:
    account.put({f"serving/shoes/1/{path}": body for path, body in WHOLE.items()})
    account.put({f"serving/shoes/2/{path}": body for path, body in files.items()})
    account.put({"serving/model_config.pbtxt": config_file("shoes")})
    by_service = account.imported(account.service("multi", CONFIG_FLAG))
    by_bucket = account.imported(f"oss://{account.bucket}/serving/")
    assert by_service.settings is not None, by_service.problems
    for found in (by_service, by_bucket):
        assert versions(found) == {"shoes": [1]}
        [reason] = reasons(found, "model shoes")
        assert reason.startswith("version 2 ")
        assert why in reason


def test_a_model_without_any_whole_version_is_told_and_not_passed_over(account: Account) -> None:
    for index, (files, _) in enumerate(NOT_WHOLE):
        account.put({f"serving/m{index}/1/{path}": body for path, body in files.items()})
    account.put({"serving/whole/1/saved_model.pb": graph(), "serving/lite/1/model.tflite": LITE})
    found = account.imported(f"oss://{account.bucket}/serving/")
    assert versions(found) == {"whole": [1]}
    for name in [f"m{index}" for index in range(len(NOT_WHOLE))] + ["lite"]:
        [reason] = reasons(found, f"model {name}")
        assert "no version of it is complete in the bucket: 1 " in reason, name


def test_whoever_may_list_and_not_read_goes_by_names_and_is_told_so(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.put({"serving/shoes/1/saved_model.pb": graph(), "serving/shoes/2/saved_model.pb": b""})
    account.put({"serving/shoes/3/variables/variables.index": b"x"})
    client = account.clients.oss
    monkeypatch.setattr(Clients, "oss", property(lambda _: ListsOnly(client)))
    found = account.imported(f"oss://{account.bucket}/serving/")
    assert versions(found) == {"shoes": [1, 2]}
    [reason] = reasons(found, f"content of versions in oss://{account.bucket}/serving/")
    assert "only names were looked at" in reason
    assert "no right to read" in reason
    assert reasons(found, "model shoes") == ["version 3 has no saved_model.pb"]


@pytest.mark.parametrize(
    ("flag", "taken"),
    [
        ("--prefer_tflite_model=true", True),
        ("--prefer_tflite_model", True),
        ("--prefer_tflite_model=false", False),
        ("--prefer_tflite_model=1", False),
        ("--prefer_tflite_model true", False),
        ("", False),
    ],
)
def test_models_of_tensorflow_lite_are_taken_over_where_a_service_loads_them(
    account: Account, flag: str, taken: bool
) -> None:
    account.put({"serving/lite/1/model.tflite": LITE, "serving/lite/2/saved_model.pb": graph()})
    account.put({"serving/lite/3/model.tflite": b"\1" * 40, "serving/lite/4/model.tflite": LITE[:70]})
    account.put({"serving/model_config.pbtxt": config_file("lite")})
    found = account.imported(account.service("multi", CONFIG_FLAG, flag))
    assert versions(found) == {"lite": [1, 2] if taken else [2]}
    told = "that is no model of TensorFlow Lite" if taken else "with --prefer_tflite_model only"
    assert not taken or any("that is damaged, or cut off" in each for each in reasons(found, "model lite"))
    assert told in next(each for each in reasons(found, "model lite") if each.startswith("version 3 "))
    [one] = account.imported(account.service("one", "--model_base_path=/models/lite", flag)).draft.entries[
        "tf-serving:models"
    ]
    assert one.value["versions"] == ([1, 2] if taken else [2])


@pytest.mark.parametrize(
    ("flags", "taken"),
    [
        ([], [1, 2]),
        (["--saved_model_tags=serve"], [1, 2]),
        (["--saved_model_tags=serve,gpu"], [2, 4]),
        (["--saved_model_tags=train"], [3]),
    ],
)
def test_versions_are_taken_over_whose_graph_has_the_tags_that_the_services_load(
    account: Account, flags: list[str], taken: list[int]
) -> None:
    two, gpu = graph() + graph(tags=("serve", "gpu")), graph(tags=("gpu", "serve"))
    for number, content in enumerate((graph(), two, graph(tags=("train",)), gpu), 1):
        account.put({f"serving/shoes/{number}/saved_model.pb": content})
    account.put({"serving/model_config.pbtxt": config_file("shoes")})
    found = account.imported(account.service("multi", CONFIG_FLAG, *flags))
    assert versions(found) == {"shoes": taken}
    assert all("has no graph with the tag" in each for each in reasons(found, "model shoes"))


def test_a_model_of_tensorflow_lite_needs_the_flag_on_every_service(account: Account) -> None:
    account.put({"serving/lite/1/model.tflite": LITE, "serving/model_config.pbtxt": config_file("lite")})
    services = [account.service("a", CONFIG_FLAG, "--prefer_tflite_model=true"), account.service("b", CONFIG_FLAG)]
    found = account.imported(*services)
    assert versions(found) == {}
    assert "flags.prefer_tflite_model of every service" in reasons(found, "model lite")[0]
    assert versions(account.imported(services[0])) == {"lite": [1]}


def test_a_file_that_a_server_takes_for_a_version_is_told(account: Account) -> None:
    account.put({"serving/shoes/1/saved_model.pb": graph(), "serving/shoes/11": b"x", "serving/shoes/1.txt": b"x"})
    account.put({"serving/shoes/latest/saved_model.pb": graph()})
    found = account.imported(f"oss://{account.bucket}/serving/")
    assert versions(found) == {"shoes": [1]}
    file, other = reasons(found, "model shoes")
    assert file == (
        "version 11 is a file, and TensorFlow Serving would try to load it as version 11: move it elsewhere"
    )
    assert other.startswith("directory latest holds a SavedModel and is no number")


@pytest.mark.parametrize("listing", [True, False], ids=["listing", "config file"])
def test_a_file_beside_the_version_of_its_name_is_told_and_the_version_stays_as_in_a_preview(
    account: Account, listing: bool
) -> None:
    account.put({f"serving/shoes/{number}/saved_model.pb": graph() for number in (1, 2, 3)})
    account.put({"serving/shoes/2": b"x", "serving/model_config.pbtxt": config_file("shoes")})
    place = f"oss://{account.bucket}/serving/"
    found = account.imported(place if listing else f"{place}model_config.pbtxt")
    assert versions(found) == {"shoes": [1, 2, 3]}
    assert reasons(found, "model shoes")[0].startswith("version 2 is a file, and TensorFlow Serving would try to load")


def test_a_model_config_file_in_the_bucket_that_begins_with_a_byte_order_mark_is_read(account: Account) -> None:
    text = b"\xef\xbb\xbf" + config_file("shoes")
    account.put({"serving/shoes/1/saved_model.pb": graph(), "serving/model_config.pbtxt": text})
    assert versions(account.imported(f"oss://{account.bucket}/serving/model_config.pbtxt")) == {"shoes": [1]}


def test_a_service_with_a_secret_in_its_start_command_is_left_out_with_the_way_out(account: Account) -> None:
    account.put({"serving/shoes/1/saved_model.pb": graph(), "serving/model_config.pbtxt": config_file("shoes")})
    safe, other = account.service("safe", CONFIG_FLAG), account.service("other", CONFIG_FLAG, "--x_password=hunter2")
    found = account.imported(safe, other)
    [reason] = reasons(found, "service other")
    assert "a secret stands in containers[0].script" in reason
    assert "environment variable" in reason
    assert "hunter2" not in found.draft.text().whole()


@pytest.mark.parametrize("mount", ["/models", "/models/", "/models//"])
def test_a_slash_at_the_end_of_a_mount_is_no_change(account: Account, mount: str) -> None:
    account.put({"serving/shoes/1/saved_model.pb": graph(), "serving/model_config.pbtxt": config_file("shoes")})
    file = account.service("multi", CONFIG_FLAG, mounts={mount: f"oss://{account.bucket}/serving"})
    found = account.imported(file)
    assert found.settings is not None, found.problems
    stored = json.loads(Path(file).read_text(encoding="utf-8"))
    changes = checked.service_changes(found.settings, "tf-serving/new", {"multi": stored})["multi"]
    assert all(change.startswith("labels[") for change in changes), changes


def test_a_start_command_that_labels_do_not_survive_is_refused_with_the_flags_to_add(account: Account) -> None:
    labelled = config_file("shoes").decode().replace("} }", 'version_labels { key: "stable" value: 1 } } }')
    account.put({"serving/shoes/1/saved_model.pb": graph(), "serving/model_config.pbtxt": labelled.encode()})
    file = Path(account.service("multi"))
    config = json.loads(file.read_text(encoding="utf-8"))
    config["containers"][0]["script"] = f"tensorflow_model_server --rest_api_port=8501 {CONFIG_FLAG}"
    file.write_text(json.dumps(config), encoding="utf-8")
    told = reasons(account.imported(str(file)), "service multi")
    assert any("fix: add --allow_version_labels_for_unavailable_models=true to it" in each for each in told), told
    assert any("fix: add --model_config_file_poll_wait_seconds=30 to it" in each for each in told), told


def test_a_directory_that_no_stack_can_name_is_told_with_the_way_out(account: Account) -> None:
    names = ("équipe/chaussures", "my models/hats", "sound")
    account.put({f"serving/{name}/1/saved_model.pb": graph() for name in names})
    listed = (
        f'config {{ name: "m{i}" base_path: "/models/{name}" model_platform: "tensorflow" }}'
        for i, name in enumerate(names)
    )
    account.put({"serving/model_config.pbtxt": f"model_config_list {{ {' '.join(listed)} }}".encode()})
    found = account.imported(account.service("multi", CONFIG_FLAG))
    assert versions(found) == {"m2": [1]}
    for name in ("m0", "m1"):
        [reason] = reasons(found, f"model {name}")
        assert "has other characters than letters, digits, `_`, `.` and `-`" in reason
        assert "copy the versions to a directory with such a name" in reason


def test_two_spellings_of_a_number_are_named_together(account: Account) -> None:
    account.put({f"serving/shoes/{name}/saved_model.pb": graph() for name in ("7", "007", "07", "8")})
    found = account.imported(f"oss://{account.bucket}/serving/")
    assert versions(found) == {"shoes": [8]}
    assert reasons(found, "model shoes") == ["version 007 and 07 and 7 are both version 7: keep one of them"]


def test_a_bucket_that_is_gone_takes_its_model_along_and_no_other_one(account: Account) -> None:
    account.put({"serving/shoes/1/saved_model.pb": graph()})
    listed = (config_file("shoes")[:-1] + config_file("caps", base="/mnt")[len("model_config_list {") :]).decode()
    account.put({"serving/model_config.pbtxt": listed.encode()})
    mounts = {"/models": f"oss://{account.bucket}/serving/", "/mnt": "oss://no-such-bucket-here/exports/"}
    found = account.imported(account.service("multi", CONFIG_FLAG, mounts=mounts))
    assert versions(found) == {"shoes": [1]}
    assert "there is no bucket no-such-bucket-here" in reasons(found, "model caps")[0]
