# 050 a figure of billions of points
# limits: memory_limit_mb=256 timeout=15
# template: visualization
# verdict: oom user_error
# without-cgroup: user_error
import sys
try:
    import matplotlib.pyplot as plt
except ImportError:
    print("N/A no matplotlib")
    sys.exit()
plt.figure(figsize=(500, 500), dpi=100)
plt.savefig("big.png")
plt.show()
