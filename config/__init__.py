"""Stack config: :mod:`config.pulumi_config` fetches it from Pulumi, everything else here reads and checks it."""
