// Line plots as SVG, drawn again when their width changes.

const PLOT = { left: 52, right: 12, top: 10, bottom: 40 };

/** Round numbers between two bounds. */
function ticks(low, high, wanted) {
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10);
  const places = [];
  for (let place = Math.ceil(low / step) * step; place <= high + step / 1e6; place += step) places.push(Math.abs(place) < step / 1e6 ? 0 : place);
  return places;
}

function bounds(values) {
  const finite = values.filter((value) => value != null);
  if (finite.length === 0) return [0, 1];
  const low = finite.reduce((one, other) => Math.min(one, other), 0);
  const highest = finite.reduce((one, other) => Math.max(one, other));
  const high = highest > 0.3 && highest <= 1 ? 1 : highest;
  return high > low ? [low, high] : [low, low + 1];
}

function axes(frame, plot) {
  const { width, height, x, y, xRange, yRange } = frame;
  const group = svg("g", { class: "axes", "aria-hidden": "true" });
  for (const tick of ticks(...yRange, 4)) {
    group.append(svg("line", { class: "rule", x1: PLOT.left, x2: width - PLOT.right, y1: y(tick), y2: y(tick) }));
    group.append(svg("text", { x: PLOT.left - 8, y: y(tick) + 4, "text-anchor": "end" }, formatNumber(tick)));
  }
  for (const tick of ticks(...xRange, Math.max(2, Math.floor(width / 90)))) {
    const text = formatNumber(tick);
    group.append(svg("text", { x: Math.min(x(tick), width - 3.8 * text.length), y: height - PLOT.bottom + 18, "text-anchor": "middle" }, text));
  }
  group.append(svg("text", { class: "axis-title", x: (PLOT.left + width - PLOT.right) / 2, y: height - 4, "text-anchor": "middle" }, plot.x_title));
  return group;
}

function linePath(points, x, y) {
  let path = "";
  let isDown = false;
  for (const [across, up] of points) {
    if (across == null || up == null) isDown = false;
    else {
      path += `${isDown ? "L" : "M"}${x(across).toFixed(1)},${y(up).toFixed(1)}`;
      isDown = true;
    }
  }
  return path;
}

/** Points that no line leads to. */
function lonePoints(points) {
  const isKnown = (point) => point !== undefined && point[0] != null && point[1] != null;
  return points.filter((point, place) => isKnown(point) && !isKnown(points[place - 1]) && !isKnown(points[place + 1]));
}

function plotFrame(plot, width) {
  const height = Math.round(Math.min(Math.max(width * 0.6, 200), 320));
  const points = plot.lines.flatMap(([, line]) => line);
  const xRange = bounds(points.map(([across]) => across));
  const yRange = bounds(points.map(([, up]) => up));
  const x = (value) => PLOT.left + ((value - xRange[0]) / (xRange[1] - xRange[0])) * (width - PLOT.left - PLOT.right);
  const y = (value) => height - PLOT.bottom - ((value - yRange[0]) / (yRange[1] - yRange[0])) * (height - PLOT.top - PLOT.bottom);
  return { width, height, x, y, xRange, yRange };
}

function drawLines(plot, colours, width) {
  const frame = plotFrame(plot, width);
  const attributes = { class: "plot-svg", width, height: frame.height, viewBox: `0 0 ${width} ${frame.height}`, role: "img", "aria-label": `${plot.title}: ${plot.y_title} over ${plot.x_title}` };
  const lines = plot.lines.map(([name, points]) => svg("path", { class: `line ${colourClass(name, colours)}`, d: linePath(points, frame.x, frame.y) }));
  const dots = plot.lines.flatMap(([name, points]) => lonePoints(points).map(([across, up]) => svg("circle", { class: `lone ${colourClass(name, colours)}`, cx: frame.x(across), cy: frame.y(up), r: 3 })));
  const marker = svg("g", { class: "marker" });
  const picture = svg("svg", attributes, axes(frame, plot), ...lines, ...dots, marker);
  picture.addEventListener("pointermove", (event) => markNearest(event, plot, frame, marker, picture, colours));
  picture.addEventListener("pointerleave", () => marker.replaceChildren());
  return picture;
}

function markNearest(event, plot, frame, marker, picture, colours) {
  const place = event.clientX - picture.getBoundingClientRect().left;
  const nearest = plot.lines.map(([name, points]) => {
    const known = points.filter(([across, up]) => across != null && up != null);
    const distance = ([across]) => Math.abs(frame.x(across) - place);
    return [name, known.reduce((best, point) => (best === null || distance(point) < distance(best) ? point : best), null)];
  });
  const isLeft = place > frame.width / 2;
  const texts = nearest.filter(([, point]) => point !== null).slice(0, 8).flatMap(([name, [across, up]], row) => [
    svg("circle", { class: colourClass(name, colours), cx: frame.x(across), cy: frame.y(up), r: 4 }),
    svg("text", { x: frame.x(across) + (isLeft ? -10 : 10), y: PLOT.top + 12 + 15 * row, "text-anchor": isLeft ? "end" : "start" }, `${name}: ${formatNumber(across)}, ${formatNumber(up)}`),
  ]);
  marker.replaceChildren(...texts);
}

function plotRows(plot) {
  return [["line", plot.x_title, plot.y_title], ...plot.lines.flatMap(([name, points]) => points.map((point) => [name, ...point]))];
}

function blockHead(title, ...tools) {
  return html("div", { class: "block-head" }, html("h3", { dir: "auto" }, title), html("span", { class: "tools" }, ...tools));
}

function linePlot(plot) {
  const colours = assignColours(plot.lines.map(([name]) => name), labelColours);
  const place = html("div", { class: "plot-place" });
  const names = plot.lines.map(([name]) => html("li", { class: colourClass(name, colours) }, html("span", { class: "swatch", "aria-hidden": "true" }), html("span", { dir: "auto" }, name)));
  onWidth(place, (width) => place.replaceChildren(drawLines(plot, colours, width)));
  return html(
    "figure",
    { class: "plot" },
    blockHead(plot.title, downloadButton(plot.title, () => plotRows(plot))),
    html("p", { class: "y-title quiet" }, plot.y_title),
    place,
    plot.lines.length > 1 ? html("ul", { class: "plot-names" }, ...names) : null,
  );
}
