"""A model server with the flags, files, REST and gRPC surface of TensorFlow Serving, on TensorFlow for Python."""
