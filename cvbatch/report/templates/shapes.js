// Boxes and masks over a picture, sharp at any size.

function boxPath([left, top, right, bottom]) {
  return `M${left} ${top}H${right}V${bottom}H${left}Z`;
}

function outlinePath(outline) {
  return outline.filter((polygon) => polygon.length >= 6).map((polygon) => `M${polygon.join(" ")}Z`).join("");
}

function overlay(...children) {
  return svg("svg", { class: "overlay", viewBox: `0 0 ${GRID} ${GRID}`, preserveAspectRatio: "none", "aria-hidden": "true" }, ...children);
}

/** One path for all boxes of a colour, and one for all masks, so that thousands of boxes stay light. */
function overlayPaths(elements) {
  const boxes = new Map();
  const masks = new Map();
  let halo = "";
  for (const element of elements) {
    const colour = colourClass(element.label);
    const mask = outlinePath(element.outline);
    if (mask) masks.set(colour, (masks.get(colour) ?? "") + mask);
    else if (element.box) {
      boxes.set(colour, (boxes.get(colour) ?? "") + boxPath(element.box));
      halo += boxPath(element.box);
    }
  }
  return [
    ...[...masks].map(([colour, path]) => svg("path", { class: `mask ${colour}`, d: path })),
    halo ? svg("path", { class: "halo", d: halo }) : null,
    ...[...boxes].map(([colour, path]) => svg("path", { class: `box ${colour}`, d: path })),
  ];
}

function picture(image, { lazy }) {
  if (image.thumbnail === null) {
    const why = image.status === "ok" ? "no picture" : image.status;
    return html("span", { class: "no-picture" }, why);
  }
  return html("img", { src: image.thumbnail, alt: "", loading: lazy ? "lazy" : null, decoding: "async", draggable: "false" });
}

function bestLabel(image) {
  const best = image.elements.reduce((top, element) => (top === null || (element.score ?? 0) > (top.score ?? 0) ? element : top), null);
  return best === null ? "" : `${best.label} ${formatScore(best.score)}`.trim();
}

/** A picture that opens the large view among its neighbours. */
function tile(image, open) {
  const shapes = overlay();
  const frame = html("span", { class: "frame" }, picture(image, { lazy: true }), image.thumbnail === null ? null : shapes);
  const caption = html("span", { class: "tile-name", dir: "auto", title: image.name }, image.name.split("/").at(-1));
  const note = html("span", { class: "tile-note", dir: "auto" }, image.message ?? image.note ?? bestLabel(image));
  const button = html("button", { type: "button", class: "tile-button" }, frame, caption, note);
  button.addEventListener("click", () => open(image));
  const item = html("li", { class: image.message === null ? "tile" : "tile failed", "data-row": image.row_id }, button);
  item.style.setProperty("--ratio", image.ratio);
  return { image, item, draw: (elements) => shapes.replaceChildren(...overlayPaths(elements).filter((path) => path !== null)) };
}
