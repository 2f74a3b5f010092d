/** Cookies of the door itself: sealed, so that a browser keeps what it can neither read nor change. */
import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import type { Visit } from "../visit.ts";
import { OWN_COOKIES } from "../headers.ts";

const NONCE_BYTES = 12;
const TAG_BYTES = 16;
/** A longer one is not kept by every browser (RFC 6265 6.1: 4096 with its name and attributes). */
export const COOKIE_LENGTH_MAX = 3_800;
/** RFC 6265bis 4.1.3.2 (__Host-): of this host alone, over TLS alone. HttpOnly: no script reads it. Lax: no other page posts with it. */
const ATTRIBUTES = "Path=/; Secure; HttpOnly; SameSite=Lax";

export class SealedCookie {
  readonly #name: string;
  readonly #key: Buffer;

  /** `key`: 32 bytes; what is sealed as one cookie is not read as another. */
  constructor(name: string, key: Buffer) {
    this.#name = `${OWN_COOKIES}${name}`;
    this.#key = key;
  }

  /** Finds the cookie's text; undefined where there is none, or more than one. */
  in(visit: Visit): string | undefined {
    const cookies = visit.header("cookie");
    if (cookies === undefined) return undefined;
    const found = cookies
      .split(";")
      .filter((each) => each.slice(0, Math.max(0, each.indexOf("="))).trim() === this.#name);
    return found.length === 1 ? found[0].slice(found[0].indexOf("=") + 1).trim() : undefined;
  }

  /** Seals a value (AES-256-GCM, a nonce of 96 random bits) for `Set-Cookie`. */
  write(value: object, maxAgeMs: number): string {
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv("aes-256-gcm", this.#key, nonce).setAAD(Buffer.from(this.#name));
    const sealed = Buffer.concat([nonce, cipher.update(JSON.stringify(value)), cipher.final(), cipher.getAuthTag()]);
    return `${this.#name}=${sealed.toString("base64url")}; Max-Age=${Math.ceil(maxAgeMs / 1000)}; ${ATTRIBUTES}`;
  }

  /** Takes the cookie away from the browser. */
  clear(): string {
    return `${this.#name}=; Max-Age=0; ${ATTRIBUTES}`;
  }

  /** Opens a cookie's text; undefined where this door did not write it. */
  open(text: string): unknown {
    const sealed = Buffer.from(text, "base64url");
    if (text.length > COOKIE_LENGTH_MAX || sealed.length < NONCE_BYTES + TAG_BYTES) return undefined;
    // RFC 4648 3.5: else many texts would be one session, and each would have to be ended.
    if (sealed.toString("base64url") !== text) return undefined;
    const decipher = createDecipheriv("aes-256-gcm", this.#key, sealed.subarray(0, NONCE_BYTES), {
      authTagLength: TAG_BYTES,
    })
      .setAAD(Buffer.from(this.#name))
      .setAuthTag(sealed.subarray(-TAG_BYTES));
    try {
      const opened = Buffer.concat([decipher.update(sealed.subarray(NONCE_BYTES, -TAG_BYTES)), decipher.final()]);
      return JSON.parse(opened.toString()) as unknown;
    } catch {
      // Changed, or of another key.
      return undefined;
    }
  }
}
