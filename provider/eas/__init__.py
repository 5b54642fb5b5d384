"""Services on PAI-EAS: what the resource is made of."""
