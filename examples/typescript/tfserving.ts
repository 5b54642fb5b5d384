// The two components that this program uses, by hand and as far as it uses them. `pulumi package add ../../plugin`
// generates the whole package with every type; then this file is `import * as tfs from "@tf-serving/pulumi"`.
import * as pulumi from "@pulumi/pulumi";

export interface Model {
    source?: string;
    policy?: "all" | { latest: number } | { specific: number[] };
    labels?: { [label: string]: number };
}

export interface ModelRepositoryArgs {
    bucket: pulumi.Input<string> | { name: pulumi.Input<string>; forceDestroy?: boolean };
    models: { [name: string]: Model };
}

export class ModelRepository extends pulumi.ComponentResource {
    public readonly bucket!: pulumi.Output<string>;

    constructor(name: string, args: ModelRepositoryArgs, opts?: pulumi.ComponentResourceOptions) {
        super("tfserving:index:ModelRepository", name, { ...args, root: undefined }, opts, true);
    }
}

export interface TensorFlowServingArgs {
    repository: ModelRepository;
    image?: pulumi.Input<string>;
    configPollSeconds?: number;
    flags?: { [flag: string]: string | number | boolean };
    env?: { [name: string]: pulumi.Input<string> };
}

export class TensorFlowServing extends pulumi.ComponentResource {
    public readonly url!: pulumi.Output<string>;
    public readonly token!: pulumi.Output<string>;

    constructor(name: string, args: TensorFlowServingArgs, opts?: pulumi.ComponentResourceOptions) {
        super("tfserving:index:TensorFlowServing", name, { ...args, url: undefined, token: undefined }, opts, true);
    }
}
