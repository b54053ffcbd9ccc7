// Starts the script of a page. The server renders the pages, which can be read without it.

import { showTimes } from "./words.js";
import { report } from "./report.js";
import { order } from "./order.js";
import { flow } from "./flow.js";

document.documentElement.classList.add("js");
const pages = { report, order, flow };
pages[document.body.dataset.page]?.();
showTimes(document);
