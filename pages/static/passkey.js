/* Asks the browser for a passkey, or to make one, and sends its answer with the form. */
(() => {
  "use strict";
  const form = document.querySelector("[data-passkey]");
  const options = document.getElementById("passkey-options");
  if (!form || !options || !window.PublicKeyCredential) return;
  const button = form.querySelector("[data-passkey-ask]");
  const answer = form.querySelector("[data-passkey-answer]");
  const failed = form.querySelector("[data-passkey-failed]");
  const makes = form.dataset.passkey === "create";

  const bytes = (text) => {
    const plain = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
    return Uint8Array.from(plain, (letter) => letter.charCodeAt(0));
  };
  const text = (buffer) =>
    btoa(String.fromCharCode(...new Uint8Array(buffer)))
      .replace(/\+/g, "-")
      .replace(/\//g, "_")
      .replace(/=/g, "");
  const known = (list) => (list || []).map((each) => ({ ...each, id: bytes(each.id) }));

  const read = () => {
    const data = JSON.parse(options.textContent);
    const wanted = (data.creation_options || data.request_options).publicKey;
    wanted.challenge = bytes(wanted.challenge);
    if (makes) {
      wanted.user = { ...wanted.user, id: bytes(wanted.user.id) };
      wanted.excludeCredentials = known(wanted.excludeCredentials);
    } else {
      wanted.allowCredentials = known(wanted.allowCredentials);
    }
    return { publicKey: wanted };
  };

  const written = (credential) => {
    const { response } = credential;
    const parts = makes
      ? {
          attestationObject: text(response.attestationObject),
          transports: response.getTransports ? response.getTransports() : [],
        }
      : {
          authenticatorData: text(response.authenticatorData),
          signature: text(response.signature),
          userHandle: response.userHandle ? text(response.userHandle) : null,
        };
    return JSON.stringify({
      type: credential.type,
      id: credential.id,
      rawId: text(credential.rawId),
      response: { clientDataJSON: text(response.clientDataJSON), ...parts },
      clientExtensionResults: credential.getClientExtensionResults(),
    });
  };

  button.hidden = false;
  button.addEventListener("click", async () => {
    button.disabled = true;
    failed.hidden = true;
    try {
      const given = read();
      const credential = makes ? await navigator.credentials.create(given) : await navigator.credentials.get(given);
      answer.value = written(credential);
      form.submit();
    } catch {
      failed.hidden = false;
      button.disabled = false;
    }
  });
})();
