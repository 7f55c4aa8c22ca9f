// The gallery of the database. Thousands of pictures scroll as one list, of which only the rows in
// view and a few around them exist; thumbnails have an address each, so browsers keep them.
const { fill, make, thumb, arrow, hear, tell, carry, whole } = window.rissole;
const { texts } = props;
const GAP = 6;
const LEAST = 62; // pixels: as many columns as fit with at least this much each
const AROUND = 4; // rows kept ready above and below
const list = element.querySelector(".rs-gallery");
const sheet = element.querySelector(".rs-sheet");
const taps = [...element.querySelectorAll("[data-tap]")];
const nodes = new Map(); // item -> its element
let { source, count } = props; // the database on show
let names = []; // of its classes
let classes = null; // number of the class of every picture, once it is here
let members = null; // the pictures of the class that is searched alone; null for all
let listed = new Set();
let picked = null;
let current = 0; // where the keys are
let tap = "query"; // what a tap on a picture does: search from it, or add it to the neighbours

list.setAttribute("aria-label", texts.gallery);
element.querySelector(".rs-gallery-tap").setAttribute("aria-label", texts.taps.label);

for (const button of taps) {
  button.textContent = texts.taps[button.dataset.tap];
  button.addEventListener("click", () => {
    tap = button.dataset.tap;
    for (const other of taps) other.setAttribute("aria-pressed", String(other === button));
  });
}

const length = () => (members ? members.length : count);
const itemAt = (place) => (members ? members[place] : place);
const placeOf = (item) => (members ? members.indexOf(item) : item);
const labelOf = (item) => (classes ? names[classes[item]] || null : null);

const layout = () => {
  const width = sheet.clientWidth || 300;
  const columns = Math.max(1, Math.floor((width + GAP) / (LEAST + GAP)));
  const size = (width - GAP * (columns - 1)) / columns;
  return { columns, size, pitch: size + GAP, rows: Math.ceil(length() / columns) };
};

const build = (item) => {
  const label = labelOf(item);
  const option = make("div", "rs-thumb", { role: "option", "data-item": item, "data-id": item,
    "aria-label": fill(label ? texts.pickClass : texts.pick, { item, label }),
    "aria-setsize": length(), "aria-posinset": placeOf(item) + 1 });
  const picture = make("img", "", { alt: "", decoding: "async", width: 128, height: 128 });
  picture.src = thumb(source, item);
  option.append(picture);
  if (label && !members) {
    const caption = make("span", "rs-thumb-class", { "aria-hidden": "true" });
    caption.textContent = label;
    option.append(caption);
  }
  return option;
};

const mark = (option, item) => {
  option.tabIndex = item === current ? 0 : -1;
  option.setAttribute("aria-selected", String(item === picked));
  option.classList.toggle("rs-listed", listed.has(item));
};

const render = () => {
  const { columns, size, pitch, rows } = layout();
  sheet.style.height = `${rows * pitch - GAP}px`;
  const first = whole(list.scrollTop / pitch - AROUND, 0, rows) * columns;
  const last = Math.min(length(), first + columns * (Math.ceil(list.clientHeight / pitch) + 2 * AROUND));
  const wanted = new Set([current, ...Array.from({ length: Math.max(0, last - first) }, (_, n) => itemAt(first + n))]);
  for (const [item, option] of nodes) {
    if (wanted.has(item)) continue;
    option.remove();
    nodes.delete(item);
  }
  for (const item of wanted) {
    if (!nodes.has(item)) {
      nodes.set(item, build(item));
      sheet.append(nodes.get(item));
    }
    const option = nodes.get(item);
    const [row, column] = [Math.floor(placeOf(item) / columns), placeOf(item) % columns];
    Object.assign(option.style, { top: `${row * pitch}px`, left: `${column * pitch}px`, width: `${size}px`, height: `${size}px` });
    mark(option, item);
  }
};

const goTo = (item) => {
  const { columns, size, pitch } = layout();
  const top = Math.floor(placeOf(item) / columns) * pitch;
  current = item;
  if (top < list.scrollTop) list.scrollTop = top;
  else if (top + size > list.scrollTop + list.clientHeight) list.scrollTop = top + size - list.clientHeight + 2 * GAP;
  render();
  nodes.get(item).focus({ preventScroll: true });
};

const choose = (option) => {
  const item = Number(option.dataset.item);
  current = item;
  render();
  if (tap === "add") tell("add", item);
  else trigger("pick", { item });
};

list.addEventListener("click", (event) => {
  const option = event.target.closest("[data-item]");
  if (option) choose(option);
});

list.addEventListener("keydown", (event) => {
  const option = event.target.closest("[data-item]");
  if (!option || event.ctrlKey || event.metaKey) return;
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    return choose(option);
  }
  const { columns } = layout();
  const next = arrow(event.key, placeOf(Number(option.dataset.item)), columns, length());
  if (next === null) return;
  event.preventDefault();
  goTo(itemAt(next));
});

list.addEventListener("scroll", () => requestAnimationFrame(render), { passive: true });
new ResizeObserver(render).observe(list);

// ---- another database, or a class of it --------------------------------------------------------

const renew = () => {
  for (const option of nodes.values()) option.remove();
  nodes.clear();
  list.scrollTop = 0;
  current = itemAt(0) ?? 0;
  const text = members ? texts.moreClass : texts.more;
  element.querySelector(".rs-gallery-count").textContent = fill(text, { count: length().toLocaleString("en"), label: names[filter] });
  render();
};

let filter = -1; // number of the class
const sift = (label) => {
  filter = names.indexOf(label);
  members = null;
  if (filter < 0 || !classes) return;
  members = [];
  classes.forEach((one, item) => { if (one === filter) members.push(item); });
};

// Two bytes for each picture; small, and the same for everybody.
const fetchClasses = async (from) => {
  const answer = await fetch(`thumbs/${encodeURIComponent(from)}/classes.bin`).catch(() => null);
  if (!answer?.ok || from !== source) return;
  classes = new Int16Array(await answer.arrayBuffer());
};

let known = JSON.stringify([source, null]);
hear("memory", async (memory) => {
  const next = JSON.stringify([memory.source, memory.label, memory.classes.length]);
  if (next === known) return;
  known = next;
  if (memory.source !== source) classes = null;
  ({ source, count, classes: names } = memory);
  if (names.length && !classes) await fetchClasses(source);
  if (next !== known) return; // and yet another one was chosen
  sift(memory.label);
  tell("classes", classes ? labelOf : null);
  renew();
});

// The query may also come from elsewhere.
hear("neighbors", ({ query, all }) => {
  picked = Number.isInteger(query?.item) ? query.item : null;
  listed = new Set(all);
  for (const [item, option] of nodes) mark(option, item);
});

// a hint for the file dialog of phones; the server looks at what is in the file
document.querySelector("input[data-testid$='upload-button']")?.setAttribute("accept", "image/*");

carry(list, ".rs-thumb");
renew();
tell("listening");
