# 059 files without content, without an end
# tries: 3
# verdict: ok
import errno
import os
from attack import check, until_refused
os.mkdir("many")
count = iter(range(10**7))


def touch():
    os.close(os.open("many/%d" % next(count), os.O_CREAT | os.O_WRONLY))


FULL = (errno.ENOSPC, errno.EDQUOT)
kept = until_refused("empty files", FULL, 10**6, touch)
check("far fewer than millions", len(kept) < 100000, len(kept))
for i in range(32):
    os.remove("many/%d" % i)
os.close(os.open("one", os.O_CREAT | os.O_WRONLY))
until_refused("hard links", FULL + (errno.EMLINK,), 10**6,
              lambda: os.link("one", "many/link%d" % next(count)))
