"""The sandbox cloud as a process: start, stop, status, and what happens when it is killed, blocked or out of space."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import alibabacloud_oss_v2 as oss
import pytest
from alibabacloud_oss_v2 import exceptions

from sandbox import paths, ports
from sandbox.cloud import process
from sandbox.cloud.process import CloudFiles
from tests.ports import free_port
from tests.processes import is_alive
from tests.waiting import until
from tfserving.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


def sandbox(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sandbox", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=180, stdin=subprocess.DEVNULL, check=False, **options
    )


def client_of(port: int) -> oss.Client:
    config = oss.config.load_default()
    config.credentials_provider = oss.credentials.StaticCredentialsProvider("sandbox-key", "sandbox-secret")
    config.region = "cn-hangzhou"
    config.endpoint = f"http://127.0.0.1:{port}"
    config.retry_max_attempts = 1
    return oss.Client(config)


class Cloud:
    """One background cloud with its own directory and port."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.files = CloudFiles(directory / "cloud")

    def start(self, **options: Any) -> subprocess.CompletedProcess[str]:
        return sandbox("cloud", "start", "--port", self.port, "--data", self.files.data, **options)

    def stop(self) -> subprocess.CompletedProcess[str]:
        return sandbox("cloud", "stop", "--data", self.files.data)

    def status(self) -> subprocess.CompletedProcess[str]:
        return sandbox("cloud", "status", "--data", self.files.data)

    @property
    def pid(self) -> int:
        return int(json.loads(self.files.json.read_text())["pid"])

    def kill(self) -> None:
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        while is_alive(pid):
            time.sleep(0.01)


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    cloud = Cloud(tmp_path)
    yield cloud
    process.stop(cloud.files)


# ------------------------------------------------------------------- life cycle


@pytest.mark.slow
def test_a_started_cloud_answers_says_so_and_stops(cloud: Cloud) -> None:
    assert cloud.status().returncode == 3
    started = cloud.start()
    assert (started.returncode, started.stderr) == (0, "")
    assert f"http://127.0.0.1:{cloud.port}" in started.stdout
    record = json.loads(cloud.files.json.read_text())
    assert record == {"pid": cloud.pid, "port": cloud.port}
    status = cloud.status()
    assert (status.returncode, str(cloud.pid) in status.stdout) == (0, True)
    pid = cloud.pid
    assert os.getsid(pid) == pid  # a session of its own: closing the terminal does not end it
    again = cloud.start()
    assert (again.returncode, "running already" in again.stdout, cloud.pid) == (0, True, pid)
    stopped = cloud.stop()
    assert (stopped.returncode, stopped.stdout) == (0, "sandbox cloud stopped\n")
    until(lambda: not is_alive(pid), what="the end of what has let go of its lock")
    assert not cloud.files.json.exists()
    assert cloud.stop().stdout == "sandbox cloud is not running\n"
    assert ports.is_free(cloud.port)


@pytest.mark.slow
def test_a_cloud_listens_on_loopback_only(cloud: Cloud) -> None:
    cloud.start()
    wanted = f"{cloud.port:04X}"
    listening = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            address, state = line.split()[1], line.split()[3]
            if state == "0A" and address.endswith(f":{wanted}"):
                listening.append(address.partition(":")[0])
    assert listening == ["0100007F"]


