// Images as points; the ones in the gallery show their picture.

const POINT = { small: 2.2, large: 5, margin: 24, reach: 22, growth: 0.35 };

function mapPoints(map) {
  return map.row_ids.map((row, number) => ({
    row,
    x: map.points[number][0],
    y: map.points[number][1],
    label: map.label_of_point[number] < 0 ? null : map.labels[map.label_of_point[number]],
    image: imageOfRow.get(row) ?? null,
  }));
}

function paintMap(state) {
  const { canvas, points, colours, marked } = state;
  placePoints(state);
  const scale = window.devicePixelRatio || 1;
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const pen = canvas.getContext("2d");
  const style = getComputedStyle(canvas);
  const paints = new Map([["c-other", style.getPropertyValue("--class-other")]]);
  for (let colour = 0; colour < COLOURS; colour += 1) paints.set(`c-${colour}`, style.getPropertyValue(`--class-${colour}`));
  pen.scale(scale, scale);
  const ground = style.getPropertyValue("--surface");
  const order = [...points].sort((one, other) => (one.image !== null) - (other.image !== null));
  const growth = state.view.scale ** POINT.growth;
  for (const point of order) {
    if (!isSeen(point, width, height)) continue;
    const isPale = state.label !== null && point.label !== state.label;
    pen.globalAlpha = isPale ? 0.12 : point.image === null ? 0.65 : 1;
    pen.fillStyle = paints.get(colourClass(point.label, colours));
    pen.beginPath();
    pen.arc(point.left, point.top, growth * (point.image === null ? POINT.small : POINT.large), 0, 2 * Math.PI);
    pen.fill();
    if (point.image !== null) {
      pen.lineWidth = 1.5;
      pen.strokeStyle = ground;
      pen.stroke();
    }
  }
  if (state.hasPictures && state.isSeen) {
    paintPictures(state, pen, paints, state.repaint);
  }
  if (marked !== null) {
    pen.globalAlpha = 1;
    pen.lineWidth = 2;
    pen.strokeStyle = style.getPropertyValue("--ink");
    pen.beginPath();
    pen.arc(marked.left, marked.top, growth * POINT.large + 3, 0, 2 * Math.PI);
    pen.stroke();
  }
}

function isSeen(point, width, height) {
  return point.left > -POINT.margin && point.left < width + POINT.margin && point.top > -POINT.margin && point.top < height + POINT.margin;
}

/** The nearest point within reach; a picture is preferred to a dot without one. */
function nearestPoint(points, left, top) {
  const near = points.map((point) => [Math.hypot(point.left - left, point.top - top) - (point.image === null ? 0 : 6), point]);
  const best = near.reduce((one, other) => (other[0] < one[0] ? other : one), [POINT.reach, null]);
  return best[1];
}

function showMarked(state, point) {
  if (state.marked === point) return;
  state.marked = point;
  paintMap(state);
  const { card, canvas } = state;
  card.hidden = point === null;
  canvas.classList.toggle("opens", point !== null && point.image !== null);
  if (point === null) return;
  const title = point.image === null ? `Row ${point.row}` : point.image.name;
  const shown = point.image === null || point.image.thumbnail === null ? null : picture(point.image, { lazy: false });
  card.replaceChildren(...[shown, html("span", { class: "card-name", dir: "auto" }, title), html("span", { class: "quiet", dir: "auto" }, point.label ?? "no label")].filter((node) => node !== null));
  card.style.setProperty("left", `${Math.min(Math.max(point.left, 90), Math.max(canvas.clientWidth - 90, 90))}px`);
  card.style.setProperty("top", `${point.top}px`);
  card.classList.toggle("below", point.top < canvas.clientHeight / 2);
}

function moveOnMap(state, step) {
  const pictured = state.points.filter((point) => point.image !== null).sort((one, other) => one.x - other.x);
  if (pictured.length === 0) return;
  const place = pictured.indexOf(state.marked);
  const next = place < 0 ? (step > 0 ? 0 : pictured.length - 1) : Math.min(Math.max(place + step, 0), pictured.length - 1);
  bringIntoView(state, pictured[next]);
  showMarked(state, pictured[next]);
}

