// What is searched in: a database, one class of it, or the visitor's own photos.
// The value comes whole from the server, see `Remembering.show`. Own photos are made small here, so
// that a whole folder of them is sent in seconds.
const { fill, make, fillMenu, tell, hear, live } = window.rissole;
const { texts, size, most } = props;
const part = (name) => element.querySelector(name);
const SENDERS = 4; // photos on their way at once
const LARGE = 300_000; // bytes; a smaller file is sent as it is

const current = () => props.value || { source: props.source, count: props.count, about: props.about, databases: [], classes: [] };
let busy = null; // what is under way: "sending", "looking" or "moving"
let sent = [0, 0]; // photos of how many
let given_up = false;
let failed = "";

// ---- menus -------------------------------------------------------------------------------------

const menus = {
  database: () => {
    const { databases, own, chosen } = current();
    const named = ({ key, label, count }) => [key, fill(texts.choice, { label, count: count.toLocaleString("en") })];
    const all = databases.map(named);
    if (own) all.push(named({ ...own, label: texts.own }));
    return [all, chosen];
  },
  label: () => {
    const { classes, label } = current();
    return [classes.length ? [["", texts.allClasses], ...classes.map((name) => [name, name])] : [], label || ""];
  },
};

const renderMenu = (name) => {
  const menu = part(`[data-of="${name}"]`);
  fillMenu(menu, ...menus[name]());
  menu.querySelector("select").disabled = Boolean(busy) || (name === "database" && live());
};

for (const name of Object.keys(menus)) {
  part(`[data-of="${name}"] span`).textContent = texts.menus[name];
  part(`[data-of="${name}"] select`).addEventListener("change", ({ target }) => {
    const { value } = target;
    begin("moving"); // what is drawn is what is there, until the other is there
    if (name === "database") trigger("move", { key: value });
    else trigger("sift", { label: value || null });
  });
}

// ---- drawing -----------------------------------------------------------------------------------

const mine = () => Boolean(current().own) && current().own.key === current().chosen;

const said = () => {
  const [done, all] = sent;
  if (busy === "sending") return fill(texts.sending, { done, all });
  if (busy) return texts[busy];
  return failed || (mine() ? texts.kept : "");
};

const renderSkipped = () => {
  const { own, skipped } = current();
  const box = part(".rs-skipped");
  box.hidden = Boolean(busy) || !mine() || !skipped;
  if (box.hidden) return;
  box.querySelector("summary").textContent = fill(skipped === 1 ? texts.skippedOne : texts.skipped, { count: skipped });
  box.querySelector("ul").replaceChildren(...own.skipped.map((line) => {
    const item = make("li", "");
    item.textContent = line;
    return item;
  }));
};

const render = () => {
  const { own, source, count, about, databases } = current();
  Object.keys(menus).forEach(renderMenu);
  part(".rs-about").textContent = about ? fill(texts.about, { count: count.toLocaleString("en"), label: about }) : "";
  part(".rs-about").hidden = !part("[data-of=database]").hidden;
  part(".rs-use").textContent = own ? texts.useOthers : texts.use;
  part(".rs-use").disabled = Boolean(busy) || live();
  part(".rs-return").hidden = !mine() || Boolean(busy);
  part(".rs-return").disabled = live();
  part(".rs-quit").hidden = busy !== "sending";
  part(".rs-bar").hidden = !["sending", "looking"].includes(busy);
  const percent = busy === "sending" ? Math.round((100 * sent[0]) / Math.max(1, sent[1])) : 100;
  part(".rs-bar").setAttribute("aria-valuenow", percent);
  part(".rs-bar span").style.transform = `scaleX(${percent / 100})`;
  part(".rs-memory").toggleAttribute("data-looking", busy === "looking");
  part(".rs-said").textContent = said();
  renderSkipped();
  part(".rs-memory").dataset.source = source;
  part(".rs-memory").dataset.databases = databases.length;
};

const begin = (what) => {
  failed = "";
  busy = what;
  render();
};

const end = (why = "") => {
  busy = null;
  failed = why;
  render();
};

// ---- own photos --------------------------------------------------------------------------------

// The server only needs squares of `size` / 2: twice that leaves it something to scale down.
const shrink = async (file) => {
  const image = await createImageBitmap(file).catch(() => null);
  if (!image) return file; // not for the browser; the server says what is wrong with it
  const scale = size / Math.min(image.width, image.height);
  if (scale >= 1 && file.size < LARGE) return file;
  const [width, height] = [image.width, image.height].map((side) => Math.max(1, Math.round(side * Math.min(1, scale))));
  const canvas = new OffscreenCanvas(width, height);
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, width, height);
  pen.imageSmoothingQuality = "high";
  pen.drawImage(image, 0, 0, width, height);
  image.close();
  return new File([await canvas.convertToBlob({ type: "image/jpeg", quality: 0.92 })], file.name);
};

const send = async (file) => {
  try {
    const { path } = await upload(await shrink(file));
    return { path };
  } catch {
    return { skipped: fill(texts.notSent, { name: file.name }) };
  }
};

const sendAll = async (files) => {
  const waiting = files.map((file, at) => [file, at]);
  const found = [];
  const work = async () => {
    while (waiting.length && !given_up) {
      const [file, at] = waiting.shift();
      found[at] = await send(file);
      sent[0] += 1;
      render();
    }
  };
  await Promise.all(Array.from({ length: SENDERS }, work));
  return found;
};

const use = async (files) => {
  const chosen = files.slice(0, most);
  const late = files.slice(most).map(({ name }) => fill(texts.tooMany, { name, most }));
  sent = [0, chosen.length];
  given_up = false;
  begin("sending");
  const found = await sendAll(chosen);
  if (given_up) return end();
  const paths = found.filter(({ path }) => path).map(({ path }) => path);
  const skipped = [...found.filter((one) => one.skipped).map((one) => one.skipped), ...late];
  begin("looking");
  trigger("photos", { files: paths, skipped });
};

const files = part(".rs-files");
files.setAttribute("aria-label", texts.use);
part(".rs-use").addEventListener("click", () => files.click());
files.addEventListener("change", () => {
  const chosen = [...files.files];
  files.value = ""; // the same ones can be chosen again
  if (chosen.length) use(chosen);
});
part(".rs-return").textContent = texts.back;
part(".rs-return").addEventListener("click", () => {
  begin("moving");
  trigger("move", { key: current().databases[0].key });
});
part(".rs-quit").textContent = texts.quit;
part(".rs-quit").addEventListener("click", () => { given_up = true; end(); });

// ---- what happens ------------------------------------------------------------------------------

watch("value", () => {
  if (busy !== "sending") end();
  else render();
  tell("memory", current());
});
hear("unmoved", () => { if (busy) end(); });
hear("phase", render);
render();
tell("listening");
hear("listening", () => { if (props.value) tell("memory", current()); });
