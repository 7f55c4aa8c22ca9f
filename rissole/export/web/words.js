// Words that name classes, as `rissole/retrieval/words.py` reads them.
const ARTICLES = ["a", "an", "the"];
// daisy and daisies, dress and dresses, sheath and sheaths
const ENDS = [["sses", "ss"], ["xes", "x"], ["ches", "ch"], ["shes", "sh"], ["s", ""]];

/** One form for singular and plural; it need not be a word. @param {string} word */
const singular = (word) => {
  if (word.endsWith("ies")) return `${word.slice(0, -3)}y`;
  if (word.endsWith("ss")) return word;
  const [end, kept] = ENDS.find(([one]) => word.endsWith(one)) ?? ["", ""];
  return word.slice(0, word.length - end.length) + kept;
};

/** @param {string} text */
const wordsOf = (text) => {
  const found = text.toLowerCase().replaceAll("_", " ").replaceAll("'s", "").match(/[\p{L}\p{N}]+/gu) ?? [];
  return new Set(found.filter((word) => !ARTICLES.includes(word)).map(singular));
};

/** @param {Set<string>} some @param {Set<string>} all */
const within = (some, all) => [...some].every((word) => all.has(word));

/**
 * The classes that words name, in singular or plural, whatever their case: "lily", where no class is
 * called just that, names "fire lily" and "tiger lily" alike.
 * @param {string} text @param {string[]} classes
 */
export const namedClasses = (text, classes) => {
  const asked = wordsOf(text), names = classes.map((name) => ({ name, words: wordsOf(name) }));
  const parts = asked.size ? names.filter(({ words }) => within(asked, words)) : [];
  const exact = names.filter(({ words }) => words.size === asked.size && within(asked, words));
  return (exact.length ? exact : parts).map(({ name }) => name);
};
