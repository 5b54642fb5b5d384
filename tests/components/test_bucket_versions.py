"""Programs whose stacks go by what is in the bucket: they ask their own provider, once, and act on its answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pulumi
import pytest

from components.model_repository import ModelRepository
from components.serving_stack import ServingStack
from tests.components.mock_engine import Run, run, run_program
from tests.components.test_own_program import REGION, later, vision
from tests.config.test_bucket_versions import FROM, stack, there
from tfserving.contract.found import FIND_VERSIONS, FindVersionsResult, WantedDirectory

BUCKET = FindVersionsResult(directories={"shoes": there(1, 2**60 + 1, left={"3": "has no saved_model.pb"})})
NEWEST = 2**60 + 1
MOUNTED = "oss://team-y-bucket/exports/"


def options(**shoes: Any) -> dict[str, Any]:
    """The stack as arguments of a component."""
    values = {key.removeprefix("tf-serving:"): value for key, value in stack(shoes={**FROM, **shoes}).items()}
    return {**{key: value for key, value in values.items() if ":" not in key}, "alicloud": {"region": "cn-hangzhou"}}


def asked_once(found: Run, *, preview: bool) -> None:
    assert found.calls == [FIND_VERSIONS]
    [asked] = found.asked
    where = WantedDirectory(bucket="examplebucket", prefix="models/tf_serving/shoes/")
    assert asked.directories == {"shoes": where}
    assert (asked.owner, asked.preview) == ("tf-serving/test", preview)


@pytest.mark.parametrize("preview", [True, False])
def test_the_program_asks_and_publishes_what_was_found(preview: bool) -> None:
    found = run_program(stack(shoes=FROM), preview=preview, bucket=BUCKET)
    assert found.error == ""
    asked_once(found, preview=preview)
    model = found.resources["models-shoes"]
    assert model.inputs["versions"] == {"1": "any", str(NEWEST): "any"}
    assert model.inputs["fromBucket"] is True
    assert found.resources["served"].inputs["published"] == {"shoes": [1, NEWEST]}
    assert found.notes == [f"versions in the bucket: shoes 1, {NEWEST}"]
    assert "model shoes: shoes/3 has no saved_model.pb; it is left out" in found.warnings


@pytest.mark.parametrize(
    ("flags", "tags"),
    [
        ({}, ("serve",)),
        ({"saved_model_tags": "serve"}, ("serve",)),
        ({"saved_model_tags": "serve,gpu"}, ("gpu,serve",)),
    ],
)
def test_what_is_found_has_to_have_the_tags_that_the_services_load(
    flags: dict[str, str], tags: tuple[str, ...]
) -> None:
    web = {"deployment": "custom", "configFile": True, "instanceType": "ecs.c7.large", "flags": flags}
    found = run_program(stack(services={"web": web}, shoes=FROM), bucket=BUCKET)
    assert found.error == ""
    assert [each.directories["shoes"].tags for each in found.asked] == [tags]
    published = found.resources["models-shoes"].inputs
    assert published.get("tags") == (None if tags == ("serve",) else list(tags))
    both = {"web": web, "plain": web | {"flags": {}}}
    found = run_program(stack(services=both, shoes=FROM), bucket=BUCKET)
    assert found.asked[0].directories["shoes"].tags == tuple(sorted({*tags, "serve"}))


def test_a_program_that_names_its_versions_asks_nobody() -> None:
    found = run_program(stack(shoes={"versions": [1]}))
    assert found.error == ""
    assert found.calls == []
    assert "fromBucket" not in found.resources["models-shoes"].inputs


def test_mistakes_that_need_no_bucket_are_said_before_anything_is_registered() -> None:
    found = run_program(stack(services={"web": {"deployment": "custom", "configFile": "perhaps"}}, shoes=FROM))
    assert "configFile" in found.error
    assert found.resources == {}
    assert found.calls == []


def test_a_bucket_that_is_not_read_ends_the_program_with_one_message() -> None:
    found = run_program(stack(shoes=FROM), refusal="AccessDenied: you have no right")
    assert found.error == "which versions are in bucket examplebucket is not known: AccessDenied: you have no right"
    assert found.status == 32
    assert not found.of_type("tfserving:index:PublishedModel")


@pytest.mark.parametrize("name", ["examplebucket", None])
def test_a_stack_of_a_program_asks_as_well_also_with_a_bucket_of_another_resource(name: str | None) -> None:
    def program() -> None:
        given = options()
        given["bucket"]["name"] = name or later("examplebucket")
        ServingStack("serving", given)

    found = run(program, REGION, bucket=BUCKET)
    assert found.error == ""
    asked_once(found, preview=False)
    assert found.resources["models-shoes"].inputs["versions"] == {"1": "any", str(NEWEST): "any"}


def test_a_bucket_whose_name_nobody_knows_before_the_update_is_refused_by_the_preview() -> None:
    def program() -> None:
        given = options()
        given["bucket"]["name"] = pulumi.Output.from_input(pulumi.output.UNKNOWN)
        ServingStack("serving", given)

    found = run(program, REGION, preview=True, bucket=BUCKET)
    assert "models.shoes.versions" in found.error
    assert "what is in the bucket is not known" in found.error
    assert found.calls == []


def on_two_buckets(bucket: Callable[[], Any], mounted: Callable[[], Any]) -> Run:
    def program() -> None:
        given = options()
        given["bucket"]["name"] = bucket()
        given["models"]["caps"] = {**FROM, "path": "/mnt/team-y/caps"}
        mounts = {"storage": [{"mount_path": "/mnt/team-y", "oss": {"path": mounted()}}]}
        given["services"] = {"web": {**given["services"]["web"], "extraConfig": mounts}}
        ServingStack("serving", given)

    both = FindVersionsResult(directories={"shoes": there(1), "/mnt/team-y/caps": there(4)})
    return run(program, REGION, preview=True, bucket=both)


def test_a_bucket_that_nobody_knows_before_the_update_says_nothing_about_that_of_another_mount() -> None:
    found = on_two_buckets(lambda: pulumi.Output.from_input(pulumi.output.UNKNOWN), lambda: MOUNTED)
    assert "models.shoes.versions: what is in the bucket is not known" in found.error
    assert "models.caps" not in found.error
    assert [list(each.directories) for each in found.asked] == [["/mnt/team-y/caps"]]
    known = on_two_buckets(lambda: "examplebucket", lambda: MOUNTED)
    assert known.error == ""
    assert known.resources["models-caps"].inputs["versions"] == {"4": "any"}


def test_a_mount_that_is_an_output_is_refused_in_words_and_not_taken_for_another_kind() -> None:
    found = on_two_buckets(lambda: "examplebucket", lambda: later(MOUNTED))
    assert "mounts an output of another resource at /mnt/team-y" in found.error
    assert "write the place in OSS as a text" in found.error


def test_a_repository_tells_its_services_what_was_found() -> None:
    def program() -> None:
        models = {"shoes": {**FROM, "policy": {"latest": 1}}}
        vision(ModelRepository("models", bucket=later("examplebucket"), models=models))

    found = run(program, REGION, bucket=BUCKET)
    assert found.error == ""
    asked_once(found, preview=False)
    served = found.resources["vision-served"]
    assert served.inputs["published"] == {"shoes": [1, NEWEST]}
    [model] = served.inputs["models"].values() if isinstance(served.inputs["models"], dict) else served.inputs["models"]
    assert str(NEWEST) in str(model)


def test_problems_of_what_was_found_have_the_words_of_the_program() -> None:
    found = run(lambda: ServingStack("serving", options(labels={"stable": 9})), REGION, bucket=BUCKET)
    assert "models.shoes.labels.stable" in found.error
    assert "tf-serving:" not in found.error
