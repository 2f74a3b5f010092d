/** What a person or the machine gives to open the keys with: from a file, a pipe, systemd or the terminal, never argv or the environment itself. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { code, type ErrorCode, fail } from "../../kernel/error.ts";

export const NODE_PASSPHRASE_MISSING = code(
  "NODE_PASSPHRASE_MISSING",
  "unauthorized",
  "Name a file that holds it in HOLDFAST_PASSPHRASE_FILE, pass the systemd credential 'holdfast-passphrase', or start on a terminal.",
);
export const NODE_PIN_MISSING = code(
  "NODE_PIN_MISSING",
  "unauthorized",
  "Name a file that holds it in HOLDFAST_PIN_FILE or node.keys.pkcs11.pinFile, pass the systemd credential 'holdfast-pin', or start on a terminal.",
);

const FILE_BYTES_MAX = 4096;

/** A secret with a name: where it may be read, and what is said where nobody gave it. */
export interface Input {
  readonly what: string;
  readonly variable: "HOLDFAST_PASSPHRASE_FILE" | "HOLDFAST_PIN_FILE";
  readonly credential: "holdfast-passphrase" | "holdfast-pin";
  readonly missing: ErrorCode;
}
export const PASSPHRASE: Input = {
  what: "passphrase of this node",
  variable: "HOLDFAST_PASSPHRASE_FILE",
  credential: "holdfast-passphrase",
  missing: NODE_PASSPHRASE_MISSING,
};
export const PIN: Input = {
  what: "PIN of the token",
  variable: "HOLDFAST_PIN_FILE",
  credential: "holdfast-pin",
  missing: NODE_PIN_MISSING,
};

/** Tells whether a file or pipe is named for an input; it is not read, since a pipe gives it once. */
export function isNamed(input: Input, env: NodeJS.ProcessEnv): boolean {
  const credentials = env["CREDENTIALS_DIRECTORY"];
  return (
    env[input.variable] !== undefined || (credentials !== undefined && existsSync(join(credentials, input.credential)))
  );
}

/** Reads an input from its file or pipe; undefined where none is named. NODE_PASSPHRASE_MISSING, NODE_PIN_MISSING. */
export function given(input: Input, env: NodeJS.ProcessEnv, named = ""): Buffer | undefined {
  const credentials = env["CREDENTIALS_DIRECTORY"];
  const wanted = env[input.variable] ?? (named === "" ? undefined : named);
  const file = wanted ?? (credentials ? join(credentials, input.credential) : undefined);
  if (file === undefined) return undefined;
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch (cause) {
    const reason = (cause as NodeJS.ErrnoException).code;
    // systemd gives a directory for other credentials, too.
    if (wanted === undefined && reason === "ENOENT") return undefined;
    throw fail(input.missing, `the ${input.what} cannot be read from ${file} (${reason})`, { cause });
  }
  if (bytes.length > FILE_BYTES_MAX) throw fail(input.missing, `${file} is too long for a ${input.what}`);
  let end = bytes.length;
  if (bytes[end - 1] === 0x0a) end--;
  if (bytes[end - 1] === 0x0d && end < bytes.length) end--;
  return bytes.subarray(0, end);
}

/** Asks on the terminal without showing what is typed; `missing` where there is none. */
export async function ask(what: string, missing: ErrorCode): Promise<string> {
  const { stdin, stderr } = process;
  if (!stdin.isTTY) throw fail(missing, `the ${what} is needed, and nobody gave it`);
  stderr.write(`${what.slice(0, 1).toUpperCase()}${what.slice(1)}: `);
  stdin.setRawMode(true).setEncoding("utf8").resume();
  try {
    return await new Promise<string>((resolve, reject) => {
      let typed = "";
      stdin.on("data", (text: string) => {
        for (const key of text) {
          if (key === "\r" || key === "\n") return resolve(typed);
          if (key === "\u0003" || key === "\u0004") return reject(fail(missing, `no ${what} was given`));
          typed = key === "\u007f" ? typed.slice(0, -1) : typed + key;
        }
      });
    });
  } finally {
    stdin.removeAllListeners("data");
    stdin.setRawMode(false).pause();
    stderr.write("\n");
  }
}
