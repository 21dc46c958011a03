"use strict";
// Shows the artefacts and the compared numbers that match the search and the ticked verdicts.
const search = document.getElementById("search");
const boxes = [...document.querySelectorAll("#filter input[type=checkbox]")];
const artefacts = [...document.querySelectorAll("article.artefact")];
const told = document.getElementById("told");

function apply() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const wanted = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
  const all = wanted.size === boxes.length;
  let rows = 0, shown = 0;
  for (const artefact of artefacts) {
    const head = artefact.dataset.text;
    let any = 0;
    for (const row of artefact.querySelectorAll("tr[data-verdict]")) {
      const text = `${head} ${row.textContent.toLowerCase()}`;
      const visible = wanted.has(row.dataset.verdict) && words.every((word) => text.includes(word));
      row.hidden = !visible;
      any += visible;
    }
    artefact.hidden = !(any || (all && words.every((word) => head.includes(word))));
    rows += any;
    shown += !artefact.hidden;
    const table = artefact.querySelector("details.compared");
    if (table && (words.length || !all)) table.open = any > 0;
  }
  told.textContent = `${shown} of ${artefacts.length} shown, with ${rows} compared numbers.`;
}

document.getElementById("filter").hidden = false;
search.addEventListener("input", apply);
for (const box of boxes) box.addEventListener("change", apply);
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== search) {
    event.preventDefault();
    search.focus();
  } else if (event.key === "Escape" && document.activeElement === search) {
    search.value = "";
    apply();
  }
});
apply();
