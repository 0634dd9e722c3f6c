# 072 secrets of the host and of the worker
# tries: 20
# verdict: ok
import os
from attack import ABSENT, REFUSED, check, fails
for path in ("/etc/shadow", "/etc/ssh", "/root", "/root/.ssh/id_rsa",
             "/home/user/.ssh", "/home/user/.aws", "/sys", "/boot", "/srv",
             "/proc/kcore", "/proc/keys", "/proc/sys", "/proc/cmdline",
             "/proc/kallsyms", "/proc/sched_debug", "/proc/net",
             "/proc/1/environ", "/proc/1/cmdline", "/etc/machine-id",
             "/var/lib", "/var/log", "/run/secrets", "/oldroot", "/mnt"):
    fails(path, REFUSED + ABSENT, os.open, path, os.O_RDONLY)
check("only one home", os.listdir("/home") == ["user"], os.listdir("/home"))
seen = " ".join("%s=%s" % pair for pair in os.environ.items())
for pid in filter(str.isdigit, os.listdir("/proc")):
    for name in ("environ", "cmdline"):
        try:
            seen += open("/proc/%s/%s" % (pid, name), errors="replace").read()
        except OSError:
            pass
for word in ("REDIS", "redis:", "unix:/", "SECRET", "TOKEN", "PASSWORD",
             "API_KEY", "AWS_", "SSH_"):
    check("no " + word, word not in seen, seen)
