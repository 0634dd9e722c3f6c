import pandas as pd

sales = pd.read_csv("sales.csv", parse_dates=["day"])
stores = pd.read_csv("stores.csv")
both = sales.merge(stores, on="store", how="left", validate="many_to_one")
print(len(both), both["day"].min().date(), both["day"].max().date())
by_town = (both.groupby("town")
           .agg(units=("units", "sum"), days=("day", "nunique"),
                mean=("units", "mean"))
           .sort_index())
by_town.round(3).to_csv("by_town.csv")
weekly = both.set_index("day").resample("W")["units"].sum()
print(int(weekly.sum()), len(weekly))
pivot = both.pivot_table(index=both["day"].dt.month, columns="town",
                         values="units", aggfunc="sum")
print(pivot.to_string())
both.to_pickle("/tmp/both.pkl")
assert pd.read_pickle("/tmp/both.pkl").equals(both)
both.to_json("both.json", orient="records", date_format="iso")
assert len(pd.read_json("both.json")) == len(both)
by_town
