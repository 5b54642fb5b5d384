"""Benchmarks of the project: ``make bench``. Measurements, not tests: no time limit is asserted anywhere."""
