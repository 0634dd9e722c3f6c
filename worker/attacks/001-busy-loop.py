# 001 a loop without an end
# limits: timeout=0.5
# verdict: timeout
# stdout: before
print("before")
while True:
    pass
