"""What a process gives up for good before it runs somebody else's code. Linux only.

Three layers, of which the first two are the kernel's and cannot be taken off again:

seccomp     no sockets, no new processes or programs, no signals to others, no changes of
            permissions; threads stay possible
landlock    no writing outside one folder (Linux >= 5.13) nor truncating (>= 6.2), no TCP (>= 6.7),
            nothing sent to processes outside (>= 6.12), by fcntl(F_SETOWN) neither
audit hook  the same in Python, with an error that says what was refused. It can be evaded, by
            ctypes for instance: it words refusals, and is all there is against writing where the
            kernel lacks Landlock

Together with resource limits for memory, processor time, file sizes and open files. Reading is not
restricted beyond the user's own rights. docs/targets.md says what each protects against.
"""

import ctypes
import os
import platform
import resource
import signal
import struct
import sys
from pathlib import Path
from typing import Any

OPEN_FILES = 256
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 1, 38, 22, 2
_CLONE_THREAD = 0x10000

_MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""By machine, the number that the kernel's audit has for it."""
_REFUSED = {
    "socket": (41, 198), "io_uring_setup": (425, 425),
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281),
    "ptrace": (101, 117), "process_vm_writev": (311, 271), "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),  # a folder of /proc will do as its descriptor
    "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "chown": (92, None), "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    "setxattrat": (463, 463), "removexattrat": (466, 466), "file_setattr": (469, 469),
    "utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88),
}  # fmt: skip
"""System calls that are refused: their numbers on these machines."""
_CLONE3 = 435
_JUDGED = {"clone": (56, 220), "kill": (62, 129), "tgkill": (234, 131), "prlimit64": (302, 261)}
"""System calls that are refused by their first argument."""


class Unavailable(Exception):
    """This system cannot isolate a process, for the reason given in one line."""


def enter(folder: Path, seconds: int, file_bytes: int) -> list[str]:
    """Give up, for this process and all its threads to come: everything in the table above but the
    hook. Writing stays possible in `folder`. Call it before any other thread exists.

    Returns the kernel layers in force. Raises Unavailable where there is no seccomp.
    """
    if sys.platform != "linux" or platform.machine() not in _MACHINES:
        raise Unavailable(f"isolation needs Linux on {' or '.join(_MACHINES)}")
    libc = ctypes.CDLL(None, use_errno=True)
    for what, limit in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        least = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(what, (least, least))
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    _drop_capabilities(libc)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise Unavailable("isolation needs Linux's no_new_privs")
    layers = _landlock(libc, folder)
    _seccomp(libc)
    return ["seccomp", *layers]


