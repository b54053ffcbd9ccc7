// An order's page: the server renders the order, this script shows the newest version.

import { busy, ended, send, sentence, showError, step } from "./actions.js";
import { announcer, follow } from "./live.js";
import { byId, showTimes } from "./words.js";

// Changes of other orders may also move a backorder, without an event of its own.
const POLL_INTERVAL_MS = 8000;

export function order() {
  const id = byId("order-heading").dataset.order;
  const error = byId("next-error");
  const shown = new Map();
  for (const region of document.querySelectorAll("[data-swap]")) {
    shown.set(region.id, region.cloneNode(true));
  }
  const status = () => byId("order-status").querySelector(".badge");

  /** Reads the page again and replaces the parts that differ. */
  async function reload() {
    // After the end of the session this redirects to the provider, which must not be followed here.
    const response = await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "manual" });
    if (response.type === "opaqueredirect") ended();
    if (!response.ok) throw new Error(response.status);
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const before = status().textContent;
    for (const [name, last] of shown) {
      const fresh = page.getElementById(name);
      if (!fresh || fresh.isEqualNode(last)) continue;
      shown.set(name, fresh.cloneNode(true));
      const region = byId(name);
      const focused = region.contains(document.activeElement);
      region.replaceChildren(...document.importNode(fresh, true).childNodes);
      showTimes(region);
      if (focused) (region.querySelector("button") ?? byId("main")).focus();
      if (name === "story") region.querySelector("li:last-child")?.classList.add("changed");
    }
    if (status().textContent !== before) announce();
  }
  const announce = announcer(() => `The order is ${status().textContent.toLowerCase()}.`);

  let asked = null;
  const soon = () => {
    asked ??= setTimeout(() => {
      asked = null;
      follower.read();
    }, 60);
  };
  const follower = follow(`/events?order=${id}`, { order: soon, message: soon }, reload);

  byId("next").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const { action, restock, topUp, amount } = button.dataset;
    busy(button, async () => {
      showError(error, "");
      let asking;
      if (action) asking = step(action, id);
      else if (restock) asking = send("POST", `/inventory/${encodeURIComponent(restock)}/restock`, { amount: Number(amount) });
      else asking = send("POST", `/accounts/${encodeURIComponent(topUp)}/top-up`, { amount: Number(amount) });
      const { problem } = await asking;
      if (problem) showError(error, sentence(problem));
      await follower.read();
      follower.soon();
    });
  });

  setInterval(() => {
    const waits = ["out-of-stock", "insufficient-fund"].includes(status().dataset.status);
    if (waits && !document.hidden && follower.live) follower.read();
  }, POLL_INTERVAL_MS);
}
