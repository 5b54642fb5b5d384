"""From services, files and buckets to a stack file: ``python -m ops import``."""
