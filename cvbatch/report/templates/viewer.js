// The large view: a dialog that goes through a list of images.

const viewer = { dialog: document.getElementById("viewer"), entries: [], place: 0, isVisible: () => true };
const inViewer = (name) => document.getElementById(`viewer-${name}`);
const LABELLED_BOXES = 15;

/** Entries are images, each with a mistake that is drawn instead of what the models say, or with none. */
function openEntries(entries, place, isVisible = () => true) {
  Object.assign(viewer, { entries, place: Math.max(0, place), isVisible });
  showInViewer();
  if (!viewer.dialog.open) viewer.dialog.showModal();
}

function openViewer(images, image, isVisible) {
  openEntries(images.map((each) => ({ image: each, mistake: null })), images.indexOf(image), isVisible);
}

function openRows(rows) {
  const images = rows.map((row) => imageOfRow.get(row)).filter((image) => image !== undefined);
  if (images.length > 0) openViewer(images, images[0]);
}

function moveViewer(step) {
  const place = viewer.place + step;
  if (place < 0 || place >= viewer.entries.length) return;
  viewer.place = place;
  showInViewer();
}

function webLink(link) {
  if (link === null) return null;
  try {
    return ["http:", "https:", "file:"].includes(new URL(link, document.baseURI).protocol) ? link : null;
  } catch {
    return null;
  }
}

function viewerFacts(image, mistake) {
  const link = webLink(image.link);
  const uri = link === null ? image.uri : html("a", { href: link, target: "_blank", rel: "noopener noreferrer" }, image.uri);
  return [
    ...(mistake === null ? [] : mistakeFacts(mistake)),
    ["Original", uri],
    ["Folder", image.folder],
    ["Size", image.width && image.height ? `${image.width} × ${image.height}` : null],
    ["Status", image.status],
    ["Message", image.message],
    ["Why it is here", image.reason],
    ["Row", String(image.row_id)],
  ].filter(([, value]) => value !== null && value !== "");
}

function viewerShape(element, colour = colourClass(element.label)) {
  const mask = outlinePath(element.outline);
  const d = mask || boxPath(element.box);
  return svg("g", { class: "shape" }, mask ? null : svg("path", { class: "halo", d }), svg("path", { class: `${mask ? "mask" : "box"} ${colour}`, d }));
}

function middleOf(polygon) {
  return [0, 1].map((axis) => polygon.filter((_, place) => place % 2 === axis)).map((values) => (Math.min(...values) + Math.max(...values)) / 2);
}

function viewerTag(element, colour = colourClass(element.label)) {
  const tag = html("span", { class: `tag ${colour}`, dir: "auto" }, `${element.label} ${formatScore(element.score)}`.trim());
  const [left, top] = element.box ?? middleOf(element.outline[0]);
  tag.classList.toggle("on-mask", element.box === null);
  tag.classList.toggle("inside", top < GRID / 25);
  tag.style.setProperty("left", `${Math.min(left / (GRID / 100), 85)}%`);
  tag.style.setProperty("top", `${top / (GRID / 100)}%`);
  return tag;
}

function viewerLabel(element, shape, tag) {
  const score = element.score === null ? null : html("span", { class: "viewer-score" }, formatScore(element.score));
  const swatch = element.isDrawn ? html("span", { class: `swatch ${colourClass(element.label)}`, "aria-hidden": "true" }) : html("span", { class: "swatch empty", "aria-hidden": "true" });
  const name = html("span", { class: "viewer-label", dir: "auto" }, element.label, html("span", { class: "quiet" }, ` ${element.alias}`));
  const item = html("li", {}, swatch, name, score);
  const mark = (isOn) => () => [item, shape, tag].forEach((node) => node?.classList.toggle("marked", isOn));
  item.addEventListener("pointerenter", mark(true));
  item.addEventListener("pointerleave", mark(false));
  return item;
}

/** What is drawn over the picture: by element the shape and the tag. */
function viewerDrawings({ image, mistake }) {
  if (mistake !== null) return mistakeDrawings(mistake);
  const drawn = image.elements.filter((element) => element.isDrawn && viewer.isVisible(element));
  return drawn.map((element) => [element, { shape: viewerShape(element), tag: viewerTag(element) }]);
}

function showInViewer() {
  const entry = viewer.entries[viewer.place];
  const { image, mistake } = entry;
  const elements = [...image.elements].sort((one, other) => (other.score ?? 0) - (one.score ?? 0));
  const drawings = new Map(viewerDrawings(entry));
  const frame = html("div", { class: "viewer-frame" }, picture(image, { lazy: false }));
  const drawn = [...drawings.values()];
  if (image.thumbnail !== null) frame.append(overlay(...drawn.map(({ shape }) => shape)), ...drawn.map(({ tag }) => tag));
  frame.classList.toggle("few", drawn.length <= LABELLED_BOXES);
  frame.style.setProperty("--ratio", image.ratio);
  inViewer("picture").replaceChildren(frame);
  inViewer("name").textContent = image.name;
  inViewer("place").textContent = `${formatNumber(viewer.place + 1)} of ${formatNumber(viewer.entries.length)}`;
  inViewer("facts").replaceChildren(...viewerFacts(image, mistake).map(([name, value]) => html("div", {}, html("dt", {}, name), html("dd", { dir: "auto" }, value))));
  inViewer("labels").replaceChildren(...elements.map((element) => viewerLabel(element, drawings.get(element)?.shape, drawings.get(element)?.tag)));
  inViewer("labels-title").hidden = elements.length === 0;
  inViewer("before").disabled = viewer.place === 0;
  inViewer("after").disabled = viewer.place === viewer.entries.length - 1;
}

if (viewer.dialog !== null) {
  inViewer("before").addEventListener("click", () => moveViewer(-1));
  inViewer("after").addEventListener("click", () => moveViewer(1));
  inViewer("close").addEventListener("click", () => viewer.dialog.close());
  viewer.dialog.addEventListener("click", (event) => event.target === viewer.dialog && viewer.dialog.close());
  viewer.dialog.addEventListener("keydown", (event) => {
    const step = new Map([["ArrowLeft", -1], ["ArrowRight", 1]]).get(event.key);
    if (step === undefined) return;
    event.preventDefault();
    moveViewer(step);
  });
}
