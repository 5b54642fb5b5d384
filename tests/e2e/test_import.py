"""A bucket, a model config file and services that people made by hand, taken over by a stack that an import wrote.

The tests run in order and share what is deployed.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from typing import Any

import alibabacloud_oss_v2 as oss
import pytest
import yaml
from alibabacloud_eas20210701 import models as eas_models

from tests.e2e.checkout import BODY, REGION, Checkout, post
from tests.waiting import until

pytestmark = pytest.mark.slow

BUCKET = "handmade-bucket"
OTHER_BUCKET = "team-y-bucket"
CONFIG = """# our models
model_config_list {
  # worn on feet
  config { name: "shoes", base_path: "/models/shoes/", model_platform: "tensorflow", model_version_policy { all {} } }
  config {
    name: "hats"
    base_path: "/models//team-x/../hats"
    model_platform: "tensorflow"
    model_version_policy { specific { versions: 1 versions: 2 } }
    version_labels { key: "stable" value: 1 }
    version_labels { key: "canary" value: 2 }
  }
  config { name: "bags" base_path: "/models/team-x/bags" model_platform: "tensorflow" }
  config { name: "caps" base_path: "/mnt/team-y/caps" model_platform: "tensorflow" }
}
"""
START = (
    "/usr/bin/tf_serving_entrypoint.sh --model_config_file=/models/model_config.pbtxt "
    "--model_config_file_poll_wait_seconds=1 --allow_version_labels_for_unavailable_models=true"
)
HTTP: dict[str, Any] = {
    "metadata": {"name": "hand_http", "instance": 1},
    "cloud": {"computing": {"instance_type": "ecs.c7.large"}},
    "containers": [
        {
            "image": "eas-registry-vpc.cn-hangzhou.cr.aliyuncs.com/pai-eas/tensorflow-serving:2.14.1",
            "port": 8501,
            "script": START,
            "env": [{"name": "TF_CPP_MIN_LOG_LEVEL", "value": "1"}],
        }
    ],
    "storage": [
        {"mount_path": "/models", "oss": {"path": f"oss://{BUCKET}/serving/"}},
        {"mount_path": "/mnt/team-y", "oss": {"path": f"oss://{OTHER_BUCKET}/exports/", "readOnly": True}},
    ],
    "features": {"eas.aliyun.com/extra-ephemeral-storage": "100Gi"},
}
SECRET = "a-secret-of-theirs"


def grpc() -> dict[str, Any]:
    """The same over gRPC, its flags in another order."""
    made = copy.deepcopy(HTTP)
    made["metadata"] |= {"name": "hand_grpc", "enable_grpc": True}
    program, *flags = START.split()
    made["containers"][0] |= {"port": 8500, "script": " ".join([program, *reversed(flags)])}
    made["networking"] = {"path": "/"}
    return made


def make(checkout: Checkout, spec: dict[str, Any]) -> None:
    checkout.eas().create_service(eas_models.CreateServiceRequest(body=spec))


def upload_models(checkout: Checkout) -> oss.Client:
    """The example models into both buckets, under other names."""
    client = checkout.oss()
    models = checkout.root / ".sandbox" / "models"
    for bucket, name, to in (
        (BUCKET, "modelA", "serving/shoes"),
        (BUCKET, "modelB", "serving/hats"),
        (BUCKET, "modelC", "serving/team-x/bags"),
        (OTHER_BUCKET, "modelA", "exports/caps"),
    ):
        client.put_bucket(oss.PutBucketRequest(bucket, acl="private"))
        for file in (each for each in sorted((models / name).rglob("*")) if each.is_file()):
            key = f"{to}/{file.relative_to(models / name)}"
            client.put_object(oss.PutObjectRequest(bucket, key, body=file.read_bytes()))
    return client


@pytest.fixture(scope="module")
def by_hand(prepared: Checkout) -> Iterator[Checkout]:
    prepared.succeed("cloud", "start")
    client = upload_models(prepared)
    for key, body in (("model_config.pbtxt", CONFIG), ("README.txt", "ours"), ("hats/007/saved_model.pb", "old")):
        client.put_object(oss.PutObjectRequest(BUCKET, f"serving/{key}", body=body.encode()))
    make(prepared, HTTP)
    make(prepared, grpc())
    until(lambda: sum("--model_config_file" in line for line in prepared.processes()) >= 2 and running(prepared), 240)
    yield prepared
    prepared.run("cloud", "stop")


def running(checkout: Checkout) -> bool:
    states = [checkout.eas().describe_service(REGION, name).body.status for name in ("hand_http", "hand_grpc")]
    return states == ["Running", "Running"]


def stored_config(checkout: Checkout) -> str:
    request = oss.GetObjectRequest(BUCKET, "serving/model_config.pbtxt")
    return checkout.oss().get_object(request).body.content.decode()


def imported(checkout: Checkout, *arguments: str) -> tuple[int, str]:
    done = checkout.run("import", *arguments, module="ops")
    return done.code, done.text


def stack(checkout: Checkout) -> dict[str, Any]:
    return yaml.safe_load((checkout.root / "stacks" / "Pulumi.hand.yaml").read_text(encoding="utf-8"))["config"]


def test_three_commands_lead_from_what_is_there_to_a_stack_that_changed_nothing(by_hand: Checkout) -> None:
    started, before, config = time.monotonic(), by_hand.processes(), stored_config(by_hand)
    code, told = imported(by_hand, "--all", "--like", "local", "--stack", "hand")
    assert code == 0, told
    assert "4 models with 7 versions, 2 services" in told
    assert "model hats: version 007 is read as version 7" in told
    previewed = by_hand.succeed("preview", "--stack", "hand")
    for name in ("hand_http", "hand_grpc"):
        lines = [line for line in told.splitlines() if f"service {name}: " in line]
        assert len(lines) == 1, told
        assert "not declared, so that it goes unless EAS adds it by itself" in lines[0]
        for change in lines[0].partition("itself: ")[2].split(", "):
            assert f"{change} is not declared: it goes, unless EAS adds it by itself" in previewed
    assert "->" not in previewed.partition("Diagnostics")[2].partition("Outputs")[0], "no value of a service changes"
    assert "model_config.pbtxt was not made by this project: it is taken over" in previewed
    by_hand.succeed("up", "--yes", "--stack", "hand", timeout=600)
    assert time.monotonic() - started < 600
    assert by_hand.processes() == before, "no replica was replaced"
    head, _, rest = stored_config(by_hand).partition("\n")
    assert head.startswith("# Managed by Pulumi project tf-serving, stack hand: ")
    assert rest.endswith(config)
    assert by_hand.run("preview", "--stack", "hand", "--expect-no-changes").code == 0
    assert by_hand.run("refresh", "--stack", "hand", "--preview-only", "--expect-no-changes").code == 0


def test_the_stack_file_reads_as_it_was_meant(by_hand: Checkout) -> None:
    text = (by_hand.root / "stacks" / "Pulumi.hand.yaml").read_text(encoding="utf-8")
    assert "    # worn on feet\n    shoes:\n" in text
    config = stack(by_hand)
    assert config["tf-serving:models"]["hats"] == {
        "policy": {"specific": [1, 2]},
        "labels": {"canary": 2, "stable": 1},
        "versions": [1, 2],
    }
    assert config["tf-serving:models"]["bags"] == {"path": "team-x/bags", "versions": [1, 2, 3]}
    assert config["tf-serving:models"]["caps"] == {"path": "/mnt/team-y/caps", "versions": [1]}
    services = config["tf-serving:services"]
    assert services["hand_http"]["configPollSeconds"] == 1
    assert services["hand_grpc"]["script"] == grpc()["containers"][0]["script"]


def test_labels_of_what_was_taken_over_move_without_a_restart(by_hand: Checkout) -> None:
    before = by_hand.processes()
    file = by_hand.root / "stacks" / "Pulumi.hand.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("stable: 1", "stable: 2"), encoding="utf-8")
    by_hand.succeed("up", "--yes", "--stack", "hand", timeout=600)
    assert by_hand.processes() == before
    service = json.loads(by_hand.succeed("outputs", "--json", "--show-secrets", "--stack", "hand"))["services"][
        "hand_http"
    ]
    status, answer = post(f"{service['url']}/v1/models/hats/labels/stable:predict", service["token"], BODY)
    assert status == 200, answer


def test_a_model_on_another_mount_is_looked_at_there_and_never_written(by_hand: Checkout) -> None:
    service = json.loads(by_hand.succeed("outputs", "--json", "--show-secrets", "--stack", "hand"))["services"][
        "hand_http"
    ]
    status, answer = post(f"{service['url']}/v1/models/caps:predict", service["token"], BODY)
    assert status == 200, answer
    file = by_hand.root / "stacks" / "Pulumi.hand.yaml"
    before = file.read_text(encoding="utf-8")
    document = yaml.safe_load(before)
    document["config"]["tf-serving:models"]["caps"] |= {"versions": [1, 5]}
    file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    refused = by_hand.run("preview", "--stack", "hand")
    file.write_text(before, encoding="utf-8")
    assert refused.code != 0
    assert "version 5 of caps should be in the bucket already" in refused.text
    assert f"oss://{OTHER_BUCKET}/exports/caps/5/ is empty (complete there: 1)" in refused.text
    listed = by_hand.oss().list_objects_v2(oss.ListObjectsV2Request(OTHER_BUCKET))
    assert not [item.key for item in listed.contents or () if "manifest" in item.key or "staging" in item.key]


def test_importing_a_stack_of_this_project_gives_what_it_says(by_hand: Checkout) -> None:
    code, text = imported(by_hand, "--all", "--like", "hand")
    assert code == 0
    again = yaml.safe_load(text[: text.index("the stack file above")])["config"]
    assert again == stack(by_hand)
    assert "service hand_http belongs to stack tf-serving/hand now, which loses it" in text


def test_what_cannot_be_carried_over_is_named_and_the_rest_goes_on(by_hand: Checkout) -> None:
    make(
        by_hand, {"metadata": {"name": "old_one", "instance": 0}, "processor": "tensorflow_cpu_2.3", "model_path": "x"}
    )
    latest = copy.deepcopy(HTTP)
    latest["metadata"]["name"] = "moving-one"
    latest["containers"][0]["image"] = "registry.example.com/team/tensorflow-serving:latest"
    latest["containers"][0]["env"] = [{"name": "API_TOKEN", "value": SECRET}]
    file = by_hand.root / "moving.json"
    file.write_text(json.dumps(latest), encoding="utf-8")
    code, told = imported(by_hand, "hand_http", "old_one", "moving.json", "--like", "local")
    assert code == 0, told
    assert "service old_one: EAS runs it by tensorflow_cpu_2.3" in told
    assert "service moving-one: `moving-one` is not a service name" in told
    assert SECRET not in told
    kept = yaml.safe_load(told[: told.index("the stack file above")])["config"]["tf-serving:services"]
    assert list(kept) == ["hand_http"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope"], "there is no service nope in cn-hangzhou; services there: hand_grpc, hand_http"),
        (["nope.json"], "there is no file nope.json"),
        ([f"oss://{BUCKET}/serving/shoes/1/"], "there is no model below"),
        ([f"oss://{BUCKET}/serving/no.pbtxt"], f"there is no oss://{BUCKET}/serving/no.pbtxt"),
        (["oss://no-such-bucket-here/x/"], "NoSuchBucket"),
        ([], "nothing was named to be imported"),
        (["hand_http", "--stack", "hand"], "an import overwrites nothing"),
    ],
)
def test_what_is_not_there_is_one_line(by_hand: Checkout, arguments: list[str], message: str) -> None:
    code, told = imported(by_hand, *arguments, "--like", "local")
    assert code == 1
    assert message in told
    assert "Traceback" not in told


def test_a_bucket_alone_gives_the_models_and_says_what_is_missing(by_hand: Checkout) -> None:
    code, told = imported(by_hand, f"oss://{BUCKET}/serving/", "--like", "local")
    assert code == 1, "a stack needs a service"
    assert "no service is declared" in told
    assert "serving/README.txt" in told
    config = yaml.safe_load(told[: told.index("the stack file above")])["config"]
    assert config["tf-serving:models"] == {
        "hats": {"versions": [1, 2]},
        "shoes": {"versions": [1]},
        "bags": {"path": "team-x/bags", "versions": [1, 2, 3]},
    }


def test_a_stack_file_that_has_settings_only_is_added_to(by_hand: Checkout) -> None:
    file = by_hand.root / "stacks" / "Pulumi.begun.yaml"
    local = by_hand.stack_file.read_text(encoding="utf-8").partition("  tf-serving:bucket:")[0]
    file.write_text(f"{local}# the end\n", encoding="utf-8")
    code, told = imported(by_hand, "hand_http", "--stack", "begun")
    assert code == 0, told
    text = file.read_text(encoding="utf-8")
    assert text.startswith(local.partition("config:")[0])
    assert yaml.safe_load(text)["config"]["tf-serving:models"].keys() == {"shoes", "hats", "bags", "caps"}
    by_hand.succeed("preview", "--stack", "begun")


def test_a_model_that_an_import_leaves_out_goes_with_the_first_update(by_hand: Checkout) -> None:
    client, bucket, key = by_hand.oss(), "third-hand-bucket", "serving/model_config.pbtxt"
    client.put_bucket(oss.PutBucketRequest(bucket, acl="private"))
    entries = []
    for name, model in (("shoes", "modelA"), ("my hats", "modelB")):
        directory = by_hand.root / ".sandbox" / "models" / model
        for file in (each for each in sorted(directory.rglob("*")) if each.is_file()):
            to = f"serving/{name}/{file.relative_to(directory)}"
            client.put_object(oss.PutObjectRequest(bucket, to, body=file.read_bytes()))
        entries.append(f'config {{ name: "{name}" base_path: "/models/{name}" model_platform: "tensorflow" }}')
    config = f"model_config_list {{ {' '.join(entries)} }}"
    client.put_object(oss.PutObjectRequest(bucket, key, body=config.encode()))
    spec = copy.deepcopy(HTTP)
    spec["metadata"]["name"] = "hand_third"
    spec["storage"] = [{"mount_path": "/models", "oss": {"path": f"oss://{bucket}/serving/"}}]
    make(by_hand, spec)
    until(lambda: by_hand.eas().describe_service(REGION, "hand_third").body.status == "Running", 240)
    code, told = imported(by_hand, "hand_third", "--like", "local", "--stack", "third")
    assert code == 0, told
    assert "model my hats: its name is no model name of a stack" in told
    previewed = by_hand.succeed("preview", "--stack", "third")
    assert "my hats is removed" in previewed
    done = by_hand.succeed("up", "--yes", "--stack", "third", timeout=600)
    assert "is brought into line" not in done
    stored = client.get_object(oss.GetObjectRequest(bucket, key)).body.content.decode()
    assert "shoes" in stored
    assert "my hats" not in stored
    assert by_hand.run("preview", "--stack", "third", "--expect-no-changes").code == 0
