/* Passkeys (WebAuthn): asks the browser's authenticator and sends its answer as an ordinary form. Without this script,
   or in a browser that knows no passkeys, the forms stay hidden and people log in by password. */
const toBytes = (text) =>
  Uint8Array.from(atob(text.replace(/-/g, '+').replace(/_/g, '/')), (character) => character.charCodeAt(0));
const toText = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '');

/* Web Authentication Level 3, sections 5.1.8 and 5.1.9: what JSON writes as text are bytes. */
const asked = (options) => ({
  ...options,
  challenge: toBytes(options.challenge),
  ...(options.user && { user: { ...options.user, id: toBytes(options.user.id) } }),
  ...Object.fromEntries(
    ['allowCredentials', 'excludeCredentials']
      .filter((name) => options[name])
      .map((name) => [name, options[name].map((known) => ({ ...known, id: toBytes(known.id) }))]),
  ),
});

const answered = (credential) => {
  const response = {};
  for (const name of ['clientDataJSON', 'attestationObject', 'authenticatorData', 'signature', 'userHandle']) {
    if (credential.response[name]) response[name] = toText(credential.response[name]);
  }
  return JSON.stringify({
    id: credential.id,
    rawId: toText(credential.rawId),
    type: credential.type,
    response,
    clientExtensionResults: credential.getClientExtensionResults(),
  });
};

const ask = async (form) => {
  const reply = await fetch(form.dataset.passkey, { method: 'POST', body: new URLSearchParams(new FormData(form)) });
  if (!reply.ok) throw new Error(`status ${reply.status}`);
  const { options, csrf } = await reply.json();
  // The browser has another cookie now; every form of the page follows it.
  for (const field of document.querySelectorAll('input[name=csrf]')) field.value = csrf;
  const publicKey = asked(options);
  return options.user ? navigator.credentials.create({ publicKey }) : navigator.credentials.get({ publicKey });
};

for (const form of document.querySelectorAll('form[data-passkey]')) {
  if (!window.PublicKeyCredential) continue;
  const part = form.closest('[data-needs-passkey]') ?? form;
  part.hidden = false;
  const trouble = form.querySelector('[data-trouble]');
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    trouble.hidden = true;
    const button = form.querySelector('button');
    button.disabled = true;
    try {
      form.elements.credential.value = answered(await ask(form));
      form.submit();
    } catch (error) {
      const known = error.name === 'InvalidStateError';
      trouble.querySelector('[data-known]').hidden = !known;
      trouble.querySelector('[data-other]').hidden = known;
      trouble.hidden = false;
      button.disabled = false;
      button.focus();
    }
  });
}
