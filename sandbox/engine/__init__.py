"""A small deployment engine that speaks the gRPC contracts of Pulumi programs and providers."""