function openMarked(state) {
  if (state.marked === null || state.marked.image === null) return;
  const images = state.points.map((point) => point.image).filter((image) => image !== null);
  openViewer(images, state.marked.image);
}

function listenToMap(state) {
  const { canvas } = state;
  const under = (event) => {
    const place = canvas.getBoundingClientRect();
    return nearestPoint(state.points, event.clientX - place.left, event.clientY - place.top);
  };
  canvas.addEventListener("pointermove", (event) => showMarked(state, event.buttons > 0 && state.isDragged ? null : under(event)));
  canvas.addEventListener("pointerleave", () => showMarked(state, null));
  canvas.addEventListener("blur", () => showMarked(state, null));
  canvas.addEventListener("click", (event) => {
    if (state.isDragged) return;
    showMarked(state, under(event));
    openMarked(state);
  });
  listenToWheel(state);
  listenToDrag(state);
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (zoomByKey(state, event)) return event.preventDefault();
    const step = new Map([["ArrowLeft", -1], ["ArrowRight", 1], ["ArrowUp", -1], ["ArrowDown", 1]]).get(event.key);
    if (step !== undefined) moveOnMap(state, step);
    else if (event.key === "Enter") openMarked(state);
    else if (event.key === "Escape") showMarked(state, null);
    else return;
    event.preventDefault();
  });
}

function mapLegend(state, map) {
  const counts = countBy(state.points, (point) => point.label);
  const labels = map.labels.filter((label) => state.colours.has(label) && counts.has(label));
  const buttons = labels.map((label) => {
    const button = html("button", { type: "button", class: "chip", title: label, "aria-pressed": "false" }, html("span", { class: `swatch ${colourClass(label, state.colours)}`, "aria-hidden": "true" }), html("span", { dir: "auto" }, label), html("span", { class: "quiet" }, formatNumber(counts.get(label))));
    button.addEventListener("click", () => {
      state.label = state.label === label ? null : label;
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button && state.label !== null));
      paintMap(state);
    });
    return button;
  });
  const named = labels.reduce((sum, label) => sum + counts.get(label), 0);
  const rest = state.points.length - named;
  const switched = html("input", { type: "checkbox", checked: state.hasPictures });
  switched.addEventListener("change", () => {
    state.hasPictures = switched.checked;
    paintMap(state);
  });
  const pictures = html("label", { class: "chip" }, switched, "pictures");
  const others = rest > 0 ? html("span", { class: "chip still" }, html("span", { class: "swatch c-other", "aria-hidden": "true" }), "other", html("span", { class: "quiet" }, formatNumber(rest))) : null;
  return html("div", { class: "chips", role: "group", "aria-label": "Labels of the map" }, state.hasPictures ? pictures : null, ...buttons, others);
}

function startMap(block) {
  const map = data.maps[Number(block.dataset.map)];
  const points = mapPoints(map);
  const canvas = html("canvas", { tabindex: 0, role: "application", "aria-roledescription": "map", "aria-label": `Map of ${formatNumber(points.length)} images by ${map.alias}. Arrow keys go through the images with a picture, Enter opens one; plus and minus zoom, Shift with arrow keys moves, 0 shows all of it.` });
  const card = html("div", { class: "map-card", hidden: true, role: "status" });
  const state = { canvas, card, points, marked: null, label: null, isSeen: false, isDragged: false, view: wholeView(), hasPictures: points.some((point) => point.image?.thumbnail), colours: assignColours(map.labels, labelColours) };
  let frame = 0;
  state.repaint = () => {
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(() => paintMap(state));
  };
  const zoom = zoomButtons(state);
  block.append(mapLegend(state, map), html("div", { class: "map-place" }, canvas, card));
  const rows = () => [["row_id", "x", "y", "label"], ...points.map((point) => [point.row, point.x, point.y, point.label])];
  block.querySelector(".tools").append(zoom, downloadButton(`${map.alias} map`, rows));
  listenToMap(state);
  onWidth(canvas, () => {
    setView(state, state.view.scale, state.view.left, state.view.top);
    paintMap(state);
  });
  new IntersectionObserver((entries, observer) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    state.isSeen = true;
    paintMap(state);
  }).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => paintMap(state));
}

for (const block of document.querySelectorAll("[data-map]")) startMap(block);
