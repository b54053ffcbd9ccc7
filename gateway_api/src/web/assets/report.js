// The report: rows follow the events; forms and buttons send requests.

import { busy, offers, read, send, sentence, showError, step, stepButton } from "./actions.js";
import { announcer, batches, follow, say } from "./live.js";
import { orderForm } from "./order_form.js";
import { accounts, fillRow, products } from "./stock.js";
import { ago, byId, counted, grouped, local, setText, short } from "./words.js";

// The number of orders that stay on the page while new ones arrive.
const ROW_LIMIT = 200;
const PAGE_SIZE = 50;
// The maximum number of changes that wait for the next frame.
const CHANGE_LIMIT = 400;
// More changes than this at once are not highlighted.
const HIGHLIGHT_LIMIT = 20;
const COUNT_INTERVAL_MS = 1500;
const NAME_LIMIT = 4;

export function report() {
  const table = byId("orders-table");
  const body = byId("orders");
  const { status: wantedStatus, customer: wantedCustomer } = table.dataset;
  const takesNew = table.dataset.live === "true";
  const chips = new Map();
  for (const chip of byId("counts").querySelectorAll("[data-filter]")) {
    chips.set(chip.dataset.filter, chip.dataset);
  }
  let cap = Math.max(ROW_LIMIT, body.rows.length);

  // Events contain the time of creation; orders from the API contain their whole history.
  const createdAt = (order) => order.created_at ?? order.history?.[0]?.at ?? 0;
  const rowOf = (id) => body.querySelector(`[data-order="${CSS.escape(id)}"]`);
  const fits = (order) =>
    (!wantedStatus || order.status === wantedStatus) &&
    (!wantedCustomer || order.customer_id === wantedCustomer);

  function productList(order) {
    const counts = new Map();
    for (const id of [...order.product_ids].sort()) counts.set(id, (counts.get(id) ?? 0) + 1);
    const named = [...counts].slice(0, NAME_LIMIT).map(([id, count]) => `${count}\u00a0×\u00a0${products.name(id)}`);
    if (counts.size > NAME_LIMIT) named.push(`${counts.size - NAME_LIMIT} more`);
    return named.join(", ");
  }

  function showActions(row, id, status) {
    const cell = row.querySelector(".o-actions");
    if (cell.dataset.for === status) return;
    cell.dataset.for = status;
    const actions = (chips.get(status)?.actions ?? "").split(" ").filter(Boolean);
    const focused = cell.contains(document.activeElement);
    cell.replaceChildren(...actions.map((action) => stepButton(action, id)));
    if (focused) (cell.querySelector("button") ?? row.querySelector(".o-id a")).focus();
  }

  function fill(row, order) {
    const at = createdAt(order);
    const badge = row.querySelector(".badge");
    badge.dataset.status = order.status;
    setText(badge, chips.get(order.status)?.label ?? order.status);
    setText(row.querySelector(".o-total"), order.order_total === undefined ? "–" : grouped(order.order_total));
    showActions(row, order.id, order.status);
    if (row.dataset.order === order.id) return;
    row.dataset.order = order.id;
    row.dataset.at = at;
    const link = row.querySelector(".o-id a");
    link.href = `/order/${order.id}`;
    setText(link, order.id.slice(0, 8));
    const customer = row.querySelector(".o-customer a");
    customer.href = `/report?customer_id=${encodeURIComponent(order.customer_id)}`;
    setText(customer, short(accounts.name(order.customer_id), 60));
    setText(row.querySelector(".o-products"), productList(order));
    const time = row.querySelector("time");
    time.dateTime = new Date(at).toISOString();
    time.title = local(at);
    setText(time, ago(Date.now() - at));
  }

  /** Inserts a new row in the order of time; `false` if its position is beyond the end of the page. */
  function insert(row, at) {
    for (const other of body.rows) {
      if (Number(other.dataset.at) <= at) {
        other.before(row);
        return true;
      }
    }
    if (byId("older-orders")) return false;
    body.append(row);
    return true;
  }

  function newRow(order) {
    const row = byId("order-row").content.firstElementChild.cloneNode(true);
    fill(row, order);
    return row;
  }

  /** Shows the current state of an order; returns its row if something changed. */
  function show(order) {
    let row = rowOf(order.id);
    if (!fits(order)) {
      row?.remove();
      return null;
    }
    if (row) {
      const before = row.querySelector(".badge").dataset.status;
      fill(row, order);
      return before === order.status ? null : row;
    }
    if (!takesNew) return null;
    row = newRow(order);
    return insert(row, Number(row.dataset.at)) ? row : null;
  }

  function trim() {
    if (body.rows.length <= cap) return;
    while (body.rows.length > cap) body.rows[body.rows.length - 1].remove();
    // The next page would no longer begin at the end of this one.
    const link = byId("older-orders");
    if (link && !link.dataset.stale) {
      link.dataset.stale = "true";
      link.href = location.href;
      link.textContent = "Reload the page for older orders";
    }
  }

  function settle() {
    trim();
    byId("no-orders").hidden = body.rows.length > 0;
  }

  function point(rows) {
    if (rows.length > HIGHLIGHT_LIMIT) return;
    for (const row of rows) row.classList.remove("changed");
    requestAnimationFrame(() => rows.forEach((row) => row.classList.add("changed")));
  }

  // The changes since the last announcement.
  const changed = { orders: new Map(), products: new Set(), accounts: new Set() };
  const announce = announcer(() => {
    const { orders, products: stock, accounts: purses } = changed;
    const parts = [];
    if (orders.size === 1) {
      const [[id, status]] = orders;
      parts.push(`Order ${id.slice(0, 8)}: ${label(status)}`);
    } else if (orders.size > 1) {
      const byStatus = new Map();
      for (const status of orders.values()) byStatus.set(status, (byStatus.get(status) ?? 0) + 1);
      const kinds = [...byStatus].map(([status, count]) => `${grouped(count)} ${label(status)}`);
      parts.push(`${counted(orders.size, "order")} changed: ${kinds.join(", ")}`);
    } else {
      if (stock.size) parts.push(`Stock of ${counted(stock.size, "product")} changed`);
      if (purses.size) parts.push(`${counted(purses.size, "account")} changed`);
    }
    for (const set of Object.values(changed)) set.clear();
    return parts.length ? `${parts.join(". ")}.` : "";
  });
  const label = (status) => (chips.get(status)?.label ?? status).toLowerCase();

  let missed = false;
  const overflow = () => {
    missed = true;
  };
  const queue = batches(CHANGE_LIMIT, (batch) => {
    const rows = [];
    for (const [, { kind, value }] of batch) {
      if (kind === "order") rows.push(show(value));
      else if (kind === "product") rows.push(fillRow(products, value));
      else rows.push(fillRow(accounts, value));
    }
    point(rows.filter(Boolean));
    settle();
    form.update();
    if (missed && !follower.live) missed = false;
  }, overflow);

  const take = (kind, set) => (value) => {
    queue(`${kind} ${value.id}`, { kind, value });
    if (set instanceof Map) set.set(value.id, value.status);
    else set.add(value.id);
    announce();
    if (kind === "order") count();
  };

  let counting = null;
  function count() {
    if (wantedCustomer) return;
    counting ??= setTimeout(async () => {
      counting = null;
      try {
        showCounts(await read("/orders/counts"));
      } catch {
        // The next change triggers another request.
      }
    }, COUNT_INTERVAL_MS * (0.7 + 0.6 * Math.random()));
  }

  function showCounts({ counts, total }) {
    for (const place of document.querySelectorAll("[data-count]")) {
      const name = place.dataset.count;
      setText(place, grouped(name ? (counts[name] ?? 0) : total));
    }
  }

  function ordersPath(cursor) {
    const query = new URLSearchParams({ limit: PAGE_SIZE });
    if (wantedCustomer) query.set("customer_id", wantedCustomer);
    if (wantedStatus) query.set("status", wantedStatus);
    if (cursor) query.set("cursor", cursor);
    return `/orders?${query}`;
  }

  const part = new URLSearchParams(location.search);
  const listPath = (path, name) => {
    const query = new URLSearchParams({ limit: 25 });
    if (part.get(name)) query.set("cursor", part.get(name));
    return `${path}?${query}`;
  };

  /** Reads all data again. */
  async function reload() {
    const [orders, stock, purses, numbers] = await Promise.all([
      read(ordersPath(part.get("cursor"))),
      read(listPath("/inventory", "products")),
      read(listPath("/accounts", "accounts")),
      offers("counts") && !wantedCustomer ? read("/orders/counts") : null,
    ]);
    for (const product of stock.products) fillRow(products, product);
    for (const account of purses.accounts) fillRow(accounts, account);
    if (!wantedCustomer) showCounts(numbers);
    const fresh = new Set(orders.orders.map((order) => order.id));
    const last = Math.min(...orders.orders.map(createdAt));
    for (const row of [...body.rows]) {
      const gone = !fresh.has(row.dataset.order) && (!orders.next || Number(row.dataset.at) > last);
      if (gone) row.remove();
    }
    const rows = orders.orders.reverse().map(show);
    point(rows.filter(Boolean));
    settle();
    form.update();
  }

  const form = orderForm((order) => {
    say(`Order ${order.id.slice(0, 8)} is accepted.`);
    if (!follower.live) show(order);
    settle();
    follower.soon();
  });
  for (const row of body.rows) {
    const status = row.querySelector(".badge").dataset.status;
    showActions(row, row.dataset.order, status);
  }
  const follower = follow("/events", {
    order: take("order", changed.orders),
    product: take("product", changed.products),
    account: take("account", changed.accounts),
  }, reload);

  body.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-action]");
    if (!button) return;
    const row = button.closest("tr");
    const id = row.dataset.order;
    busy(button, async () => {
      const { answer, problem } = await step(button.dataset.action, id);
      const cell = row.querySelector(".o-actions");
      cell.querySelector(".error")?.remove();
      if (problem) {
        const place = document.createElement("p");
        place.className = "error";
        place.setAttribute("role", "alert");
        cell.append(place);
        place.textContent = sentence(problem);
      } else if (!follower.live) {
        show(answer);
        follower.soon();
      }
    });
  });

  document.addEventListener("changed-stock", () => follower.soon());

  const demoError = byId("demo-error");
  for (const button of document.querySelectorAll("[data-init]")) {
    button.addEventListener("click", () => busy(button, async () => {
      const { problem } = await send("POST", "/init-data");
      // The button disappears with the text of the empty list.
      const error = byId(button.dataset.init);
      if (error) showError(error, problem && sentence(problem));
      if (!problem) say("The demo data is reset.");
      follower.soon();
    }));
  }
  for (const button of document.querySelectorAll("[data-guide]")) {
    button.addEventListener("click", () => busy(button, async () => {
      const product_ids = button.dataset.guide.split(" ");
      const { answer, problem } = await send("POST", "/order", { product_ids, customer_id: "101" });
      showError(demoError, problem && sentence(problem));
      if (answer) form.placed(answer);
    }));
  }

  older();
  function older() {
    const line = byId("older-line");
    let alone = 3;
    const load = async () => {
      const link = byId("older-orders");
      if (!link || link.dataset.stale || link.getAttribute("aria-disabled")) return;
      await busy(link, async () => {
        try {
          const page = await read(ordersPath(new URL(link.href).searchParams.get("cursor")));
          for (const order of page.orders) if (!rowOf(order.id)) body.append(newRow(order));
          cap += page.orders.length;
          if (page.next) {
            const url = new URL(link.href);
            url.searchParams.set("cursor", page.next);
            link.href = url;
          } else {
            link.remove();
          }
        } catch {
          say("Older orders cannot be read at the moment.");
        }
      });
    };
    line.addEventListener("click", (event) => {
      const link = event.target.closest("#older-orders");
      if (!link || link.dataset.stale || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      load();
    });
    // Scrolling loads some more rows automatically, but few enough that the end of the page is reachable.
    new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting) || alone === 0 || scrollY === 0) return;
      alone -= 1;
      load();
    }, { rootMargin: "200px" }).observe(line);
  }

  setInterval(() => {
    if (document.hidden) return;
    for (const row of body.rows) {
      setText(row.querySelector("time"), ago(Date.now() - Number(row.dataset.at)));
    }
  }, 5000);
}
