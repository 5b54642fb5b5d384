"""A Kubernetes cluster on loopback: the real API server, etcd, controllers and scheduler, built from pinned modules.

``python -m sandbox kube build`` builds them (Go is needed), ``run``, ``start``, ``stop`` and ``status`` are about one
cluster per data directory. There is no kubelet: :mod:`sandbox.kube.node` runs the pods' model servers as processes.
"""
