"""What a valid stack config becomes, and how the problems of an invalid one are told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from config import model_files
from config.stack import Settings, StackOptions, parse
from tfserving import manifest
from tfserving.errors import ConfigError
from tfserving.manifest import HashCache
from tfserving.model_config import VersionPolicy
from tfserving.options import is_mapping, options

Change = Callable[[dict[str, Any]], dict[str, Any]]
Publish = Callable[..., Path]

ROOT = Path(__file__).resolve().parents[2]
HTTP = "tf-serving:services.multi_http"


def problems(config: dict[str, Any], project: Path, **options: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(config, project, **options)
    return [str(problem) for problem in caught.value.problems]


def service(settings: Settings, name: str) -> Any:
    return next(found for found in settings.services if found.name == name)


def as_the_cli_hands_it_over(config: dict[str, Any]) -> dict[str, str]:
    """Every value as text, structured ones as JSON."""
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in config.items()}


def test_text_and_structure_mean_the_same(good: dict[str, Any], project: Path) -> None:
    assert parse(as_the_cli_hands_it_over(good), project) == parse(good, project)


def test_scalars_may_be_text(changed: Change, project: Path) -> None:
    config = changed(
        {
            f"{HTTP}.port": "8501",
            f"{HTTP}.configFile": "true",
            f"{HTTP}.configPollSeconds": "2",
            "tf-serving:models.modelB.labels.stable": "1",
            "tf-serving:models.modelB.policy": {"specific": ["1", "2"]},
            "tf-serving:bucket.forceDestroy": "true",
        }
    )
    settings = parse(config, project)
    spec = service(settings, "multi_http").spec
    assert (spec.port, spec.config_file, spec.config_poll_seconds) == (8501, True, 2)
    model = settings.serving.get("modelB")
    assert model is not None
    assert dict(model.labels) == {"stable": 1, "canary": 2}
    assert model.policy == VersionPolicy.specific([1, 2])
    assert settings.bucket.force_destroy


def test_models_are_served_from_the_mount_path_of_the_services(changed: Change, project: Path) -> None:
    paths = {f"tf-serving:services.{name}.mountPath": "/mnt/models/" for name in ("multi_http", "multi_grpc")}
    settings = parse(changed(paths), project)
    assert [model.base_path for model in settings.serving.models] == [f"/mnt/models/model{name}" for name in "ABC"]


def test_versions_come_from_the_source_directory(good: dict[str, Any], project: Path) -> None:
    settings = parse(good, project)
    assert settings.published == {"modelA": (1,), "modelB": (1, 2), "modelC": (1, 2, 3)}
    assert settings.served_versions("modelC") == (2, 3)
    assert settings.models[0].source == "models/modelA"


def test_versions_in_the_bucket_need_no_directory(changed: Change, tmp_path: Path) -> None:
    models = {"modelB": {"versions": [2, 1], "policy": {"latest": 1}, "labels": {"stable": 2}}}
    settings = parse(changed({"tf-serving:modelSource": ..., "tf-serving:models": models}), tmp_path)
    assert settings.models[0].versions == (1, 2)
    assert settings.models[0].directory is None
    assert settings.served_versions("modelB") == (2,)


def test_one_model_may_have_a_source_of_its_own(changed: Change, project: Path, publish: Publish) -> None:
    publish(project / "exports" / "newest", 7)
    settings = parse(changed({"tf-serving:models.modelD": {"source": "exports/newest"}}), project)
    assert settings.published["modelD"] == (7,)
    assert settings.models[-1].source == "exports/newest"


def test_one_endpoint_stands_for_every_product(changed: Change, project: Path) -> None:
    settings = parse(changed({"tf-serving:endpoints": {"oss": "127.0.0.1:9"}}), project)
    assert (settings.endpoints.oss, settings.endpoints.eas) == ("127.0.0.1:9", "127.0.0.1:17580")


def test_a_bucket_may_be_just_a_name(changed: Change, project: Path) -> None:
    bucket = parse(changed({"tf-serving:bucket": "examplebucket"}), project).bucket
    assert (bucket.name, bucket.existing, bucket.force_destroy) == ("examplebucket", False, False)


@pytest.mark.parametrize(("given", "root"), [("a/b", "a/b/"), ("a/b/", "a/b/"), ("", ""), ("/", None)])
def test_the_model_root_ends_in_one_slash(changed: Change, project: Path, given: str, root: str | None) -> None:
    config = changed({"tf-serving:modelRoot": given})
    if root is None:
        assert any("leading slash" in text for text in problems(config, project))
    else:
        assert parse(config, project).model_root == root


def test_batching_and_monitoring_become_files_beside_the_models(changed: Change, project: Path) -> None:
    config = changed({f"{HTTP}.batching": {"max_batch_size": 16}, f"{HTTP}.monitoring": True})
    found = service(parse(config, project), "multi_http")
    batching, monitoring = found.start_files
    assert batching.text == "max_batch_size { value: 16 }\n"
    assert "enable: true" in monitoring.text
    assert found.spec.batching_parameters_file == f"/models/{batching.name}"
    assert found.spec.monitoring_config_file == f"/models/{monitoring.name}"


def test_changed_batching_is_another_file(changed: Change, project: Path) -> None:
    names = {
        service(parse(changed({f"{HTTP}.batching": {"max_batch_size": size}}), project), "multi_http")
        .start_files[0]
        .name
        for size in (16, 32)
    }
    assert len(names) == 2


def test_every_part_of_a_service_reaches_its_spec(changed: Change, project: Path) -> None:
    keys = {
        "deployment": "custom",
        "image": "tensorflow-serving:2.14.1-gpu",
        "model": "modelA",
        "modelName": "fashion",
        "instanceTypes": [
            {"type": "ecs.gn6i-c4g1.xlarge", "spotPriceLimit": "0.5", "capacity": "20%"},
            "ecs.gn7i-c8g1.2xlarge",
        ],
        "disableSpotProtection": True,
        "vpc": {"vpcId": "vpc-1", "vswitchIds": "vsw-1,vsw-2", "securityGroupId": "sg-1"},
        "gateway": "gw-1",
        "autoscaler": {
            "min": 1,
            "max": "4",
            "metrics": {"qps": "50", "gpu[util]": 60},
            "scaleDownStabilizationSeconds": 60,
        },
        "rollingStrategy": {"maxSurge": "50%", "maxUnavailable": 0},
        "healthCheck": {
            "startup": {"kind": "http", "path": "/v1/models/fashion", "periodSeconds": 5, "failureThreshold": 99},
            "liveness": {"kind": "exec", "command": ["true"]},
        },
        "env": {"LEVEL": 1, "TRACE": True, "NAME": "x"},
        "flags": {"num_load_threads": "2", "enable_profiler": "false", "rest_api_timeout_in_ms": 5000},
        "labels": {"team": "vision"},
        "extraConfig": {"metadata": {"shm_size": 8}},
        "reachable": False,
        "adopt": True,
        "timeouts": {"create": "1h30m", "update": 600},
        "workspaceId": 123456,
        "rpcKeepaliveMs": 5000,
    }
    found = service(parse(changed({"tf-serving:services.one_gpu": keys}), project), "one_gpu")
    spec = found.spec
    assert spec.region == "cn-hangzhou"
    assert [(item.type, item.spot_price_limit, item.capacity) for item in spec.instance_types] == [
        ("ecs.gn6i-c4g1.xlarge", 0.5, "20%"),
        ("ecs.gn7i-c8g1.2xlarge", None, None),
    ]
    assert spec.vpc is not None
    assert spec.vpc.vswitch_ids == ("vsw-1", "vsw-2")
    assert spec.autoscaler is not None
    assert [(metric.name, metric.threshold) for metric in spec.autoscaler.metrics] == [("qps", 50), ("gpu[util]", 60)]
    assert spec.autoscaler.scale_down_stabilization_seconds == 60
    assert spec.rolling_strategy is not None
    assert spec.rolling_strategy.max_surge == "50%"
    assert spec.health_checks is not None
    assert spec.health_checks.startup is not None
    assert spec.health_checks.startup.path == "/v1/models/fashion"
    assert spec.health_checks.liveness is not None
    assert spec.health_checks.liveness.command == ("true",)
    assert spec.health_checks.readiness is None
    assert spec.env == {"LEVEL": "1", "TRACE": "true", "NAME": "x"}
    assert spec.flags == {"num_load_threads": 2, "enable_profiler": False, "rest_api_timeout_in_ms": 5000}
    assert spec.workspace_id == "123456"
    assert spec.extra_config == {"metadata": {"shm_size": 8}}
    assert (found.reachable, found.adopt) == (False, True)
    assert (found.timeouts.create, found.timeouts.update, found.timeouts.delete) == ("1h30m", "600s", "")
    assert found.request_name == "fashion"


# ---- model directories


def test_hidden_directories_and_files_are_no_error(good: dict[str, Any], project: Path) -> None:
    (project / "models" / "modelB" / ".staging").mkdir()
    (project / "models" / "modelB" / "README.md").write_text("notes", encoding="utf-8")
    settings = parse(good, project)
    assert settings.published["modelB"] == (1, 2)
    assert any("README.md" in warning for warning in settings.warnings)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda model: (model / "1" / "saved_model.pb").unlink(), "no saved_model.pb"),
        (lambda model: (model / "1" / "saved_model.pb").write_bytes(b"\xff\xff"), "cannot be parsed"),
        (lambda model: (model / "01").mkdir(), "both version 1"),
        (lambda model: (model / "3").write_text("x", encoding="utf-8"), "is a file"),
        (lambda model: (model / "-1").mkdir(), "negative"),
        (lambda model: (model / "1").rename(model / "v1"), "no version directory"),
    ],
)
def test_a_broken_model_directory_is_refused(
    good: dict[str, Any], project: Path, spoil: Callable[[Path], object], words: str
) -> None:
    spoil(project / "models" / "modelA")
    found = problems(good, project)
    assert all(text.startswith("tf-serving:models.modelA: ") for text in found)
    assert any(words in text for text in found)


def test_a_model_source_that_is_a_file_is_refused(good: dict[str, Any], project: Path) -> None:
    (project / "models").rename(project / "elsewhere")
    (project / "models").write_text("x", encoding="utf-8")
    assert len(problems(good, project)) == 3


# ---- all problems at once


def test_all_problems_of_a_stack_are_in_one_error(changed: Change, project: Path) -> None:
    config = changed(
        {
            "alicloud:region": ...,
            "tf-serving:modls": {},
            "tf-serving:bucket.name": "Not A Bucket",
            "tf-serving:models.modelB.labels.stable": 9,
            "tf-serving:models.modelC.source": "nowhere",
            f"{HTTP}.port": 8080,
            f"{HTTP}.replicas": 0,
            "tf-serving:services.multi_grpc.image": "tensorflow-serving:latest",
        }
    )
    paths = [text.split(": ")[0] for text in problems(config, project)]
    assert paths == [
        "tf-serving:modls",
        "alicloud:region",
        "tf-serving:bucket.name",
        "tf-serving:models.modelC.source",
        f"{HTTP}.port",
        f"{HTTP}.replicas",
        "tf-serving:services.multi_grpc.image",
        "tf-serving:models.modelB.labels.stable",
    ]


def test_each_problem_is_told_once(changed: Change, project: Path) -> None:
    found = problems(changed({"tf-serving:bucket": "Bad", "alicloud:region": "Nowhere"}), project)
    assert len(found) == 2


def test_a_service_that_is_no_mapping_has_one_problem(changed: Change, project: Path) -> None:
    assert len(problems(changed({"tf-serving:services.multi_http": "custom"}), project)) == 1


# ---- secrets


def test_a_token_in_the_clear_is_refused_and_never_shown(changed: Change, project: Path) -> None:
    config = changed({f"{HTTP}.token": "hunter2-and-more-of-it"})
    (found,) = problems(config, project, secret_keys=())
    assert "pulumi config set --secret" in found
    assert "hunter2" not in found


def test_a_secret_token_is_taken_and_kept_out_of_texts(changed: Change, project: Path) -> None:
    config = changed({f"{HTTP}.token": "hunter2-and-more-of-it"})
    settings = parse(config, project, secret_keys={"tf-serving:services"})
    assert service(settings, "multi_http").spec.token == "hunter2-and-more-of-it"
    assert "hunter2" not in repr(settings)


def test_values_that_may_be_secret_are_not_shown(changed: Change, project: Path) -> None:
    config = changed(
        {f"{HTTP}.replicas": "hunter2", "alicloud:secretKey": ["hunter2"], "alicloud:accessKey": {"hunter2": 1}}
    )
    found = problems(config, project, secret_keys={"tf-serving:services"})
    assert len(found) == 3
    assert not any("hunter2" in text for text in found)


def test_a_real_secret_key_in_the_clear_is_refused(changed: Change, project: Path) -> None:
    real = {"tf-serving:endpoint": "", "alicloud:protocol": "HTTPS", "alicloud:secretKey": "hunter2"}
    (found,) = problems(changed(real), project, secret_keys=())
    assert found.startswith("alicloud:secretKey: ")
    assert "hunter2" not in found
    parse(changed(real), project, secret_keys={"alicloud:secretKey"})


def test_credentials_are_not_in_the_repr(good: dict[str, Any], project: Path) -> None:
    assert "access_key" not in repr(parse(good, project))


# ---- warnings


def test_labels_on_a_scenario_deployment_rest_on_eas(changed: Change, project: Path) -> None:
    scene = {"deployment": "scenario", "configFile": True}
    settings = parse(changed({"tf-serving:services.multi_scene": scene}), project)
    assert any(text.startswith("service multi_scene: ") and "rests on EAS" in text for text in settings.warnings)


# ---- the stacks of this repository


def stack_config(name: str) -> dict[str, Any]:
    config = yaml.safe_load((ROOT / "stacks" / f"Pulumi.{name}.yaml").read_text(encoding="utf-8"))["config"]
    return as_the_cli_hands_it_over(config)


@pytest.mark.parametrize("name", ["local", "dev", "prod"])
def test_the_stacks_of_this_repository_are_valid(name: str, project: Path) -> None:
    config = stack_config(name)
    if "tf-serving:modelSource" in config:
        config["tf-serving:modelSource"] = "models"
    settings = parse(config, project, secret_keys=())
    assert settings.serving.names == ("modelA", "modelB", "modelC")
    assert settings.published == {"modelA": (1,), "modelB": (1, 2), "modelC": (1, 2, 3)}


def test_the_dev_stack_shows_every_way_to_deploy(project: Path) -> None:
    settings = parse({**stack_config("dev"), "tf-serving:modelSource": "models"}, project)
    ways = {
        (found.spec.deployment, found.spec.config_file, found.protocol, bool(found.spec.command))
        for found in settings.services
    }
    assert ways == {
        ("scenario", False, "http", False),
        ("scenario", True, "http", False),
        ("custom", False, "http", False),
        ("custom", True, "http", False),
        ("custom", True, "grpc", False),
        ("custom", False, "http", True),
    }
    assert any(found.spec.image.endswith("-gpu") for found in settings.services)


def test_the_local_stack_warns_of_nothing(project: Path) -> None:
    settings = parse({**stack_config("local"), "tf-serving:modelSource": "models"}, project)
    assert settings.warnings == ()
    assert settings.endpoints.all == settings.endpoints.oss == settings.endpoints.eas


def test_pulumi_yaml_declares_the_keys_that_are_read(good: dict[str, Any], project: Path) -> None:
    declared = yaml.safe_load((ROOT / "Pulumi.yaml").read_text(encoding="utf-8"))["config"]
    text = " ".join(problems({**good, "tf-serving:zzz": 1}, project))
    allowed = text.split("Allowed: ")[1].split(". ")[0].rstrip(".").split(", ")
    assert sorted(declared) == sorted(allowed)


def test_no_key_of_pulumi_yaml_is_checked_by_the_cli_in_words_of_its_own() -> None:
    declared = yaml.safe_load((ROOT / "Pulumi.yaml").read_text(encoding="utf-8"))["config"]
    for key, rule in declared.items():
        assert "type" not in rule, f"{key}: the CLI refuses other types before the program runs"
        assert "default" in rule, f"{key}: the CLI refuses a stack without it before the program runs"


MAPPINGS = [each.key for each in options(StackOptions) if is_mapping(each.plain_type) or is_dataclass(each.plain_type)]


@pytest.mark.parametrize("key", MAPPINGS)
def test_a_key_with_nothing_behind_it_is_as_good_as_none(good: dict[str, Any], project: Path, key: str) -> None:
    full = f"tf-serving:{key}"
    without = {name: value for name, value in good.items() if name != full}

    def outcome(config: dict[str, Any]) -> Any:
        try:
            return parse(config, project)
        except ConfigError as error:
            return error.problems

    assert outcome({**good, full: ""}) == outcome(without)


@pytest.mark.parametrize("key", MAPPINGS)
@pytest.mark.parametrize("value", [False, "false"])
def test_a_mapping_is_not_switched_off_by_false_and_the_message_says_what_to_do(
    good: dict[str, Any], project: Path, key: str, value: Any
) -> None:
    every = problems({**good, f"tf-serving:{key}": value}, project)
    told = [text for text in every if f"tf-serving:{key}: " in text]
    assert len(told) == 1
    assert key in ("models", "services") or every == told, "what follows from it is not said"
    assert "is not a mapping" in told[0]
    assert "remove the key" in told[0]


def test_defaults_of_pulumi_yaml_are_accepted(good: dict[str, Any], project: Path) -> None:
    declared = yaml.safe_load((ROOT / "Pulumi.yaml").read_text(encoding="utf-8"))["config"]
    defaults = {f"tf-serving:{key}": rule["default"] for key, rule in declared.items() if "default" in rule}
    config = as_the_cli_hands_it_over({**defaults, **good})
    assert parse(config, project) == parse(good, project)


# ---- where versions come from


def commit(project: Path, name: str, *numbers: int) -> None:
    """Writes the manifests of versions, as ``python -m ops manifest`` does."""
    target = project / "manifests" / name
    target.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        found = manifest.build(project / "models" / name / str(number))
        (target / f"{number}.manifest.json").write_text(found.to_json())


def test_with_manifests_no_model_files_are_needed(good: dict[str, Any], project: Path) -> None:
    for name, numbers in {"modelA": [1], "modelB": [1, 2], "modelC": [1, 2, 3]}.items():
        commit(project, name, *numbers)
    good["tf-serving:manifests"] = "manifests"
    here = model_files.sources(parse(good, project), HashCache())
    shutil.rmtree(project / "models")
    cache = HashCache()
    settings = parse(good, project, cache=cache)
    assert model_files.sources(settings, cache) == here
    assert settings.published == {"modelA": (1,), "modelB": (1, 2), "modelC": (1, 2, 3)}
    assert model_files.signatures(settings, cache) == {"modelA": {}, "modelB": {}, "modelC": {}}


def test_files_that_are_not_those_of_their_manifest_are_refused_by_name(
    good: dict[str, Any], project: Path, publish: Publish
) -> None:
    commit(project, "modelC", 1, 2, 3)
    good["tf-serving:manifests"] = "manifests/"
    shutil.rmtree(project / "models" / "modelC" / "2")
    publish(project / "models" / "modelC", 2, classes=7)
    with pytest.raises(ConfigError, match=r"not those of the manifest in manifests/modelC \(~ saved_model\.pb\)"):
        model_files.sources(parse(good, project), HashCache())


def test_a_version_without_a_manifest_is_not_published_where_its_model_has_some(
    good: dict[str, Any], project: Path, publish: Publish
) -> None:
    commit(project, "modelC", 2, 3)
    good["tf-serving:manifests"] = "manifests"
    settings = parse(good, project)
    assert settings.published["modelC"] == (2, 3)
    assert any("version 1 in models/modelC has no manifest" in warning for warning in settings.warnings)


def test_a_damaged_manifest_is_a_problem_of_the_stack(good: dict[str, Any], project: Path) -> None:
    commit(project, "modelA", 1)
    (project / "manifests" / "modelA" / "1.manifest.json").write_text("{}")
    (message,) = problems({**good, "tf-serving:manifests": "manifests"}, project)
    assert message.startswith("tf-serving:manifests.modelA: ")
    assert "1.manifest.json: not a manifest" in message


def test_a_source_in_oss_names_its_versions_or_has_manifests(changed: Change, project: Path) -> None:
    commit(project, "modelB", 1, 2)
    config = changed(
        {
            "tf-serving:manifests": "manifests",
            "tf-serving:models.modelA": {"source": "oss://training/exports/modelA/", "versions": [1, 5]},
            "tf-serving:models.modelB.source": "oss://training/exports/modelB/",
        }
    )
    sources = {found.name: found for found in model_files.sources(parse(config, project), HashCache())}
    assert sources["modelA"].source == "oss://training/exports/modelA/"
    assert sources["modelA"].versions == {"1": "any", "5": "any"}
    assert sources["modelB"].versions == {
        str(number): manifest.build(project / "models" / "modelB" / str(number)).digest for number in (1, 2)
    }
    assert sources["modelB"].manifests == "manifests/modelB"
