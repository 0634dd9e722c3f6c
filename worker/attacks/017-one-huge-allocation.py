# 017 one allocation larger than any memory
# verdict: user_error
# stdout: before
print("before")
bytearray(1 << 46)
