// Who one is: sign in by a token, sign out.

import { ask, API, wordsOf } from "./api.js";
import { card, h, setText } from "./dom.js";
import { store } from "./store.js";

export function signinView(view) {
  const said = h("p", { class: "said", role: "alert" });
  const body = h("div", {});
  const fail = (error) => setText(said, error.status === 404 ? "This IOC's page is read only: nobody can sign in." : wordsOf(error).lines.join("\n"));
  const begin = () => {
    const field = h("input", { type: "password", id: "token", name: "token", autocomplete: "current-password", required: true });
    const form = h("form", { class: "signin", onsubmit: async (event) => {
      event.preventDefault();
      setText(said, "");
      try {
        await ask("POST", `${API}/session`, { body: { token: field.value.trim() } });
        location.hash = "#/run";
        location.reload();
      } catch (error) {
        fail(error);
        field.select();
      }
    } },
    h("p", {}, "Without a name this page shows everything and changes nothing. An expert makes your token with ", h("code", {}, "attpc-ioc web token add NAME"), "."),
    h("label", { for: "token" }, "Token"), field, h("div", { class: "row" }, h("button", { class: "go" }, "Sign in")));
    body.replaceChildren(form);
  };
  const end = () => {
    const out = h("button", { type: "button", onclick: async () => {
      try {
        await ask("DELETE", `${API}/session`);
        location.hash = "#/run";
        location.reload();
      } catch (error) {
        fail(error);
      }
    } }, "Sign out");
    body.replaceChildren(h("p", {}, "Signed in as ", h("strong", {}, store.session.name), store.session.role ? ` (${store.session.role})` : "", `; may write ${store.session.writable.size} PVs.`), out);
  };
  let was = null;
  view.on(["session"], () => {
    if (was === store.session.name) return;
    was = store.session.name;
    if (was) end();
    else begin();
  });
  return [card("Sign in", { cls: "narrow" }, body, said)];
}
