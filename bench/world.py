"""What the benchmarks work on: a sandbox cloud, projects of a chosen size, and model files that take no room."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import alibabacloud_oss_v2 as oss
import yaml

from bench.measure import ROOT, Run, python, run, stop
from sandbox import keys
from sandbox.ports import free_port
from tfserving import manifest
from tfserving.manifest import HashCache
from tfserving.protos import tf_serving_pb2 as pb
from tfserving.saved_model import SERVING_SIGNATURE

BUCKET = "bench"
REGION = "cn-hangzhou"
OWNER = "tf-serving/bench"
MODEL_ROOT = "models/tf_serving/"
DATA_FILE = "assets/data.bin"
PASSPHRASE = "tf-serving-sandbox"  # noqa: S105 (protects nothing: the state of a throw-away stack)
_PROGRAMS = Path(__file__).parent / "programs"
_LEFT_OUT = {".git", ".venv", ".sandbox", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"}


# ---- cloud ---------------------------------------------------------------------------------------------------------


def sdk_client(port: int) -> oss.Client:
    """The official OSS client with its defaults."""
    settings = oss.config.load_default()
    settings.credentials_provider = oss.credentials.StaticCredentialsProvider("sandbox", "sandbox")
    settings.region, settings.endpoint = REGION, f"http://127.0.0.1:{port}"
    return oss.Client(settings)


class Cloud:
    """A sandbox cloud with one bucket, not versioned.

    Attributes:
        port: where every API answers.
        client: the official OSS client, for preparations.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.client = sdk_client(port)

    def empty(self, prefix: str = "") -> None:
        """Remove objects and unfinished uploads."""
        while True:
            page = self.client.list_objects_v2(oss.ListObjectsV2Request(bucket=BUCKET, prefix=prefix, max_keys=1000))
            keys = [oss.DeleteObject(key=item.key) for item in page.contents or ()]
            if not keys:
                break
            self.client.delete_multiple_objects(oss.DeleteMultipleObjectsRequest(bucket=BUCKET, objects=keys))
        uploads = self.client.list_multipart_uploads(oss.ListMultipartUploadsRequest(bucket=BUCKET, prefix=prefix))
        for upload in uploads.uploads or ():
            self.client.abort_multipart_upload(
                oss.AbortMultipartUploadRequest(bucket=BUCKET, key=upload.key, upload_id=upload.upload_id)
            )

    def put(self, key: str, content: bytes) -> None:
        """Write one object."""
        self.client.put_object(oss.PutObjectRequest(bucket=BUCKET, key=key, body=content))

    def copy(self, source: str, key: str) -> None:
        """Copy one object on the server."""
        self.client.copy_object(oss.CopyObjectRequest(bucket=BUCKET, key=key, source_bucket=BUCKET, source_key=source))


