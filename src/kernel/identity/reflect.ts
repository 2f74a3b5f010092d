/**
 * What tsyringe, inside @peculiar/x509, asks of `Reflect` when it is loaded (it names the polyfill reflect-metadata but does
 * not depend on it). No class of @peculiar/x509 takes constructor parameters, so there is no metadata to keep: an answer
 * "none" is the right one. Must be imported before @peculiar/x509.
 */
const none = { getMetadata: () => undefined, getOwnMetadata: () => undefined };
for (const [name, answer] of Object.entries(none)) {
  if (!(name in Reflect)) Object.defineProperty(Reflect, name, { value: answer, configurable: true, writable: true });
}
