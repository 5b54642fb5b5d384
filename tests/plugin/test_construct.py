"""Components that the plugin makes for a program: what they register, what they answer, what they refuse."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from components.arguments import Caller
from plugin import construct
from tests.plugin.conftest import Program
from tests.provider.harness import Cloud, config
from tfserving import manifest

pytestmark = pytest.mark.slow

BAD = """
service("vision", repository=repository(), confgPollSeconds=30, replicas=0,
        vpc={"vpcId": "vpc-1", "vswitchIds": ["x"], "securityGroupId": "sg-1"})
"""


def test_everything_wrong_with_the_arguments_is_said_by_property_path_and_nothing_is_made(program: Program) -> None:
    done = program.run("preview", BAD)
    assert done.status == 1
    for path in ("confgPollSeconds: ", "replicas: ", "vpc.vswitch_ids: "):
        assert f"- {path}" in done.errors
    assert "config_poll_seconds" in done.errors
    assert "Traceback" not in json.dumps(done.json) + done.err
    assert not [step for step in done.json["steps"] if "EasService" in step["urn"]]


@pytest.mark.parametrize(
    ("project", "caller"),
    [
        ("runtime: python", Caller.PYTHON),
        ("runtime: {name: python, options: {toolchain: uv}}", Caller.PYTHON),
        ("runtime: nodejs", Caller.OTHER),
        ("runtime: {name: yaml}", Caller.OTHER),
        ("name: x", Caller.OTHER),
        ("- nonsense", Caller.OTHER),
        ("runtime: [", Caller.OTHER),
    ],
)
def test_the_language_is_that_of_the_project_around(tmp_path: Path, project: str, caller: Caller) -> None:
    (tmp_path / "Pulumi.yaml").write_text(project, encoding="utf-8")
    (tmp_path / "src").mkdir()
    assert construct._caller(tmp_path / "src") is caller


def test_a_component_that_is_not_there_is_named_with_those_that_are(program: Program) -> None:
    done = program.preview('Remote("Repository", "models")')
    assert "no component tfserving:index:Repository" in done.errors
    assert "tfserving:index:ModelRepository" in done.errors


def test_an_output_where_a_plain_value_is_needed_is_refused_in_words(program: Program) -> None:
    done = program.preview("service(repository=repository(), replicas=Output.from_input(3).apply(lambda n: n))")
    assert "- property replicas has a problem: an output of another resource stands here" in done.errors


def test_a_number_that_the_wire_has_rounded_is_refused(program: Program) -> None:
    done = program.preview('repository(models={"m": {"versions": [2**60 + 1]}})')
    assert "- models.m.versions[0]: 1152921504606846976 came as a number" in done.errors
    assert "write it as text" in done.errors


def test_what_is_no_repository_is_refused(program: Program) -> None:
    done = program.preview('service(repository="models")')
    assert "- repository: " in done.errors


OF_ITS_OWN = """
group = Group("group", ResourceOptions(protect={protect}))
models = repository(bucket=Output.from_input("{bucket}").apply(str), root="{root}", opts=ResourceOptions(parent=group),
                    models={{"modelB": {{"source": "exports/modelB", "policy": {{"specific": [1, 2]}},
                                       "labels": {{"stable": {stable}, "canary": "2"}}}}}})
vision = service("vision", repository=models, serviceName="{name}", configPollSeconds=1,
                 image="tensorflow-serving:2.14.1", env={{"WHO": models.bucket}},
                 opts=ResourceOptions(parent=group{more}))
