import json

import pandas as pd
import plotly.express as px
import plotly.graph_objects as go

table = pd.DataFrame({"x": range(20), "y": [i * i for i in range(20)],
                      "kind": ["odd" if i % 2 else "even" for i in range(20)]})
fig = px.scatter(table, x="x", y="y", color="kind", title="Squares")
fig.add_trace(go.Scatter(x=table.x, y=table.y, mode="lines"))
print(len(fig.data), json.loads(fig.to_json())["layout"]["title"]["text"])
fig.write_html("squares.html", include_plotlyjs="cdn")
fig.show()
fig
