"""What a program does in its turn, and why one ended."""

from multiprocessing import Pipe

import pytest
import torch

from benchmarks.turns import Answer, Order, Turns, reason_of

CPU = torch.device("cpu")


class Parent:
    """The other end of the turns: gives orders ahead, so that nothing waits, and has the answers.

    After the orders comes one that does not end.
    """

    def __init__(self, *orders: Order) -> None:
        self._ours, theirs = Pipe()
        for order in (*orders, *[Order(calls=10**9)] * 10):
            self._ours.send(order)
        self.turns = Turns(theirs, device=CPU)
        self.turns.wait()

    @property
    def has_answer(self) -> bool:
        return self._ours.poll()

    def answers(self) -> list[Answer]:
        found = []
        while self._ours.poll():
            found.append(self._ours.recv())
        return found


def test_turn_counts_what_follows_its_untimed_calls() -> None:
    parent = Parent(Order(untimed=1, calls=2), Order())
    for units in (100, 4, 4, 1, 50):
        parent.turns(units)
    assert [answer.units for answer in parent.answers()] == [8, 1]


def test_turn_lasts_its_seconds_however_many_calls_it_takes() -> None:
    parent = Parent(Order(seconds=0.05))
    while not parent.has_answer:
        parent.turns()
    (answer,) = parent.answers()
    assert answer.seconds >= 0.05
    assert answer.units > 1
    assert answer.rate == answer.units / answer.seconds


def test_counted_turn_has_the_operations_of_forward_and_backward_pass() -> None:
    parent = Parent(Order(counted=True), Order())
    weights = torch.randn(8, 8, requires_grad=True)
    inputs = torch.randn(8, 8, requires_grad=True)
    for _ in range(2):
        (inputs @ weights).sum().backward()
        parent.turns()
    counted, plain = parent.answers()
    assert counted.flops == 3 * 2 * 8**3
    assert plain.flops == 0


def test_answer_has_the_memory_of_the_process() -> None:
    parent = Parent(Order())
    parent.turns()
    (answer,) = parent.answers()
    assert answer.resident_bytes > 10 * 2**20
    assert answer.peak_bytes == pytest.approx(answer.steps_peak_bytes, rel=0.1)
    assert answer.peak_bytes > 0.9 * answer.resident_bytes


OUT_OF_MEMORY = """
  File "train.py", line 3, in main
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB.
[W1130 destroy_process_group() was not called]
"""


@pytest.mark.parametrize(
    ("output", "code", "expected"),
    [
        (OUT_OF_MEMORY, 1, "out of memory: torch.OutOfMemoryError: CUDA out of memory."),
        ("Steps: 0%\nModuleNotFoundError: No module named 'peft'\n", 1, "ModuleNotFoundError: No"),
        ("loading\n", -9, "killed by the system"),
        ("Steps: 40%\n", 1, "Steps: 40%"),
        ("", 3, "ended with 3, without a message"),
    ],
)
def test_reason_of_a_program_that_ended_is_one_line(output: str, code: int, expected: str) -> None:
    reason = reason_of(output, code=code)
    assert reason.startswith(expected)
    assert "\n" not in reason
