// Follows what happens: server-sent events where they work, asking again and again where not.

import { byId, setText } from "./words.js";

const ASK_EVERY = 4000;
const CONNECT_AGAIN = 15000;
const SPEAK_EVERY = 3000;
// A connection that takes longer than this to come back is done without for the while.
const PATIENCE = 6000;

const AWAY = "The server cannot be reached.";

const STATES = {
  live: "Live",
  connecting: "Connecting…",
  reconnecting: "Reconnecting…",
  polling: "Updated every few seconds",
};

/** Tells what changed, in words, not more often than one can listen. */
export function announcer(describe) {
  let waiting = null;
  let spoken = 0;
  return () => {
    // What belongs together comes together: a moment later there is more to tell.
    waiting ??= setTimeout(() => {
      waiting = null;
      spoken = Date.now();
      const text = describe();
      if (text) say(text);
    }, Math.max(400, spoken + SPEAK_EVERY - Date.now()));
  };
}

/** Says something in the line that screen readers read out. */
export function say(text) {
  setText(byId("live-news"), text);
}

/**
 * Follows the events at `url`: `handlers` by kind, `reload` to read everything anew.
 * Gives an object that tells whether it is `live`, and reloads `soon` where it is not.
 */
export function follow(url, handlers, reload) {
  const line = byId("live");
  let source = null;
  let late = null;
  let asking = null;
  let missed = false;
  const follower = {
    live: false,
    soon() {
      if (!follower.live) for (const pause of [150, 700, 2000]) setTimeout(read, pause);
    },
  };

  function show(state) {
    follower.live = state === "live";
    if (line) line.dataset.state = state === "connecting" ? "reconnecting" : state;
    setText(byId("live-state"), STATES[state]);
  }

  let reading = null;
  async function read() {
    // What comes while one reading is under way needs another one after it.
    if (reading) {
      missed = true;
      return;
    }
    missed = false;
    reading = reload().then(
      () => byId("live-news").textContent === AWAY && say(""),
      () => say(AWAY),
    ).finally(() => {
      reading = null;
      if (missed) read();
    });
    await reading;
  }

  function ask() {
    if (asking) return;
    show("polling");
    read();
    asking = setInterval(() => {
      if (!document.hidden) read();
    }, ASK_EVERY);
  }

  function stopAsking() {
    clearInterval(asking);
    asking = null;
  }

  function connect() {
    if (!("EventSource" in window)) return ask();
    source = new EventSource(url);
    late = setTimeout(ask, PATIENCE);
    source.onopen = () => {
      clearTimeout(late);
      late = null;
      stopAsking();
      show("live");
      // Between the making of the page and this moment something may have happened.
      read();
    };
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED) {
        clearTimeout(late);
        ask();
        setTimeout(connect, CONNECT_AGAIN);
        return;
      }
      if (!asking) show("reconnecting");
      late ??= setTimeout(ask, PATIENCE);
    };
    for (const [kind, handle] of Object.entries(handlers)) {
      source.addEventListener(kind, (event) => handle(JSON.parse(event.data)));
    }
    source.addEventListener("reset", read);
  }

  show("connecting");
  connect();
  // The browser freezes pages that nobody sees; whoever comes back wants to see how it is now.
  window.addEventListener("pageshow", (event) => event.persisted && read());
  return follower;
}

/** Gathers what comes and works on it once per frame: of each thing only the last state. */
export function batches(limit, work, overflow) {
  let waiting = new Map();
  let asked = false;
  return (key, value) => {
    // The last to change is worked on last.
    waiting.delete(key);
    waiting.set(key, value);
    if (waiting.size > limit) {
      waiting.delete(waiting.keys().next().value);
      overflow();
    }
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      const batch = waiting;
      waiting = new Map();
      work(batch);
    });
  };
}
