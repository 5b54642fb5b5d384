import * as pulumi from "@pulumi/pulumi";
import * as tfs from "./tfserving";

const config = new pulumi.Config();

const models = new tfs.ModelRepository("models", {
    bucket: { name: `typescript-${pulumi.getStack()}`, forceDestroy: true },
    models: {
        modelB: {
            source: config.require("exports"),
            policy: { specific: [1, 2] },
            labels: { stable: config.requireNumber("stable"), canary: 2 },
        },
    },
});
const vision = new tfs.TensorFlowServing("vision", {
    repository: models,
    image: "tensorflow-serving:2.14.1",
    configPollSeconds: 2,
    flags: { num_load_threads: 2, file_system_poll_wait_seconds: 30 },
});

export const url = vision.url;
export const token = vision.token;
