"""Arguments that no command could make sense of are wrong usage, and reach nobody."""

from __future__ import annotations

import json

import pytest

from ops.__main__ import main


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["logs", "s", "--since", "99999999999h"], "allowed: up to 366d"),
        (["logs", "s", "--since", "20000000h"], "allowed: up to 366d"),
        (["logs", "s", "--since", "9" * 400], "allowed: up to 366d"),
        (["promote", "m", "--to", "2", "--hold", "99999999999h"], "allowed: up to 366d"),
        (["promote", "m", "--to", "2", "--max-p99", "0ms"], "allowed: 0.001s to 366d"),
        (["metrics", "s", "--over", "99999999999h"], "allowed: 0.001s to 366d"),
        (["metrics", "s", "--over", "0s"], "allowed: 0.001s to 366d"),
        (["status", "--watch", "--every", "99999999999h"], "allowed: 0.1s to 1d"),
        (["status", "--watch", "--every", "25d"], "allowed: 0.1s to 1d"),
        (["status", "--watch", "--every", "0"], "allowed: 0.1s to 1d"),
        (["drift", "--timeout", "99999999999h"], "allowed: 1s to 1d"),
        (["drift", "--timeout", "nan"], "is not a duration"),
        (["drift", "--timeout", "0"], "allowed: 1s to 1d"),
        (["logs", "s", "--lines", "0"], "is not a whole number from 1 to"),
        (["logs", "s", "--lines=-1"], "is not a whole number from 1 to"),
        (["logs", "s", "--lines", "1e3"], "is not a whole number from 1 to"),
        (["logs", "s", "--lines", "9" * 5000], "is not a whole number from 1 to"),
        (["preview-comment", "--post", "--pull-request", "0"], "is not a whole number from 1 to"),
        (["preview-comment", "--post", "--pull-request=-3"], "is not a whole number from 1 to"),
        (["predict", "s", "m", "--label", ""], "'' is not a label: letters, digits and '_'"),
        (["predict", "s", "m", "--label", "a/b"], "'a/b' is not a label"),
        (["promote", "m", "--to", "2", "--label", ""], "'' is not a label"),
        (["rollback", "m", "--label", ""], "'' is not a label"),
        (["predict", "s", ""], "'' is not a model name: letters, digits"),
        (["predict", "s", "a/b"], "'a/b' is not a model name"),
        (["golden", "record", "s", "", "--version", "1"], "'' is not a model name"),
        (["promote", "", "--to", "2"], "'' is not a model name"),
        (["rollback", ""], "'' is not a model name"),
    ],
)
def test_an_argument_out_of_its_range_is_wrong_usage(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*arguments, "--format", "json"])
    assert words in json.loads(capsys.readouterr().out)["error"]["message"]
