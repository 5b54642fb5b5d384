"""``python -m ops doctor``: whether this machine and these credentials can deploy a stack, and what to do where not.

Nothing is changed, and no key, token or secret is printed: every line goes through :class:`ops.doctor.masked.Masked`.
"""
