"""What no page of Alibaba Cloud says for certain: the list for the first run on a real account.

The list is data. The page ``docs/first-real-run.md`` is made from it, and so is the report of
``ops doctor --first-run``. Which questions a machine can look at is said in :mod:`ops.doctor.looks`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Question:
    """Something to look at.

    Attributes:
        id: a name for it, that reports are compared by.
        area: what it is about.
        text: the question.
        assumed: what this project takes for true until it is known.
        look: how a person sees it; empty where the command sees all of it.
    """

    id: str
    area: str
    text: str
    assumed: str
    look: str = ""


_JSON = "PAI-EAS: the service JSON"
_ADDRESS = "PAI-EAS: addresses and tokens"
_LIFE = "PAI-EAS: updates, logs, events"
_SERVER = "TensorFlow Serving in the image"
_OSS = "OSS"
_TRAFFIC = "Service groups and mirrors"
_ALARMS = "CloudMonitor"
_RIGHTS = "Rights, credentials, state"
_ACK = "Kubernetes on ACK"

QUESTIONS: Final = (
    Question(
        "json-echo",
        _JSON,
        "Which keys does DescribeService give back?",
        "keys that nobody wrote are defaults of EAS, and no drift",
    ),
    Question(
        "json-settles",
        _JSON,
        "Is a second preview after the first update empty?",
        "yes: what EAS adds by itself does not show again",
        "run `pulumi preview` twice after the first `pulumi up`; paste what the second one shows",
    ),
    Question(
        "json-image",
        _JSON,
        "Which address has the image of a service?",
        "the registry of the region, `pai-eas/tensorflow-serving:<tag>`; no page prints it",
    ),
    Question(
        "json-scenario",
        _JSON,
        "What is the JSON of the console's form 'TensorFlow Serving deployment'?",
        "an image-based service with the same effect and the label `tf-serving-deployment: scenario`",
        "make one in the console, open its JSON, paste it without its token",
    ),
    Question(
        "json-scenario-labels",
        _JSON,
        "Does a scenario deployment with version labels in its config file start?",
        "yes: EAS sets `--allow_version_labels_for_unavailable_models` by itself",
    ),
    Question(
        "json-keepalive",
        _JSON,
        "What is `metadata.rpc.keepalive` where nobody sets it?",
        "unknown: two pages say 5 seconds and 10 minutes, so a stack should set it",
    ),
    Question(
        "json-grace",
        _JSON,
        "Under which key does `termination_grace_period` come back?",
        "`metadata.eas.termination_grace_period`, in one flat key",
    ),
    Question(
        "json-autoscaler",
        _JSON,
        "Does an autoscaler that was made by its own call also stand in the service JSON?",
        "no: it is made and read by CreateServiceAutoScaler and its kin, with `scaleStrategies`",
    ),
    Question(
        "cron-zone",
        _JSON,
        "Does EAS show the time zone of a schedule that was made with one?",
        "yes, as `TimeZone`; where it does not, the declared one is taken to be there",
    ),
    Question(
        "cron-bounds",
        _JSON,
        "Which bounds has an autoscaler beside a schedule after a job has run?",
        "as kubernetes-cronhpa-controller moves them: the higher one up to the size, the lower one to it",
        "if you have both: note `DescribeServiceAutoScaler` before and after a job",
    ),
    Question(
        "json-names",
        _JSON,
        "Does EAS take a hyphen in the name of a service?",
        "no: small letters, digits and `_`, as the official checker says; samples show hyphens",
        "try one in the console: what does the form say?",
    ),
    Question(
        "json-containers",
        _JSON,
        "Which container gets the requests where a service has several?",
        "the first one",
        "only if you use several: add one by `extraConfig.containers`, and see who answers",
    ),
    Question(
        "address-url",
        _ADDRESS,
        "Which form has the URL of an HTTP service?",
        "`http://<uid>.<region>.pai-eas.aliyuncs.com/api/predict/<service>`",
    ),
    Question(
        "address-host",
        _ADDRESS,
        "Which form has the host of a gRPC service, whose path is `/`?",
        "`<service>.<uid>.<region>.pai-eas.aliyuncs.com`, port 80, with `-` for `_`",
    ),
    Question(
        "token-http",
        _ADDRESS,
        "Which form of the token does the gateway take over HTTP, and what does it say without one?",
        "the token as it is in `Authorization`; 401 without",
    ),
    Question(
        "token-grpc",
        _ADDRESS,
        "Which form of the token does the gateway take over gRPC?",
        "one page shows the token as it is, another insists on `Bearer`: both are tried, in this order",
    ),
    Question(
        "address-metrics",
        _ADDRESS,
        "Do the metrics of TensorFlow Serving come through the gateway?",
        "yes, below the address of the service, where `monitoring` is on",
    ),
    Question(
        "address-nothing",
        _ADDRESS,
        "What does the gateway answer for a service that is not there?",
        "404, or 503 while a service starts, both without a body of TensorFlow Serving",
    ),
    Question(
        "life-owner",
        _LIFE,
        "Does ListServices find a service by a label of its JSON?",
        "yes: labels of the JSON and of the label calls are one store. Ownership and pins rest on it",
    ),
    Question(
        "life-replace",
        _LIFE,
        "Does an update of type `replace` drop the token and the labels that its JSON does not name?",
        "yes: so the token that EAS made is sent along with every update, and labels are all in the JSON",
        "only by a call of your own, on a service of no use: UpdateService with `UpdateType=replace` and a JSON "
        "without token and labels. Answer yes or no, paste no token",
    ),
    Question(
        "life-restart",
        _LIFE,
        "Does the first update of a service that changes labels alone restart a replica?",
        "no",
        "the command cannot see it: compare start times of instances in the console",
    ),
    Question(
        "life-conflict",
        _LIFE,
        "Which code has the refusal of an update while another one runs?",
        "409 with 'is being updated', which is sat out",
        "start an update in the console, then `pulumi up`: paste the message",
    ),
    Question(
        "life-log",
        _LIFE,
        "Does DescribeServiceLog return the lines of TensorFlow Serving?",
        "yes: a rollout that waits reads why a version will not load from it",
    ),
    Question(
        "life-events",
        _LIFE,
        "Have events a time, a type, a reason and a message?",
        "yes: a failed update ends with the newest of them",
    ),
    Question(
        "life-quota",
        _LIFE,
        "How many services may one account have in a region?",
        "unknown: the refusal is recognised as a quota",
        "the Quota Center of your account says it",
    ),
    Question(
        "server-release",
        _SERVER,
        "Which release of TensorFlow Serving is in the image, and does it start with the flags of the stack?",
        "the one in the tag. A flag that is newer than the server is only a line in the log: `unknown argument`",
    ),
    Question(
        "server-threads",
        _SERVER,
        "Does a server with `rest_api_num_threads: 1` ever answer?",
        "no, by its source: the preview asks for 2",
        "any machine with the image and a model: start it with the flag, and ask",
    ),
    Question(
        "server-empty-config",
        _SERVER,
        "What does the server do with a model config file of 0 bytes?",
        "a read error, and the last config stays: no such file is ever written",
        "any machine with the image: empty the file of a running server, and read its log",
    ),
    Question(
        "server-wedge",
        _SERVER,
        "Is a server that got a config with an unknown platform deaf to every later one?",
        "yes, until that model is taken out: such a config is refused by the preview",
        "any machine with the image: write such a config, then a good one, and read its log",
    ),
    Question(
        "oss-region",
        _OSS,
        "How does GetBucketInfo name the region, and what does it say of access and encryption?",
        "`oss-<region>`, private, encrypted",
    ),
    Question(
        "oss-crc",
        _OSS,
        "Does HeadObject return the CRC64 of an object?",
        "yes: a finished upload is compared with it",
    ),
    Question(
        "oss-delay",
        _OSS,
        "How long after a config file was written does a server read it?",
        "`configPollSeconds` and up to 60 seconds of the mount's cache; rollouts wait for what they see",
        "move a label with `pulumi up`, and take the seconds of the step 'move' from what it prints",
    ),
    Question(
        "oss-mount",
        _OSS,
        "Which client mounts the bucket, with which options?",
        "unknown. ossfs 1 caches listings for 900 seconds, ossfs 2 for 60",
        "open a terminal of an instance in the console: `mount | grep models`",
    ),
    Question(
        "traffic-address",
        _TRAFFIC,
        "What is the address of a group of gRPC services?",
        "what DescribeGroup answers, port 80 where it names none",
        "only with `tf-serving:traffic`: `pulumi stack output traffic`, without the token",
    ),
    Question(
        "traffic-shares",
        _TRAFFIC,
        "Does a weight take effect at once, also for connections that are open?",
        "unknown: a rollout asks DescribeGroup, and does not count requests",
        "set 90 and 10, send 200 requests over one gRPC connection, and count who answered by the services' metrics",
    ),
    Question(
        "traffic-down",
        _TRAFFIC,
        "Where does a request go whose member has no running replica?",
        "unknown; the sandbox passes it on to another member",
        "stop one member in the console, and count errors",
    ),
    Question(
        "traffic-join",
        _TRAFFIC,
        "Can a service that exists join a group?",
        "no: the preview refuses it",
        "add `metadata.group` to a service in the console: what does EAS say?",
    ),
    Question(
        "alarm-names",
        _ALARMS,
        "Do alarms of a service have a curve in the console of CloudMonitor?",
        "yes: namespace `acs_learn`, dimension `serviceName`, metrics `rps_status_5xx_ratio` and `rt` in microseconds",
        "only with `tf-serving:alerts`: open the alarm, look at its curve after some requests",
    ),
    Question(
        "alarm-others",
        _ALARMS,
        "What is the name of the metric for p99, and is there one for replicas?",
        "unknown: no page names them, so neither has an alarm; `cloudMonitor.p99` takes the name",
        "`aliyun cms DescribeMetricMetaList --Namespace acs_learn`: paste the names of metrics",
    ),
    Question(
        "rights-policy",
        _RIGHTS,
        "Which right was missing from the policy that `--ram-policy` prints?",
        "none; it was written from documentation",
        "deploy with a role that has this policy alone; paste every refusal",
    ),
    Question(
        "rights-words",
        _RIGHTS,
        "Does a refusal name the action that is missing?",
        "it has the code `Forbidden` or `NoPermission`; the action is added by this project",
        "the same messages say it",
    ),
    Question(
        "rights-oidc",
        _RIGHTS,
        "Does the `alicloud` provider read the OIDC variables of the environment?",
        "it is reported not to (pulumi-alicloud issue 931), so the token is exchanged before",
        "only in a CI other than GitHub: leave the exchange out, and see whether the bucket is previewed",
    ),
    Question(
        "rights-state",
        _RIGHTS,
        "Does a state in OSS work, locks included?",
        "yes, with the URL of docs/operations.md",
        "`pulumi stack init`, `up`, `stack rm` of an empty stack there; two `up` at one time",
    ),
    Question(
        "ack-gpu",
        _ACK,
        "Does a service with a share of a GPU get the memory it asked for, and no more?",
        "ACK puts the share into the pod's environment, and a server flag keeps to it",
        "`nvidia-smi` on the node while two services run",
    ),
    Question(
        "ack-volume",
        _ACK,
        "Does the OSS volume mount with the role or the secret of the stack file?",
        "yes: driver `ossplugin.csi.alibabacloud.com`, read only",
        "`kubectl describe pod`: paste events of the mount, if any",
    ),
    Question(
        "ack-address",
        _ACK,
        "Which address does a service of type LoadBalancer get, and does gRPC come through it?",
        "an address of a CLB, with a TCP listener for 8500",
        "`.venv/bin/python -m ops predict --grpc` from another machine of the VPC",
    ),
    Question(
        "ack-zero",
        _ACK,
        "Does a node pool of 0 nodes grow when a pod asks for its GPU?",
        "yes: labels and taints stand at the pool, too",
        "deploy with `min: 0`, and read the events of the pod",
    ),
)
