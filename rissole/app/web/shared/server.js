// Is the server there? A banner says when it is not.
import { E } from "./events.js";
import { hear, state, tell } from "./store.js";

const [OFTEN, SELDOM] = [2000, 15000]; // ms: often enough to notice, seldom enough to cost nothing

const look = async () => {
  if (document.hidden && !state().away) return;
  const answer = await fetch("here", { cache: "no-store" }).catch(() => null);
  const away = !answer?.ok;
  if (away !== state().away) tell(E.AWAY, away);
  document.documentElement.toggleAttribute("data-away", away);
  const banner = document.getElementById("rs-offline");
  if (banner) banner.hidden = !away;
};

const lookAgain = async () => {
  await look();
  setTimeout(lookAgain, state().away ? OFTEN : SELDOM);
};

export const watchServer = () => {
  setTimeout(lookAgain, SELDOM);
  for (const name of ["online", "offline", "pageshow"]) window.addEventListener(name, look);
  hear(E.FAILED, look);
};
