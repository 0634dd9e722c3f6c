import numpy as np
from joblib import Parallel, delayed
from sklearn.datasets import load_iris, make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

x, y = load_iris(return_X_y=True)
left, right, want_left, want_right = train_test_split(x, y, random_state=0)
model = make_pipeline(StandardScaler(), LogisticRegression())
model.fit(left, want_left)
print("iris", round(accuracy_score(want_right, model.predict(right)), 2) > 0.9)

x, y = make_classification(600, 12, n_informative=6, random_state=1)
forest = RandomForestClassifier(60, n_jobs=2, random_state=0).fit(x, y)
print("forest", forest.score(x, y) > 0.95, forest.predict(x[:5]).shape)
# loky: processes of its own, started by spawn.
scores = cross_val_score(LogisticRegression(), x, y, cv=4, n_jobs=2)
print("folds", scores.shape, bool((scores > 0.6).all()))
squares = Parallel(n_jobs=2)(delayed(np.square)(i) for i in range(8))
print("squares", [int(s) for s in squares])
