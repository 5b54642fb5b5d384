"""Stand-in for the ``alicloud`` provider: the resource types this project's program uses, on the official SDKs."""