pulumi.export("url", vision.url)
pulumi.export("token", vision.token)
"""


def _text(cloud: Cloud, *, stable: int = 1, more: str = "", protect: bool = False) -> str:
    return OF_ITS_OWN.format(
        bucket=cloud.bucket, root="shop/", name="shop_vision", stable=stable, more=more, protect=protect
    )


def test_a_program_of_somebodys_own_comes_up_moves_a_label_and_goes(shop: Program, cloud: Cloud) -> None:
    made = shop.run("up", _text(cloud), "--yes")
    assert made.status == 0, made.errors
    state = json.loads((shop.root / ".sandbox" / "state" / "dev.json").read_text())["deployment"]["resources"]
    by_name = {each["urn"].split("::", 3)[3]: each for each in state}
    assert by_name["vision"]["type"] == "tfserving:index:TensorFlowServing"
    assert by_name["vision"]["parent"] == by_name["models"]["parent"] == by_name["group"]["urn"]
    assert by_name["vision-service"]["parent"] == by_name["vision"]["urn"]
    assert by_name["models-modelB"]["urn"] in by_name["vision-service"]["dependencies"]
    assert "ciphertext" in by_name["vision"]["outputs"]["token"]
    [provider] = {each["provider"] for each in state if each["type"].startswith("tfserving:index:") and each["custom"]}
    assert provider.split("::")[3].startswith("default")
    again = shop.run("up", _text(cloud), "--yes", "--expect-no-changes")
    assert again.status == 0, again.json["changeSummary"]
    moved = shop.run("up", _text(cloud, stable=2), "--yes")
    assert moved.status == 0, moved.errors
    assert {step["urn"].split("::", 3)[3] for step in moved.json["steps"] if step["op"] == "update"} >= {
        "vision-served"
    }
    renamed = shop.run(
        "preview",
        _text(cloud, stable=2)
        .replace('service("vision"', 'service("seer"')
        .replace("parent=group)", 'parent=group, aliases=[pulumi.Alias(name="vision")])', 2),
    )
    assert not {"create", "replace", "delete"} & set(renamed.json["changeSummary"])
    gone = shop.run("destroy", "", "--yes")
    assert gone.status == 0, gone.errors


def test_protection_and_a_provider_of_the_program_reach_what_is_in_the_component(shop: Program, cloud: Cloud) -> None:
    settings = config(cloud.endpoint)
    other = f"""
class Provider(pulumi.ProviderResource):
    def __init__(self, name, **settings):
        super().__init__("tfserving", name, settings)

mine = Provider("mine", **{settings})
"""
    done = shop.preview(other + _text(cloud, more=", providers=[mine]", protect=True))
    assert done.status == 0, done.errors
    new = {step["urn"].split("::", 3)[3]: step["newState"] for step in done.json["steps"]}
    assert new["vision-service"]["protect"] is True
    assert new["vision-service"]["provider"].split("::")[3] == "mine"
    assert new["models-modelB"]["provider"].split("::")[3].startswith("default")


def test_a_group_takes_a_list_of_services_that_other_calls_have_made(shop: Program, cloud: Cloud) -> None:
    members = """
both = [Remote("TensorFlowServing", name, None, ["serviceName", "group", "contents", "protocol"], repository=models,
               group="pair", configPollSeconds=1, cpu=2, memory=4096) for name in ("left", "right")]
Remote("TrafficGroup", "pair", services=both, weights={"left": 90, "right": 10})
"""
    done = shop.preview(_text(cloud) + members)
    assert done.status == 0, done.errors
    split = done.inputs("pair-split")
    assert split["weights"] == {"left": 90, "right": 10}
    assert split["group"] == "pair"
    wrong = shop.preview(_text(cloud) + members.replace("services=both", "services=[models]"))
    assert "- property services[0] has a problem: this is not a service on PAI-EAS" in wrong.errors


def test_a_group_that_is_renamed_in_the_program_shares_requests_all_along(shop: Program, cloud: Cloud) -> None:
    outputs = ["url", "token", "serviceName", "group", "contents", "protocol"]
    made = f'Remote("TensorFlowServing", "vision", outputs={outputs}, cpu=2, memory=4096, group="renamed_group", '
    text = _text(cloud).replace('service("vision", ', made)
    group = """
