"""CPU time and wake-ups of the server's processes, from /proc."""
import os
import time

TICK = os.sysconf("SC_CLK_TCK")


def _stat(pid):
    """Fields of /proc/PID/stat behind the command name, which may hold blanks and parentheses."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
        return f.read().rpartition(")")[2].split()


def _on_cpu(pid):
    """Seconds on the CPU in nanosecond resolution: the ticks of the stat file are too coarse for runs of a second."""
    try:
        with open(f"/proc/{pid}/schedstat", encoding="ascii") as f:
            return int(f.read().split()[0]) / 1e9
    except FileNotFoundError:
        fields = _stat(pid)
        return (int(fields[11]) + int(fields[12])) / TICK


def children(parent):
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if int(_stat(name)[1]) == parent:
                    found.append(int(name))
            except (FileNotFoundError, ProcessLookupError):
                pass
    return found


def cpu_of(pid):
    return _on_cpu(pid)


def server_cpu(postmaster, exclude=()):
    """
    CPU seconds of the postmaster, its living children but the excluded ones, and the children that have ended.

    A child that ends while we read would be counted twice or not at all; then everything is read again.
    """
    for _ in range(50):
        before = _stat(postmaster)[13:15]
        total = _on_cpu(postmaster)
        try:
            for pid in children(postmaster):
                if pid not in exclude:
                    total += _on_cpu(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
        if _stat(postmaster)[13:15] == before:
            return total + sum(map(int, before)) / TICK
        time.sleep(0.001)
    raise RuntimeError("processes of the server come and go too fast to be counted")


def wakeups(pids):
    """Voluntary context switches by process: each is one sleep, so one wake-up."""
    result = {}
    for pid in pids:
        try:
            with open(f"/proc/{pid}/status", encoding="utf-8") as f:
                for line in f:
                    if line.startswith("voluntary_ctxt_switches"):
                        result[pid] = int(line.split()[1])
        except FileNotFoundError:
            pass
    return result


def peak_mb(pid):
    """What a process held at most, without the memory that all share: as of now, so after it has touched what it will."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as f:
        sizes = {line.split(":")[0]: int(line.split()[1]) for line in f if line.endswith("kB\n")}
    return (sizes["VmHWM"] - sizes.get("RssShmem", 0) - sizes.get("RssFile", 0)) / 1024
