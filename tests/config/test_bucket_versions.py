"""Versions that the bucket tells: what is asked, what is taken, and what is refused; and how many stay."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as examples
from hypothesis import strategies as st

from config import model_files
from config.stack import Settings, parse
from tfserving import model_config
from tfserving.contract.found import FindVersionsResult, FoundDirectory, LeftOut
from tfserving.errors import ConfigError
from tfserving.manifest import HashCache

Publish = Callable[..., Path]

SERVICE: dict[str, Any] = {
    "deployment": "custom",
    "configFile": True,
    "configPollSeconds": 30,
    "allowLabelsForUnavailableVersions": True,
}


def stack(services: dict[str, Any] | None = None, **models: Any) -> dict[str, Any]:
    """A stack config with these models."""
    return {
        "alicloud:region": "cn-hangzhou",
        "tf-serving:bucket": {"name": "examplebucket", "existing": True},
        "tf-serving:models": models,
        "tf-serving:services": services or {"web": SERVICE},
    }


def there(*versions: int, own: tuple[int, ...] = (), left: dict[str, str] | None = None) -> FoundDirectory:
    return FoundDirectory(
        versions=tuple(map(str, versions)),
        own=tuple(map(str, own)),
        left_out=tuple(LeftOut(name=name, why=why) for name, why in (left or {}).items()),
    )


def read(config: dict[str, Any], **found: FoundDirectory) -> Settings:
    return parse(config, Path("/nowhere"), found=FindVersionsResult(directories=found))


def problems(config: dict[str, Any], found: FindVersionsResult | None = None, at: Path = Path("/nowhere")) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(config, at, found=found)
    return [str(problem) for problem in caught.value.problems]


FROM = {"versions": {"from": "bucket"}}


# ---- versions: {from: bucket}


def test_what_is_to_be_looked_at_is_said_first_and_taken_then() -> None:
    config = stack(shoes=FROM, hats={**FROM, "path": "team-x/hats", "policy": "all"}, bags={"versions": [3]})
    first = parse(config, Path("/nowhere"))
    assert [each.place for each in first.asked] == ["shoes", "team-x/hats"]
    assert [(each.bucket, each.prefix) for each in first.asked] == [
        ("examplebucket", "models/tf_serving/shoes/"),
        ("examplebucket", "models/tf_serving/team-x/hats/"),
    ]
    settings = read(config, shoes=there(1, 7), **{"team-x/hats": there(2, 10)})
    assert settings.asked == ()
    assert settings.published == {"shoes": (1, 7), "hats": (2, 10), "bags": (3,)}
    assert settings.notes == ("versions in the bucket: shoes 1, 7; hats 2, 10",)


def test_a_stack_without_such_models_asks_nothing() -> None:
    settings = parse(stack(bags={"versions": [3]}), Path("/nowhere"))
    assert settings.asked == ()
    assert settings.notes == ()


@pytest.mark.parametrize(
    ("versions", "words"),
    [
        ("bucket", "'bucket' is not a list. Allowed: a list of version numbers, or {from: bucket}"),
        (True, "true is not a list"),
        ([], "no version is named"),
    ],
)
def test_what_names_no_version_is_one_problem(versions: Any, words: str) -> None:
    with pytest.raises(ConfigError) as told:
        parse(stack(shoes={"versions": versions}), Path("/nowhere"))
    [problem] = map(str, told.value.problems)
    assert problem.startswith("tf-serving:models.shoes.versions: ")
    assert words in problem


def test_json_text_is_as_good_as_a_mapping() -> None:
    config = stack(shoes={"versions": json.dumps({"from": "bucket"})})
    assert [each.place for each in parse(config, Path("/nowhere")).asked] == ["shoes"]


@pytest.mark.parametrize(
    ("policy", "versions"),
    [({"latest": 1}, (3,)), ("all", (1, 2, 3)), ({"latest": 2}, (2, 3)), ({"specific": [1]}, (1,))],
)
def test_the_config_file_names_the_versions_so_that_what_appears_is_not_served_by_itself(
    policy: Any, versions: tuple[int, ...]
) -> None:
    settings = read(stack(shoes={**FROM, "policy": policy}), shoes=there(1, 2, 3))
    [model] = settings.sets[0].config.models
    assert model.policy == model_config.VersionPolicy.specific(versions)


def test_a_version_that_comes_does_not_end_the_one_that_a_label_stands_on() -> None:
    services = {"web": SERVICE, "canary": {**SERVICE, "models": {"shoes": {"labels": {"blue": 1, "green": 3}}}}}
    config = stack(services, shoes={**FROM, "labels": {"stable": 2}})
    settings = read(config, shoes=there(1, 2, 3, 4))
    policies = {each.part: each.config.models[0].policy.versions for each in settings.sets}
    assert policies == {"": (2, 4), "canary": (1, 3, 4)}
    assert settings.published["shoes"] == (1, 2, 3, 4)


def test_numbers_are_exact_up_to_the_last_digit() -> None:
    assert read(stack(shoes=FROM), shoes=there(2**63 - 1, 2**53 + 1)).published["shoes"] == (2**53 + 1, 2**63 - 1)


def test_what_is_left_out_is_a_warning_with_the_reason() -> None:
    settings = read(stack(shoes=FROM), shoes=there(1, left={"2": "is being published by a/b", "007": "is odd"}))
    assert "model shoes: shoes/2 is being published by a/b; it is left out" in settings.warnings
    assert "model shoes: shoes/007 is odd; it is left out" in settings.warnings


def test_nothing_complete_is_refused_with_what_is_there() -> None:
    [problem] = problems(
        stack(shoes=FROM), FindVersionsResult(directories={"shoes": there(left={"2": "has no saved_model.pb"})})
    )
    assert problem.startswith("tf-serving:models.shoes.versions: no complete version is in directory shoes")
    assert "2 has no saved_model.pb" in problem


def test_a_label_on_what_was_left_out_is_refused_with_the_reason_and_with_what_there_is() -> None:
    config = stack(shoes={**FROM, "policy": "all", "labels": {"stable": 2}})
    found = FindVersionsResult(directories={"shoes": there(1, 3, left={"2": "has no variables"})})
    [told] = problems(config, found)
    assert "version 2 is named by policy or label, and is left out: 2 has no variables" in told
    assert "Allowed: 1, 3" in told


@pytest.mark.parametrize(
    ("entry", "service"),
    [
        ({"policy": {"specific": [1, 2]}}, SERVICE),
        ({"policy": "all"}, {**SERVICE, "models": {"shoes": {"labels": {"blue": 2}}}}),
        ({"policy": "all"}, {**SERVICE, "models": {"shoes": {"policy": {"specific": [2]}}}}),
    ],
)
def test_whoever_names_a_version_that_was_left_out_is_told_once_and_why(
    entry: dict[str, Any], service: dict[str, Any]
) -> None:
    config = stack({"web": service}, shoes={**FROM, **entry})
    found = FindVersionsResult(directories={"shoes": there(1, 3, left={"2": "has no variables"})})
    [told] = problems(config, found)
    assert told.startswith("tf-serving:models.shoes.versions: version 2 is named")


def test_a_second_name_of_the_directory_is_told_as_the_first_one_is() -> None:
    config = stack(shoes=FROM, boots={"path": "shoes", "policy": "all", "labels": {"stable": 2}})
    [told] = problems(config, FindVersionsResult(directories={"shoes": there(1, left={"2": "has no variables"})}))
    assert "2 has no variables" in told


def test_another_spelling_of_a_number_is_in_the_way_of_no_version_that_is_complete() -> None:
    config = stack(shoes={**FROM, "policy": "all", "labels": {"stable": 7}})
    assert read(config, shoes=there(1, 7, left={"007": "is odd", "07": "is odd"})).published == {"shoes": (1, 7)}
    [told] = problems(config, FindVersionsResult(directories={"shoes": there(1, left={"007": "is odd", "07": "too"})}))
    assert "version 7 is named by policy or label, and is left out: 007 is odd" in told


def test_a_bucket_that_is_not_known_yet_says_nothing_about_another_one() -> None:
    config = stack(shoes=FROM, hats=FROM)
    found = FindVersionsResult(directories={"shoes": there(1), "hats": FoundDirectory(known=False)})
    [told] = problems(config, found)
    assert told.startswith("tf-serving:models.hats.versions: what is in the bucket is not known")


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (FindVersionsResult(known=False, directories={}), "is not known"),
        (FindVersionsResult(directories={"shoes": FoundDirectory(known=False)}), "is not known"),
        (FindVersionsResult(directories={"shoes": FoundDirectory(exists=False)}), "the bucket is not there"),
    ],
)
def test_a_bucket_that_nobody_can_look_at_is_refused(found: FindVersionsResult, words: str) -> None:
    [problem] = problems(stack(shoes=FROM), found)
    assert problem.startswith("tf-serving:models.shoes.versions: ")
    assert words in problem


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"versions": {"from": "buckets"}}, "versions.from"),
        ({"versions": {"of": "bucket"}}, "versions"),
        ({"versions": {}}, "versions.from"),
        ({**FROM, "source": "oss://other-bucket/exports/"}, "remove source, or versions"),
        ({**FROM, "keep": 0}, "keep"),
        ({**FROM, "keep": "three"}, "keep"),
    ],
)
def test_mistakes_are_said_before_anybody_looks(entry: dict[str, Any], words: str) -> None:
    assert words in "\n".join(problems(stack(shoes=entry)))


def test_other_problems_are_said_before_anybody_looks() -> None:
    config = stack(services={"web": {**SERVICE, "port": "many"}}, shoes={**FROM, "labels": {"stable": 9}})
    [problem] = problems(config)
    assert "port" in problem


def test_two_names_of_a_directory_have_the_same_versions() -> None:
    settings = read(stack(shoes=FROM, boots={"path": "shoes", "policy": {"latest": 2}}), shoes=there(1, 2))
    assert settings.published == {"shoes": (1, 2), "boots": (1, 2)}
    policies = {model.name: model.policy.versions for model in settings.sets[0].config.models}
    assert policies == {"shoes": (2,), "boots": (1, 2)}


def test_what_is_published_says_that_nobody_named_it() -> None:
    settings = read(stack(shoes=FROM, bags={"versions": [3]}), shoes=there(1))
    found = {each.name: (each.from_bucket, dict(each.versions)) for each in model_files.sources(settings, HashCache())}
    assert found == {"shoes": (True, {"1": "any"}), "bags": (False, {"3": "any"})}


@pytest.mark.parametrize("rollout", ["poll", "restart"])
def test_pods_serve_what_was_found(rollout: str) -> None:
    pods = {"target": "ack", "configFile": True, "rollout": rollout, "allowLabelsForUnavailableVersions": True}
    config = stack({"pods": pods}, shoes={**FROM, "labels": {"stable": 1}})
    config["tf-serving:kubernetes"] = {"namespace": "default", "volume": {"roleName": "oss-reader"}}
    assert parse(config, Path("/nowhere")).asked
    [model] = read(config, shoes=there(1, 2)).serving.models
    assert model.policy.versions == (1, 2)


def test_a_server_of_one_model_goes_by_the_files_and_that_is_said() -> None:
    services = {"web": SERVICE, "single": {"deployment": "custom", "model": "shoes"}}
    settings = read(stack(services, shoes=FROM), shoes=there(1))
    assert [each for each in settings.warnings if each.startswith("service single: it serves one model")]
    assert not [each for each in settings.warnings if each.startswith("service web: it serves one model")]


# ---- keep


def test_the_highest_stay_and_what_a_label_or_a_policy_names() -> None:
    policy = {"specific": [2, 9, 10]}
    config = stack(shoes={"versions": list(range(1, 11)), "keep": 3, "policy": policy, "labels": {"old": 2}})
    assert read(config, shoes=there()).published["shoes"] == (2, 8, 9, 10)


def test_policy_all_is_no_reason_to_stay_and_latest_is() -> None:
    every = stack(shoes={**FROM, "keep": 2, "policy": "all"})
    assert read(every, shoes=there(1, 2, 3, 4)).published["shoes"] == (3, 4)
    highest = stack(shoes={**FROM, "keep": 2, "policy": {"latest": 3}})
    assert read(highest, shoes=there(1, 2, 3, 4)).published["shoes"] == (2, 3, 4)


def test_what_another_service_chooses_and_another_name_of_the_directory_stays() -> None:
    services = {
        "web": SERVICE,
        "canary": {**SERVICE, "models": {"shoes": {"policy": {"specific": [1, 6]}, "labels": {"blue": 1}}}},
    }
    boots = {"path": "shoes", "policy": {"specific": [2, 6]}}
    config = stack(services, shoes={**FROM, "keep": 1}, boots=boots)
    settings = read(config, shoes=there(*range(1, 7)))
    assert settings.published["shoes"] == (1, 2, 6) == settings.published["boots"]


def test_what_this_stack_published_stays_although_the_source_has_it_no_longer(project: Path, publish: Publish) -> None:
    publish(project / "exports" / "shoes", 5)
    shoes = {"source": "exports/shoes", "keep": 3, "policy": {"specific": [4, 5]}, "labels": {"stable": 4}}
    config = stack(shoes=shoes)
    assert [each.place for each in parse(config, project).asked] == ["shoes"]
    found = FindVersionsResult(directories={"shoes": there(1, 2, 3, 4, 9, own=(1, 2, 3, 4))})
    settings = parse(config, project, found=found)
    assert settings.published["shoes"] == (3, 4, 5)
    [source] = model_files.sources(settings, HashCache())
    assert source.versions["4"] == "any"
    assert source.versions["5"].startswith("sha256:")


def test_a_bucket_that_is_yet_to_be_made_holds_nothing_that_could_stay(project: Path, publish: Publish) -> None:
    publish(project / "exports" / "shoes", 5)
    config = stack(shoes={"source": "exports/shoes", "keep": 3})
    absent = FindVersionsResult(directories={"shoes": FoundDirectory(exists=False)})
    for found in (absent, FindVersionsResult(known=False, directories={})):
        assert parse(config, project, found=found).published["shoes"] == (5,)


def test_one_of_two_names_says_what_stays() -> None:
    [problem] = problems(stack(shoes=FROM, boots={"path": "shoes", "keep": 2}))
    assert problem.startswith("tf-serving:models.boots.keep: ")


@examples(
    st.sets(st.integers(0, 40), min_size=1), st.integers(1, 8), st.lists(st.integers(0, 40), max_size=4), st.data()
)
def test_whatever_is_named_stays_and_nothing_that_is_not_there(
    present: set[int], keep: int, named: list[int], data: st.DataObject
) -> None:
    chosen = sorted(set(named) & present) or [max(present)]
    label = data.draw(st.sampled_from(chosen))
    config = stack(shoes={**FROM, "keep": keep, "policy": {"specific": chosen}, "labels": {"stable": label}})
    kept = set(read(config, shoes=there(*sorted(present))).published["shoes"])
    assert set(chosen) <= kept <= present
    assert set(sorted(present)[-keep:]) <= kept
    assert len(kept) <= keep + len(chosen)
