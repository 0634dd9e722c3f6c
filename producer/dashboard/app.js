"use strict";
const show = (id, text) => { document.getElementById(id).textContent = text; };

async function look() {
  const key = document.getElementById("key").value;
  try {
    const answer = await fetch("api/v1/e2b/stats",
      key ? { headers: { "X-API-Key": key } } : {});
    show("state", answer.ok ? "" : answer.status + " " + answer.statusText);
    show("stats", JSON.stringify(await answer.json(), null, 2));
  } catch (fault) {
    show("state", String(fault));
  }
  setTimeout(look, 2000);
}
look();
