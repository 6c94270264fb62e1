"""A program that kills its own process costs its own target alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from gradsmith.cli.apart import Died, apart

CALL_WRONG = "Wrong.apply(torch.full((3,), 0.7, requires_grad=True))"
COMMAND = [sys.executable, "-c", "from gradsmith.cli import main; main()", "check", "--only", "gradient-sign"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=120)


def test_targets_that_die_while_they_are_recorded_leave_the_others_their_results(write):
    write("a.py", "wrong", CALL_WRONG)
    write("killed.py", "wrong", CALL_WRONG, "import os", "os.kill(os.getpid(), 9)")
    write("fault.py", "wrong", CALL_WRONG, "import ctypes", "ctypes.string_at(0)")
    write("left.py", "wrong", CALL_WRONG, "import os", "os._exit(3)")
    write("b.py", "right", "Right.apply(torch.full((3,), 0.7, requires_grad=True))")
    done = run("a.py", "killed.py", "fault.py", "left.py", "b.py", "--format", "json")
    assert done.returncode == 2
    said = [line for line in done.stderr.splitlines() if line.startswith("gradsmith: ")]
    assert said == [
        "gradsmith: killed.py was killed by signal 9 (Killed): nothing that it called could be checked",
        "gradsmith: fault.py was killed by signal 11 (Segmentation fault): nothing that it called could be checked",
        "gradsmith: left.py exited with status 3",
    ]
    assert "Traceback" not in done.stderr
    functions = [(one["function"], one["status"]) for one in json.loads(done.stdout)["functions"]]
    assert functions == [("Wrong", "1 error"), ("Wrong", "1 error"), ("Right", "ok")]


def test_a_program_of_a_directory_that_dies_leaves_the_others_their_results(write):
    write("all/a.py", "import os", "os.abort()")
    write("all/b.py", "wrong", CALL_WRONG)
    done = run("all")
    assert done.returncode == 2
    assert "all/a.py was killed by signal 6 (Aborted): nothing that it called could be checked" in done.stderr
    assert "error[gradient-sign] in Wrong" in done.stdout


def test_what_a_program_prints_and_does_at_its_exit_is_as_without_a_process_of_its_own(write):
    write("a.py", "right", "import atexit", "atexit.register(print, 'at exit')", "print('in it')")
    done = run("a.py")
    assert done.stdout.splitlines()[:2] == ["in it", "at exit"]


def test_the_work_gives_what_it_gives():
    assert apart(lambda: [os.getppid()]) == [os.getpid()]


@pytest.mark.parametrize(
    ("how", "work"),
    [
        ("was killed by signal 9 (Killed)", lambda: os.kill(os.getpid(), 9)),
        ("ended with status 4", lambda: os._exit(4)),
        ("ended with status 1", lambda: 1 / 0),
    ],
)
def test_work_that_ends_its_process_is_told_how(how, work, capfd):
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(Died) as died:
        apart(work)
    assert str(died.value) == how
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers


def test_what_it_has_started_holds_nothing_up():
    def work() -> None:
        if os.fork() == 0:
            time.sleep(4)
            os._exit(0)
        os._exit(5)

    start = time.monotonic()
    with pytest.raises(Died, match="ended with status 5"):
        apart(work)
    assert time.monotonic() - start < 3


def sent_to_the_other_one() -> str:
    """What the process that waits is sent as soon as this one runs arrives here."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    os.kill(os.getppid(), signal.SIGTERM)
    return signal.sigwait([signal.SIGTERM]).name


def test_what_is_sent_to_the_waiting_process_alone_is_handed_on():
    assert apart(sent_to_the_other_one) == "SIGTERM"


def test_so_is_what_another_of_its_threads_is_interrupted_by():
    done = threading.Event()
    others = [threading.Thread(target=done.wait) for _ in range(4)]
    for thread in others:
        thread.start()
    try:
        assert {apart(sent_to_the_other_one) for _ in range(30)} == {"SIGTERM"}
    finally:
        done.set()
