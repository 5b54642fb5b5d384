package main

import (
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi/config"
	"serving/tfserving"
)

func main() {
	pulumi.Run(func(ctx *pulumi.Context) error {
		settings := config.New(ctx, "")
		exports := settings.Require("exports")
		models, err := tfserving.NewModelRepository(ctx, "models", &tfserving.ModelRepositoryArgs{
			Bucket: pulumi.Map{
				"name":         pulumi.Sprintf("go-%s", ctx.Stack()),
				"forceDestroy": pulumi.Bool(true),
			},
			Models: map[string]tfserving.RepositoryModelArgs{
				"modelB": {
					Source: &exports,
					Policy: map[string]any{"specific": []int{1, 2}},
					Labels: map[string]any{"stable": settings.RequireInt("stable"), "canary": 2},
				},
			},
		})
		if err != nil {
			return err
		}
		vision, err := tfserving.NewTensorFlowServing(ctx, "vision", &tfserving.TensorFlowServingArgs{
			Repository:        models,
			Image:             pulumi.String("tensorflow-serving:2.14.1"),
			ConfigPollSeconds: pulumi.IntRef(2),
			Flags:             map[string]any{"num_load_threads": 2, "file_system_poll_wait_seconds": 30},
		})
		if err != nil {
			return err
		}
		ctx.Export("url", vision.Url)
		ctx.Export("token", vision.Token)
		return nil
	})
}
