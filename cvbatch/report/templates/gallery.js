// The gallery: what is shown, and what is drawn over it.

const TILES = 48;
const MOST_DRAWN = 8;
const USUALLY_DRAWN = 5;
const ALL = "";
const gallery = { label: ALL, folder: ALL, status: ALL, reason: ALL, score: 0, drawFrom: 0, hiddenModels: new Set(), hiddenClasses: new Set(), limit: TILES, tiles: [] };
const OTHERS = Symbol("classes without a colour");
const inGallery = (name) => document.getElementById(name);

function hasScore(element) {
  return element.score === null || element.score >= gallery.score;
}

function classOf(element) {
  return labelColours.has(element.label) ? element.label : OTHERS;
}

/** Whether the filters let a label count. */
function counts(element) {
  const isWanted = gallery.label === ALL || element.label === data.names[Number(gallery.label)];
  return isWanted && hasScore(element) && !gallery.hiddenModels.has(element.alias);
}

function isDrawn(element) {
  const isSure = element.score === null || element.score >= gallery.drawFrom;
  return element.isDrawn && isSure && counts(element) && !gallery.hiddenClasses.has(classOf(element));
}

function matches(image) {
  const agrees = (name) => gallery[name] === ALL || image[name] === gallery[name];
  const needsLabel = gallery.label !== ALL || gallery.score > 0;
  return agrees("folder") && agrees("status") && agrees("reason") && (!needsLabel || image.elements.some(counts));
}

function updateGallery() {
  const shown = gallery.tiles.filter(({ image }) => matches(image));
  const inside = new Set(shown.slice(0, gallery.limit));
  for (const each of gallery.tiles) {
    each.item.hidden = !inside.has(each);
    if (inside.has(each)) each.draw(each.image.elements.filter(isDrawn));
  }
  const labels = shown.reduce((sum, { image }) => sum + image.elements.filter(counts).length, 0);
  const all = data.gallery.reduce((sum, image) => sum + image.elements.length, 0);
  inGallery("gallery-count").textContent = `${formatNumber(shown.length)} of ${plural(data.gallery.length, "image")}, ${formatNumber(labels)} of ${plural(all, "label")}`;
  const rest = shown.length - inside.size;
  inGallery("gallery-more").hidden = rest === 0;
  inGallery("gallery-more").textContent = rest > TILES ? `Show ${formatNumber(TILES)} more of ${formatNumber(rest)}` : `Show ${formatNumber(rest)} more`;
  inGallery("draw-from-value").textContent = gallery.drawFrom.toFixed(2);
  inGallery("filter-score-value").textContent = gallery.score.toFixed(2);
}

function fillSelect(name, counts, textOf) {
  const select = inGallery(`filter-${name}`);
  const options = [...counts].map(([value, count]) => html("option", { value }, `${textOf(value)} (${formatNumber(count)})`));
  select.replaceChildren(html("option", { value: ALL }, "all"), ...options);
  select.closest(".field").hidden = counts.size < 2 && name !== "label";
  select.addEventListener("change", () => {
    Object.assign(gallery, { [name]: select.value, limit: TILES });
    updateGallery();
  });
}

function chip(text, hidden, key, colour, count) {
  const input = html("input", { type: "checkbox", checked: true });
  input.addEventListener("change", () => {
    if (input.checked) hidden.delete(key);
    else hidden.add(key);
    updateGallery();
  });
  return html("label", { class: `chip ${colour}`, title: text }, input, html("span", { dir: "auto" }, text), html("span", { class: "quiet" }, formatNumber(count)));
}

function fillLegend() {
  const models = countBy(data.gallery.flatMap((image) => image.elements), (element) => element.alias);
  inGallery("legend-models").replaceChildren(...(models.size < 2 ? [] : [...models].map(([alias, count]) => chip(alias, gallery.hiddenModels, alias, "", count))));
  const classes = countBy(drawnElements, classOf);
  const named = [...classes].filter(([key]) => key !== OTHERS).map(([label, count]) => chip(label, gallery.hiddenClasses, label, colourClass(label), count));
  if (classes.has(OTHERS)) named.push(chip("other classes", gallery.hiddenClasses, OTHERS, "c-other", classes.get(OTHERS)));
  inGallery("legend-classes").replaceChildren(...named);
}

/** Where many weak boxes would hide the pictures: the score that leaves a few for each of them; else 0. */
function usefulScore() {
  const scores = drawnElements.map((element) => element.score).filter((score) => score !== null).sort((one, other) => other - one);
  if (scores.length <= MOST_DRAWN * data.gallery.length) return 0;
  return Math.floor(20 * scores[USUALLY_DRAWN * data.gallery.length]) / 20;
}

function resetGallery() {
  Object.assign(gallery, { drawFrom: usefulScore(), label: ALL, folder: ALL, status: ALL, reason: ALL, score: 0, limit: TILES });
  gallery.hiddenModels.clear();
  gallery.hiddenClasses.clear();
  for (const name of ["label", "folder", "status", "reason"]) inGallery(`filter-${name}`).value = ALL;
  for (const input of document.querySelectorAll("#gallery .chip input")) input.checked = true;
  inGallery("filter-score").value = 0;
  inGallery("draw-from").value = gallery.drawFrom;
  updateGallery();
}

function shownImages() {
  return gallery.tiles.filter(({ image }) => matches(image)).map(({ image }) => image);
}

function startGallery() {
  gallery.tiles = data.gallery.map((image) => tile(image, () => openViewer(shownImages(), image, isDrawn)));
  inGallery("tiles").replaceChildren(...gallery.tiles.map(({ item }) => item), html("li", { class: "tile-rest", "aria-hidden": "true" }));
  const elements = data.gallery.flatMap((image) => image.elements);
  const numbers = new Map(data.names.map((name, number) => [name, String(number)]));
  fillSelect("label", countBy(elements, (element) => numbers.get(element.label)), (number) => data.names[Number(number)]);
  for (const name of ["folder", "status", "reason"]) fillSelect(name, countBy(data.gallery, (image) => image[name]), (value) => value || "top");
  inGallery("filter-score").closest(".field").hidden = elements.every((element) => element.score === null);
  inGallery("filter-score").addEventListener("input", (event) => {
    Object.assign(gallery, { score: Number(event.target.value), limit: TILES });
    updateGallery();
  });
  gallery.drawFrom = usefulScore();
  inGallery("draw-from").value = gallery.drawFrom;
  inGallery("draw-from").closest(".draw-from").hidden = drawnElements.every((element) => element.score === null);
  inGallery("draw-from").addEventListener("input", (event) => {
    gallery.drawFrom = Number(event.target.value);
    updateGallery();
  });
  inGallery("filter-reset").addEventListener("click", resetGallery);
  inGallery("gallery-more").addEventListener("click", () => {
    const first = shownImages()[gallery.limit];
    gallery.limit += TILES;
    updateGallery();
    document.querySelector(`#tiles [data-row="${first.row_id}"] button`)?.focus();
  });
  fillLegend();
  updateGallery();
}

if (data.gallery.length > 0) startGallery();
