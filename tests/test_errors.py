"""One clear line and an exit code for whatever goes wrong."""

from __future__ import annotations

import pytest

from bespoke import errors


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.ConfigError, 2),
        (errors.DatasetError, 3),
        (errors.TrainerError, 4),
        (errors.GateStoppedError, 5),
        (errors.InterruptedRunError, 130),
    ],
)
def test_each_error_prints_its_lines_and_ends_with_its_code(
    kind: type[errors.BespokeError], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    kept: list[str] = []
    with pytest.raises(SystemExit) as caught, errors.reported(lambda text: kept.append(text)):
        raise kind("first\nsecond")
    assert caught.value.code == code
    assert capsys.readouterr().err == "bespoke: first\nbespoke: second\n"
    assert "Traceback" in kept[0]


def test_the_unexpected_is_named_and_its_traceback_kept_in_a_file(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught, errors.reported(lambda _: "/w/error.log"):
        raise KeyError("lost")
    assert caught.value.code == 1
    shown = capsys.readouterr().err
    assert shown == (
        "bespoke: unexpected KeyError: 'lost'\nbespoke: the traceback is in /w/error.log\n"
    )


def test_the_unexpected_is_shown_whole_where_no_file_can_keep_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit), errors.reported():
        raise KeyError("lost")
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_an_interruption_ends_with_130(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught, errors.reported():
        raise KeyboardInterrupt
    assert caught.value.code == 130
    assert capsys.readouterr().err == "bespoke: interrupted\n"
