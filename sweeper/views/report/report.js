// Sorts a table by a column: numbers by value, with missing ones last, and words by letter.
const number = text => text.trim() === "-" || text.trim() === "" ? null : Number(text.replace("%", ""));
const compare = (a, b) => {
  const [x, y] = [number(a), number(b)];
  if (x === null || y === null) return (x === null) - (y === null);
  return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
};
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const body = table.tBodies[0];
      const text = row => row.cells[column].textContent;
      const missing = row => number(text(row)) === null;
      const rows = [...body.rows].sort((a, b) =>
        missing(a) || missing(b) ? missing(a) - missing(b) : (down ? -1 : 1) * compare(text(a), text(b)));
      body.append(...rows);
    });
  });
}
document.documentElement.classList.add("has-script");
