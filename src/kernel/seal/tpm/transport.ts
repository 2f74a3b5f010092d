/** The way to a TPM: the kernel's device with its resource manager (/dev/tpmrm0), or the Unix socket of a software TPM. */
import { constants } from "node:fs";
import { type FileHandle, open, stat } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { Failure, fail } from "../../error.ts";
import { SEAL_TPM_MISSING, SEAL_TPM_REFUSED } from "../codes.ts";
import { HEADER_BYTES, MESSAGE_BYTES_MAX } from "./wire.ts";

export interface Transport {
  /** Sends one command and waits for its answer; one at a time. */
  send(command: Uint8Array): Promise<Buffer>;
  close(): Promise<void>;
}

/** A slow TPM makes a primary key in less than a second; one that is silent for this long is stuck. */
const ANSWER_TIMEOUT_MS = 20_000;

/** Opens the way to the TPM; SEAL_TPM_MISSING. */
export async function openTransport(path: string): Promise<Transport> {
  try {
    const at = await stat(path);
    return at.isSocket() ? await overSocket(path) : overDevice(path, await open(path, constants.O_RDWR));
  } catch (cause) {
    if (cause instanceof Failure) throw cause;
    const reason = (cause as NodeJS.ErrnoException).code ?? "unknown";
    throw fail(SEAL_TPM_MISSING, `the TPM ${path} cannot be opened (${reason})`, { cause });
  }
}

const overDevice = (path: string, file: FileHandle): Transport => ({
  async send(command) {
    // The driver takes a command by one write and gives its answer by one read.
    await file.write(command);
    const answer = Buffer.alloc(MESSAGE_BYTES_MAX);
    const { bytesRead } = await inTime(path, file.read(answer, 0, answer.length, null));
    return answer.subarray(0, bytesRead);
  },
  close: () => file.close(),
});

async function overSocket(path: string): Promise<Transport> {
  const socket = connect(path);
  await new Promise<void>((resolve, reject) => socket.once("connect", resolve).once("error", reject));
  return {
    async send(command) {
      socket.write(command);
      return inTime(path, answerFrom(socket, path));
    },
    async close() {
      await new Promise<void>((resolve) => socket.once("close", () => resolve()).destroy());
    },
  };
}

function answerFrom(socket: Socket, path: string): Promise<Buffer> {
  let bytes = Buffer.alloc(0);
  return new Promise((resolve, reject) => {
    const done = (error?: Error): void => {
      socket.off("data", take).off("close", ended).off("error", done);
      if (error) reject(fail(SEAL_TPM_MISSING, `the TPM ${path} went away (${error.message})`, { cause: error }));
      else resolve(bytes);
    };
    const ended = (): void => done(new Error("it closed the connection"));
    const take = (more: Buffer): void => {
      bytes = Buffer.concat([bytes, more]);
      if (bytes.length > MESSAGE_BYTES_MAX) done(new Error("its answer is too long"));
      else if (bytes.length >= HEADER_BYTES && bytes.length >= bytes.readUInt32BE(2)) done();
    };
    socket.on("data", take).on("close", ended).on("error", done);
  });
}

async function inTime<T>(path: string, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const refuse = (): void =>
      reject(fail(SEAL_TPM_REFUSED, `the TPM ${path} did not answer within ${ANSWER_TIMEOUT_MS} ms`));
    timer = setTimeout(refuse, ANSWER_TIMEOUT_MS);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
