// The page: what the server streams goes into the model, and the view shows the model.

import { offerActions, showCommand } from "./actions.js";
import { Connection } from "./connection.js";
import { element, field, setText } from "./dom.js";
import { Model } from "./model.js";
import { forgetToken, rememberToken, token } from "./session.js";
import { search } from "./sources.js";
import { View } from "./view.js";

/** @import { ServerError } from "./rpc.js" */

const TICK_MS = 1_000;

const model = new Model();
const view = new View(model);

/**
 * Asks for a token until there is one.
 * @param {ServerError} error
 * @returns {Promise<void>}
 */
function askForToken(error) {
  const form = /** @type {HTMLFormElement} */ (element("credentials"));
  setText("credentials-note", token() ? `Refused: ${error.message}` : "This server answers callers with a token.");
  forgetToken();
  model.isLocked = true;
  view.update();
  form.hidden = false;
  element("token").focus();
  return new Promise((resolve) => {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      rememberToken(field("token").value.trim());
      field("token").value = "";
      form.hidden = true;
      model.isLocked = false;
      view.update();
      showCommand();
      resolve();
    }, { once: true });
  });
}

element("source-search").addEventListener("submit", (event) => {
  event.preventDefault();
  void search();
});
element("source-window").addEventListener("change", () => void search());
offerActions();
// Ages and charts move on without a message, too.
setInterval(() => view.update(), TICK_MS);

const connection = new Connection({ minutes: 1_440, topSources: 10 }, {
  onMessage(message) {
    model.receive(message, Date.now());
    view.update();
  },
  onFailure(error) {
    model.fail(error, Date.now());
    view.update();
  },
  onRefusal: askForToken,
});
void connection.run();
