// The names of all that happens on the page. `reduce` says what each does to the page's state;
// those that only ask for something (a repaint, a file) are heard by the component that does it.

export const E = Object.freeze({
  // the page begins, and what the server tells it
  SETUP: "setup", // {source, grid} or {most}
  MEMORY: "memory", // what is searched in, see `Remembering.show`
  CLASSES: "classes", // numbers of the class of every picture of that database, or null
  FOUND: "found", // a query with its neighbors, see `Choosing`
  MESSAGE: "message", // {value, earlier}: the canvas; and whether the picture before is at hand
  FAILED: "failed", // a painting ended without a word
  OVER: "over", // the library has done with a painting, whatever became of it
  UNREAD: "unread", // an uploaded picture was refused
  UNMOVED: "unmoved", // another database, class or encoder was refused
  UNOPENED: "unopened", // a file with a recipe was refused
  UNFILED: "unfiled", // a film or a sheet was not made
  UNCOMPARED: "uncompared", // a comparison was refused
  AWAY: "away", // whether the server does not answer

  // neighbors
  TOGGLE: "toggle", // id
  PIN: "pin", // id
  MOVE: "move", // {id, to}
  ADD: "add", // id
  REMOVE: "remove", // id
  ASSIGN: "assign", // {id, row, col}
  CLEAR: "clear", // "row,col" of one block, or null for all
  HOLD: "hold", // id
  RELEASE: "release",
  READING: "reading", // an upload is on its way: "query" or "neighbor"
  SEARCHING: "searching",

  PHOTO: "photo", // a file that was dropped or pasted, to search with
  PHOTOS: "photos", // several of them, to take neighbors from
  RECIPE: "recipe", // a file with a recipe, to open
  SEEK: "seek", // a visitor asks for another query: what is found is painted
  RESEEK: "reseek", // or for other neighbors of the same one: the picture on show follows

  // the picture
  SETTINGS: "settings", // {name: value} of order, steps, guidance, strength, seed
  CHANGE: "change", // a visitor has changed one of those
  LIVE: "live", // whether the picture follows what is changed
  WISH: "wish", // there is a newer one
  FRAME: "frame", // a message of the engine
  START: "start",
  WAITING: "waiting", // id of the button that is pressed as soon as it can do what it says
  STOP: "stop",
  REPAINTING: "repainting", // the place of the block in focus
  RETURNING: "returning",
  FOCUS: "focus", // the place of a block, or null to follow the painting
  CHOOSE: "choose", // the same, and no other block with it
  PICK: "pick", // number of a block, in or out of those to repaint
  AREA: "area", // {from, to}: all blocks between two places
  SEVERAL: "several",
  VIEW: "view", // a name of VIEWS
  LARGE: "large", // id of the neighbor to see large
  SCRUB: "scrub", // {place, last} in the film
  PLAY: "play", // whether the film runs
  INFLUENCE: "influence", // what each neighbor did to a block, or null
  GRID: "grid", // blocks per side of the next picture

  // asked for, and told
  PHASE: "phase", // the picture's phase has changed
  DRAWN: "drawn", // a message is on the canvas
  REPAINT: "repaint",
  MEASURE: "measure", // {run, row, col}: what each neighbor did to that block
  UNDO: "undo",
  ESCAPE: "escape",
  OPEN: "open", // {link}
  DROP: "drop", // {id, target, from}: something was carried there
});
