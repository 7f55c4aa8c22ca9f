// The gallery of the database: thumbnails by address, added page by page while scrolling.
const { fill, make, thumb, arrow, hear, tell, carry } = window.rissole;
const { texts, source, count } = props;
const PAGE = 96;
const list = element.querySelector(".rs-gallery");
const taps = [...element.querySelectorAll("[data-tap]")];
let picked = null;
let tap = "query"; // what a tap on a picture does: search from it, or add it to the neighbours

list.setAttribute("aria-label", texts.gallery);
element.querySelector(".rs-gallery-tap").setAttribute("aria-label", texts.taps.label);
element.querySelector(".rs-gallery-count").textContent = fill(texts.more, { count: count.toLocaleString("en") });

for (const button of taps) {
  button.textContent = texts.taps[button.dataset.tap];
  button.addEventListener("click", () => {
    tap = button.dataset.tap;
    for (const other of taps) other.setAttribute("aria-pressed", String(other === button));
  });
}

const addPage = () => {
  const first = list.children.length;
  for (let item = first; item < Math.min(count, first + PAGE); item += 1) {
    const option = make("div", "rs-thumb", {
      role: "option", "aria-selected": String(item === picked), "data-item": item, "data-id": item,
      tabindex: item === 0 ? "0" : "-1", "aria-label": fill(texts.pick, { item }),
    });
    const picture = make("img", "", { alt: "", loading: "lazy", width: 128, height: 128 });
    picture.src = thumb(source, item);
    option.append(picture);
    list.append(option);
  }
};

const columns = () => getComputedStyle(list).gridTemplateColumns.split(" ").length;

const focusOn = (option) => {
  list.querySelector("[tabindex='0']")?.setAttribute("tabindex", "-1");
  option.setAttribute("tabindex", "0");
  option.focus();
};

const choose = (option) => {
  const item = Number(option.dataset.item);
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
  const next = arrow(event.key, Number(option.dataset.item), columns(), list.children.length);
  if (next === null) return;
  event.preventDefault();
  if (next + columns() >= list.children.length) addPage();
  focusOn(list.children[next]);
});

list.addEventListener("scroll", () => {
  if (list.scrollTop + 2 * list.clientHeight > list.scrollHeight) addPage();
}, { passive: true });

// The query may also come from elsewhere: mark it where it is already listed.
hear("neighbors", ({ query, all }) => {
  if (picked !== null) list.children[picked]?.setAttribute("aria-selected", "false");
  picked = Number.isInteger(query?.item) ? query.item : null;
  if (picked !== null) list.children[picked]?.setAttribute("aria-selected", "true");
  for (const node of list.querySelectorAll(".rs-listed")) node.classList.remove("rs-listed");
  for (const item of all) list.children[item]?.classList.add("rs-listed");
});

// a hint for the file dialog of phones; the server looks at what is in the file
document.querySelector("input[data-testid$='upload-button']")?.setAttribute("accept", "image/*");

carry(list, ".rs-thumb");
addPage();
tell("listening");
