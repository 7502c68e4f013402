from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zorba_ray.config.words import duration
from zorba_ray.records.schema import EvaluationRecord, RoundRecord
from zorba_ray.report.display import BARS, Display, last_lines, sparkline
from zorba_ray.runs.folder import resume_line
from zorba_ray.runs.summary import Summary


def summary(**changes: object) -> Summary:
    values: dict[str, object] = {
        "name": "run", "seed": 0, "clients": 20, "rounds": 100, "rounds_done": 100, "method": "zorba",
        "placement": "cohort", "model": "embedded", "task": "embedded", "accuracy_first": 0.53, "accuracy_last": 0.93,
        "accuracy_best": 0.94, "test_loss_first": 0.6, "test_loss_last": 0.2,
        "loss_first": 0.7, "loss_last": 0.2, "seconds": 51.0, "seconds_rounds": 48.0,
        "bytes_up": 32000, "bytes_down": 64000, "flops": 1e12, "ledger_sha256": "ab" * 32, "model_sha256": "cd" * 32,
        "ledger_bytes": 20000, "interrupted": False,
    }  # fmt: skip
    return Summary(**(values | changes))  # type: ignore[arg-type]


def play(stream: io.TextIOBase, rounds: int = 100, name: str = "run") -> None:
    with Display(rounds, name, stream=stream) as display:  # type: ignore[arg-type]
        display.note("20 clients [bold]on 2 actors[/nonsense]")
        display.event(EvaluationRecord(0, 0.53, 0.7, 400))
        for t in range(rounds):
            display.event(RoundRecord(t, 0.7, 0.005, 20, 320, 640, 0.5, 0.1, 0.0, 1.0))
            if (t + 1) % 10 == 0:
                display.event(EvaluationRecord(t + 1, 0.53 + 0.4 * (t + 1) / rounds, 0.5, 400))
        display.finish(summary(rounds=rounds, rounds_done=rounds), Path("runs/run-1"))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_is_plain_short_and_complete() -> None:
    for rounds in (1, 100, 5000):
        stream = io.StringIO()
        play(stream, rounds)
        lines = stream.getvalue().splitlines()
        assert "\x1b" not in stream.getvalue() and "\r" not in stream.getvalue()
        assert len(lines) < 60
        assert "20 clients [bold]on 2 actors[/nonsense]" in lines[0]
        assert "round 0/" in lines[1] and "53.0 %" in lines[1]
        assert any(f"round {rounds}/{rounds}  loss 0.7000" in line for line in lines)
        assert "53.0 % → 93.0 %" in stream.getvalue()


def test_a_terminal_gets_a_moving_line_and_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    play(stream, name="run [x]")
    text = stream.getvalue()
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # the cursor is hidden, and shown again
    assert "run [x]" in text and "100/100" in text and any(bar in text for bar in BARS)
    assert text.rstrip().splitlines()[-1].startswith("Report  runs/run-1/report.html")


def test_the_terminal_is_given_back_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with pytest.raises(KeyboardInterrupt), Display(10, "run", stream=stream):
        raise KeyboardInterrupt
    assert "\x1b[?25h" in stream.getvalue()


def test_time_left_is_told_of_usual_rounds_not_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first round takes many times the others', and so does the first evaluation."""
    clock = iter(range(1000))
    monkeypatch.setattr("zorba_ray.report.display.time.monotonic", lambda: float(next(clock)))
    display = Display(100, "run", stream=io.StringIO())
    display.event(EvaluationRecord(0, 0.5, 0.7, 400))
    for t in range(10):
        display.event(RoundRecord(t, 0.7, 0.005, 20, 320, 640, 30.0 if t == 0 else 2.0, 0.1, 0.0, 1.0))
        if t < 2:
            assert "left" not in display._left()
    assert display._left() == f"{duration(180)} left"


def test_a_stream_that_knows_no_arrows_does_not_stop_a_run() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    play(stream)
    stream.seek(0)
    assert "53.0 % ? 93.0 %" in stream.read()


def test_last_lines_say_how_to_go_on() -> None:
    text = "\n".join(last_lines(summary(interrupted=True, rounds_done=40), Path("runs/my run")))
    assert "Interrupted after 40 of 100 rounds" in text
    assert "python -m zorba_ray.run --resume 'runs/my run'" in text
    assert "Resume" not in "\n".join(last_lines(summary(), Path("runs/a")))
    stopped = last_lines(summary(stopped="diverged at round 7", rounds_done=7), Path("runs/a"))
    assert stopped[0] == "Stopped after 7 of 100 rounds: diverged at round 7"
    untested = summary(accuracy_first=None, accuracy_last=None, test_loss_first=None, test_loss_last=None)
    assert last_lines(untested, Path("a"))[0].startswith("Sent")
    assert resume_line(Path("runs/a-1")) == "python -m zorba_ray.run --resume runs/a-1"


@given(st.lists(st.floats(), max_size=50), st.integers(1, 20))
def test_sparklines_fit_and_keep_order(values: list[float], width: int) -> None:
    line = sparkline(values, width)
    assert len(line) == min(width, len(values))
    assert set(line) <= {*BARS, " "}


def test_a_sparkline_of_a_fall_falls() -> None:
    assert sparkline([8, 7, 6, 5, 4, 3, 2, 1], 8) == BARS[::-1]
    assert sparkline([1.0, 1.0], 5) == "▁▁"
    assert sparkline([1.7976931348623157e308, -1e308], 2) == "█▁"
    assert sparkline([5e-324, 0.0], 2) in ("█▁", "▁▁")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0.0 s"), (0.04, "40 ms"), (0.0995, "0.1 s"),
     (9.9, "9.9 s"), (9.96, "10 s"), (99, "99 s"), (100, "1 min 40 s"), (3599.6, "1 h 00 min"),
     (7500, "2 h 05 min")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
