// Package tfserving has the two components that this program uses, by hand and as far as it uses them.
// `pulumi package add ../../plugin` generates the whole package with every type; then the program imports
// example.com/pulumi-tfserving/sdk/go/tfserving in its place.
package tfserving

import (
	"reflect"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

type RepositoryModelArgs struct {
	Source *string        `pulumi:"source"`
	Policy any            `pulumi:"policy"`
	Labels map[string]any `pulumi:"labels"`
}

type modelRepositoryArgs struct {
	Bucket any                            `pulumi:"bucket"`
	Models map[string]RepositoryModelArgs `pulumi:"models"`
}

type ModelRepositoryArgs struct {
	Bucket pulumi.Input
	Models map[string]RepositoryModelArgs
}

func (ModelRepositoryArgs) ElementType() reflect.Type {
	return reflect.TypeOf((*modelRepositoryArgs)(nil)).Elem()
}

type ModelRepository struct {
	pulumi.ResourceState

	Bucket pulumi.StringOutput `pulumi:"bucket"`
}

func (*ModelRepository) ElementType() reflect.Type {
	return reflect.TypeOf((**ModelRepository)(nil)).Elem()
}

func NewModelRepository(
	ctx *pulumi.Context, name string, args *ModelRepositoryArgs, opts ...pulumi.ResourceOption,
) (*ModelRepository, error) {
	var made ModelRepository
	err := ctx.RegisterRemoteComponentResource("tfserving:index:ModelRepository", name, args, &made, opts...)
	return &made, err
}

type tensorFlowServingArgs struct {
	Repository        *ModelRepository `pulumi:"repository"`
	Image             *string          `pulumi:"image"`
	ConfigPollSeconds *int             `pulumi:"configPollSeconds"`
	Flags             map[string]any   `pulumi:"flags"`
}

type TensorFlowServingArgs struct {
	Repository        pulumi.Input
	Image             pulumi.StringPtrInput
	ConfigPollSeconds *int
	Flags             map[string]any
}

func (TensorFlowServingArgs) ElementType() reflect.Type {
	return reflect.TypeOf((*tensorFlowServingArgs)(nil)).Elem()
}

type TensorFlowServing struct {
	pulumi.ResourceState

	Url   pulumi.StringOutput `pulumi:"url"`
	Token pulumi.StringOutput `pulumi:"token"`
}

func NewTensorFlowServing(
	ctx *pulumi.Context, name string, args *TensorFlowServingArgs, opts ...pulumi.ResourceOption,
) (*TensorFlowServing, error) {
	var made TensorFlowServing
	err := ctx.RegisterRemoteComponentResource("tfserving:index:TensorFlowServing", name, args, &made, opts...)
	return &made, err
}
