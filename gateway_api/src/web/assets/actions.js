// The actions of the buttons: requests that are safe to repeat, and errors next to their cause.

const ATTEMPT_LIMIT = 4;
const REQUEST_TIMEOUT_MS = 10000;

// A request keeps its key until there is a definite answer: a second click after a failure repeats the
// same request and never orders twice.
const keys = new Map();

function keyOf(intent) {
  if (!keys.has(intent)) {
    const random = crypto.getRandomValues(new Uint8Array(16));
    keys.set(intent, Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join(""));
  }
  return keys.get(intent);
}

const sleep = (millis) => new Promise((done) => setTimeout(done, millis));

/** Sends a request; returns `{ answer }` or `{ problem }`. */
export async function send(method, path, body) {
  const text = body === undefined ? undefined : JSON.stringify(body);
  const intent = `${method} ${path} ${text ?? ""}`;
  const headers = { Accept: "application/json", "Idempotency-Key": keyOf(intent) };
  if (text !== undefined) headers["Content-Type"] = "application/json";
  let failure = "";
  for (let attempt = 0; attempt < ATTEMPT_LIMIT; attempt += 1) {
    if (attempt > 0) await sleep(250 * 2 ** attempt);
    try {
      const signal = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
      const response = await fetch(path, { method, headers, body: text, signal });
      if (response.status === 401) ended();
      const answer = await response.json();
      if (response.status === 503 || response.status === 504) {
        failure = answer.detail ?? answer.title;
        continue;
      }
      keys.delete(intent);
      return response.ok ? { answer } : { problem: answer };
    } catch {
      failure = "The server cannot be reached";
    }
  }
  const detail = `${failure}. Press again to repeat the same request; it is never done twice.`;
  return { problem: { status: 0, detail } };
}

/** Whether the server offers this action to the visitor. */
export const offers = (what) => (document.body.dataset.offers ?? "").split(" ").includes(what);

/** Shows once that the session has ended, with a link to sign in again. */
export function ended() {
  const { signIn } = document.body.dataset;
  if (!signIn || document.getElementById("ended")) return;
  const place = document.createElement("p");
  place.id = "ended";
  place.className = "error";
  place.setAttribute("role", "alert");
  const link = document.createElement("a");
  link.href = `${signIn}?then=${encodeURIComponent(location.pathname + location.search)}`;
  link.textContent = "Sign in again";
  place.append("Your session has ended. ", link);
  document.getElementById("main").prepend(place);
}

/** Reads JSON. */
export async function read(path) {
  const signal = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
  const response = await fetch(path, { headers: { Accept: "application/json" }, signal });
  if (response.status === 401) ended();
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response.json();
}

/** Runs an action while the button is disabled. The button keeps the focus. */
export async function busy(button, work) {
  if (button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", "true");
  try {
    await work();
  } finally {
    button.removeAttribute("aria-disabled");
  }
}

/** Shows or removes an error; `control` is the element that caused it. */
export function showError(place, text, control) {
  place.hidden = !text;
  place.textContent = text ?? "";
  if (!control) return;
  if (text) {
    control.setAttribute("aria-invalid", "true");
    control.setAttribute("aria-describedby", place.id);
    control.focus();
  } else {
    control.removeAttribute("aria-invalid");
  }
}

/** A problem in a sentence. */
export function sentence(problem) {
  const text = problem.detail || problem.title || "The request failed";
  const stop = /[.!?]$/.test(text) ? "" : ".";
  return text.charAt(0).toUpperCase() + text.slice(1) + stop;
}

/** The button for a step of an order. */
export function stepButton(action, id) {
  const label = action.charAt(0).toUpperCase() + action.slice(1);
  const button = document.createElement("button");
  button.type = "button";
  button.className = action === "cancel" ? "quiet danger" : "quiet";
  button.dataset.action = action;
  button.textContent = label;
  button.setAttribute("aria-label", `${label} order ${id.slice(0, 8)}`);
  return button;
}

/** Requests a step of an order; the page says by which method and path. */
export function step(action, id) {
  const rows = document.body.dataset.orderActions.split(", ").map((row) => row.split(" "));
  const [, method, path] = rows.find(([name]) => name === action);
  return send(method, path.replace("{id}", encodeURIComponent(id)));
}
