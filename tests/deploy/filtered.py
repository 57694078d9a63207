"""Runs a command under a filter of system calls: ``filtered.py NAME,NAME,… COMMAND…``; any other call is EPERM.

By the library that systemd itself uses, so that the numbers are those of this machine.
"""

from __future__ import annotations

import ctypes
import os
import sys

DENY = 0x00050000 | 1  # SCMP_ACT_ERRNO(EPERM)
ALLOW = 0x7FFF0000
UNKNOWN = -1  # to this library; what this machine has not is another negative number, and is passed over
PR_SET_MDWE, NO_GAIN = 65, 1  # memory is not to become executable; Linux knows it since 6.3

if __name__ == "__main__":
    seccomp = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    seccomp.seccomp_init.restype = ctypes.c_void_p
    rules = ctypes.c_void_p(seccomp.seccomp_init(DENY))
    for name in sys.argv[1].split(","):
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number != UNKNOWN:
            seccomp.seccomp_rule_add(rules, ALLOW, number, 0)
    ctypes.CDLL(None).prctl(PR_SET_MDWE, NO_GAIN, 0, 0, 0)
    if seccomp.seccomp_load(rules) != 0:
        sys.exit("the filter was not loaded")
    os.execv(sys.argv[2], sys.argv[2:])
