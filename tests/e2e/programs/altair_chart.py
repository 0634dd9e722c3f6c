import json
import warnings

import altair as alt
import pandas as pd

# Of one version of altair about another of pandas.
warnings.simplefilter("ignore")
table = pd.DataFrame({"town": ["Ulm", "Bonn", "Trier"], "units": [3, 9, 4]})
chart = alt.Chart(table).mark_bar().encode(x="town:N", y="units:Q")
layered = chart + chart.mark_text().encode(text="units:Q")
layered.save("chart.html")
spec = json.loads(layered.to_json())
print(len(spec["layer"]), spec["layer"][0]["encoding"]["x"]["field"])
chart
