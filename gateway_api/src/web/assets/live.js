// Follows what happens: server-sent events where they work, asking again and again where not.

import { byId, setText } from "./words.js";

const ASK_EVERY = 4000;
// After a refusal it is tried again, later each time.
const REOPEN_FIRST = 2000;
const REOPEN_LAST = 15000;
const SPEAK_EVERY = 3000;
// A connection that takes longer than this to come back is done without for the while.
const PATIENCE = 6000;
// A browser makes six connections to a host, and an event stream holds one: its pages share this many streams.
const STREAMS = 4;
// A page that gets none of them within this time asks again and again, until one is free.
const STREAM_PATIENCE = 1000;

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
 * Calls `use` once one of the streams that this browser's pages share is free, and keeps it until `signal`
 * is aborted. Web Locks exist on HTTPS and on this machine only; elsewhere each page that is looked at has a stream.
 */
function takeStream(signal, use) {
  if (!navigator.locks) {
    use();
    return;
  }
  const waiting = new AbortController();
  signal.addEventListener("abort", () => waiting.abort());
  for (let stream = 0; stream < STREAMS; stream += 1) {
    navigator.locks.request(`event stream ${stream}`, { signal: waiting.signal }, () => {
      // Another one was free as well, or nobody looks at the page any more.
      if (waiting.signal.aborted) return undefined;
      waiting.abort();
      use();
      return new Promise((leave) => signal.addEventListener("abort", leave));
    }).catch(() => {});
  }
}

/**
 * Follows the events at `url`: `handlers` by kind, `reload` to read everything anew.
 * Gives an object that tells whether it is `live`, and that can `read` now, or `soon` where it is not.
 */
export function follow(url, handlers, reload) {
  const line = byId("live");
  // Aborted when the page is hidden: its stream is for one that is looked at.
  let looking = null;
  let source = null;
  let late = null;
  let asking = null;
  let missed = false;
  let pause = REOPEN_FIRST;
  // Where the page was made, then what was told last: a stream that begins there misses nothing.
  let position = document.body.dataset.position ?? "";
  const follower = {
    live: false,
    read,
    soon() {
      if (!follower.live) for (const pause of [150, 700, 2000]) setTimeout(read, pause);
    },
  };

  function show(state) {
    follower.live = state === "live";
    if (line) line.dataset.state = state === "connecting" ? "reconnecting" : state;
    setText(byId("live-state"), STATES[state]);
  }

  function isBack() {
    if (byId("live-news").textContent === AWAY) say("");
  }

  let reading = null;
  async function read() {
    // What comes while one reading is under way needs another one after it.
    if (reading) {
      missed = true;
      return;
    }
    missed = false;
    reading = reload().then(isBack, () => say(AWAY)).finally(() => {
      reading = null;
      if (missed) read();
    });
    await reading;
  }

  function ask() {
    if (asking) return;
    show("polling");
    read();
    asking = setInterval(read, ASK_EVERY);
  }

  function stopAsking() {
    clearInterval(asking);
    asking = null;
  }

  function connect() {
    const from = new URL(url, location.href);
    if (position) from.searchParams.set("last_event_id", position);
    source = new EventSource(from);
    clearTimeout(late);
    late = setTimeout(ask, PATIENCE);
    source.onopen = () => {
      clearTimeout(late);
      late = null;
      pause = REOPEN_FIRST;
      stopAsking();
      show("live");
      // Where the page was made is not known: something may have happened since.
      if (!position) read();
      else isBack();
    };
    source.onerror = () => {
      // The browser gives up for ever when it is refused, even if only for the moment (503).
      if (source.readyState === EventSource.CLOSED) {
        clearTimeout(late);
        ask();
        late = setTimeout(() => {
          late = null;
          connect();
        }, pause * (0.7 + 0.6 * Math.random()));
        pause = Math.min(2 * pause, REOPEN_LAST);
        return;
      }
      if (!asking) show("reconnecting");
      late ??= setTimeout(ask, PATIENCE);
    };
    const hear = (kind, handle) => source.addEventListener(kind, (event) => {
      position = event.lastEventId || position;
      handle(JSON.parse(event.data));
    });
    for (const [kind, handle] of Object.entries(handlers)) hear(kind, handle);
    hear("reset", read);
  }

  function look() {
    if (looking) return;
    looking = new AbortController();
    show("connecting");
    if (!("EventSource" in window)) {
      ask();
      return;
    }
    late = setTimeout(ask, STREAM_PATIENCE);
    takeStream(looking.signal, connect);
  }

  function lookAway() {
    looking?.abort();
    looking = null;
    clearTimeout(late);
    late = null;
    stopAsking();
    source?.close();
    source = null;
    if (follower.live) show("reconnecting");
  }

  document.addEventListener("visibilitychange", () => (document.hidden ? lookAway() : look()));
  window.addEventListener("pagehide", lookAway);
  // The browser freezes pages that nobody sees; whoever comes back wants to see how it is now.
  window.addEventListener("pageshow", (event) => {
    if (!event.persisted) return;
    look();
    read();
  });
  if (!document.hidden) look();
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
