// The large view: a dialog that goes through a list of images.

const viewer = { dialog: document.getElementById("viewer"), images: [], place: 0, isVisible: () => true };
const inViewer = (name) => document.getElementById(`viewer-${name}`);
const LABELLED_BOXES = 15;

function openViewer(images, image, isVisible = () => true) {
  Object.assign(viewer, { images, place: Math.max(0, images.indexOf(image)), isVisible });
  showInViewer();
  if (!viewer.dialog.open) viewer.dialog.showModal();
}

function openRows(rows) {
  const images = rows.map((row) => imageOfRow.get(row)).filter((image) => image !== undefined);
  if (images.length > 0) openViewer(images, images[0]);
}

function moveViewer(step) {
  const place = viewer.place + step;
  if (place < 0 || place >= viewer.images.length) return;
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

function viewerFacts(image) {
  const link = webLink(image.link);
  const uri = link === null ? image.uri : html("a", { href: link, target: "_blank", rel: "noopener noreferrer" }, image.uri);
  return [
    ["Original", uri],
    ["Folder", image.folder],
    ["Size", image.width && image.height ? `${image.width} × ${image.height}` : null],
    ["Status", image.status],
    ["Message", image.message],
    ["Why it is here", image.reason],
    ["Row", String(image.row_id)],
  ].filter(([, value]) => value !== null && value !== "");
}

function viewerShape(element) {
  const mask = outlinePath(element.outline);
  const colour = colourClass(element.label);
  const d = mask || boxPath(element.box);
  return svg("g", { class: "shape" }, mask ? null : svg("path", { class: "halo", d }), svg("path", { class: `${mask ? "mask" : "box"} ${colour}`, d }));
}

function middleOf(polygon) {
  return [0, 1].map((axis) => polygon.filter((_, place) => place % 2 === axis)).map((values) => (Math.min(...values) + Math.max(...values)) / 2);
}

function viewerTag(element) {
  const tag = html("span", { class: `tag ${colourClass(element.label)}`, dir: "auto" }, `${element.label} ${formatScore(element.score)}`.trim());
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

function showInViewer() {
  const image = viewer.images[viewer.place];
  const elements = [...image.elements].sort((one, other) => (other.score ?? 0) - (one.score ?? 0));
  const drawn = elements.filter((element) => element.isDrawn && viewer.isVisible(element));
  const shapes = new Map(drawn.map((element) => [element, viewerShape(element)]));
  const tags = new Map(drawn.map((element) => [element, viewerTag(element)]));
  const frame = html("div", { class: "viewer-frame" }, picture(image, { lazy: false }));
  if (image.thumbnail !== null) frame.append(overlay(...shapes.values()), ...tags.values());
  frame.classList.toggle("few", drawn.length <= LABELLED_BOXES);
  frame.style.setProperty("--ratio", image.ratio);
  inViewer("picture").replaceChildren(frame);
  inViewer("name").textContent = image.name;
  inViewer("place").textContent = `${formatNumber(viewer.place + 1)} of ${formatNumber(viewer.images.length)}`;
  inViewer("facts").replaceChildren(...viewerFacts(image).map(([name, value]) => html("div", {}, html("dt", {}, name), html("dd", { dir: "auto" }, value))));
  inViewer("labels").replaceChildren(...elements.map((element) => viewerLabel(element, shapes.get(element), tags.get(element))));
  inViewer("labels-title").hidden = elements.length === 0;
  inViewer("before").disabled = viewer.place === 0;
  inViewer("after").disabled = viewer.place === viewer.images.length - 1;
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