def limit_memory(allowed: int) -> None:
    """Let the address space grow by `allowed` bytes from what it is now, and no further."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    total = pages * resource.getpagesize() + allowed
    resource.setrlimit(resource.RLIMIT_AS, (total, total))


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    """Root without its privileges; others have none."""
    header = ctypes.create_string_buffer(struct.pack("<Ii", 0x20080522, 0))
    libc.capset(header, ctypes.create_string_buffer(24))


# seccomp: a program over the number of a system call and its first argument. ---------------


def _seccomp(libc: ctypes.CDLL) -> None:
    column = list(_MACHINES).index(platform.machine())
    load, equal, at_least, bits, end = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, kill, eperm, enosys = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026
    here = _MACHINES[platform.machine()]
    steps = [(load, 0, 0, 4), (equal, 1, 0, here), (end, 0, 0, kill)]  # another ABI of the CPU
    steps += [(load, 0, 0, 0), (at_least, 0, 1, 0x40000000), (end, 0, 0, kill)]  # x32
    for numbers in _REFUSED.values():
        if (number := numbers[column]) is not None:
            steps += [(equal, 0, 1, number), (end, 0, 0, eperm)]
    # clone3 has its flags in memory, where no filter sees them: the C library falls back to clone.
    steps += [(equal, 0, 1, _CLONE3), (end, 0, 0, enosys)]
    for name, test, value in (
        ("clone", bits, _CLONE_THREAD),
        ("kill", equal, os.getpid()),
        ("tgkill", equal, os.getpid()),
        ("prlimit64", equal, 0),
    ):
        steps += [(equal, 0, 4, _JUDGED[name][column]), (load, 0, 0, 16), (test, 1, 0, value)]
        steps += [(end, 0, 0, eperm), (end, 0, 0, allow)]
    steps += [(end, 0, 0, allow)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(
        struct.pack("<HxxxxxxQ", len(steps), ctypes.addressof(code))
    )
    if libc.prctl(_PR_SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0) != 0:
        raise Unavailable(f"this kernel refuses seccomp: {os.strerror(ctypes.get_errno())}")


# Landlock: rights over files that are given up but for one folder. -------------------------

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_WRITE_FILE = 1 << 1
_REMOVE_AND_MAKE = 0b1_1111_1111 << 4
_REFER, _TRUNCATE, _IOCTL = 1 << 13, 1 << 14, 1 << 15


def _landlock(libc: ctypes.CDLL, folder: Path) -> list[str]:
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return []
    rights = _WRITE_FILE | _REMOVE_AND_MAKE
    rights |= (_REFER if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0)
    rights |= _IOCTL if version >= 5 else 0
    about = struct.pack("<Q", rights)
    about += struct.pack("<Q", 0b11) if version >= 4 else b""  # to bind and to connect TCP
    about += struct.pack("<Q", 0b11) if version >= 6 else b""  # abstract sockets, signals
    ruleset = libc.syscall(
        _CREATE_RULESET, ctypes.create_string_buffer(about), ctypes.c_size_t(len(about)), 0
    )
    devices = _WRITE_FILE | (_TRUNCATE if version >= 3 else 0)
    for path, allowed in ((folder, rights), (Path("/dev/null"), devices)):
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = ctypes.create_string_buffer(struct.pack("<Qi", allowed, place))
        done = libc.syscall(_ADD_RULE, ruleset, 1, rule, 0)
        os.close(place)
        if done != 0:
            raise Unavailable(f"landlock: {os.strerror(ctypes.get_errno())}")
    if libc.syscall(_RESTRICT_SELF, ruleset, 0) != 0:
        raise Unavailable(f"landlock: {os.strerror(ctypes.get_errno())}")
    os.close(ruleset)
    return [f"landlock {version}"]


# The audit hook. ---------------------------------------------------------------------------

_PROCESSES = (
    "subprocess.",
    "os.fork",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
    "pty.",
)
_PATHS = {
    "os.remove": (0,), "os.rename": (0, 1), "os.mkdir": (0,), "os.rmdir": (0,), "os.link": (1,),
    "os.symlink": (1,), "os.truncate": (0,), "os.chmod": (0,), "os.chown": (0,), "os.utime": (0,),
}  # fmt: skip
"""By event, which of its arguments are paths that it changes."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def watch(folder: Path) -> None:
    """From now on refuse, with a PermissionError in words, what the kernel layers refuse."""
    kept = (os.path.realpath(folder) + os.sep, os.devnull + os.sep)

    def outside(path: Any) -> bool:
        if isinstance(path, int):
            return False
        return not (os.path.realpath(os.fsdecode(path)) + os.sep).startswith(kept)

    def hook(event: str, given: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = given
            if flags & _WRITING and outside(path):
                raise PermissionError(f"the sandbox refuses to write {path!r}")
        elif event.startswith("socket.") and event != "socket.gethostname":
            raise PermissionError("the sandbox refuses the network")
        elif event.startswith(_PROCESSES):
            raise PermissionError("the sandbox refuses other processes")
        elif event == "os.kill" and given[0] != os.getpid():
            raise PermissionError("the sandbox refuses signals to other processes")
        elif event in _PATHS and any(outside(given[k]) for k in _PATHS[event]):
            raise PermissionError(f"the sandbox refuses to change {given[_PATHS[event][0]]!r}")

    sys.addaudithook(hook)
