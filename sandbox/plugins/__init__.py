"""Provider plugins used where the real ones are not on PATH."""
