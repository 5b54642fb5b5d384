"""The rollout of a model config file from one config to the next.

Planned by :mod:`tfserving.rollout`, executed and proven here, so that no request fails on the way.

A step is one write of the file; then every service that polls the file is asked until each replica serves what the
step says (see :mod:`provider.asking` for what that proves). Services that read the file only at start are restarted
after the last write.

A version that the server cannot load stops the rollout at once. The file is then written back as it was before the
step: the labels have not moved, so every request is still answered, a replica that restarts finds a config it can start
with, and the next ``up`` loads the version anew. A step that merely takes too long leaves its file: the server goes on
loading and the next ``up`` continues from what is served by then.
"""
