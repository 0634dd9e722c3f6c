import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

warnings.simplefilter("ignore")
sns.set_theme()
rng = np.random.default_rng(3)
people = pd.DataFrame({
    "group": np.repeat(["a", "b", "c"], 40),
    "height": rng.normal(170, 9, 120),
    "weight": rng.normal(70, 8, 120),
})
sns.boxplot(data=people, x="group", y="height").figure.savefig("box.png")
plt.close("all")
grid = sns.pairplot(people, hue="group", height=1.6)
grid.savefig("pairs.png", dpi=60)
plt.close("all")
axes = sns.heatmap(people[["height", "weight"]].corr(), annot=True)
axes.figure.savefig("heat.png")
plt.close("all")
sns.regplot(data=people, x="height", y="weight", n_boot=50)
plt.savefig("line.png")
plt.close("all")
print("4 plots")