@pytest.mark.slow
def test_starting_twice_at_once_gives_one_cloud(cloud: Cloud) -> None:
    command = [sys.executable, "-m", "sandbox", "cloud", "start", "--port", str(cloud.port)]
    starters = [
        subprocess.Popen(
            [*command, "--data", cloud.files.data], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        for _ in range(3)
    ]
    answers = [starter.communicate(timeout=180)[0].decode() for starter in starters]
    assert [starter.returncode for starter in starters] == [0, 0, 0], answers
    assert len({answer.partition("(process ")[2].partition(",")[0] for answer in answers}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_foreground_cloud_ends_cleanly_on_a_signal(tmp_path: Path, number: int) -> None:
    port = free_port()
    command = [sys.executable, "-m", "sandbox", "cloud", "run", "--port", str(port), "--data", str(tmp_path / "cloud")]
    running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stdout is not None
    assert f"http://127.0.0.1:{port}" in running.stdout.readline()
    running.send_signal(number)
    _, errors = running.communicate(timeout=120)
    assert running.returncode == 0
    assert "Traceback" not in errors
    assert not (tmp_path / "cloud.json").exists()


# ------------------------------------------------------------------- durability


@pytest.mark.slow
def test_everything_survives_a_restart(cloud: Cloud) -> None:
    cloud.start()
    client = client_of(cloud.port)
    client.put_bucket(oss.PutBucketRequest(bucket="examplebucket"))
    configuration = oss.VersioningConfiguration(status="Enabled")
    client.put_bucket_versioning(
        oss.PutBucketVersioningRequest(bucket="examplebucket", versioning_configuration=configuration)
    )
    client.put_object(oss.PutObjectRequest(bucket="examplebucket", key="k", body=b"1", metadata={"a": "b"}))
    upload = client.initiate_multipart_upload(oss.InitiateMultipartUploadRequest(bucket="examplebucket", key="m"))
    part = client.upload_part(
        oss.UploadPartRequest(bucket="examplebucket", key="m", upload_id=upload.upload_id, part_number=1, body=b"part")
    )
    cloud.stop()
    assert cloud.start().returncode == 0
    assert client.get_bucket_info(oss.GetBucketInfoRequest(bucket="examplebucket")).bucket_info.versioning == "Enabled"
    got = client.get_object(oss.GetObjectRequest(bucket="examplebucket", key="k"))
    assert (got.body.content, got.metadata["a"]) == (b"1", "b")
    parts = oss.CompleteMultipartUpload(parts=[oss.UploadPart(part_number=1, etag=part.etag)])
    client.complete_multipart_upload(
        oss.CompleteMultipartUploadRequest(
            bucket="examplebucket", key="m", upload_id=upload.upload_id, complete_multipart_upload=parts
        )
    )
    assert client.get_object(oss.GetObjectRequest(bucket="examplebucket", key="m")).body.content == b"part"


@pytest.mark.slow
def test_killed_in_the_middle_of_uploads_every_object_is_whole_and_nothing_is_left_over(cloud: Cloud) -> None:
    cloud.start()
    client = client_of(cloud.port)
    client.put_bucket(oss.PutBucketRequest(bucket="examplebucket"))
    client.put_object(oss.PutObjectRequest(bucket="examplebucket", key="kept", body=b"old" * 100_000))
    writer = (
        "import sys; sys.path.insert(0, sys.argv[2]); import test_cloud_cli as t, itertools\n"
        "client = t.client_of(int(sys.argv[1]))\n"
        "for n in itertools.count():\n"
        "    body = bytes([n % 256]) * 400_000\n"
        "    client.put_object(t.oss.PutObjectRequest(bucket='examplebucket', key=f'k{n % 7}', body=body))\n"
        "    print(n, flush=True)\n"
    )
    command = [sys.executable, "-c", writer, str(cloud.port), str(Path(__file__).parent)]
    writers = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for _ in range(2)]
    for running in writers:
        assert running.stdout is not None
        for _ in range(20):
            running.stdout.readline()
    cloud.kill()
    for running in writers:
        running.communicate(timeout=120)

    status = cloud.status()
    assert (status.returncode, status.stdout) == (3, "sandbox cloud is not running\n")
    assert cloud.files.json.exists()  # the stale one
    assert cloud.start().returncode == 0
    keys = [entry.key for entry in client.list_objects_v2(oss.ListObjectsV2Request(bucket="examplebucket")).contents]
    assert keys == ["k0", "k1", "k2", "k3", "k4", "k5", "k6", "kept"]
    for key in keys:
        body = client.get_object(oss.GetObjectRequest(bucket="examplebucket", key=key)).body.content
        assert len(set(body)) == (3 if key == "kept" else 1)
        assert len(body) == (300_000 if key == "kept" else 400_000)
    assert list((cloud.files.data / "oss" / "tmp").iterdir()) == []
    assert len(list((cloud.files.data / "oss" / "blobs").glob("*/*"))) == len(keys)


@pytest.mark.slow
def test_an_object_whose_bytes_were_lost_is_dropped_and_the_version_before_it_is_back(cloud: Cloud) -> None:
    cloud.start()
    client = client_of(cloud.port)
    client.put_bucket(oss.PutBucketRequest(bucket="examplebucket"))
    configuration = oss.VersioningConfiguration(status="Enabled")
    client.put_bucket_versioning(
        oss.PutBucketVersioningRequest(bucket="examplebucket", versioning_configuration=configuration)
    )
    blobs = cloud.files.data / "oss" / "blobs"
    client.put_object(oss.PutObjectRequest(bucket="examplebucket", key="k", body=b"before"))
    before = set(blobs.glob("*/*"))
    client.put_object(oss.PutObjectRequest(bucket="examplebucket", key="k", body=b"lost"))
    cloud.kill()
    (lost,) = set(blobs.glob("*/*")) - before
    lost.chmod(0o600)
    lost.write_bytes(b"")
    cloud.start()
    assert client.get_object(oss.GetObjectRequest(bucket="examplebucket", key="k")).body.content == b"before"
    assert "bytes of examplebucket/k are lost" in cloud.files.log.read_text()


@pytest.mark.slow
def test_a_large_upload_and_download_need_little_memory(cloud: Cloud, tmp_path: Path) -> None:
    cloud.start()
    client = client_of(cloud.port)
    client.put_bucket(oss.PutBucketRequest(bucket="examplebucket"))
    big = tmp_path / "big"
    with open(big, "wb") as file:
        file.truncate(300 << 20)
    client.put_object(oss.PutObjectRequest(bucket="examplebucket", key="warm-up", body=b"x"))

    def peak() -> int:
        status = Path(f"/proc/{cloud.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) << 10

    before = peak()
    client.put_object_from_file(oss.PutObjectRequest(bucket="examplebucket", key="k"), str(big))
    body = client.get_object(oss.GetObjectRequest(bucket="examplebucket", key="k")).body
    assert sum(len(chunk) for chunk in body.iter_bytes()) == 300 << 20
    assert peak() - before < 48 << 20


# ------------------------------------------------------------------- mishaps


@pytest.mark.slow
def test_a_full_disk_is_a_507_that_leaves_the_old_object_and_the_cloud_going(cloud: Cloud) -> None:
    def limit() -> None:  # writing beyond fails with an OSError, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, 2 << 20))

    assert cloud.start(preexec_fn=limit).returncode == 0
    client = client_of(cloud.port)
    client.put_bucket(oss.PutBucketRequest(bucket="examplebucket"))
    client.put_object(oss.PutObjectRequest(bucket="examplebucket", key="k", body=b"old"))
    for key in ("k", "new"):
        with pytest.raises(exceptions.OperationError) as error:
            client.put_object(oss.PutObjectRequest(bucket="examplebucket", key=key, body=b"x" * (3 << 20)))
        found = error.value.unwrap()
        assert (found.status_code, found.code) == (507, "InsufficientStorage")
    parts = []
    upload = client.initiate_multipart_upload(oss.InitiateMultipartUploadRequest(bucket="examplebucket", key="k"))
    for number in (1, 2):
        result = client.upload_part(
            oss.UploadPartRequest(
                bucket="examplebucket",
                key="k",
                upload_id=upload.upload_id,
                part_number=number,
                body=b"x" * (3 << 19),
            )
        )
        parts.append(oss.UploadPart(part_number=number, etag=result.etag))
    with pytest.raises(exceptions.OperationError) as error:
        client.complete_multipart_upload(
            oss.CompleteMultipartUploadRequest(
                bucket="examplebucket",
                key="k",
                upload_id=upload.upload_id,
                complete_multipart_upload=oss.CompleteMultipartUpload(parts=parts),
            )
        )
    assert error.value.unwrap().code == "InsufficientStorage"
    kept = client.list_parts(oss.ListPartsRequest(bucket="examplebucket", key="k", upload_id=upload.upload_id)).parts
    assert len(kept) == 2
    assert client.get_object(oss.GetObjectRequest(bucket="examplebucket", key="k")).body.content == b"old"
    listed = client.list_objects_v2(oss.ListObjectsV2Request(bucket="examplebucket")).contents
    assert [entry.key for entry in listed] == ["k"]
    assert list((cloud.files.data / "oss" / "tmp").iterdir()) == []
    assert len(list((cloud.files.data / "oss" / "blobs").glob("*/*"))) == 3


@pytest.mark.slow
def test_starting_on_a_full_disk_says_so_and_works_once_there_is_space(cloud: Cloud) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    failed = cloud.start(preexec_fn=limit)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.startswith(f"error: no space to write to {cloud.files.data}")
    assert failed.stderr.count("\n") == 1
    assert cloud.start().returncode == 0


@pytest.mark.slow
def test_a_port_taken_by_another_program_is_named_with_its_process_and_the_setting_to_change(cloud: Cloud) -> None:
    with socket.socket() as program:
        program.bind(("127.0.0.1", cloud.port))
        program.listen()
        failed = cloud.start()
    assert (failed.returncode, failed.stdout) == (1, "")
    for part in (f"port {cloud.port}", f"process {os.getpid()} (", "tf-serving:endpoint", "stacks/Pulumi.local.yaml"):
        assert part in failed.stderr
    assert failed.stderr.count("\n") == 1
    assert cloud.start().returncode == 0


@pytest.mark.slow
def test_a_port_taken_by_another_sandbox_names_that_one(cloud: Cloud, tmp_path: Path) -> None:
    cloud.start()
    failed = sandbox("cloud", "start", "--port", cloud.port, "--data", tmp_path / "other")
    assert failed.returncode == 1
    assert f"taken by the sandbox cloud of {ROOT} (process {cloud.pid}, data in {cloud.files.data})" in failed.stderr
    assert cloud.status().returncode == 0


@pytest.mark.slow
def test_a_second_cloud_on_the_same_data_is_refused_with_what_to_do(cloud: Cloud) -> None:
    cloud.start()
    failed = sandbox("cloud", "start", "--port", free_port(), "--data", cloud.files.data)
    assert failed.returncode == 1
    assert f"on port {cloud.port} (process {cloud.pid}) already uses" in failed.stderr
    assert "cloud stop" in failed.stderr


@pytest.mark.slow
def test_a_cloud_that_hangs_is_killed_by_stop(cloud: Cloud) -> None:
    cloud.start()
    pid = cloud.pid
    os.kill(pid, signal.SIGSTOP)
    assert process.stop(cloud.files, seconds=1) is True
    assert not is_alive(pid)


@pytest.mark.slow
def test_data_that_cannot_be_read_is_a_message_not_a_traceback(cloud: Cloud) -> None:
    (cloud.files.data / "oss").mkdir(parents=True)
    (cloud.files.data / "oss" / "index.sqlite").write_bytes(b"this is not a database, " * 100)
    failed = cloud.start()
    assert failed.returncode == 1
    assert f"the index in {cloud.files.data} is damaged" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert failed.stderr.count("\n") == 1


# ------------------------------------------------------------------- command line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ((), 2, "usage: python -m sandbox"),
        (("--help",), 0, "usage: python -m sandbox"),
        (("clod",), 2, "Did you mean 'cloud'?"),
        (("cloud", "start", "--port", "80x"), 2, "'80x' is not a port"),
        (("cloud", "start", "--port", "70000"), 2, "'70000' is not a port"),
        (("cloud", "fly"), 2, "invalid choice: 'fly'"),
        (("cloud", "start", "--data", "/proc/nowhere/cloud"), 1, "error: cannot write to /proc/nowhere"),
    ],
)
def test_a_mistake_on_the_command_line_is_answered_in_words(
    arguments: tuple[str, ...], status: int, message: str
) -> None:
    done = sandbox(*arguments)
    assert done.returncode == status
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


