// Follows changes: with server-sent events if they work, otherwise with polling.

import { byId, setText } from "./words.js";

const POLL_INTERVAL_MS = 4000;
// After a refusal the script retries with increasing delays.
const FIRST_RETRY_DELAY_MS = 2000;
const LAST_RETRY_DELAY_MS = 15000;
const ANNOUNCEMENT_INTERVAL_MS = 3000;
// If reconnecting takes longer than this, the script polls in the meantime.
const RECONNECT_TIMEOUT_MS = 6000;
// A browser makes six connections to a host, and an event stream uses one: its pages share this many streams.
const STREAM_LIMIT = 4;
// A page that gets none of them within this time polls until one is free.
const STREAM_WAIT_MS = 1000;

const UNREACHABLE = "The server cannot be reached.";

const STATES = {
  live: "Live",
  connecting: "Connecting…",
  reconnecting: "Reconnecting…",
  polling: "Updated every few seconds",
};

/** Announces changes in words, at a rate at which a screen reader can speak. */
export function announcer(describe) {
  let waiting = null;
  let spoken = 0;
  return () => {
    // Related changes arrive together, so the announcement waits a moment for them.
    waiting ??= setTimeout(() => {
      waiting = null;
      spoken = Date.now();
      const text = describe();
      if (text) say(text);
    }, Math.max(400, spoken + ANNOUNCEMENT_INTERVAL_MS - Date.now()));
  };
}

/** Shows a text in the line that screen readers read out. */
export function say(text) {
  setText(byId("live-news"), text);
}

/**
 * Calls `use` once one of the streams that this browser's pages share is free, and keeps it until `signal`
 * is aborted. Web Locks exist on HTTPS and on this machine only; elsewhere each visible page has a stream.
 */
function takeStream(signal, use) {
  if (!navigator.locks) {
    use();
    return;
  }
  const waiting = new AbortController();
  signal.addEventListener("abort", () => waiting.abort());
  for (let stream = 0; stream < STREAM_LIMIT; stream += 1) {
    navigator.locks.request(`event stream ${stream}`, { signal: waiting.signal }, () => {
      // Another stream was free as well, or the page is hidden.
      if (waiting.signal.aborted) return undefined;
      waiting.abort();
      use();
      return new Promise((leave) => signal.addEventListener("abort", leave));
    }).catch(() => {});
  }
}

/**
 * Follows the events at `url`: `handlers` by kind, `reload` to read everything anew.
 * Returns an object with the flag `live` and the functions `read`, and `soon` for a page that is not live.
 */
export function follow(url, handlers, reload) {
  const line = byId("live");
  // Aborted when the page is hidden: its stream becomes free for a visible page.
  let looking = null;
  let source = null;
  let late = null;
  let asking = null;
  let missed = false;
  let pause = FIRST_RETRY_DELAY_MS;
  // The position of the page, then of the last event: a stream that begins there misses nothing.
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
    if (byId("live-news").textContent === UNREACHABLE) say("");
  }

  let reading = null;
  async function read() {
    // A change during a read requires another read after it.
    if (reading) {
      missed = true;
      return;
    }
    missed = false;
    reading = reload().then(isBack, () => say(UNREACHABLE)).finally(() => {
      reading = null;
      if (missed) read();
    });
    await reading;
  }

  function ask() {
    if (asking) return;
    show("polling");
    read();
    asking = setInterval(read, POLL_INTERVAL_MS);
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
    late = setTimeout(ask, RECONNECT_TIMEOUT_MS);
    source.onopen = () => {
      clearTimeout(late);
      late = null;
      pause = FIRST_RETRY_DELAY_MS;
      stopAsking();
      show("live");
      // The position of the page is unknown: changes since then may be missing.
      if (!position) read();
      else isBack();
    };
    source.onerror = () => {
      // The browser gives up for ever after any refusal, even a temporary one (503).
      if (source.readyState === EventSource.CLOSED) {
        clearTimeout(late);
        ask();
        late = setTimeout(() => {
          late = null;
          connect();
        }, pause * (0.7 + 0.6 * Math.random()));
        pause = Math.min(2 * pause, LAST_RETRY_DELAY_MS);
        return;
      }
      if (!asking) show("reconnecting");
      late ??= setTimeout(ask, RECONNECT_TIMEOUT_MS);
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
    late = setTimeout(ask, STREAM_WAIT_MS);
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
  // Browsers freeze hidden pages; a page that becomes visible again must show the current state.
  window.addEventListener("pageshow", (event) => {
    if (!event.persisted) return;
    look();
    read();
  });
  if (!document.hidden) look();
  return follower;
}

/** Collects changes and applies them once per frame: only the last state of each entity. */
export function batches(limit, work, overflow) {
  let waiting = new Map();
  let asked = false;
  return (key, value) => {
    // The last changed entity is applied last.
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
