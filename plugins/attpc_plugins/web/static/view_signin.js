// Who one is: sign in by a token, sign out.

import { ask, API, wordsOf } from "./api.js";
import { card, h, setText } from "./dom.js";
import { signInAgain } from "./parts.js";
import { store } from "./store.js";

export function signinView(view) {
  const said = h("p", { class: "said", role: "alert" });
  const body = h("div", {});
  const fail = (error) => setText(said, wordsOf(error).lines.join("\n"));
  const begin = () => {
    if (store.session.elsewhere) {
      body.replaceChildren(h("p", {}, "Your session with the proxy in front of this page has ended."), signInAgain());
      return;
    }
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
    h("p", {}, "Without a name this page shows everything and changes nothing. An expert makes your token with ", h("code", {}, "attpc-ioc web token add NAME --role operator"), "."),
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
    const { name, role, by, sign_out, writable } = store.session;
    const leave = by !== "proxy" ? out : sign_out ? h("a", { href: sign_out }, "Sign out") : h("p", {}, "The proxy in front of this page signs people in and out.");
    body.replaceChildren(h("p", {}, "Signed in as ", h("strong", {}, name), role ? ` (${role})` : "", `; may write ${writable.size} PVs.`), leave);
  };
  let was = null;
  view.on(["session"], () => {
    const is = `${store.session.name} ${store.session.elsewhere}`;
    if (was === is) return;
    was = is;
    if (store.session.name) end();
    else begin();
  });
  return [card("Sign in", { cls: "narrow" }, body, said)];
}
