// The form to place an order, and the buttons for restocks and top-ups.

import { busy, offers, read, send, sentence, showError } from "./actions.js";
import { accounts, amountDialog, products } from "./stock.js";
import { byId, grouped, setText } from "./words.js";

const QUANTITY_LIMIT = 100;

/** Initializes the form; `placed` is called for each order. */
export function orderForm(placed) {
  const form = byId("order-form");
  const customer = byId("order-customer");
  const balances = new Map();
  const bring = amountDialog(() => document.dispatchEvent(new Event("changed-stock")));

  const inputs = () => [...form.querySelectorAll("input.quantity")];
  const quantity = (input) => Math.max(0, Math.min(QUANTITY_LIMIT, Math.floor(Number(input.value) || 0)));

  products.equip = (row) => {
    const cell = row.querySelector(".p-order");
    if (!cell.firstChild) cell.append(byId("stepper").content.cloneNode(true));
    const name = products.name(row.dataset.product);
    const name_ = (selector, text) => cell.querySelector(selector)?.setAttribute("aria-label", text);
    name_(".stepper", `Order ${name}`);
    name_(".fewer", `One fewer: ${name}`);
    name_(".more", `One more: ${name}`);
    name_(".quantity", `Quantity of ${name}`);
    name_(".restock", `Restock ${name}`);
  };
  accounts.equip = (row) => {
    const { account } = row.dataset;
    const cell = row.querySelector(".a-actions");
    if (!cell.firstChild && offers("top-up")) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "quiet top-up";
      button.textContent = "Top up";
      cell.append(button);
    }
    cell.firstChild?.setAttribute("aria-label", `Top up ${accounts.name(account)}`);
    for (const select of [customer, byId("filter-customer")]) {
      if ([...select.options].some((option) => option.value === account)) continue;
      select.add(new Option(accounts.name(account), account));
    }
  };
  for (const option of byId("filter-customer").options) {
    if (!option.value) continue;
    accounts.know(option.value, option.textContent);
    customer.add(new Option(option.textContent, option.value));
  }
  products.rows().forEach(products.equip);
  accounts.rows().forEach(accounts.equip);
  if (byId("orders-table").dataset.customer) customer.value = byId("orders-table").dataset.customer;

  async function balanceOf(id) {
    const row = accounts.rowOf(id);
    if (row) return Number(row.dataset.balance);
    if (!balances.has(id)) balances.set(id, (await read(`/accounts/${encodeURIComponent(id)}`)).balance);
    return balances.get(id);
  }

  let turn = 0;
  async function update() {
    turn += 1;
    const mine = turn;
    let total = 0;
    let short = "";
    for (const input of inputs()) {
      const { price, amount, product } = input.closest("tr").dataset;
      const count = quantity(input);
      input.setAttribute("value", count);
      total += count * Number(price);
      const lacking = count - Number(amount);
      if (lacking > 0) short ||= `${grouped(lacking)} more of ${products.name(product)} than available: the order will wait for stock.`;
    }
    setText(byId("order-total"), grouped(total));
    let cover = "";
    if (total && customer.value) {
      const balance = await balanceOf(customer.value).catch(() => null);
      if (mine !== turn) return;
      if (balance !== null) {
        const name = accounts.name(customer.value);
        const lacking = total - balance;
        if (lacking > 0) short ||= `${name} has ${grouped(balance)}: ${grouped(lacking)} short.`;
        cover = `${name} has ${grouped(balance)}: that covers it.`;
      }
    }
    const hint = byId("order-cover");
    hint.dataset.short = Boolean(short);
    setText(hint, short || cover || "Choose products and a quantity of each.");
  }

  form.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button?.matches(".fewer, .more")) {
      const input = button.parentElement.querySelector("input");
      const by = button.matches(".more") ? 1 : -1;
      input.value = Math.max(0, Math.min(QUANTITY_LIMIT, quantity(input) + by));
      update();
    } else if (button?.matches(".restock")) {
      const { product } = button.closest("tr").dataset;
      const path = `/inventory/${encodeURIComponent(product)}/restock`;
      bring(path, `Restock ${products.name(product)}`, "Quantity", "Restock");
    }
  });
  byId("accounts").addEventListener("click", (event) => {
    const button = event.target.closest(".top-up");
    if (!button) return;
    const { account } = button.closest("tr").dataset;
    const path = `/accounts/${encodeURIComponent(account)}/top-up`;
    bring(path, `Top up ${accounts.name(account)}`, "Amount", "Top up");
  });
  form.addEventListener("input", update);
  customer.addEventListener("change", update);

  const places = {
    products: [byId("order-products-error"), () => inputs()[0]],
    customer: [byId("order-customer-error"), () => customer],
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const button = byId("place-order");
    busy(button, async () => {
      const product_ids = inputs().flatMap((input) =>
        Array(quantity(input)).fill(input.closest("tr").dataset.product));
      const { answer, problem } = await send("POST", "/order", {
        product_ids,
        customer_id: customer.value,
      });
      for (const [place, control] of Object.values(places)) showError(place, "", control());
      showError(byId("order-error"), "");
      if (problem) {
        const field = problem.field ?? "";
        const at = field.startsWith("product_ids") ? "products" : field === "customer_id" && "customer";
        const [place, control] = places[at] ?? [byId("order-error"), () => undefined];
        const nothing = at === "products" && product_ids.length === 0;
        showError(place, nothing ? "Choose at least one product." : sentence(problem), control());
        return;
      }
      for (const input of inputs()) input.value = 0;
      update();
      placed(answer);
    });
  });
  update();
  return { update, placed };
}
