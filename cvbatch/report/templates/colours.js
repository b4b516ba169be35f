// Eight colours that tell classes apart, and one for all others.

const COLOURS = 8;

/** Colours of labels, the first ones first; a label keeps the colour that it has elsewhere on the page. */
function assignColours(labels, elsewhere = new Map()) {
  const colours = new Map();
  for (const label of labels) {
    const colour = elsewhere.get(label);
    if (colour !== undefined && ![...colours.values()].includes(colour)) colours.set(label, colour);
  }
  const free = [...Array(COLOURS).keys()].filter((colour) => ![...colours.values()].includes(colour));
  for (const label of labels) {
    if (free.length === 0) break;
    if (!colours.has(label)) colours.set(label, free.shift());
  }
  return colours;
}

const drawnElements = data.gallery.flatMap((image) => image.elements.filter((element) => element.isDrawn));
const drawnLabels = countBy(drawnElements, (element) => element.label);
const labelColours = assignColours([...drawnLabels.keys()].slice(0, COLOURS));

function colourClass(label, colours = labelColours) {
  const colour = colours.get(label);
  return colour === undefined ? "c-other" : `c-${colour}`;
}
