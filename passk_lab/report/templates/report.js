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

for (const legend of document.querySelectorAll(".legend")) {
  const section = legend.closest("section");
  const buttons = [...legend.children].map((entry) => {
    const button = make("button", { type: "button", title: "Show or hide this run" });
    button.append(...entry.childNodes);
    entry.append(button);
    return button;
  });
  const isShown = (button) => button.getAttribute("aria-pressed") !== "false";
  const show = (button, shown) => {
    button.setAttribute("aria-pressed", String(shown));
    const run = `[data-run="${button.parentElement.dataset.toggle}"]`;
    section.querySelectorAll(run).forEach((part) => part.classList.toggle("off", !shown));
  };
  for (const button of buttons) {
    show(button, true);
    button.addEventListener("click", () => show(button, !isShown(button)));
  }
  const all = make("button", { type: "button", className: "all", textContent: "all or none" });
  all.addEventListener("click", () => {
    const shown = !buttons.some(isShown);
    buttons.forEach((button) => show(button, shown));
  });
  legend.append(make("li"));
  legend.lastChild.append(all);
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
