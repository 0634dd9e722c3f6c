# 024 hiding from the kernel's choice of whom to kill
# tries: 10
# verdict: ok
import os
from attack import SEALED, ABSENT, check, fails, not_applicable
if not os.path.exists("/proc/self"):
    not_applicable("sandboxes have no /proc here")
score = open("/proc/self/oom_score_adj").read().strip()
check("it is the first to be killed", score == "1000", score)
for name in ("oom_score_adj", "oom_adj", "timerslack_ns", "uid_map",
             "setgroups", "coredump_filter", "clear_refs", "attr/current"):
    fails("writing " + name, SEALED + ABSENT, open, "/proc/self/" + name, "w")
fails("writing that of init", SEALED + ABSENT, open, "/proc/1/oom_score_adj",
      "w")
