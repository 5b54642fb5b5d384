"""``make up``, ``make down`` and ``make cloud``: the stack on this machine, deployed and asked as a person would."""
