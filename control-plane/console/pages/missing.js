// An address that leads nowhere.

import { href } from "../app/router.js";
import { h } from "../parts/dom.js";

/** @returns {import("../app/router.js").Page} */
export function missingPage() {
  const element = h(
    "section",
    null,
    h("h1", null, "Nothing here"),
    h("p", null, "This address leads nowhere, or to what your token may not see. "),
    h("p", null, h("a", { href: href() }, "Go to the start")),
  );
  return { title: "Nothing here", element };
}
