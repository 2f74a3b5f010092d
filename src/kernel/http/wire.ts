/** Reads sockets into one buffer of the process. */
import type { OnReadOpts } from "node:net";

/** What comes is read here, and read out of here before anything else comes: a buffer for each read costs more than its copy. */
const READ_BUFFER = Buffer.allocUnsafeSlow(65_536);

/** What is read from a socket; `take` may keep nothing of it. */
export interface Wire {
  take: ((chunk: Buffer) => void) | undefined;
}

/** Makes a socket's option to hand what it reads to a wire. */
export const readInto = (wire: Wire): OnReadOpts => ({
  buffer: READ_BUFFER,
  callback(length, buffer) {
    wire.take?.((buffer as Buffer).subarray(0, length));
    return true;
  },
});
