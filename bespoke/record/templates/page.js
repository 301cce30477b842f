
"use strict";
// All is shown without this script. It enlarges and compares pictures, copies commands, and opens
// the page of a run that goes on again, with the reader where he was.
const at = (id) => document.getElementById(id);
const every = (selector, within = document) => [...within.querySelectorAll(selector)];
const memory = `bespoke ${location.pathname}`;
const viewer = at("viewer");

// --- A picture enlarged, and two epochs compared ---
const prompts = every(".sheet [role=columnheader]:not(.corner)").map((one) => one.innerText.replace(/\s+/g, " "));
const rows = every(".strip").map((strip) => ({
  name: strip.querySelector(".side b").textContent,
  cells: every(".cell", strip).map((cell) => ({
    drawn: cell.querySelector(".open img"),
    original: cell.querySelector(".original"),
    link: cell.querySelector(".open"),
  })),
}));
const one = new Image(), two = new Image(), near = new Image();

function show() {
  const column = at("viewer-prompt").selectedIndex;
  const row = rows[at("viewer-epoch").value];
  const other = rows[at("viewer-other").selectedIndex - 1];
  const here = row.cells[column], there = other?.cells[column];
  put(one, here.drawn);
  put(two, there?.drawn);
  put(near, here.original);
  at("viewer-title").textContent = prompts[column];
  at("viewer-epoch-name").textContent = row.name;
  at("viewer-epoch").setAttribute("aria-valuetext", row.name);
  at("viewer-divide").hidden = two.hidden;
  at("viewer-near").hidden = near.hidden;
  const told = (name, cell) => (cell.drawn ? [cell.drawn.alt, cell.link.dataset.remarks].filter(Boolean).join("; ") : `${name}: no picture`);
  at("viewer-words").textContent = other ? `Left: ${told(row.name, here)}. Right: ${told(other.name, there)}.` : told(row.name, here);
  // A page that is served has no files beside it.
  at("viewer-file").hidden = !here.link || location.protocol !== "file:";
  at("viewer-file").href = here.link?.href;
  at("viewer-near-words").textContent =
    near.hidden ? "" : `${here.original.alt}, ΔE ${here.original.dataset.apart} a cell`;
  divide(at("viewer-divider").value);
  fit();
}

function put(image, from) {
  image.hidden = !from;
  if (from && image.src !== from.src) image.src = from.src;
  image.alt = from ? from.alt : "";
}

function divide(percent) {
  at("viewer-divider").value = percent;
  two.style.clipPath = `inset(0 0 0 ${percent}%)`;
  at("viewer-stack").style.setProperty("--at", two.hidden ? "100%" : `${percent}%`);
}

// A cell is a whole number of pixels; or, where wanted, each of the file's own pixels is.
function fit() {
  const across = !near.hidden && innerWidth > 700 ? 2 : 1;
  const wide = (viewer.clientWidth - 32 - 24 * (across - 1)) / across;
  const high = innerHeight - at("viewer-stack").offsetTop - 72;
  const room = across === 1 && innerWidth <= 700 ? wide : Math.min(wide, high);
  const cells = 24 * Math.max(4, Math.floor(room / 24));
  const dots = devicePixelRatio % 1 ? 1 : devicePixelRatio;
  const own = one.naturalWidth || 512;
  const side = at("viewer-real").checked ? own * Math.max(1, Math.floor((room * dots) / own)) / dots : cells;
  at("viewer-stack").style.width = one.style.width = two.style.width = `${side}px`;
  near.style.width = `${cells}px`;
}

function open(column, row, other = 0) {
  at("viewer-prompt").selectedIndex = column;
  at("viewer-epoch").value = row;
  at("viewer-other").selectedIndex = other;
  if (!viewer.open) {
    viewer.showModal();
    at("viewer-epoch").focus();
  }
  show();
}

function place(id) {
  const cell = at(id).closest(".cell"), strip = cell.parentElement;
  return [every(".cell", strip).indexOf(cell), every(".strip").indexOf(strip)];
}

