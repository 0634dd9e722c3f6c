import matplotlib.pyplot as plt
import numpy as np

x = np.linspace(0, 6, 200)
fig, axes = plt.subplots(2, 2, figsize=(7, 5), constrained_layout=True)
axes[0, 0].plot(x, np.sin(x), label=r"$\sin(x)$")
axes[0, 0].plot(x, np.cos(x), "--", label="cos: über 0 €")
axes[0, 0].legend()
axes[0, 1].hist(np.random.default_rng(1).normal(size=1000), bins=30)
axes[1, 0].scatter(x, x ** 2, c=x, cmap="viridis")
image = axes[1, 1].imshow(np.outer(np.sin(x), np.cos(x)), aspect="auto")
fig.colorbar(image)
fig.suptitle("Four of them")
for name in ("plots.png", "plots.svg", "plots.pdf", "plots.jpg"):
    fig.savefig(name, dpi=80)
plt.close(fig)

fig = plt.figure()
axes = fig.add_subplot(projection="3d")
axes.plot_surface(*np.meshgrid(x[:30], x[:30]), np.outer(x[:30], x[:30]))
plt.show()
fig, axes = plt.subplots(subplot_kw={"projection": "polar"})
axes.bar(x[::20], x[::20], width=0.3)
plt.show()
print("drawn with", plt.get_backend().lower())
