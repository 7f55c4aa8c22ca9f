// Shapes that the page's modules share. For the type checker only; browsers never load this.

/** (row, column) of a block. */
export type Place = number[];

export interface Query {
  item?: number;
  image?: string;
  text?: string;
  painted?: boolean;
}

/** A neighbor; see `rows_of` in choose.py. */
export interface Hit {
  id: number;
  score: number | null;
  on: boolean;
  pin: boolean;
  twin: number | null;
  label: string | null;
}

/** What the server reads when the next picture is painted; `blocks` holds ids by "row,col". */
export interface Neighbors {
  query: Query | null;
  hits: Hit[];
  blocks: Record<string, number[]>;
  source: string;
  mine?: boolean;
}

/** See `Remembering.show` in memory.py. */
export interface Memory {
  source: string;
  chosen: string;
  count: number;
  /** How many of them the visitor added. */
  added?: number;
  about: string;
  fingerprint: string;
  databases: { key: string; label: string; count: number }[];
  classes: string[];
  label: string | null;
  encoders: { name: string; label: string }[];
  encoder: string;
  own: { key: string; count: number; skipped: string[] } | null;
  skipped: number;
}

/** One message of the server to the canvas; see `frame` in frames.py. */
export interface Message {
  state: Phase | "dropped" | "waiting";
  /** Not a finished picture of this visit: painted in few calls, or stored with the bundle. */
  kind?: "sketch" | "stored";
  /** Number of the wish that it answers. */
  wish?: number;
  run: string;
  before: string | null;
  back: string | null;
  error: string | null;
  source: string;
  grid: number;
  repaint: Place[] | null;
  used: number[];
  own: Record<string, number[]>;
  ids: number[];
  position: Place | null;
  index: number;
  num_blocks: number;
  step: number;
  total_steps: number;
  calls: number;
  seconds: number;
  /** Text: it may be larger than numbers are whole here. */
  seed: string;
  spent: ([number, number, number] | null)[];
  done: string;
  active: string;
  cells: number;
  attention: string;
  frame: string;
  kept?: number;
  link?: string;
  mine?: boolean;
  /** How many are before this visitor; null where the line is full. */
  ahead?: number | null;
}

export interface Settings {
  order: string;
  steps: number;
  guidance: number;
  /** How much blocks with neighbors of their own follow them. */
  strength: number;
  /** Text, as in messages. */
  seed: string;
}

/** Everything that determines a picture. */
export interface Wish extends Settings {
  /** Of this page; a larger one is newer. */
  number: number;
  /** Whether few steps will do, as many as the engine finds right. */
  sketch: boolean;
  neighbors: number[];
  /** Neighbors of single blocks, by "row,col". */
  blocks: Record<string, number[]>;
  grid: number;
}

/** See engine.js. */
export interface Engine {
  presses: boolean;
  paint(wish: Wish): AsyncIterable<Message>;
  retrieve(query: { item?: number; run?: string; image?: File }): void;
  inspect(run: string | null): void;
}

export type Phase = "idle" | "starting" | "running" | "done" | "stopped" | "error";
export type View = "picture" | "won" | "seams" | "wipe";

export interface State {
  memory: Memory | null;
  classes: Int16Array | null;

  neighbors: Neighbors;
  /** The most neighbors there can be. */
  most: number;
  /** The neighbor in hand: the next block that is tapped gets it. */
  held: number | null;
  /** What to say about the last change of the neighbors: a name among the texts, and its values. */
  notice: { name: string; values: Record<string, unknown> };
  /** An upload that is on its way. */
  reading: "query" | "neighbor" | null;

  phase: Phase;
  /** The last message of the picture on show. */
  message: Message | null;
  /** The last message of a finished picture. */
  finished: Message | null;
  /** Whether the picture that was repainted is at hand. */
  earlier: boolean;
  /** Blocks per side that are set for the next picture, and its other settings. */
  grid: number;
  settings: Settings;
  /** Whether the picture follows what is changed. */
  follows: boolean;
  /** Number of the newest wish; 0 before the first. */
  wished: number;
  /** Whether the newest wish waits for its picture. */
  sketching: boolean;
  /** Whether the picture that was begun keeps the seed of the one before. */
  sameSeed: boolean;
  /** The block the visitor chose. */
  pinned: Place | null;
  /** Numbers of the blocks to repaint, where more than the one in focus are meant. */
  picked: Set<number>;
  /** Whether a tap adds a block to those. */
  several: boolean;
  view: View;
  /** The neighbor the visitor chose to see large; else the one listened to most. */
  large: number | null;
  /** What each neighbor did to block `at` of a run, in levels of 255; see influence.py. */
  influence: { run: string, at: string, levels: Record<string, number>, done: boolean } | null;
  /** The place in the film that is on show, null for the last. */
  scrubbed: number | null;
  playing: boolean;
  /** Stop was pressed: late frames are dropped, those of that run for ever. */
  muted: boolean;
  deadRun: string | null;
  /** Generate was pressed a while ago, and no step has come yet. */
  /** How many wait, this visitor the last of them; null before it is known. */
  line: Message | null;
  /** Stop was pressed, and the server has not yet said that it is at work. */
  stopping: boolean;
  /** The server does not answer. */
  away: boolean;
}

export interface Event {
  type: string;
  detail?: any;
}

/** What Gradio gives to the script of a component; see `component` in parts.py. */
export interface Component {
  element: HTMLElement;
  props: any;
  trigger(name: string, detail: unknown): void;
  watch(name: string, changed: () => void): void;
  upload(file: File): Promise<{ path: string }>;
}
