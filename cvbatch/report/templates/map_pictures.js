// Small pictures in the place of dots, as many as do not cover each other.

const PICTURE = { side: 46, most: 120, between: 4 };
const drawings = new Map();

/** The picture of an image once it is loaded; until then null, and the map is painted again later. */
function drawingOf(image, repaint) {
  if (!drawings.has(image.thumbnail)) {
    const drawing = new Image();
    drawings.set(image.thumbnail, drawing);
    drawing.src = image.thumbnail;
  }
  const drawing = drawings.get(image.thumbnail);
  if (!drawing.complete) drawing.addEventListener("load", repaint, { once: true });
  return drawing.complete && drawing.naturalWidth > 0 ? drawing : null;
}

function apartPoints({ points, canvas }, apart) {
  const chosen = [];
  for (const point of points) {
    if (!point.image?.thumbnail || !isSeen(point, canvas.clientWidth, canvas.clientHeight)) continue;
    const isFree = chosen.every((other) => Math.max(Math.abs(other.left - point.left), Math.abs(other.top - point.top)) >= apart);
    if (isFree) chosen.push(point);
  }
  return chosen;
}

function paintPictures(state, pen, paints, repaint) {
  const side = Math.min(PICTURE.side * Math.sqrt(state.view.scale), PICTURE.most);
  for (const point of apartPoints(state, side + PICTURE.between)) {
    const drawing = drawingOf(point.image, repaint);
    if (drawing === null) continue;
    const scale = side / Math.max(drawing.naturalWidth, drawing.naturalHeight);
    const [width, height] = [drawing.naturalWidth * scale, drawing.naturalHeight * scale];
    const place = [point.left - width / 2, point.top - height / 2, width, height];
    pen.globalAlpha = state.label !== null && point.label !== state.label ? 0.15 : 1;
    pen.drawImage(drawing, ...place);
    pen.lineWidth = 2.5;
    pen.strokeStyle = paints.get(colourClass(point.label, state.colours));
    pen.strokeRect(...place);
  }
}
