"use strict";
// What the page gains by a script; without it, all is there but can't be sorted, filtered or switched off.
const make = (tag, set) => Object.assign(document.createElement(tag), set);

for (const table of document.querySelectorAll("table.sortable")) {
  const bodies = [...table.tBodies];
  const heads = [...table.tHead.rows[0].cells];
  const value = (body, column) => {
    const cell = body.rows[0].cells[column];
    const text = cell.dataset.value ?? cell.textContent.trim();
    return text !== "" && isFinite(text) ? Number(text) : text;
  };
  heads.forEach((head, column) => {
    const button = make("button", { textContent: head.textContent, type: "button" });
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const way = head.getAttribute("aria-sort") === "descending" ? 1 : -1;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
      bodies.sort((a, b) => {
        const [x, y] = [value(a, column), value(b, column)];
        return way * (typeof x === "number" && typeof y === "number"
          ? x - y : String(x).localeCompare(String(y), undefined, { numeric: true }));
      });
      table.append(...bodies);
    });
  });
  const search = make("input", { type: "search", placeholder: "Filter problems and runs" });
  search.setAttribute("aria-label", search.placeholder);
  search.addEventListener("input", () => {
    const wanted = search.value.toLowerCase();
    for (const body of bodies) {
      const has = body.rows[0].textContent.toLowerCase().includes(wanted);
      body.classList.toggle("unmatched", !has);
    }
  });
  table.parentElement.before(search);
}

for (const entry of document.querySelectorAll("[data-toggle]")) {
  const button = make("button", { type: "button", title: "Show or hide this run" });
  button.setAttribute("aria-pressed", "true");
  button.append(...entry.childNodes);
  entry.append(button);
  button.addEventListener("click", () => {
    const shown = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(shown));
    const run = `[data-run="${entry.dataset.toggle}"]`;
    for (const part of entry.closest("section").querySelectorAll(run)) {
      part.classList.toggle("off", !shown);
    }
  });
}

const tip = make("div", { className: "tip", hidden: true });
document.body.append(tip);
for (const picture of document.querySelectorAll("figure svg")) {
  const said = new Map();
  for (const title of picture.querySelectorAll("title")) {
    said.set(title.parentElement, title.textContent);
    title.remove();
  }
  const show = (event) => {
    let [best, words] = [24, ""];
    for (const [mark, text] of said) {
      if (mark.closest(".off")) continue;
      const box = mark.getBoundingClientRect();
      const away = Math.hypot(
        Math.max(box.left - event.clientX, 0, event.clientX - box.right),
        Math.max(box.top - event.clientY, 0, event.clientY - box.bottom),
      );
      if (away < best) [best, words] = [away, text];
    }
    tip.textContent = words;
    tip.hidden = !words;
    tip.style.left = `${Math.max(4, Math.min(event.clientX + 12, innerWidth - tip.offsetWidth - 4))}px`;
    tip.style.top = `${Math.max(4, event.clientY - tip.offsetHeight - 12)}px`;
  };
  picture.addEventListener("pointermove", show);
  picture.addEventListener("pointerdown", show);
  picture.addEventListener("pointerleave", () => { tip.hidden = true; });
}