Remote("TrafficGroup", "NAME", services=[vision], groupName="renamed_group", weights={"shop_vision": 100})
"""
    for name in ("before", "after"):
        done = shop.run("up", text + group.replace("NAME", name), "--yes")
        assert done.status == 0, done.errors
        [member] = cloud.eas().members("renamed_group")
        assert (member.weight, member.traffic) == (100, "grouping")
    assert any("renamed_group with its shares stays" in each["message"] for each in done.json["diagnostics"])
    gone = shop.run("destroy", "", "--yes")
    assert gone.status == 0, gone.errors


TWICE = {
    "service": (
        'service("other", repository=models, serviceName="vision", configPollSeconds=1)',
        r"service_name.*: service vision is already that of TensorFlowServing (vision|other)",
    ),
    "group": (
        'Remote("TrafficGroup", "other", services=[vision], groupName="both", weights={"vision": 100})',
        r"group_name.*: group both is already that of TrafficGroup (both|other)",
    ),
    "directory": (
        'repository("others", Output.from_input("tf-serving-shop").apply(str))',
        r"models.modelB.*: model directory oss://tf-serving-shop/models/tf_serving/modelB/ is already that of "
        r"ModelRepository (models|others)",
    ),
}
"""What makes a second component of the name of one, and what is said; the engine asks for both at once."""


@pytest.mark.parametrize("kind", TWICE)
def test_what_components_of_two_calls_hold_is_refused_by_the_preview(program: Program, kind: str) -> None:
    text = """
models = repository()
vision = Remote("TensorFlowServing", "vision", None, ["serviceName", "group", "contents", "protocol"],
                repository=models, configPollSeconds=1, cpu=2, memory=4096, group="both")
Remote("TrafficGroup", "both", services=[vision], weights={"vision": 100})
"""
    assert "already that of" not in program.preview(text).errors
    more, words = TWICE[kind]
    done = program.preview(text + more)
    assert done.status == 1
    assert re.search(words, done.errors), done.errors
    assert "Traceback" not in json.dumps(done.json) + done.err


FOUND = {
    "ModelRepository": """
models = repository(bucket="BUCKET", root="found/", models={"shoes": SHOES})
service("vision", repository=models, configPollSeconds=1)
""",
    "ServingStack": """
web = {"deployment": "custom", "configFile": True, "configPollSeconds": 1, "allowLabelsForUnavailableVersions": True}
Remote("ServingStack", "serving", bucket={"name": "BUCKET", "existing": True}, modelRoot="found/",
       models={"shoes": SHOES}, services={"web": web}, endpoint="ENDPOINT",
       alicloud={"region": "cn-hangzhou", "protocol": "HTTP"})
""",
}


@pytest.mark.parametrize("kind", FOUND)
def test_versions_of_the_bucket_are_looked_for_by_the_plugin_itself(shop: Program, cloud: Cloud, kind: str) -> None:
    version = shop.root / "exports" / "modelB" / "1"
    for number in ("1", "2", "7", "007"):
        for path in manifest.list_files(version):
            content = b"" if (number, path) == ("7", "saved_model.pb") else (version / path).read_bytes()
            cloud.put(f"found/shoes/{number}/{path}", content)

    def program(**more: Any) -> str:
        shoes = {"versions": {"from": "bucket"}, "policy": {"latest": 1}, **more}
        text = FOUND[kind].replace("ENDPOINT", cloud.endpoint).replace("BUCKET", cloud.bucket)
        return text.replace("SHOES", repr(shoes))

    done = shop.preview(program())
    assert done.status == 0, done.errors
    assert done.inputs("models-shoes")["versions"] == {"1": "any", "2": "any"}
    said = "\n".join(each["message"] for each in done.json["diagnostics"])
    assert "shoes/7 has saved_model.pb, which is empty" in said
    assert "shoes/007 is read as version 7" in said
    wrong = shop.preview(program(labels={"stable": 7}))
    assert wrong.status == 1
    assert "models.shoes.versions: version 7 is named by policy or label, and is left out: " in wrong.errors
    assert wrong.errors.count("1 problem") == 1, wrong.errors


def test_what_needs_a_component_that_failed_is_left_alone(program: Program) -> None:
    done = program.preview('service(repository=repository(root="no/slash/at/the/end", policy=1))')
    assert "policy" in done.errors
    assert "getResource" not in done.errors
    assert any("skipped, as" in each["message"] for each in done.json["diagnostics"])