# ------------------------------------------------------------------- the one setting


@pytest.fixture
def stack_file(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        (tmp_path / "stacks").mkdir()
        (tmp_path / "stacks" / "Pulumi.local.yaml").write_text(text)
        return tmp_path

    return write


@pytest.mark.parametrize("value", ["127.0.0.1:7999", "localhost:7999", '"127.0.0.1:7999"'])
def test_the_port_is_read_from_the_local_stack(stack_file: Callable[[str], Path], value: str) -> None:
    root = stack_file(f"config:\n  tf-serving:endpoint: {value}\n")
    assert str(paths.cloud_endpoint(root)) == "127.0.0.1:7999"


@pytest.mark.parametrize("text", ["", "config: {}\n", "config:\n  alicloud:region: cn-hangzhou\n"])
def test_without_the_setting_the_default_port_is_used(stack_file: Callable[[str], Path], text: str) -> None:
    assert str(paths.cloud_endpoint(stack_file(text))) == "127.0.0.1:7580"


def test_without_a_stack_file_the_default_port_is_used(tmp_path: Path) -> None:
    assert paths.cloud_endpoint(tmp_path).port == 7580


@pytest.mark.parametrize(
    "value",
    [
        "0.0.0.0:7580",
        "192.168.1.5:7580",
        "oss-cn-hangzhou.aliyuncs.com:80",
        "127.0.0.1",
        "127.0.0.1:0",
        "127.0.0.1:65536",
        "127.0.0.1:x",
        ":7580",
        "7580",
        "[1]",
    ],
)
def test_an_endpoint_that_is_not_loopback_with_a_port_is_refused(stack_file: Callable[[str], Path], value: str) -> None:
    root = stack_file(f"config:\n  tf-serving:endpoint: '{value}'\n")
    with pytest.raises(ConfigError) as error:
        paths.cloud_endpoint(root)
    assert "tf-serving:endpoint" in str(error.value)
    assert value in str(error.value)
    assert "127.0.0.1:7580" in str(error.value)


def test_a_stack_file_that_is_not_yaml_is_named(stack_file: Callable[[str], Path]) -> None:
    root = stack_file("config: [unclosed\n")
    with pytest.raises(ConfigError, match=r"Pulumi\.local\.yaml: cannot be read"):
        paths.cloud_endpoint(root)
