"""Stand-in for pulumi-kubernetes: server-side apply, waiting and deletion of objects, by the official client."""