if (viewer && rows.length) {
  at("viewer-stack").append(one, two);
  at("viewer-near").prepend(near);
  at("viewer-prompt").replaceChildren(...prompts.map((name) => new Option(name)));
  at("viewer-other").replaceChildren(new Option("nothing"), ...rows.map((row) => new Option(row.name)));
  at("viewer-epoch").max = rows.length - 1;
  at("viewer-close").addEventListener("click", () => viewer.close());
  viewer.addEventListener("input", (event) => (event.target.id === "viewer-divider" ? divide(event.target.value) : show()));
  for (const link of every(".open, .heroes a")) {
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      open(...place(link.id || link.hash.slice(1)));
    });
  }
  at("viewer-stack").addEventListener("pointermove", (event) => {
    const box = at("viewer-stack").getBoundingClientRect();
    if (event.buttons && !two.hidden) divide(Math.round(Math.max(0, Math.min(100, (100 * (event.clientX - box.left)) / box.width))));
  });
  one.addEventListener("load", fit);
  addEventListener("resize", () => viewer.open && fit());
  const compare = at("compare");
  compare.hidden = rows.length < 2;
  compare.addEventListener("click", () => {
    const best = every(".strip").findIndex((strip) => strip.matches(".best"));
    const column = Math.max(0, every("input.one").findIndex((input) => input.checked));
    open(column, 0, 1 + (best > 0 ? best : rows.length - 1));
  });
}

// --- A command copied ---
for (const button of every("button[data-copies]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const text = at(button.dataset.copies);
    getSelection().selectAllChildren(text);
    await navigator.clipboard?.writeText(text.textContent);
    button.textContent = navigator.clipboard ? "Copied" : "Selected";
  });
}

// --- The reader's place kept when the page is opened again ---
function keep() {
  history.scrollRestoration = "auto";
  const from = rows[at("viewer-epoch")?.value]?.cells[at("viewer-prompt").selectedIndex]?.link ?? {};
  const anchor = every("main h2, .strip").findLast((each) => each.getBoundingClientRect().top < 80);
  sessionStorage.setItem(memory, JSON.stringify({
    anchor: anchor?.id,
    below: anchor ? anchor.getBoundingClientRect().top : 0,
    y: scrollY,
    focus: document.activeElement?.id,
    only: document.querySelector("input[name=only]:checked")?.id,
    open: every("details[open] > summary").map((each) => each.textContent),
    viewer: viewer?.open && {
      prompt: at("viewer-prompt").value, epoch: at("viewer-epoch-name").textContent, other: at("viewer-other").value,
      from: from.id, divider: at("viewer-divider").value, real: at("viewer-real").checked,
    },
  }));
}

function restore(kept) {
  if (at(kept.only)) at(kept.only).checked = true;
  for (const each of every("summary")) each.parentElement.open = kept.open.includes(each.textContent);
  if (kept.viewer && rows.length) {
    at("viewer-real").checked = kept.viewer.real;
    at(kept.viewer.from)?.focus({ preventScroll: true }); // where closing it leads
    const row = (name) => rows.findIndex((each) => each.name === name);
    open(Math.max(0, prompts.indexOf(kept.viewer.prompt)), Math.max(0, row(kept.viewer.epoch)), row(kept.viewer.other) + 1);
    divide(kept.viewer.divider);
  }
  at(kept.focus)?.focus({ preventScroll: true });
  const anchor = at(kept.anchor);
  scrollTo(0, anchor ? scrollY + anchor.getBoundingClientRect().top - kept.below : kept.y);
}

try {
  const kept = sessionStorage.getItem(memory);
  if (kept && performance.getEntriesByType("navigation")[0]?.type === "reload") {
    history.scrollRestoration = "manual";
    restore(JSON.parse(kept));
  }
  addEventListener("pagehide", keep);
} catch {
  // Without a store the page begins at its top.
}

const seconds = Number(document.body.dataset.refresh);
if (seconds) {
  let timer;
  const wait = () => {
    clearTimeout(timer);
    timer = setTimeout(() => location.reload(), 1000 * seconds);
  };
  for (const kind of ["pointerdown", "keydown", "input"]) addEventListener(kind, wait);
  wait();
}
