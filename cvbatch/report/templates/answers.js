// Plots, matrices and groups of images of the answers.

const LEVELS = 9;
const GROUPS = 8;
const IN_A_ROW = 6;

function heatLevel(value, highest) {
  return value == null || value <= 0 || highest <= 0 ? 0 : Math.min(LEVELS, 1 + Math.floor((8.999 * value) / highest));
}

function matrixCell(matrix, row, column, highest, examples) {
  const value = matrix.values[row][column];
  const opens = examples.get(`${row},${column}`) ?? null;
  const text = value === 0 ? "" : formatNumber(value);
  const name = `${matrix.row_title} ${matrix.rows[row]}, ${matrix.column_title} ${matrix.columns[column]}: ${formatNumber(value)}`;
  const cell = html("td", { class: `number heat-${heatLevel(value, highest)}${matrix.rows[row] === matrix.columns[column] ? "" : " wrong"}`, title: name });
  if (opens === null) cell.append(text);
  else {
    const button = html("button", { type: "button", class: "cell", "aria-label": `${name}, ${plural(opens.count, "example")}` }, text || "0");
    button.addEventListener("click", opens.open);
    cell.append(button);
  }
  return cell;
}

/** By cell how many examples there are, and what opens them. */
function cellExamples(matrix) {
  const images = matrix.examples.map(([cell, rows]) => [cell, { count: rows.length, open: () => openRows(rows) }]);
  const mistakes = matrix.mistakes.map(([cell, packed]) => [cell, unpackMistakes(packed)]).filter(([, some]) => some.length > 0);
  return new Map([...images, ...mistakes.map(([cell, some]) => [cell, { count: some.length, open: () => openMistakes(some, 0) }])]);
}

function matrixTable(matrix) {
  const highest = matrix.values.flat().reduce((one, other) => Math.max(one, other ?? 0), 0);
  const examples = cellExamples(matrix);
  const head = html("tr", {}, html("th", { scope: "col", class: "corner" }, `${matrix.row_title} \\ ${matrix.column_title}`), ...matrix.columns.map((name) => html("th", { scope: "col", class: "upright" }, html("span", { dir: "auto" }, name))));
  const rows = matrix.rows.map((name, row) => html("tr", {}, html("th", { scope: "row", dir: "auto" }, name), ...matrix.columns.map((_, column) => matrixCell(matrix, row, column, highest, examples))));
  return html("table", { class: "heat matrix" }, html("caption", { class: "hidden" }, matrix.title), html("thead", {}, head), html("tbody", {}, ...rows));
}

function matrixBlock(matrix) {
  const rows = () => [[matrix.row_title, ...matrix.columns], ...matrix.rows.map((name, row) => [name, ...matrix.values[row]])];
  const hint = matrix.examples.length + matrix.mistakes.length > 0 ? html("p", { class: "quiet by-hand" }, "Underlined numbers open their images.") : null;
  const scroll = html("div", { class: "scroll tall", tabindex: 0, role: "region", "aria-label": matrix.title }, matrixTable(matrix));
  return html("div", { class: "matrix-block" }, blockHead(matrix.title, downloadButton(matrix.title, rows)), hint, scroll);
}

function groupBlock(group) {
  const images = group.row_ids.map((row) => imageOfRow.get(row)).filter((image) => image !== undefined);
  if (images.length === 0) return null;
  const tiles = images.map((image) => tile(image, () => openViewer(images, image, isDrawn)));
  for (const each of tiles) each.draw(each.image.elements.filter(isDrawn));
  return html("div", { class: "group" }, html("h3", { dir: "auto" }, group.title), html("ul", { class: images.length > IN_A_ROW ? "tiles strip" : "tiles strip row" }, ...tiles.map(({ item }) => item), html("li", { class: "tile-rest", "aria-hidden": "true" })));
}

/** The first groups at once, and the others when they are asked for. */
function fillGroups(place, blocks) {
  place.append(html("div", { class: "group-grid" }, ...blocks.slice(0, GROUPS)));
  if (blocks.length <= GROUPS) return;
  const rest = html("div", { class: "group-grid" }, ...blocks.slice(GROUPS));
  place.append(html("details", { class: "more-groups" }, html("summary", {}, `${formatNumber(blocks.length - GROUPS)} more`), rest));
}

for (const section of document.querySelectorAll("[data-answer]")) {
  const answer = data.answers[Number(section.dataset.answer)];
  section.querySelector("[data-plots]")?.append(...answer.plots.map(linePlot));
  section.querySelector("[data-matrices]")?.append(...answer.matrices.map(matrixBlock));
  const kinds = section.querySelector("[data-kinds]");
  if (kinds !== null) fillKinds(kinds, answer.kinds);
  const place = section.querySelector("[data-groups]");
  if (place !== null) fillGroups(place, answer.groups.map(groupBlock).filter((block) => block !== null));
}
