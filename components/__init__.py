"""Pulumi components for TensorFlow Serving on Alibaba Cloud."""
