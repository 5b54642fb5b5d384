"""A program that registers nothing: what every preview costs."""

import pulumi

pulumi.export("nothing", True)
