"""The progress bar."""

from __future__ import annotations

import numpy as np
import opuproj
import pytest
from helpers import assert_same_bits, long_call, ternary


def test_a_bar_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    x = ternary(3, 50)
    expected = opuproj.project(x, 2000)
    assert capsys.readouterr().err == ""
    assert_same_bits(opuproj.project(x, 2000, progress=True), expected)
    shown = capsys.readouterr().err
    assert "100%" in shown
    assert "6.00k/6.00k" in shown
    assert shown.endswith("\n")


def test_a_pipe_gets_lines_and_no_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    op, x = long_call(0.5)
    op(x, progress=True)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("opuproj: 100%")
    monkeypatch.setattr("opuproj._progress._LINE_INTERVAL", 0.0)
    op(x, progress=True)
    shown = capsys.readouterr().err
    assert "\r" not in shown
    lines = shown.splitlines()
    assert 2 < len(lines) < 100
    assert len(set(lines)) == len(lines)


def test_without_a_standard_error_nothing_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    x = ternary(3, 50)
    expected = opuproj.project(x, 2000)
    monkeypatch.setattr("sys.stderr", None)
    assert_same_bits(opuproj.project(x, 2000, progress=True), expected)


class Recorder:
    """Replaces tqdm."""

    made: list[Recorder]
    fail = False

    def __init__(self, total: int, **_: object) -> None:
        self.total, self.n, self.closed, self.seen = total, 0, False, [0]
        Recorder.made.append(self)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True

    def update(self, n: int) -> None:
        if self.fail:
            raise RuntimeError("the terminal is gone")
        self.n += n
        self.seen.append(self.n)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    import tqdm.auto

    monkeypatch.setattr(tqdm.auto, "tqdm", Recorder)
    monkeypatch.setattr(Recorder, "made", [], raising=False)
    return Recorder


def test_a_bar_advances_to_its_end(recorder: type[Recorder]) -> None:
    op, x = long_call(0.5)
    op(x, progress=True)
    (bar,) = recorder.made
    assert bar.total == bar.n == op.n_outputs
    assert bar.closed
    assert bar.seen == sorted(bar.seen)
    assert 2 < len(bar.seen) < 100  # several reports, but not too many


def test_a_bar_over_many_blocks(recorder: type[Recorder], monkeypatch: pytest.MonkeyPatch) -> None:
    from opuproj import _memory

    monkeypatch.setattr(_memory, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(_memory, "PIECE_BYTES", 1000)
    opuproj.project(ternary(50, 300), 20, progress=True)
    (bar,) = recorder.made
    assert bar.total == bar.n == 1000
    assert bar.seen == sorted(bar.seen)
    assert len(bar.seen) > 4


def test_a_bar_is_closed_when_work_fails(recorder: type[Recorder], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recorder, "fail", True)
    x = ternary(50)
    with pytest.raises(RuntimeError, match="the terminal is gone"):
        opuproj.project(x, 20, progress=True)
    assert recorder.made[0].closed
    assert opuproj.project(x, 20).shape == (20,)


def test_no_bar_for_no_work(recorder: type[Recorder]) -> None:
    opuproj.project(np.zeros((0, 5)), 20, progress=True)
    opuproj.project(np.zeros((3, 5)), 20, rows=(4, 4), progress=True)
    with pytest.raises(ValueError, match=r"x\[0\] is 2"):
        opuproj.project([2], 20, progress=True)
    assert recorder.made == []
