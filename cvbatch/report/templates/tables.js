// Tables that stand in the page become sortable, searchable and downloadable.

const byText = new Intl.Collator("en", { numeric: true });
const SEARCHED_ROWS = 12;

function cellValue(cell) {
  return cell.dataset.value === undefined ? (cell.classList.contains("none") ? null : cell.textContent.trim()) : Number(cell.dataset.value);
}

function compareValues(one, other, direction) {
  if (one == null || one === "" || other == null || other === "") return (one == null || one === "") - (other == null || other === "");
  const order = typeof one === "number" && typeof other === "number" ? one - other : byText.compare(one, other);
  return direction * order;
}

function sortTable(table, column) {
  const heads = [...table.tHead.rows[0].cells];
  const isNumeric = heads[column].classList.contains("number");
  const before = heads[column].getAttribute("aria-sort");
  const now = before === null ? (isNumeric ? "descending" : "ascending") : before === "ascending" ? "descending" : "ascending";
  for (const head of heads) head.removeAttribute("aria-sort");
  heads[column].setAttribute("aria-sort", now);
  const direction = now === "ascending" ? 1 : -1;
  const rows = [...table.tBodies[0].rows].map((row) => [cellValue(row.cells[column]), row]);
  rows.sort((one, other) => compareValues(one[0], other[0], direction));
  table.tBodies[0].append(...rows.map(([, row]) => row));
}

function makeSortable(table) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = html("button", { type: "button", class: "sort" }, ...head.childNodes);
    button.addEventListener("click", () => sortTable(table, column));
    head.replaceChildren(button);
  });
}

function searchField(table, name) {
  const rows = [...table.tBodies[0].rows];
  const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const status = html("span", { class: "quiet", role: "status" });
  const input = html("input", { type: "search", placeholder: "Search", "aria-label": `Search in ${name}`, autocomplete: "off" });
  input.addEventListener("input", () => {
    const wanted = input.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      row.hidden = !texts.get(row).includes(wanted);
      shown += !row.hidden;
    }
    status.textContent = wanted ? `${formatNumber(shown)} of ${formatNumber(rows.length)}` : "";
  });
  return [status, input];
}

function tableRows(table) {
  const head = [...table.tHead.rows[0].cells].map((cell) => cell.textContent.trim());
  return [head, ...[...table.tBodies[0].rows].map((row) => [...row.cells].map(cellValue))];
}

for (const block of document.querySelectorAll(".table-block")) {
  const table = block.querySelector("table");
  const tools = block.querySelector(".tools");
  if (table.classList.contains("sortable")) makeSortable(table);
  if (table.tBodies[0].rows.length > SEARCHED_ROWS) tools.append(...searchField(table, block.dataset.table));
  tools.append(downloadButton(block.dataset.table, () => tableRows(table)));
}
