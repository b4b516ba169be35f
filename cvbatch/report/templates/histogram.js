// How sure a model is, with a slider that counts again.

function drawHistogram(counts, bin, width) {
  const height = 180;
  const highest = Math.max(...counts, 1);
  const step = width / counts.length;
  const bars = counts.map((count, number) => {
    const tall = count === 0 ? 0 : Math.max(2, (count / highest) * (height - 6));
    const title = `${(number / counts.length).toFixed(2)} to ${((number + 1) / counts.length).toFixed(2)}: ${formatNumber(count)}`;
    return svg("rect", { class: number >= bin ? "in" : "out", x: number * step + 1, y: height - tall, width: Math.max(step - 2, 1), height: tall }, svg("title", {}, title));
  });
  const base = svg("line", { class: "base", x1: 0, x2: width, y1: height, y2: height });
  return svg("svg", { width, height: height + 1, viewBox: `0 0 ${width} ${height + 1}`, "aria-hidden": "true" }, ...bars, base);
}

function histogramBlock(place, section, word) {
  const { counts, by_label: byLabel } = section.histogram;
  const series = [["all labels", counts], ...byLabel];
  const bins = counts.length;
  const id = place.dataset.histogram;
  const choice = html("select", { "aria-label": `Label of the histogram of ${section.alias}` }, ...series.map(([label], number) => html("option", { value: number }, label)));
  const slider = html("input", { type: "range", min: 0, max: bins, step: 1, value: Math.round(bins / 2), id: `threshold-${id}` });
  const sentence = html("p", { class: "re-count", role: "status" });
  const plot = html("div", { class: "plot-place" });
  let width = 0;
  const update = () => {
    const chosen = series[Number(choice.value)][1];
    const bin = Number(slider.value);
    const score = (bin / bins).toFixed(2);
    const above = chosen.slice(bin).reduce((sum, count) => sum + count, 0);
    const all = chosen.reduce((sum, count) => sum + count, 0);
    slider.setAttribute("aria-valuetext", `score ${score}`);
    sentence.replaceChildren(html("strong", {}, formatNumber(above)), ` of ${formatNumber(all)} ${word} above ${score}`);
    if (width > 0) plot.replaceChildren(drawHistogram(chosen, bin, width));
  };
  choice.addEventListener("change", update);
  slider.addEventListener("input", update);
  onWidth(plot, (now) => {
    width = now;
    update();
  });
  update();
  const rows = () => [["label", "from", "to", "count"], ...series.flatMap(([label, all]) => all.map((count, bin) => [label, bin / bins, (bin + 1) / bins, count]))];
  place.append(
    html("div", { class: "block-head" }, html("h4", {}, "How sure"), html("span", { class: "tools" }, choice, downloadButton(`${section.alias} scores`, rows))),
    plot,
    slider,
    html("div", { class: "scale quiet", "aria-hidden": "true" }, html("span", {}, "0"), html("span", {}, "score"), html("span", {}, "1")),
    html("label", { class: "hidden", for: slider.id }, `Least score of ${section.alias}`),
    sentence,
  );
}

for (const place of document.querySelectorAll("[data-histogram]")) {
  const block = place.closest(".label-section");
  histogramBlock(place, data.labels[Number(place.dataset.histogram)], block.dataset.word);
}
