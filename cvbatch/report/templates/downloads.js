// The numbers of a plot or a table as a file.

/** A text that a spreadsheet would take for a formula gets an apostrophe. */
function csvCell(value) {
  const text = value == null ? "" : typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function saveCsv(name, rows) {
  const text = rows.map((row) => row.map(csvCell).join(",")).join("\r\n");
  const address = URL.createObjectURL(new Blob(["\ufeff", text, "\r\n"], { type: "text/csv" }));
  html("a", { href: address, download: `${name.replace(/[^\w-]+/g, "_")}.csv` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

function downloadButton(name, rowsOf) {
  const button = html("button", { type: "button", class: "quiet-button download", "aria-label": `Download ${name} as CSV` }, "CSV");
  button.addEventListener("click", () => saveCsv(name, rowsOf()));
  return button;
}
