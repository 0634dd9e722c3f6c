# 052 ending early: KeyboardInterrupt
# verdict: user_error
# stdout: before
print("before")
raise KeyboardInterrupt
