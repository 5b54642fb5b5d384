"""A local server that answers the Alibaba Cloud APIs this project uses."""
