"""Which files a process may open, enforced by the Linux kernel (5.13 or newer) without any privileges: Landlock.

The idea: the process lists the folders it may read and the one it may write, and then closes the door behind itself.
Nobody opens it again, not even root, and no other process can be looked into or, in newer kernels, signalled.
https://docs.kernel.org/userspace-api/landlock.html
"""

import ctypes
import os
import struct
import sys

CREATE, ADD, RESTRICT = 444, 445, 446  # the numbers of the three system calls, the same on every machine
# Rights to files, bit by bit, in the order of the kernel's versions.
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
FIRST, REFER, TRUNCATE, IOCTL = (1 << 13) - 1, 1 << 13, 1 << 14, 1 << 15
READ = EXECUTE | READ_FILE | READ_DIR
OF_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL


def _system_call(number, *arguments):
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    found = library.syscall(ctypes.c_long(number), *arguments)
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found


def version():
    """Landlock's version in this kernel; 0 where there is none."""
    if not sys.platform.startswith("linux"):
        return 0
    try:
        return _system_call(CREATE, None, ctypes.c_size_t(0), ctypes.c_uint(1))
    except OSError:
        return 0


def restrict(readable, writable):
    """From now on this process opens only what is in these files and folders. Those that do not exist are left out."""
    found = version()
    rights = FIRST | (REFER if found >= 2 else 0) | (TRUNCATE if found >= 3 else 0) | (IOCTL if found >= 5 else 0)
    network = 3 if found >= 4 else 0  # TCP: neither bind nor connect
    scope = 3 if found >= 6 else 0  # neither abstract sockets nor signals of processes outside
    attributes = struct.pack("QQQ", rights, network, scope)[:24 if found >= 6 else 16 if found >= 4 else 8]
    rules = _system_call(CREATE, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint(0))
    for paths, allowed in ((readable, READ), (writable, rights)):
        for path in paths:
            _allow(rules, path, allowed & rights)
    ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS, without which the kernel refuses
    _system_call(RESTRICT, ctypes.c_int(rules), ctypes.c_uint(0))
    os.close(rules)


def _allow(rules, path, rights):
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rights = rights if os.path.isdir(path) else rights & OF_A_FILE
        _system_call(ADD, ctypes.c_int(rules), ctypes.c_int(1), struct.pack("=Qi", rights, place), ctypes.c_uint(0))
    finally:
        os.close(place)
