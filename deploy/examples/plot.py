"""A figure that is open at the end comes back as PNG."""
import matplotlib.pyplot as plt
import numpy as np

x = np.linspace(0, 4 * np.pi, 400)
for k in (1, 2, 3):
    plt.plot(x, np.sin(k * x) / k, label=f"sin({k}x)/{k}")
plt.title("Three waves, drawn in a sandbox")
plt.legend()
print("drawn")
