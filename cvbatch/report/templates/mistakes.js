// What a model got wrong: what is true and what was answered, cut out of the picture.

const CROP = { margin: 1.7, mostZoom: 5 };

function unpackMistake([row, truth, answer, overlap]) {
  const unpack = (packed) => (packed === null ? null : unpackElement(packed));
  return { image: imageOfRow.get(row), truth: unpack(truth), answer: unpack(answer), overlap };
}

function unpackMistakes(packed, kind = null) {
  return packed.map((one) => ({ ...unpackMistake(one), kind })).filter(({ image }) => image !== undefined);
}

function partsOf({ truth, answer }) {
  return [
    ["truth", truth],
    ["answer", answer],
  ].filter(([, element]) => element !== null);
}

function mistakeWords(element) {
  return element === null ? "nothing" : `${element.label} ${formatScore(element.score)}`.trim();
}

function mistakeFacts({ truth, answer, overlap, kind }) {
  return [
    ["Mistake", kind],
    ["Truth", mistakeWords(truth)],
    ["Answer", mistakeWords(answer)],
    ["Overlap", overlap === null ? null : `IoU ${overlap.toFixed(2)}`],
  ];
}

/** The tag of the truth stands below its box, as that of the answer stands above. */
function sideTag(side, element) {
  const tag = viewerTag(element, `side-${side}`);
  if (side !== "truth") return tag;
  const bottom = element.box[3] / (GRID / 100);
  tag.classList.add("under");
  tag.classList.toggle("inside", bottom > 95);
  tag.style.setProperty("top", `${bottom}%`);
  return tag;
}

function mistakeDrawings(mistake) {
  return partsOf(mistake).map(([side, element]) => [element, { shape: viewerShape(element, `side-${side}`), tag: sideTag(side, element) }]);
}

function openMistakes(mistakes, place) {
  openEntries(mistakes.map((mistake) => ({ image: mistake.image, mistake })), place);
}

/** A square of the picture around the boxes: left, top and side, in pixels of the original. */
function cropAround({ image, truth, answer }) {
  const boxes = [truth, answer].filter((element) => element !== null).map((element) => element.box);
  const [width, height] = [image.width, image.height];
  const [left, top] = [Math.min(...boxes.map((box) => box[0])) * (width / GRID), Math.min(...boxes.map((box) => box[1])) * (height / GRID)];
  const [right, bottom] = [Math.max(...boxes.map((box) => box[2])) * (width / GRID), Math.max(...boxes.map((box) => box[3])) * (height / GRID)];
  const wanted = Math.max(CROP.margin * Math.max(right - left, bottom - top), Math.max(width, height) / CROP.mostZoom);
  const side = Math.min(wanted, Math.max(width, height));
  const start = (low, high, length) => (side >= length ? (length - side) / 2 : Math.min(Math.max((low + high - side) / 2, 0), length - side));
  return { left: start(left, right, width), top: start(top, bottom, height), side };
}

function cropPicture(mistake) {
  const { image } = mistake;
  if (image.thumbnail === null || !image.width || !image.height) return html("span", { class: "frame" }, picture(image, { lazy: true }));
  const { left, top, side } = cropAround(mistake);
  const shown = picture(image, { lazy: true });
  const percent = (value) => `${(100 * value) / side}%`;
  for (const [name, value] of [["left", -left], ["top", -top], ["width", image.width], ["height", image.height]]) shown.style.setProperty(name, percent(value));
  const scale = (numbers) => numbers.map((number, axis) => (number * (axis % 2 === 0 ? image.width : image.height)) / GRID);
  const shapes = svg("svg", { class: "overlay", viewBox: `${left} ${top} ${side} ${side}`, "aria-hidden": "true" });
  for (const [name, element] of partsOf(mistake)) {
    const mask = outlinePath(element.outline.map(scale));
    const d = mask || boxPath(scale(element.box));
    shapes.append(mask ? "" : svg("path", { class: "halo", d }), svg("path", { class: `${mask ? "mask" : "box"} side-${name}`, d }));
  }
  return html("span", { class: "frame crop" }, shown, shapes);
}

function mistakeTile(mistakes, place) {
  const mistake = mistakes[place];
  const line = (name, element) => html("span", { class: "tile-note", dir: "auto" }, html("span", { class: `side side-${name}`, "aria-hidden": "true" }), html("span", { class: "hidden" }, `${name}: `), mistakeWords(element));
  const button = html("button", { type: "button", class: "tile-button", title: mistake.image.name }, cropPicture(mistake), line("truth", mistake.truth), line("answer", mistake.answer));
  button.addEventListener("click", () => openMistakes(mistakes, place));
  return html("li", { class: "mistake", "data-row": mistake.image.row_id }, button);
}

function mistakeGroup({ title, meaning, mistakes: packed }) {
  const mistakes = unpackMistakes(packed, title);
  if (mistakes.length === 0) return null;
  const tiles = mistakes.map((_, place) => mistakeTile(mistakes, place));
  return html("div", { class: "group" }, html("h4", {}, title), html("p", { class: "quiet" }, meaning), html("ul", { class: "mistakes" }, ...tiles));
}

function fillKinds(place, kinds) {
  const groups = kinds.map(mistakeGroup).filter((group) => group !== null);
  if (groups.length === 0) return;
  const key = (name, text) => html("li", {}, html("span", { class: `side side-${name}`, "aria-hidden": "true" }), text);
  place.append(html("ul", { class: "plot-names sides" }, key("truth", "truth"), key("answer", "answer, with its score")), html("div", { class: "group-grid" }, ...groups));
}
