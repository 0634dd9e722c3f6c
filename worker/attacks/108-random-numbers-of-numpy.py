# 108 random numbers of numpy that other jobs get as well
# template: data_analysis
# limits: memory_limit_mb=256
# times: 3
# differ
# verdict: ok
import sys
try:
    import numpy
except ImportError:
    print("N/A no numpy")
    sys.exit()
print(numpy.random.rand())
print(numpy.random.randint(2**60))
print(numpy.random.default_rng().random())
print(numpy.random.RandomState().rand())
