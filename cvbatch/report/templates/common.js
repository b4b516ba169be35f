// What every part of the page uses. Texts of a run become nodes only by textContent, and keys only of a Map.

const data = JSON.parse(document.getElementById("data").textContent);
const GRID = 10000;
const imageOfRow = new Map(data.gallery.map((image) => [image.row_id, image]));
document.documentElement.classList.add("scripted");

function setUp(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

function html(tag, attributes = {}, ...children) {
  return setUp(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return setUp(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

const wholeNumber = new Intl.NumberFormat("en");
const fraction = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

function formatNumber(value) {
  if (value == null) return "–";
  return Number.isInteger(value) || Math.abs(value) >= 1000 ? wholeNumber.format(Math.round(value)) : fraction.format(value);
}

function formatScore(score) {
  return score == null ? "" : score.toFixed(2);
}

function plural(number, word) {
  return `${wholeNumber.format(number)} ${number === 1 ? word : `${word}s`}`;
}

function countBy(items, keyOf) {
  const counts = new Map();
  for (const item of items) counts.set(keyOf(item), (counts.get(keyOf(item)) ?? 0) + 1);
  return new Map([...counts].sort((one, other) => other[1] - one[1]));
}

/** Elements of an image as records; the page has them as lists of numbers. */
function unpackElement([alias, label, score, box, outline]) {
  return { alias: data.names[alias], label: data.names[label], score, outline: outline ?? [], box: box ?? null, isDrawn: box != null || outline != null };
}

for (const image of data.gallery) {
  image.elements = image.elements.map(unpackElement);
  image.ratio = image.width && image.height ? Math.min(Math.max(image.width / image.height, 0.4), 3) : 4 / 3;
}

/** Representative images come first, those of an answer later, failed ones last. */
function placeInGallery(image) {
  if (image.message !== null) return 2;
  return ["sure", "unsure", "random", "rare class"].includes(image.reason) ? 0 : 1;
}

data.gallery.sort((one, other) => placeInGallery(one) - placeInGallery(other));

/** Calls back now and whenever the width of a node changes. */
function onWidth(node, draw) {
  let width = 0;
  new ResizeObserver(() => {
    const now = Math.floor(node.clientWidth);
    if (now > 0 && now !== width) draw((width = now));
  }).observe(node);
}
