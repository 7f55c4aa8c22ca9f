// Pictures side by side: four ways, or two settings against each other. The server sends the cells
// that are finished; each carries the link that paints it again.
const { fill, make, hear, tell, bring, fetchFile } = window.rissole;
const { texts } = props;
const part = (name) => element.querySelector(name);
const form = part("form");

let message = null; // the last one of the run on show
let state = "idle"; // idle, waiting, running, done, stopped or error
let deadRun = null;

const live = () => ["waiting", "running"].includes(state);

// ---- drawing ---------------------------------------------------------------------------------

const note = ({ seam, seconds, calls }) => fill(seam === null ? texts.noteWhole : texts.note, {
  seam: seam === null ? "" : Number(seam).toFixed(2), seconds: Number(seconds).toFixed(1), calls,
});

const picture = (index, label) => {
  const cell = message.cells[index];
  const node = make("figure", "rs-shot");
  if (!cell) {
    node.append(make("div", "rs-blank"));
    return node;
  }
  const words = note(cell);
  const button = make("button", "", {
    type: "button", "data-link": cell.link, "aria-label": fill(texts.open, { label, note: words }),
  });
  const image = make("img", "", { alt: "", width: 128, height: 128 });
  image.src = cell.src;
  button.append(image);
  const caption = make("figcaption", "rs-hint");
  caption.textContent = words;
  node.append(button, caption);
  return node;
};

const named = (tag, text, attributes = {}) => {
  const node = make(tag, "", attributes);
  node.textContent = text;
  return node;
};

const drawWays = () => {
  const list = make("div", "rs-four");
  list.append(...message.columns.map((label, index) => {
    const way = make("div");
    way.append(named("h3", label), picture(index, label));
    return way;
  }));
  return list;
};

const drawCross = () => {
  const table = make("table");
  const head = make("tr");
  head.append(make("td"), ...message.columns.map((label) => named("th", label, { scope: "col" })));
  table.append(head, ...message.rows.map((label, row) => {
    const line = make("tr");
    line.append(named("th", label, { scope: "row" }), ...message.columns.map((column, at) => {
      const cell = make("td");
      cell.append(picture(row * message.columns.length + at, `${label}, ${column}`));
      return cell;
    }));
    return line;
  }));
  return table;
};

let drawn = ""; // which cells are on the page
const draw = () => {
  const now = message?.columns ? `${message.run} ${message.cells.length}` : "";
  if (now === drawn) return;
  drawn = now;
  const focused = document.activeElement?.dataset?.link;
  part(".rs-table").replaceChildren(...(message?.columns ? [message.kind === "ways" ? drawWays() : drawCross()] : []));
  if (focused) part(`[data-link="${focused}"]`)?.focus();
};

const words = () => {
  if (state === "waiting") return texts.waiting;
  if (state === "error") return message?.error || texts.failed;
  if (!message) return "";
  const { at, count, done, cells } = message;
  if (state === "running") {
    return fill(texts.running, { at: Math.min(at + 1, count), count, percent: Math.round(100 * done) });
  }
  return fill(state === "done" ? texts.done : texts.stopped, { count, made: cells.length });
};

const render = () => {
  const made = message?.cells?.length || 0;
  const share = !message?.count ? 0 : state === "done" ? 1 : (message.at + message.done) / message.count;
  part(".rs-results").hidden = state === "idle";
  part(".rs-bar").hidden = !live();
  part(".rs-bar span").style.width = `${100 * share}%`;
  part(".rs-bar").setAttribute("aria-valuenow", Math.round(100 * share));
  part(".rs-said").textContent = words();
  part(".rs-halt").hidden = !live();
  part(".rs-save").hidden = live() || !made;
  for (const button of [part(".rs-ways"), part(".rs-cross")]) button.disabled = live();
  draw();
};

// ---- what happens ----------------------------------------------------------------------------

const start = (name, detail) => {
  if (live()) return;
  state = "waiting";
  message = null;
  render();
  trigger(name, detail);
};

const axis = (name) => ({ setting: form[name].value, values: form[`${name}Values`].value });

watch("value", () => {
  const value = props.value;
  if (!value || !live() || (value.run && value.run === deadRun)) return;
  state = value.state;
  message = state === "error" ? { ...(message || { cells: [] }), error: value.error } : value;
  render();
});

part(".rs-ways").addEventListener("click", () => start("ways", {}));
form.addEventListener("submit", (event) => {
  event.preventDefault();
  start("cross", { x: axis("x"), y: axis("y") });
});
part(".rs-halt").addEventListener("click", () => {
  deadRun = message?.run || null;
  state = "stopped";
  message ||= { cells: [], count: 0 };
  trigger("halt", {});
  render();
  part(".rs-ways").focus();
});
part(".rs-save").addEventListener("click", () => fetchFile(message.file));
part(".rs-table").addEventListener("click", (event) => {
  const button = event.target.closest("[data-link]");
  if (!button) return;
  tell("open", { link: button.dataset.link });
  bring(document.querySelector(".rs-picture"));
});
hear("uncompared", () => {
  if (!live()) return;
  state = "error";
  render();
});

// ---- words -----------------------------------------------------------------------------------

part("h2").textContent = texts.title;
part(".rs-intro").textContent = texts.intro;
part(".rs-ways").textContent = texts.fourWays;
part("legend").textContent = texts.axes;
part(".rs-cross").textContent = texts.paint;
part(".rs-values").textContent = texts.values;
part(".rs-halt").textContent = texts.stop;
part(".rs-save").textContent = texts.save;
part(".rs-table").setAttribute("aria-label", texts.results);
part(".rs-bar").setAttribute("aria-label", texts.progress);
for (const [name, first] of [["x", "k"], ["y", "guidance"]]) {
  const select = form[name];
  part(`label[for="rs-${name}"]`).textContent = texts[name];
  select.append(...Object.entries(texts.settings).map(([value, label]) => named("option", label, { value })));
  select.value = first;
  const values = form[`${name}Values`];
  values.setAttribute("aria-label", fill(texts.valuesOf, { axis: texts[name] }));
  values.value = texts.examples[first];
  select.addEventListener("change", () => { values.value = texts.examples[select.value]; });
}
render();
