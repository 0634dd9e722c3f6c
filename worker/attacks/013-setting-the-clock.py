# 013 setting the host's clock
# tries: 5
# verdict: ok
import ctypes
from attack import REFUSED, refused
time_of_1970 = (ctypes.c_long * 2)(1000, 0)
adjustment = (ctypes.c_long * 32)(0x2, 500000)  # ADJ_FREQUENCY
refused("clock_settime", REFUSED, 227, 0, time_of_1970)
refused("settimeofday", REFUSED, 164, time_of_1970, 0)
refused("adjtimex", REFUSED, 159, adjustment)
refused("clock_adjtime", REFUSED, 305, 0, adjustment)
refused("clock_settime of the boot clock", REFUSED, 227, 7, time_of_1970)