@contextmanager
def cloud(directory: Path) -> Iterator[Cloud]:
    """A sandbox cloud whose objects lie below a directory.

    Raises:
        RuntimeError: it does not start.
    """
    port = free_port()
    process = subprocess.Popen(
        python("-m", "sandbox", "cloud", "run", "--port", str(port), "--data", str(directory / "data")),
        cwd=ROOT,
        env={**os.environ, keys.ID_VARIABLE: "sandbox", keys.SECRET_VARIABLE: "sandbox"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while True:
            try:
                opener.open(f"http://127.0.0.1:{port}/", timeout=2).close()
                break
            except urllib.error.HTTPError:
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("the sandbox cloud does not start") from None
                time.sleep(0.1)
        found = Cloud(port)
        found.client.put_bucket(oss.PutBucketRequest(bucket=BUCKET))
        yield found
    finally:
        stop(process)


# ---- models --------------------------------------------------------------------------------------------------------


def saved_model() -> bytes:
    """A ``saved_model.pb`` with a signature and without variables, whose table would have to be a real one."""
    graph = pb.MetaGraphDef()
    graph.meta_info_def.tags.append("serve")
    signature = graph.signature_def[SERVING_SIGNATURE]
    signature.method_name = "tensorflow/serving/predict"
    for tensors in (signature.inputs, signature.outputs):
        tensors["x"].CopyFrom(pb.TensorInfo(name="x:0", dtype=pb.DT_FLOAT))
    return pb.SavedModel(saved_model_schema_version=1, meta_graphs=[graph]).SerializeToString()


def write_version(directory: Path, size: int) -> None:
    """A version of four files and about ``size`` bytes; the largest is a hole and takes no room."""
    (directory / "assets").mkdir(parents=True)
    (directory / "saved_model.pb").write_bytes(saved_model())
    (directory / "fingerprint.pb").write_bytes(b"fingerprint")
    (directory / "assets" / "words.txt").write_bytes(b"words")
    with open(directory / DATA_FILE, "wb") as file:
        file.truncate(size)


def names(versions: int, models: int) -> dict[str, list[int]]:
    """So many versions in so many models, as evenly as it goes."""
    found: dict[str, list[int]] = {f"m{index:04}": [] for index in range(models)}
    for index in range(versions):
        found[f"m{index % models:04}"].append(index // models + 1)
    return found


def publish_beforehand(cloud: Cloud, models: Path, wanted: Mapping[str, list[int]], size: int) -> None:
    """Put versions where a stack would have published them, without sending or reading what is all the same.

    The hashes of the large files, which are equal everywhere, are computed once and told to the cache.
    """
    sample = models / next(iter(wanted)) / "1"
    known = HashCache().hashes(sample / DATA_FILE)
    with open(sample / DATA_FILE, "rb") as file:
        cloud.client.put_object(oss.PutObjectRequest(bucket=BUCKET, key="data", body=file))
    with manifest.user_cache() as cache:
        for model, versions in wanted.items():
            for version in versions:
                directory = models / model / str(version)
                cache.derive(directory / DATA_FILE, "hashes", lambda _: list(known[1:]))
                found = manifest.build(directory, cache)
                at = f"{MODEL_ROOT}{model}/{version}"
                for entry in found.files:
                    if entry.path == DATA_FILE:
                        cloud.copy("data", f"{at}/{entry.path}")
                    else:
                        cloud.put(f"{at}/{entry.path}", (directory / entry.path).read_bytes())
                cloud.put(f"{at}{manifest.SUFFIX}", manifest.Manifest(found.files, OWNER).to_json().encode())


# ---- projects ------------------------------------------------------------------------------------------------------


class Project:
    """A project of its own on this machine that shares the code and the installed packages of this one."""

    def __init__(self, directory: Path, program: str, config: Mapping[str, Any]) -> None:
        """Args:
        directory: where to make it.
        program: a file of ``bench/programs``.
        config: stack config of its one stack, ``bench``.
        """
        self.root = directory
        (directory / "stacks").mkdir(parents=True)
        (directory / "backend").mkdir()
        for name in ("components", "config", "tfserving", "plugin", "provider", "sandbox", "templates"):
            (directory / name).symlink_to(ROOT / name, target_is_directory=True)
        (directory / ".venv").symlink_to((ROOT / ".venv").resolve(), target_is_directory=True)
        shutil.copy(ROOT / "Pulumi.yaml", directory / "Pulumi.yaml")
        shutil.copy(_PROGRAMS / program, directory / "__main__.py")
        stack = yaml.safe_dump({"config": dict(config)}, sort_keys=False)
        (directory / "stacks" / "Pulumi.bench.yaml").write_text(stack, encoding="utf-8")

    def engine(self, engine: str, *arguments: str, sample: bool = False, env: Mapping[str, str] | None = None) -> Run:
        """Run a command of an engine, ``pulumi`` or ``sandbox``, on the stack."""
        if engine == "sandbox":
            command = python("-m", "sandbox", *arguments, "--stack", "bench", "--cwd", str(self.root))
            return run(command, ROOT, env, sample=sample)
        settings = {
            "PULUMI_BACKEND_URL": f"file://{self.root / 'backend'}",
            "PULUMI_CONFIG_PASSPHRASE": PASSPHRASE,
            "PULUMI_SKIP_UPDATE_CHECK": "true",
        }
        command = ["pulumi", *arguments, "--stack", "bench", "--non-interactive", "--color", "never"]
        return run(command, self.root, {**settings, **(env or {})}, sample=sample)

    def up(self, engine: str) -> None:
        """Bring the stack to where a preview has nothing to say."""
        if engine == "pulumi":
            self.engine(engine, "stack", "select", "--create")
        self.engine(engine, "up", "--yes")


def engines() -> list[str]:
    """The engines on this machine: the Pulumi CLI where it is on PATH, and the sandbox engine."""
    return [*(["pulumi"] if shutil.which("pulumi") else []), "sandbox"]


def stack_config(port: int, models: Path, wanted: Mapping[str, list[int]]) -> dict[str, Any]:
    """The config of a stack that publishes models from a local directory into an existing bucket."""
    return {
        "alicloud:region": REGION,
        "alicloud:protocol": "HTTP",
        "alicloud:accountType": "Domestic",
        "alicloud:skipRegionValidation": "true",
        "alicloud:accessKey": "sandbox",
        "alicloud:secretKey": "sandbox",
        "tf-serving:endpoint": f"127.0.0.1:{port}",
        "tf-serving:bucket": {"name": BUCKET, "existing": True},
        "tf-serving:modelRoot": MODEL_ROOT,
        "tf-serving:modelSource": str(models),
        "tf-serving:models": {name: {"policy": "all"} for name in wanted},
        "tf-serving:services": {
            "bench": {
                "deployment": "custom",
                "image": "tensorflow-serving:2.14.1",
                "configFile": True,
                "configPollSeconds": 2,
                "allowLabelsForUnavailableVersions": True,
                "flags": {"num_load_threads": 2},
            }
        },
    }


def checkout(directory: Path) -> Path:
    """A copy of the project with a port of its own, as a second clone would be; its root."""
    root = directory / "checkout"
    shutil.copytree(ROOT, root, ignore=lambda _, found: _LEFT_OUT.intersection(found), symlinks=True)
    (root / ".venv").symlink_to((ROOT / ".venv").resolve(), target_is_directory=True)
    file = root / "stacks" / "Pulumi.local.yaml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("127.0.0.1:7580", f"127.0.0.1:{free_port()}"), encoding="utf-8")
    return root


def own_cache(directory: Path) -> dict[str, str]:
    """Environment with which the caches of model files are those of the benchmark alone."""
    return {"XDG_CACHE_HOME": os.fspath(directory / "cache")}
