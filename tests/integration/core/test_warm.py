"""The warm process: what it forks is as good as a new Python, and nothing outlives its owner."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from boothline.warm import Warm, warm_process


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    with warm_process("json", has_device=False) as process:
        assert process is not None
        yield process


def program(folder: Path, text: str) -> str:
    """Write a module of a fresh name, to be found by PYTHONPATH, and return the name."""
    name = f"program_{folder.name}".replace("-", "_")
    (folder / f"{name}.py").write_text(text)
    return name


def started(warm: Warm, folder: Path, text: str, *arguments: str, **variables: str):
    """Run a module in a fork; its output goes to `folder/output`."""
    env = {**os.environ, "PYTHONPATH": str(folder), **variables}
    with (folder / "output").open("wb") as output:
        return warm.start(program(folder, text), arguments, env=env, output=output.fileno())


def ended(pid: int, seconds: float = 10.0) -> bool:
    """Return whether a process ends within some time."""
    deadline = time.monotonic() + seconds
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not psutil.pid_exists(pid)


def wait_until(met: Callable[[], bool], seconds: float = 20.0) -> None:
    """Return once something has become true; fail if that takes too long."""
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_start_gives_the_module_its_arguments_environment_and_output(warm, tmp_path) -> None:
    text = (
        "import os, sys\n"
        "print(sys.argv[1:], os.environ['COLOUR'], 'HOME' in os.environ, __name__)\n"
        "print('to stderr', file=sys.stderr)\n"
    )
    child = started(warm, tmp_path, text, "a b", "3", COLOUR="red")
    assert child.wait() == 0
    assert (tmp_path / "output").read_text() == "['a b', '3'] red True __main__\nto stderr\n"


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        ("raise SystemExit(7)", 7, ""),
        ("raise SystemExit", 0, ""),
        ("raise SystemExit('no room')", 1, "no room\n"),
        ("raise ValueError('broken')", 1, "ValueError: broken\n"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -9, ""),
    ],
)
def test_start_ends_with_the_status_that_python_would_give(
    warm, tmp_path, text, status, said
) -> None:
    assert started(warm, tmp_path, text).wait() == status
    assert (tmp_path / "output").read_text().endswith(said)


def test_start_ends_only_after_threads_and_exit_handlers(warm, tmp_path) -> None:
    text = (
        "import atexit, threading, time\n"
        "atexit.register(print, 'handler')\n"
        "threading.Thread(target=lambda: (time.sleep(0.2), print('thread'))).start()\n"
    )
    assert started(warm, tmp_path, text).wait() == 0
    assert (tmp_path / "output").read_text() == "thread\nhandler\n"


def test_start_loads_libraries_before_the_fork_and_once_for_all(tmp_path, monkeypatch) -> None:
    (tmp_path / "costly.py").write_text("import os\nloaded_by = os.getpid()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    name = program(tmp_path, "import costly, os\nprint(costly.loaded_by == os.getppid())\n")
    with warm_process(has_device=False) as own, (tmp_path / "output").open("ab") as output:
        assert own is not None
        for libraries in (["no_such_module", "costly"], []):
            child = own.start(name, [], env=os.environ, libraries=libraries, output=output.fileno())
            assert child.wait() == 0
    assert (tmp_path / "output").read_text() == "True\nTrue\n"


def test_libraries_for_soon_are_loaded_while_nothing_is_asked(tmp_path, monkeypatch) -> None:
    for number in (1, 2):
        text = f"import os, time\nopen({str(tmp_path / 'log')!r}, 'a').write('{number}')\n"
        (tmp_path / f"slow{number}.py").write_text(text + f"time.sleep({2 * (number == 1)})\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    name = program(tmp_path, "import os, sys\nprint('slow2' in sys.modules, os.getppid())\n")
    soon = ("slow1", "no_such_module", "slow2")
    with (
        warm_process(has_device=False, soon=soon) as own,
        (tmp_path / "output").open("ab") as output,
    ):
        assert own is not None
        wait_until(lambda: (tmp_path / "log").exists())
        assert own.start(name, [], env=os.environ, output=output.fileno()).wait() == 0
        wait_until(lambda: (tmp_path / "log").read_text() == "12")
        assert own.start(name, [], env=os.environ, output=output.fileno()).wait() == 0
    assert (tmp_path / "output").read_text() == f"False {own.pid}\nTrue {own.pid}\n"


def test_warm_process_whose_owner_is_gone_loads_no_more(tmp_path, monkeypatch) -> None:
    for number in (1, 2, 3):
        text = f"import time\nopen({str(tmp_path / 'log')!r}, 'a').write('{number}')\n"
        (tmp_path / f"slow{number}.py").write_text(text + "time.sleep(1)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with warm_process(has_device=False, soon=("slow1", "slow2", "slow3")):
        wait_until(lambda: (tmp_path / "log").exists())
    assert (tmp_path / "log").read_text() in ("1", "12")


FORKING = """
import os, threading, torch
torch.set_num_threads(2)
numbers = torch.ones(200_000)

