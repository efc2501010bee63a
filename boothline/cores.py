"""How many cores this process may keep busy."""


def available_cores() -> int:
    """Return the cores that this process may use, at least 1.

    That is the least of the machine's cores, the process's affinity and the CPU quota of its
    control group (v1 or v2), rounded up. A container's CPU limit is such a quota: the affinity
    still shows every core of the node, and a thread for each of them would mostly be throttled.
    """
    import joblib

    return int(joblib.cpu_count())
