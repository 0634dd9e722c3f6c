# 052 ending early: raise SystemExit("text")
# verdict: user_error
# exit: 1
# stdout: before
print("before")
raise SystemExit("text")
