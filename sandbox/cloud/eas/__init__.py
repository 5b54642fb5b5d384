"""PAI Elastic Algorithm Service: API, gateway and the processes behind it."""