def count_failures():
    failures, gate = [], threading.Barrier(8)
    def add():
        gate.wait()
        try:
            torch.add(numbers, 1)
        except RuntimeError as error:
            failures.append(error)
    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(failures)

for _ in range(10):
    if (pid := os.fork()) == 0:
        os._exit(count_failures())
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_threads_of_a_forked_rank_can_all_begin_with_torch_at_once(tmp_path) -> None:
    with warm_process("torch", has_device=False) as warm:
        assert warm is not None
        assert started(warm, tmp_path, FORKING).wait() == 0
    assert (tmp_path / "output").read_text().split() == ["0"] * 10


def test_wait_with_a_timeout_expires_while_the_child_runs(warm, tmp_path) -> None:
    child = started(warm, tmp_path, "import time; time.sleep(60)")
    assert child.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.1)
    child.terminate()
    assert child.wait(10) == -signal.SIGTERM
    assert child.poll() == -signal.SIGTERM


def test_child_whose_starter_is_gone_receives_sigterm(warm, tmp_path) -> None:
    child = started(warm, tmp_path, "import time; time.sleep(60)")
    pid = child.pid
    child._connection.close()
    assert ended(pid)


def test_children_die_with_the_warm_process(tmp_path) -> None:
    with warm_process(has_device=False) as process:
        assert process is not None
        child = started(process, tmp_path, "import time; time.sleep(60)")
        os.kill(process.pid, signal.SIGKILL)
        assert child.wait(10) == -signal.SIGKILL
        assert ended(child.pid)
        with pytest.raises(OSError, match=r"gone|pipe|reset|refused"):
            started(process, tmp_path, "")


def test_warm_process_whose_owner_is_killed_ends_after_its_children(tmp_path) -> None:
    owner = (
        "import os, sys, time\n"
        "from boothline.warm import warm_process\n"
        "with warm_process(has_device=False) as warm:\n"
        "    child = warm.start('child', [], env=dict(os.environ))\n"
        "    print(warm.pid, child.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    (tmp_path / "child.py").write_text("import time; time.sleep(60)")
    paths = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        [sys.executable, "-c", owner],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    pids = [int(word) for word in process.stdout.readline().split()]
    process.kill()
    process.communicate()
    assert len(pids) == 2
    assert all(ended(pid) for pid in pids)


def test_warm_process_survives_what_stops_its_children(warm, tmp_path) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(warm.pid, number)
    text = "import signal; print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)"
    assert started(warm, tmp_path, text).wait() == 0
    assert (tmp_path / "output").read_text() == "True\n"


def test_child_asks_for_a_child_in_turn(warm, tmp_path) -> None:
    (tmp_path / "inner.py").write_text("import os; os._exit(5)")
    text = (
        "import os, sys\n"
        "from boothline.warm import Warm\n"
        "sys.exit(Warm.of(sys.argv[1]).start('inner', [], env=dict(os.environ)).wait())\n"
    )
    assert started(warm, tmp_path, text, str(warm)).wait() == 5


def test_warm_process_is_not_started_beside_an_accelerator() -> None:
    with warm_process(has_device=True) as process:
        assert process is None


def test_of_empty_address_is_none_and_of_a_text_equals_it() -> None:
    assert Warm.of("") is None
    assert Warm.of(str(Warm(3, 4))) == Warm(3, 4)
