"""Computer algebra under a real time limit: in a process of its own, which is killed when late.

SymPy cannot be interrupted (a simplification may not come back for hours, and a signal reaches the
main thread only), so the work is done by one process that is kept between calls and started again
after it was killed. It works from any thread.
"""

import atexit
import contextlib
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import IO, Any

STARTED = 120.0  # seconds that a busy machine may take to import SymPy; not part of any budget


class OutOfTime(Exception):
    """The work was not done within its time."""


def within(seconds: float, function: Callable[..., Any], *arguments: Any) -> Any:
    """function(*arguments), which are pickled, in the other process.

    Raises OutOfTime after `seconds`, ValueError with its message where the function raised one,
    and RuntimeError for anything else it raised.
    """
    return _worker.call(seconds, function, arguments)


def start() -> None:
    """Start the process, unless it runs, so that no call waits for that."""
    _worker.ready()


class _Worker:
    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.lock = threading.Lock()

    def ready(self) -> None:
        with self.lock:
            if self.process is None:
                self._start()

    def call(self, seconds: float, function: Callable[..., Any], arguments: Any) -> Any:
        with self.lock:
            if self.process is None:
                self._start()
            kind, result = self._asked(pickle.dumps((function, arguments)), seconds)
        if kind == "returned":
            return result
        raise (ValueError if kind == "ValueError" else RuntimeError)(result)

    def _start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from theory.limited import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._asked(pickle.dumps((str, ("ready",))), STARTED)

    def _asked(self, question: bytes, seconds: float) -> tuple[str, Any]:
        process, late = self.process, threading.Event()
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(min(max(seconds, 0.0), threading.TIMEOUT_MAX), end)
        timer.start()
        try:
            _send(process.stdin, question)
            return pickle.loads(_receive(process.stdout))
        except (EOFError, OSError) as error:
            self.close()
            if late.is_set():
                raise OutOfTime(f"not finished within {seconds:g} s") from None
            raise RuntimeError("the process for computer algebra died") from error
        finally:
            timer.cancel()
            timer.join()
            if late.is_set():
                self.close()

    def close(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):  # what was not sent is of no use any more
                        pipe.close()


_worker = _Worker()
atexit.register(_worker.close)


def _send(stream: IO[bytes], data: bytes) -> None:
    stream.write(len(data).to_bytes(8, "little") + data)
    stream.flush()


def _receive(stream: IO[bytes]) -> bytes:
    """Raises EOFError where the other side is gone."""
    size = int.from_bytes(_exactly(stream, 8), "little")
    return _exactly(stream, size)


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if data is None or len(data) < size:
        raise EOFError
    return data


def serve() -> None:
    """What the process does: questions from stdin, answers to stdout, until stdin ends."""
    answers, sys.stdout = sys.stdout.buffer, sys.stderr
    while True:
        try:
            question = _receive(sys.stdin.buffer)
        except EOFError:
            return
        try:
            function, arguments = pickle.loads(question)
            answer: tuple[str, Any] = ("returned", function(*arguments))
        except ValueError as error:
            answer = ("ValueError", str(error))
        except Exception as error:
            answer = ("other", f"{type(error).__name__}: {error}")
        _send(answers, pickle.dumps(answer))
