// The token of this tab. It is in no URL and no permanent storage: closing the tab forgets it.

const KEY = "token";

/** @returns {string} empty if there is none */
export function token() {
  return sessionStorage.getItem(KEY) ?? "";
}

/** @param {string} value */
export function rememberToken(value) {
  sessionStorage.setItem(KEY, value);
}

export function forgetToken() {
  sessionStorage.removeItem(KEY);
}
