// Which part of a map is seen: wheel, fingers, keys and buttons zoom and move it.

const ZOOM = { step: 1.5, most: 24, wheel: 0.0015, drag: 4, pan: 60 };

function wholeView() {
  return { scale: 1, left: 0, top: 0 };
}

/** Sets the view so that the map still fills its place, and paints it in the next frame. */
function setView(state, scale, left, top) {
  const { clientWidth: width, clientHeight: height } = state.canvas;
  const size = Math.min(Math.max(scale, 1), ZOOM.most);
  const keep = (start, length) => Math.min(Math.max(start, length * (1 - size)), 0);
  state.view = { scale: size, left: keep(left, width), top: keep(top, height) };
  state.canvas.classList.toggle("zoomed", size > 1);
  state.buttons.out.disabled = state.buttons.whole.disabled = size === 1;
  state.buttons.in.disabled = size === ZOOM.most;
  state.zoom.textContent = `${formatNumber(Math.round(10 * size) / 10)}×`;
  state.repaint();
}

/** Zooms so that what is at a place of the canvas stays there. */
function zoomAt(state, factor, across, down) {
  const { scale, left, top } = state.view;
  const next = Math.min(Math.max(scale * factor, 1), ZOOM.most);
  setView(state, next, across - ((across - left) * next) / scale, down - ((down - top) * next) / scale);
}

function zoomInMiddle(state, factor) {
  const { canvas, marked } = state;
  zoomAt(state, factor, marked?.left ?? canvas.clientWidth / 2, marked?.top ?? canvas.clientHeight / 2);
}

function moveView(state, across, down) {
  setView(state, state.view.scale, state.view.left + across, state.view.top + down);
}

/** Moves the map if a point lies outside of what is seen. */
function bringIntoView(state, point) {
  const { canvas } = state;
  const outside = (place, length) => (place < POINT.margin ? POINT.margin - place : place > length - POINT.margin ? length - POINT.margin - place : 0);
  const [across, down] = [outside(point.left, canvas.clientWidth), outside(point.top, canvas.clientHeight)];
  if (across === 0 && down === 0) return;
  moveView(state, across, down);
  placePoints(state);
}

function placePoints({ points, canvas, view }) {
  const [width, height] = [canvas.clientWidth - 2 * POINT.margin, canvas.clientHeight - 2 * POINT.margin];
  for (const point of points) {
    point.left = view.left + view.scale * (POINT.margin + point.x * width);
    point.top = view.top + view.scale * (POINT.margin + (1 - point.y) * height);
  }
}

function zoomButtons(state) {
  const button = (text, name, act) => {
    const made = html("button", { type: "button", class: "icon", "aria-label": name, title: name }, text);
    made.addEventListener("click", act);
    return made;
  };
  state.buttons = {
    in: button("+", "Zoom in", () => zoomInMiddle(state, ZOOM.step)),
    out: button("−", "Zoom out", () => zoomInMiddle(state, 1 / ZOOM.step)),
    whole: button("⤢", "Show all of the map", () => setView(state, 1, 0, 0)),
  };
  state.zoom = html("output", { class: "map-scale quiet" }, "1×");
  return html("div", { class: "map-zoom", role: "group", "aria-label": "Zoom of the map" }, ...Object.values(state.buttons), state.zoom);
}

/** Keys for the view; whether it was one of them. */
function zoomByKey(state, event) {
  const pan = new Map([["ArrowLeft", [1, 0]], ["ArrowRight", [-1, 0]], ["ArrowUp", [0, 1]], ["ArrowDown", [0, -1]]]).get(event.key);
  if (event.shiftKey && pan !== undefined) moveView(state, ZOOM.pan * pan[0], ZOOM.pan * pan[1]);
  else if (event.key === "+" || event.key === "=") zoomInMiddle(state, ZOOM.step);
  else if (event.key === "-") zoomInMiddle(state, 1 / ZOOM.step);
  else if (event.key === "0") setView(state, 1, 0, 0);
  else return false;
  return true;
}

/** The wheel scrolls the page until the map is clicked, as a page must not stop there. */
function listenToWheel(state) {
  state.canvas.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && !event.metaKey && document.activeElement !== state.canvas) return;
      event.preventDefault();
      const place = state.canvas.getBoundingClientRect();
      const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
      zoomAt(state, Math.exp(-event.deltaY * lines * ZOOM.wheel * (event.ctrlKey ? 4 : 1)), event.clientX - place.left, event.clientY - place.top);
    },
    { passive: false },
  );
}

/** One pointer moves the map, two zoom it; `state.isDragged` tells a move from a click. */
function listenToDrag(state) {
  const { canvas } = state;
  const pointers = new Map();
  const middle = () => {
    const places = [...pointers.values()];
    const mean = (axis) => places.reduce((sum, place) => sum + place[axis], 0) / places.length;
    const apart = places.length < 2 ? 1 : Math.max(Math.hypot(places[0][0] - places[1][0], places[0][1] - places[1][1]), 1);
    return { across: mean(0), down: mean(1), apart };
  };
  let travelled = 0;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    if (pointers.size === 1) [travelled, state.isDragged] = [0, false];
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!pointers.has(event.pointerId)) return;
    const before = middle();
    pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    const now = middle();
    travelled += Math.hypot(now.across - before.across, now.down - before.down) + Math.abs(now.apart - before.apart);
    if (travelled < ZOOM.drag) return;
    if (!state.isDragged) canvas.setPointerCapture(event.pointerId);
    state.isDragged = true;
    moveView(state, now.across - before.across, now.down - before.down);
    zoomAt(state, now.apart / before.apart, now.across, now.down);
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => pointers.delete(event.pointerId));
}
