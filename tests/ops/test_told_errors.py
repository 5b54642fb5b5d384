"""The errors in what both engines print, whole."""

from __future__ import annotations

import textwrap

import pytest

from ops import told_errors

GATE = """\
modelB version 2 did not pass its gate:
  service vision: 1 of 4 records
    record 2 of golden.jsonl: differs by 0.5
  Fix: look at the record, or record anew"""

SANDBOX = """\
Updating (local):
 ~  tfserving:index:ServedConfig stack-served updating
 ~  tfserving:index:ServedConfig stack-served updating failed

    TYPE                                NAME            STATUS
    pulumi:pulumi:Stack                 tf-serving-local  **failed** 1 error

Diagnostics:
  pulumi:pulumi:Stack (tf-serving-local):
    warning: a gate and no labels
  tfserving:index:ServedConfig (stack-served):
    warning: slow
    error: {gate}

Outputs:
    services: {{}}

Resources:
    1 unchanged

Duration: 3s

error: up failed
"""

PULUMI = """\
Updating (local):
 ~  tfserving:index:ServedConfig stack-served updating (0s) [diff: ~models]
 ~  tfserving:index:ServedConfig stack-served updating (3s) [diff: ~models]; error: modelB version 2 did not pass
 ~  tfserving:index:ServedConfig stack-served **updating failed** [diff: ~models]; error: modelB version 2 did not
    pulumi:pulumi:Stack tf-serving-local running error: update failed
    pulumi:pulumi:Stack tf-serving-local **failed** 1 error
Diagnostics:
  tfserving:index:ServedConfig (stack-served):
    error: {gate}

  pulumi:pulumi:Stack (tf-serving-local):
    error: update failed
    error: Resource monitor has terminated, shutting down

Outputs:
    services: {{}}

Resources:
    12 unchanged

Duration: 3s

"""


@pytest.mark.parametrize("printed", [SANDBOX, PULUMI], ids=["sandbox", "pulumi"])
def test_a_message_keeps_all_its_lines_and_what_says_nothing_is_left_out(printed: str) -> None:
    assert told_errors.errors(printed.format(gate=textwrap.indent(GATE, "    ").lstrip())) == [GATE]


def test_several_messages_of_several_resources_are_told_each_once() -> None:
    printed = """\
Diagnostics:
  a:index:A (one):
    error: first
      more
    error: second
    info: not this
  a:index:A (two):
    error: first
      more

      after a blank line
"""
    assert told_errors.errors(printed) == ["first\n  more", "second", "first\n  more\n\n  after a blank line"]


def test_an_error_of_the_engine_itself_is_told_to_its_end() -> None:
    printed = (
        "error: stack config: 2 problems\n  - a: wrong.\n  - b: wrong.\nFix: see above\nResources:\n    1 unchanged\n"
    )
    assert told_errors.errors(printed) == ["stack config: 2 problems\n  - a: wrong.\n  - b: wrong.\nFix: see above"]


def test_that_it_failed_is_told_where_nothing_else_is() -> None:
    assert told_errors.errors("Updating:\nerror: up failed\n") == ["up failed"]
    assert told_errors.errors("killed\n") == []
