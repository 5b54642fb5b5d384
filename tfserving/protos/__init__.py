"""The subset of TensorFlow Serving protos this project reads and writes, under a package name of its own."""
