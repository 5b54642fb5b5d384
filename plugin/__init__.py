"""The package ``tfserving`` as Pulumi takes it: the provider's resources, and the components of this project.

``provider/`` and ``components/`` know nothing of each other. Here they meet: one plugin, one schema.
"""
