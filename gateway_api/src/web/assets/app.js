// Brings a page to life. The pages are made by the server and can be read without this.

import { showTimes } from "./words.js";
import { report } from "./report.js";
import { order } from "./order.js";
import { flow } from "./flow.js";

document.documentElement.classList.add("js");
const pages = { report, order, flow };
pages[document.body.dataset.page]?.();
showTimes(document);
