"""A program of one's own: it makes a network and a bucket, and puts TensorFlow Serving into them."""

import sys
from pathlib import Path

import pulumi
import pulumi_alicloud as alicloud

# The components come from the checkout around this example. With a generated SDK they are `import pulumi_tfserving`.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from components.eas_service import TensorFlowServing
from components.model_repository import ModelRepository

config = pulumi.Config()

network = alicloud.vpc.Network("network", vpc_name="serving", cidr_block="10.0.0.0/16")
switch = alicloud.vpc.Switch(
    "switch", vswitch_name="serving-i", vpc_id=network.id, zone_id="cn-hangzhou-i", cidr_block="10.0.0.0/24"
)
bucket = alicloud.oss.Bucket("bucket", bucket=f"own-program-{pulumi.get_stack()}", force_destroy=True)

models = ModelRepository(
    "models",
    bucket=bucket.bucket,
    models={
        "modelB": {
            "source": config.require("exports"),
            "policy": {"specific": [1, 2]},
            "labels": {"stable": config.require_int("stable"), "canary": 2},
        }
    },
)
vision = TensorFlowServing(
    "vision",
    repository=models,
    image="tensorflow-serving:2.14.1",
    config_poll_seconds=2,
    flags={"num_load_threads": 2, "file_system_poll_wait_seconds": 30},
    vpc={
        "vpc_id": network.id,
        "vswitch_ids": [switch.id],
        "security_group_id": config.get("securityGroupId") or "sg-example",
    },
)

pulumi.export("url", vision.url)
pulumi.export("token", vision.token)
