"""The `tfserving` Pulumi provider: PublishedModel, ModelConfigFile, EasService, ServedConfig, ServedModel."""
