# 052 ending early: an exception that few expect
# verdict: user_error
# exit: 1
# stdout: before


class Odd(BaseException):
    def __str__(self):
        raise Odd


print("before")
raise Odd
