"""Everything that stands in for Alibaba Cloud and the Pulumi CLI on a machine that has neither. Loopback only."""
