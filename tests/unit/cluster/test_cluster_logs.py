"""What is shown of a pod's log."""

from boothline.launch.cluster.pods import own_lines


def test_own_lines_leave_out_what_kubeflow_writes_before() -> None:
    own = "2026-01-31 09:31:00,000 INFO boothline.progress train started 0/0  \nTraceback\n"
    assert own_lines(f"I0131 launcher_v2.go:151] input\n{{}}\n{own}") == own
    assert own_lines("I0131 driver.go: refused\n") == "I0131 driver.go: refused\n"


def test_own_lines_end_where_kubeflow_writes_again() -> None:
    own = (
        "2026-01-31 03:56:40,170 INFO boothline.progress train progress 199/200 steps loss 0.1\n"
        "node 0: INFO boothline.store.store: committed\n"
        "2026-01-31 03:56:40,785 INFO boothline.progress train done\n"
    )
    before = (
        'time=2026-01-31T03:54:25.071Z level=INFO msg="capturing logs" argo=true\n'
        "I0131 03:54:25.120729      16 main.go:67] Setting log level to: '1'\n"
        "[KFP Executor 2026-01-31 03:54:25,291 INFO]: Got executor_input:\n{\n}\n"
    )
    behind = (
        "[KFP Executor 2026-01-31 03:56:40,785 INFO]: Wrote executor output file to /minio/x\n"
        'I0131 03:56:41.569332      16 launcher_v2.go:1230] ExecutorOutput: {\n  "a": 1\n}\n'
        'time=2026-01-31T03:56:42.286Z level=INFO msg="sub-process exited" argo=true\n'
    )
    assert own_lines(before + own + behind) == own
