"""The comment: whatever models, labels and messages are called, it is whole, safe and small enough."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops import markdown
from ops.comment import LIMIT, Preview, marker, render
from ops.digest import Digest, parse
from ops.redact import Redactor
from tests.ops.previews import (
    MODELS,
    document,
    parsed,
    promotion,
    served_inputs,
    service_inputs,
    state,
    step,
)  # fmt: skip

SERVICE = "tfserving:index:EasService"
HOSTILE = (
    "@everyone", "[click](https://evil.example)", "![x](https://evil.example/p.png)", "<img src=x onerror=alert(1)>",
    "a|b|c", "``` \n# Approved", "`code`", "\n\n### Approved by security", "<!-- tf-serving preview: prod -->",
    "</details>", "x\u202egnp", "a\u200bb", "\\|", "$\\sqrt{x}$", "#123", "&lt;b&gt;", "~~~", "\r\n- [x] done", " ",
    "`",
)  # fmt: skip


def comment(found: Digest, **more: Any) -> str:
    return render(Preview("dev", found, **more))


def outside_of_code(text: str) -> str:
    """What GitHub would render as anything but code; written from CommonMark, not from the renderer."""
    shown, fence = [], ""
    for line in text.splitlines():
        opening = re.match(r"(`{3,})([a-z]*)$", line)
        if fence:
            if re.fullmatch(r"`+", line) and len(line) >= len(fence):
                fence = ""
            continue
        if opening:
            fence = opening[1]
            continue
        rest, kept = line, ""
        while found := re.search(r"(?<!`)(`+)(?!`)", rest):
            closing = re.search(rf"(?<!`){found[1]}(?!`)", rest[found.end() :])
            if not closing:
                break
            kept += rest[: found.start()]
            rest = rest[found.end() + closing.end() :]
        shown.append(kept + rest)
    assert not fence, "a code block is left open"
    return "\n".join(shown)


def hostile_preview(name: str) -> Digest:
    models, new = copy.deepcopy(MODELS), copy.deepcopy(MODELS)
    for each, version in ((models, 1), (new, 2)):
        each[name] = {
            "basePath": f"/models/{name}",
            "platform": "tensorflow",
            "policy": "all",
            "labels": {name: version},
        }
    one = step(
        "update", "tfserving:index:ServedConfig", f"served-{name}", state(served_inputs(models), {"served": {}}),
        state(served_inputs(new)), {f'models["{name}"].labels["{name}"]': "update"},
    )  # fmt: skip
    made = step("create", SERVICE, name, None, state(service_inputs() | {"name": name}))
    notes = tuple(
        {"urn": one["urn"], "message": f"{level}: {name}", "severity": level} for level in ("info", "warning")
    )
    return parsed(one, made, diagnostics=notes)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_shown_as_code_and_nothing_else(name: str) -> None:
    text = comment(hostile_preview(name))
    bare = outside_of_code(text)
    for bad in (
        "@everyone",
        "evil.example",
        "<img",
        "### Approved",
        "# Approved",
        "[x]",
        "#123",
        "\u202e",
        "\u200b",
        "sqrt",
    ):
        assert bad not in bare
    assert text.startswith("<!-- tf-serving preview: dev -->\n### Preview of stack `dev`: 1 to create, 1 to update\n")
    assert bare.count("<!--") == 1
    assert bare.count("<details>") == bare.count("</details>") == 1
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {6}


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=1, max_size=60))
def test_no_name_breaks_out_of_the_comment(name: str) -> None:
    text = comment(hostile_preview(name))
    bare = outside_of_code(text)
    allowed = re.compile(
        r"<!-- tf-serving preview: dev -->|### Preview of stack : 1 to create, 1 to update|- "
        r"|\*\*(Rollout|Warnings|Notes)\*\*.*"
        r"|\|  \| Type \| Name \| Plan \| Changed \||[|\- ]+|\|  \|  \|  \| (create|update) \| [, ]*\|"
        r"|</?details>|<summary>Full diff</summary>|\d+\. "
    )
    assert all(not line or allowed.fullmatch(line) for line in bare.splitlines()), bare


@settings(deadline=None)
@given(st.text(max_size=30))
def test_the_marker_is_one_line_that_ends_as_a_comment_does(stack: str) -> None:
    line = marker("preview", stack)
    assert len(line.splitlines()) == 1
    assert (line.count("<!--"), line.count("-->")) == (1, 1)


def test_the_marker_is_the_same_by_whichever_form_of_its_name_a_stack_is_called() -> None:
    assert marker("drift", "acme/tf-serving/dev") == marker("drift", "dev") != marker("drift", "prod")


def test_the_summary_comes_first_then_the_table_then_the_folded_diff() -> None:
    text = comment(parsed(promotion()), run_url="https://github.com/o/r/actions/runs/1", commit="0123456789abcdef")
    parts = ("1 to update", "- `modelB: label stable 1 -> 2`", "| `~` |", "<details>",
             "models.modelB.labels.stable: 1 => 2", "</details>", "`0123456789ab`")  # fmt: skip
    assert [text.index(part) for part in parts] == sorted(text.index(part) for part in parts)


def test_replacements_and_deletions_are_marked() -> None:
    gone = step("delete", SERVICE, "x", state(service_inputs()))
    text = comment(parsed(gone, promotion()))
    assert "- **Deletes** `- service multi_grpc" in text
    assert "| **delete** |" in text


def test_no_changes_are_said_as_such() -> None:
    assert "No changes" in comment(parsed(step("same", SERVICE, "x", state({}), state({}))))


def test_a_failed_preview_says_why_and_does_not_pretend_to_be_one() -> None:
    error = {"urn": "", "message": "error: tf-serving:models.x: is wrong", "severity": "error"}
    text = comment(parsed(diagnostics=(error,)))
    assert "### Preview of stack `dev` failed" in text
    assert "tf-serving:models.x: is wrong" in text
    assert "No changes" not in text
    nothing = render(Preview("dev", None, "error: no stack named 'dev' found"))
    assert "failed" in nothing
    assert "no stack named 'dev' found" in nothing


def big_preview(count: int) -> Digest:
    services = [
        step("create", SERVICE, f"service-{i}", None,
             state(service_inputs() | {"name": f"service_{i}", "note": "\u4e2d" * 150}))
        for i in range(count)
    ]  # fmt: skip
    gone = step("delete", SERVICE, "precious", state(service_inputs() | {"name": "precious"}))
    return parsed(*services, gone, promotion())


@pytest.mark.parametrize("count", [1, 60, 1000])
def test_a_comment_of_any_preview_fits_and_keeps_its_summary(count: int) -> None:
    text = comment(big_preview(count))
    assert len(text.encode()) <= LIMIT
    assert f"{count} to create, 1 to update, 1 to delete" in text
    assert "**Deletes** `- service precious" in text
    assert "| Type | Name |" in text
    outside_of_code(text)
    assert ("left out here" in text) == (count > 1)


@settings(max_examples=30, deadline=None)
@given(st.integers(900, 6000), st.integers(0, 20))
def test_any_limit_is_kept_and_every_fold_and_fence_is_closed(limit: int, count: int) -> None:
    text = render(Preview("dev", big_preview(count)), limit)
    assert len(text.encode()) <= limit + 1
    assert f"{count} to create" in text or count == 0
    bare = outside_of_code(text)
    assert bare.count("<details>") == bare.count("</details>")


secrets = st.text("abcdefghijkmnpqrstuvwxyz23456789!#$%*._~|`<@", min_size=8, max_size=40).filter(
    lambda text: text.strip(" .") == text
)


@settings(max_examples=60, deadline=None)
@given(secrets, st.sampled_from(("value", "nested", "json", "config", "flag")), st.sampled_from(("create", "update")))
def test_a_secret_that_nobody_marked_is_nowhere_in_the_comment(secret: str, where: str, op: str) -> None:
    inputs = service_inputs()
    more: dict[str, Any] = {}
    match where:
        case "value":
            inputs["spec"]["containers"][0]["env"] = [{"name": "DB_PASSWORD", "value": secret}]
        case "nested":
            inputs["spec"]["extra"] = {"deep": [{"credentials": {"user": "x", "is": [secret]}}]}
        case "json":
            inputs["spec"]["extra"] = '{"list": [{"apiKey": ' + json.dumps(secret) + "}]}"
        case "config":
            more["config"] = {"tf-serving:services": '{"s": {"env": {"API_TOKEN": ' + json.dumps(secret) + "}}}"}
        case "flag":
            inputs["token"] = secret
    one = step(op, SERVICE, f"named-{secret}", state(service_inputs()), state(inputs), {"spec": "update"})
    notes = tuple(
        {"urn": one["urn"], "message": f"{level}: cannot use {secret}!", "severity": level}
        for level in ("warning", "error", "info")
    )
    text = comment(parse(document(one, diagnostics=notes, **more), Redactor()))
    assert secret not in text
    assert markdown.visible(secret) not in text
    assert secret.replace("|", "\\|") not in text
