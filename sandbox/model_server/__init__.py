"""A stand-in for ``tensorflow_model_server`` on machines without it: same flags, files, REST and gRPC surface.

It reproduces the behaviour of TensorFlow Serving as its C++ sources define it, its deadlocks and wedges included, so
that what works here works there and what would hang there hangs here. Deliberate differences:

- it listens on the loopback address only;
- ``SIGTERM`` and ``SIGINT`` let running requests finish, then exit with status 0 (TensorFlow Serving has no handler);
- flags for GPUs, XLA, TFLite, batching and the profiler are accepted and have no effect;
- ``ssl_config_file``, ``use_alts_credentials`` and ``platform_config_file`` are refused at start.
"""
