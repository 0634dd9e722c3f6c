# 050 figures without an end
# limits: memory_limit_mb=256 timeout=3 output_limit_kb=64
# template: visualization
# verdict: ok timeout oom
import sys
try:
    import matplotlib.pyplot as plt
except ImportError:
    print("N/A no matplotlib")
    sys.exit()
for i in range(10000):
    plt.figure(figsize=(.5, .5), dpi=20)
    plt.show()
