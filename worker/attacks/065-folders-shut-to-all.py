# 065 folders and files that nobody may read
# output: **
# output: **/*
# output: shut/in
# verdict: ok
# stdout: END
import os
os.mkdir("shut")
open("shut/in", "w").close()
open("unreadable", "w").close()
os.chmod("unreadable", 0)
os.chmod("shut", 0)
os.chmod(".", 0)
print("END")
