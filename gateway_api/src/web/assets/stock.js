// Products and accounts: their rows, their names, and the dialog for restocks and top-ups.

import { busy, send, sentence, showError } from "./actions.js";
import { byId, counted, grouped, setText, short } from "./words.js";

const BAR_LENGTH = 1000;
const NAME_LIMIT = 80;
// The maximum number of rows that events add to a list.
const ROW_LIMIT = 50;

/** A list of entities with names: its rows, and a function that fills one. */
function list(rows, template, attribute, fill) {
  const body = () => byId(rows);
  const known = new Map();
  return {
    fill,
    rowOf: (id) => body()?.querySelector(`[${attribute}="${CSS.escape(id)}"]`),
    rows: () => [...(body()?.rows ?? [])],
    add() {
      if (!body() || body().rows.length >= ROW_LIMIT) return null;
      const row = byId(template).content.firstElementChild.cloneNode(true);
      body().append(row);
      const none = byId(`no-${rows}`);
      if (none?.contains(document.activeElement)) byId("main").focus();
      none?.remove();
      return row;
    },
    know: (id, name) => known.set(id, name),
    name(id) {
      return known.get(id) ?? this.rowOf(id)?.querySelector(".name").textContent ?? id;
    },
  };
}

export const products = list("products", "product-row", "data-product", (row, product) => {
  Object.assign(row.dataset, { product: product.id, price: product.price, amount: product.amount });
  const sold = product.sold ?? 0;
  const held = Math.max(0, (product.reserved ?? 0) - sold);
  const waiting = product.waiting ?? product.line?.waiting ?? 0;
  const put = (name, text) => setText(row.querySelector(`.p-${name}`), text);
  setText(row.querySelector(".name"), short(product.name, NAME_LIMIT));
  put("id", product.id);
  put("price", grouped(product.price));
  put("amount", grouped(product.amount));
  put("held", grouped(held));
  put("sold", grouped(sold));
  put("waiting", counted(waiting, "order"));
  row.querySelector(".p-line").hidden = waiting === 0;
  const all = product.amount + held + sold;
  let before = 0;
  for (const [part, count] of [["on-hand", product.amount], ["held", held], ["sold", sold]]) {
    const rect = row.querySelector(`.bar .${part}`);
    const start = all ? Math.floor((before * BAR_LENGTH) / all) : 0;
    before += count;
    const end = all ? Math.floor((before * BAR_LENGTH) / all) : 0;
    rect.setAttribute("x", start);
    rect.setAttribute("width", end - start);
  }
  products.know(product.id, short(product.name, 60));
});

export const accounts = list("accounts", "account-row", "data-account", (row, account) => {
  Object.assign(row.dataset, { account: account.id, balance: account.balance });
  const name = row.querySelector(".name");
  setText(name, short(account.name, NAME_LIMIT));
  name.href = `/report?customer_id=${encodeURIComponent(account.id)}`;
  setText(row.querySelector(".a-id"), account.id);
  setText(row.querySelector(".a-email"), short(account.email, NAME_LIMIT));
  setText(row.querySelector(".a-balance"), grouped(account.balance));
  setText(row.querySelector(".a-paid"), grouped(account.paid ?? 0));
  accounts.know(account.id, short(account.name, 60));
});

/** Shows the current state of a product or account; returns its row if something changed. */
export function fillRow(kind, value) {
  const row = kind.rowOf(value.id) ?? kind.add();
  if (!row) return null;
  const before = row.textContent;
  kind.fill(row, value);
  kind.equip?.(row);
  return before === row.textContent ? null : row;
}

/** Asks in a dialog for the amount, and sends the restock or top-up. */
export function amountDialog(done) {
  const dialog = byId("amount-dialog");
  const [input, error, button] = [byId("amount"), byId("amount-error"), byId("amount-send")];
  let path = "";
  byId("amount-cancel").addEventListener("click", () => dialog.close());
  byId("amount-form").addEventListener("submit", (event) => {
    event.preventDefault();
    showError(error, input.validationMessage, input);
    if (!input.validity.valid) return;
    busy(button, async () => {
      const { problem } = await send("POST", path, { amount: Number(input.value) });
      if (problem) {
        showError(error, sentence(problem), problem.field ? input : undefined);
        return;
      }
      dialog.close();
      done();
    });
  });
  return (where, title, label, verb) => {
    path = where;
    setText(byId("amount-title"), title);
    setText(byId("amount-label"), label);
    setText(button, verb);
    showError(error, "", input);
    input.value = "";
    dialog.showModal();
    input.focus();
  };
}
