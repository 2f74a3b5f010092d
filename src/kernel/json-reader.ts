/**
 * The careful half of json.ts: a strict RFC 8259 reader in plain steps, which knows at every character what it expects.
 * It words the error where the engine's own parser refused, and reads the rare text that the fast way cannot be sure of.
 */
import { fail, INPUT_MALFORMED, INPUT_TOO_DEEP } from "./error.ts";
import type { Failure } from "./error.ts";

const ESCAPES: { readonly [letter: string]: string } = {
  '"': '"',
  "\\": "\\",
  "/": "/",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
};

// RFC 8259 6: no leading zero, no plus, digits on both sides of the point.
const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;

/** Tells where `at` is in `text` as people count: lines and columns from 1, a column per UTF-16 unit. */
export function placeOf(text: string, at: number): string {
  let line = 1;
  let start = 0;
  for (let next = text.indexOf("\n"); next >= 0 && next < at; next = text.indexOf("\n", start)) {
    line++;
    start = next + 1;
  }
  return `line ${line} column ${at - start + 1}`;
}

/** Makes the INPUT_MALFORMED failure for the character `at`. */
export const malformedAt = (text: string, at: number, what: string): Failure =>
  fail(INPUT_MALFORMED, `malformed JSON at ${placeOf(text, at)}: ${what}`);

/** Makes the INPUT_TOO_DEEP failure for the bracket `at`. */
export const tooDeepAt = (text: string, at: number, depthMax: number): Failure =>
  fail(INPUT_TOO_DEEP, `the JSON nests deeper than ${depthMax} levels at ${placeOf(text, at)}`);

/** Puts a member that came from outside into `target` as an own property, whatever its name. */
export function put(target: Record<string, unknown>, key: string, value: unknown): void {
  // Assigning `__proto__` would call Object.prototype's setter instead; every other name is safe to assign.
  if (key === "__proto__")
    Object.defineProperty(target, key, { value, writable: true, enumerable: true, configurable: true });
  else target[key] = value;
}

/** Reads one JSON text. Integers beyond 2^53 - 1 become bigint. Fails INPUT_MALFORMED, INPUT_TOO_DEEP. */
export class JsonReader {
  readonly #text: string;
  readonly #depthMax: number;
  #at = 0;
  #depth = 0;

  constructor(text: string, depthMax: number) {
    this.#text = text;
    this.#depthMax = depthMax;
  }

  read(): unknown {
    if (this.#text.charCodeAt(0) === 0xfeff) throw malformedAt(this.#text, 0, "a byte order mark is not allowed"); // RFC 8259 8.1
    this.#space();
    const value = this.#value();
    this.#space();
    if (this.#at < this.#text.length) throw this.#expected("the end of the text");
    return value;
  }

  #value(): unknown {
    const char = this.#text[this.#at];
    if (char === "{") return this.#object();
    if (char === "[") return this.#array();
    if (char === '"') return this.#string();
    if (char === "t") return this.#word("true", true);
    if (char === "f") return this.#word("false", false);
    if (char === "n") return this.#word("null", null);
    return this.#number();
  }

  #object(): Record<string, unknown> {
    const made: Record<string, unknown> = {};
    this.#open();
    if (this.#take("}")) return this.#close(made);
    for (;;) {
      const at = this.#at;
      if (this.#text[at] !== '"') throw this.#expected("a member name in double quotes");
      const key = this.#string();
      if (Object.hasOwn(made, key))
        throw malformedAt(this.#text, at, `the member name ${show(key)} appears twice in one object`);
      this.#space();
      if (!this.#take(":")) throw this.#expected(`':' after the member name ${show(key)}`);
      put(made, key, this.#value());
      this.#space();
      if (this.#take("}")) return this.#close(made);
      if (!this.#take(",")) throw this.#expected("',' or '}'");
    }
  }

  #array(): unknown[] {
    const made: unknown[] = [];
    this.#open();
    if (this.#take("]")) return this.#close(made);
    for (;;) {
      made.push(this.#value());
      this.#space();
      if (this.#take("]")) return this.#close(made);
      if (!this.#take(",")) throw this.#expected("',' or ']'");
    }
  }

  #open(): void {
    if (++this.#depth > this.#depthMax) throw tooDeepAt(this.#text, this.#at, this.#depthMax);
    this.#at++;
    this.#space();
  }

  #close<T>(made: T): T {
    this.#depth--;
    return made;
  }

  #string(): string {
    const text = this.#text;
    let made = "";
    let from = ++this.#at;
    for (;;) {
      const char = text.charCodeAt(this.#at);
      if (Number.isNaN(char)) throw this.#expected("a closing double quote");
      if (char < 0x20) throw this.#expected("no control character inside a string (escape it)");
      if (char === 0x22) {
        made += text.slice(from, this.#at++);
        return made;
      }
      if (char === 0x5c) {
        made += text.slice(from, this.#at) + this.#escape();
        from = this.#at;
      } else this.#at++;
    }
  }

  #escape(): string {
    const letter = this.#text[this.#at + 1] ?? "";
    if (letter === "u") {
      const digits = this.#text.slice(this.#at + 2, this.#at + 6);
      if (!/^[0-9a-fA-F]{4}$/.test(digits)) throw this.#expected("four hexadecimal digits after \\u");
      this.#at += 6;
      return String.fromCharCode(Number.parseInt(digits, 16));
    }
    const made = Object.hasOwn(ESCAPES, letter) ? ESCAPES[letter] : undefined;
    if (made === undefined) throw this.#expected('an escape: one of \\" \\\\ \\/ \\b \\f \\n \\r \\t \\uXXXX');
    this.#at += 2;
    return made;
  }

  #number(): number | bigint {
    NUMBER.lastIndex = this.#at;
    const found = NUMBER.exec(this.#text)?.[0];
    if (found === undefined) throw this.#expected("a value");
    const value = Number(found);
    if (!Number.isFinite(value)) throw beyondDouble(this.#text, this.#at);
    this.#at += found.length;
    return /^-?[0-9]+$/.test(found) && !Number.isSafeInteger(value) ? BigInt(found) : value;
  }

  #word<T>(word: string, value: T): T {
    if (!this.#text.startsWith(word, this.#at)) throw this.#expected("a value");
    this.#at += word.length;
    return value;
  }

  /** Steps over `char` and the blanks behind it, if it is next. */
  #take(char: string): boolean {
    if (this.#text[this.#at] !== char) return false;
    this.#at++;
    // What follows a closing bracket is the business of the level outside; blanks are blanks there too.
    this.#space();
    return true;
  }

  #space(): void {
    for (;;) {
      const char = this.#text.charCodeAt(this.#at);
      if (char !== 0x20 && char !== 0x0a && char !== 0x0d && char !== 0x09) return;
      this.#at++;
    }
  }

  #expected(what: string): Failure {
    const found = this.#text[this.#at];
    return malformedAt(
      this.#text,
      this.#at,
      `expected ${what}, found ${found === undefined ? "the end of the text" : show(found)}`,
    );
  }
}

/** Makes the failure for a number that no double can hold (1e400): to read it as Infinity would be to invent a value. */
export const beyondDouble = (text: string, at: number): Failure =>
  malformedAt(text, at, "the number is beyond the range of a 64-bit float");

// A name from outside may be a megabyte long; a message shows its beginning.
const SHOWN_MAX = 100;
const show = (text: string): string =>
  JSON.stringify(text.length > SHOWN_MAX ? `${text.slice(0, SHOWN_MAX)}...` : text);
