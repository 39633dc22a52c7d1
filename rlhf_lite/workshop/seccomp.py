"""Which calls to the Linux kernel a process may make: a filter that refuses those no exercise needs.

The idea: a student's process computes. It opens no sockets, starts no processes, looks into no others, signals nobody,
and changes no file's owner, mode or date (Landlock does not cover those). Each such call fails with "operation not
permitted", and the filter cannot be taken off again. Threads may be started.
https://docs.kernel.org/userspace-api/seccomp_filter.html
"""

import ctypes
import errno
import platform
import struct
import sys

# name: number on x86_64, on aarch64 (None: the machine has no such call)
CALLS = {
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "accept": (43, 202), "accept4": (288, 242), "sendto": (44, 206), "sendmsg": (46, 211), "sendmmsg": (307, 269),
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281), "unshare": (272, 97),
    "setns": (308, 268), "setsid": (112, 157), "setpgid": (109, 154), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "process_madvise": (440, 440),
    "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424), "kill": (62, 129),
    "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "setrlimit": (160, 164), "prlimit64": (302, 261), "sched_setaffinity": (203, 122), "setpriority": (141, 140),
    "sched_setscheduler": (144, 119), "sched_setattr": (314, 274), "ioprio_set": (251, 30),
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None),
    "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7), "setxattrat": (463, 463), "removexattr": (197, 14), "lremovexattr": (198, 15),
    "fremovexattr": (199, 16), "removexattrat": (466, 466), "file_setattr": (469, 469), "utime": (132, None),
    "utimes": (235, None), "utimensat": (280, 88), "futimesat": (261, None), "mount": (165, 40), "umount2": (166, 39),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431),
    "fsmount": (432, 432), "mount_setattr": (442, 442), "pivot_root": (155, 41), "chroot": (161, 51),
    "mknod": (133, None), "mknodat": (259, 33), "open_by_handle_at": (304, 265), "swapon": (167, 224),
    "swapoff": (168, 225), "reboot": (169, 142), "sethostname": (170, 161), "setdomainname": (171, 162),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "settimeofday": (164, 170), "clock_settime": (227, 112), "clock_adjtime": (305, 266),
    "adjtimex": (159, 171), "syslog": (103, 116), "quotactl": (179, 60), "acct": (163, 89), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "add_key": (248, 217), "request_key": (249, 218),
    "keyctl": (250, 219), "shmget": (29, 194), "shmat": (30, 196), "msgget": (68, 186), "semget": (64, 190),
    "mq_open": (240, 180), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "fanotify_init": (300, 262),
    "inotify_add_watch": (254, 27), "memfd_create": (319, 279), "memfd_secret": (447, 447), "iopl": (172, None),
    "ioperm": (173, None)}
# column in CALLS, AUDIT_ARCH, clone, tgkill
MACHINES = {"x86_64": (0, 0xC000003E, 56, 234), "aarch64": (1, 0xC00000B7, 220, 131)}
CLONE3 = 435
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050000, 0x80000000
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
THREAD = 0x00010000  # CLONE_THREAD
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data


def available():
    """Whether the filter is written for this machine and the kernel takes filters."""
    if not sys.platform.startswith("linux") or platform.machine() not in MACHINES or struct.calcsize("P") != 8:
        return False
    return ctypes.CDLL(None).prctl(21, 0, 0, 0, 0) >= 0  # PR_GET_SECCOMP


def program(own):
    """The filter for the process with the id `own`, as bytes: one 8-byte instruction after the other."""
    column, architecture, clone, tgkill = MACHINES[platform.machine()]
    refused = REFUSE | errno.EPERM
    code = [(LOAD, 0, 0, ARCHITECTURE), (EQUAL, 1, 0, architecture), (RETURN, 0, 0, KILL), (LOAD, 0, 0, NUMBER),
            (AT_LEAST, 0, 1, 0x40000000), (RETURN, 0, 0, refused),  # x32, the second set of numbers on x86_64
            (EQUAL, 0, 1, CLONE3), (RETURN, 0, 0, REFUSE | errno.ENOSYS),  # glibc then takes clone and shows its flags
            (EQUAL, 0, 4, clone), (LOAD, 0, 0, FIRST_ARGUMENT), (ANY_BIT, 0, 1, THREAD), (RETURN, 0, 0, ALLOW),
            (RETURN, 0, 0, refused),
            (EQUAL, 0, 4, tgkill), (LOAD, 0, 0, FIRST_ARGUMENT), (EQUAL, 0, 1, own), (RETURN, 0, 0, ALLOW),
            (RETURN, 0, 0, refused)]
    for numbers in CALLS.values():
        if numbers[column] is not None:
            code += [(EQUAL, 0, 1, numbers[column]), (RETURN, 0, 0, refused)]
    return b"".join(struct.pack("HBBI", *line) for line in (*code, (RETURN, 0, 0, ALLOW)))


def restrict(own):
    """Put the filter on this process (with the id `own`) for good."""
    library = ctypes.CDLL(None, use_errno=True)
    text = program(own)
    buffer = ctypes.create_string_buffer(text, len(text))
    described = struct.pack("HxxxxxxP", len(text) // 8, ctypes.addressof(buffer))
    library.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    library.capset(struct.pack("II", 0x20080522, 0), bytes(24))  # an instructor who is root gives nothing of it away
    if library.prctl(22, 2, described, 0, 0):  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
        raise OSError(ctypes.get_errno(), "the kernel refused the filter of system calls")
