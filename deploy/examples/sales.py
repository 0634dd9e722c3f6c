"""Sales per region. The last expression is the job's result: a DataFrame,
handed back as text, HTML and data."""
import pandas as pd

sales = pd.DataFrame(
    {
        "region": ["north", "south", "east", "south", "north", "east"],
        "units": [12, 30, 7, 25, 18, 11],
        "price": [9.5, 8.0, 12.0, 8.5, 9.0, 11.5],
    }
)
sales["revenue"] = sales["units"] * sales["price"]
print(f"{len(sales)} orders, {sales['revenue'].sum():.2f} in all")

sales.groupby("region")[["units", "revenue"]].sum().sort_values(
    "revenue", ascending=False
)
