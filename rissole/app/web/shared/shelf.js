// What is kept of pictures in the browser: history for the tab, favorites for good. A picture is
// kept as its link and a thumbnail: the same link paints the same pixels again.

/** @typedef {{link: string, name: string, thumb: string, mine?: boolean}} Kept */
/** @typedef {"history" | "favorites"} Name */

const CAP = { history: 24, favorites: 48 };
const PLACES = { history: () => sessionStorage, favorites: () => localStorage };
const KEYS = { history: "history", favorites: "favourites" }; // as browsers have kept them for long

/**
 * What a link paints, whatever was searched with.
 * @param {string} link
 */
const painted = (link) => {
  const values = new URLSearchParams(link);
  return [values.get("d"), ...values.getAll("p")].join("&p=");
};

/** @param {any} value */
const isPicture = (value) =>
  typeof value?.link === "string" && typeof value.name === "string" &&
  typeof value.thumb === "string" && value.thumb.startsWith("data:image/");

/** @param {string} store what was kept for another model could not be painted by this one */
export const shelfOf = (store) => {
  /** @type {(name: Name) => Kept[]} */
  const read = (name) => {
    try {
      const found = JSON.parse(PLACES[name]().getItem(`rissole-${KEYS[name]}-${store}`) ?? "");
      return Array.isArray(found) ? found.filter(isPicture).slice(0, CAP[name]) : [];
    } catch { return []; } // storage may be switched off: then nothing outlives the page
  };

  const kept = { history: read("history"), favorites: read("favorites") };

  /** @type {(name: Name, pictures: Kept[]) => void} */
  const write = (name, pictures) => {
    kept[name] = pictures.slice(0, CAP[name]);
    try {
      PLACES[name]().setItem(`rissole-${KEYS[name]}-${store}`, JSON.stringify(kept[name]));
    } catch { /* as above, or full */ }
  };

  /** @type {(name: Name, link: string | undefined) => Kept | undefined} */
  const find = (name, link) =>
    (link ? kept[name].find((picture) => painted(picture.link) === painted(link)) : undefined);

  return {
    pictures: (/** @type {Name} */ name) => kept[name],
    find,
    /** @type {(name: Name, picture: Kept) => void} */
    add: (name, picture) => write(name, find(name, picture.link) ? kept[name] : [picture, ...kept[name]]),
    /** @type {(name: Name, link: string) => void} */
    remove: (name, link) => write(name, kept[name].filter((picture) => picture !== find(name, link))),
  };
};
