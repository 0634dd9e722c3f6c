import numpy as np
from scipy import integrate, interpolate, optimize, signal, sparse, stats
from scipy.sparse.linalg import eigsh, spsolve
from scipy.spatial import cKDTree

best = optimize.minimize(optimize.rosen, [1.3, 0.7, 0.8, 1.9, 1.2],
                         method="BFGS")
assert np.allclose(best.x, 1, atol=1e-3)
root = optimize.brentq(lambda x: x ** 3 - 2, 0, 2)
print("root", round(root, 6))
x = np.linspace(0, 4, 50)
fitted, _ = optimize.curve_fit(lambda x, a, b: a * np.exp(-b * x), x,
                               2.5 * np.exp(-1.3 * x))
print("fit", fitted.round(4).tolist())
rng = np.random.default_rng(5)
p = stats.ttest_ind(rng.normal(0, 1, 300), rng.normal(1, 1, 300)).pvalue
assert p < 1e-6
print("chi2", round(float(stats.chi2.ppf(0.95, 3)), 4))
n = 2000
matrix = sparse.diags([-1, 2, -1], [-1, 0, 1], shape=(n, n), format="csc")
y = spsolve(matrix, np.ones(n))
assert np.allclose(matrix @ y, 1)
assert eigsh(matrix, k=3, sigma=0, return_eigenvectors=False).min() > 0
print("area", round(integrate.quad(np.sin, 0, np.pi)[0], 6))
spline = interpolate.CubicSpline(x, np.sin(x))
assert abs(spline(1.234) - np.sin(1.234)) < 1e-4
assert len(signal.find_peaks(np.sin(np.linspace(0, 30, 500)))[0]) == 5
near, _ = cKDTree(rng.random((500, 3))).query(rng.random((20, 3)))
print("near", near.shape)
