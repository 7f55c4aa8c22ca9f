// The gallery of the database: thumbnails by address, added page by page while scrolling.
const { fill, make, thumb, arrow, hear, tell } = window.rissole;
const { texts, source, count } = props;
const PAGE = 96;
const list = element.querySelector(".rs-gallery");
let picked = null;

list.setAttribute("aria-label", texts.gallery);
element.querySelector(".rs-gallery-count").textContent = fill(texts.more, { count });

const addPage = () => {
  const first = list.children.length;
  for (let item = first; item < Math.min(count, first + PAGE); item += 1) {
    const option = make("button", "rs-thumb", {
      type: "button", role: "option", "aria-selected": String(item === picked), "data-item": item,
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

list.addEventListener("click", (event) => {
  const option = event.target.closest("[data-item]");
  if (option) trigger("pick", { item: Number(option.dataset.item) });
});

list.addEventListener("keydown", (event) => {
  const option = event.target.closest("[data-item]");
  const next = option && arrow(event.key, Number(option.dataset.item), columns(), list.children.length);
  if (next === null) return;
  event.preventDefault();
  if (next + columns() >= list.children.length) addPage();
  focusOn(list.children[next]);
});

list.addEventListener("scroll", () => {
  if (list.scrollTop + 2 * list.clientHeight > list.scrollHeight) addPage();
}, { passive: true });

// The query may also come from elsewhere: mark it, scroll to it if it is already listed.
hear("neighbors", ({ query }) => {
  if (picked !== null) list.children[picked]?.setAttribute("aria-selected", "false");
  picked = Number.isInteger(query?.item) ? query.item : null;
  if (picked !== null) list.children[picked]?.setAttribute("aria-selected", "true");
});

// a hint for the file dialog of phones; the server looks at what is in the file
document.querySelector("input[data-testid$='upload-button']")?.setAttribute("accept", "image/*");

addPage();
tell("listening");
