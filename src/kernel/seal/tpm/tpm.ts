/** A client of TPM 2.0 with the few commands that sealing a key needs. Part 3 of the TCG's library has each of them. */
import { randomBytes } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { fail } from "../../error.ts";
import { SEAL_TPM_REFUSED } from "../codes.ts";
import { CONTINUE, DECRYPT, ENCRYPT, type Point, secretFor, Session, sha256 } from "./session.ts";
import type { Transport } from "./transport.ts";
import {
  ALGORITHM,
  Answer,
  COMMAND,
  HANDLE,
  HEADER_BYTES,
  NOTHING,
  pcrSelection,
  sized,
  TAG,
  u16,
  u32,
  u8,
} from "./wire.ts";

const NONCE_BYTES = 16;
/** Part 2, 6.6.3: the TPM is busy, or just tests itself; the same command is to come again. */
const AGAIN: readonly number[] = [0x90a, 0x908, 0x922];
const AGAIN_MAX = 20;
const AGAIN_MS = 50;
const SESSION = { hmac: 0, policy: 1, trial: 3 } as const;
/** The storage key of the TCG's template: P-256, restricted, for decryption, AES-128 for what lies under it. */
const STORAGE_ATTRIBUTES = 0x3_0472;
/** fixedTPM, fixedParent, adminWithPolicy, noDA; not userWithAuth: the policy alone opens it. */
const SEALED_ATTRIBUTES = 0x492;

/** A refusal of the TPM's, with its code (Part 2, 6.6). */
export class TpmError extends Error {
  readonly code: number;
  constructor(command: number, code: number) {
    super(`TPM command 0x${command.toString(16)} was refused with 0x${code.toString(16)}`);
    this.name = "TpmError";
    this.code = code;
  }
  /** TPM_RC_POLICY_FAIL and TPM_RC_VALUE/PCR_CHANGED of a session: the PCRs are not those of the policy. */
  get isPolicy(): boolean {
    return (this.code & 0x0bf) === 0x09d || this.code === 0x128;
  }
}

export interface StorageKey {
  readonly handle: number;
  /** Tells this key, and so this TPM, from any other. */
  readonly name: Buffer;
  readonly point: Point;
}

/** What lies on the disk: of use to this TPM alone. */
export interface SealedObject {
  readonly publicPart: Buffer;
  readonly privatePart: Buffer;
}

interface Authorized {
  readonly command: number;
  readonly handle: { readonly number: number; readonly name: Buffer };
  readonly session: Session;
  /** DECRYPT or ENCRYPT. */
  readonly attributes: number;
  /** Encrypted with DECRYPT. */
  readonly first: Uint8Array | undefined;
  readonly rest: Uint8Array;
}

export class Tpm {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Makes the storage key, which the TPM derives from its seed: the same one each time, and none of another TPM's. */
  async storageKey(): Promise<StorageKey> {
    const template = Buffer.concat([
      u16(ALGORITHM.ecc),
      u16(ALGORITHM.sha256),
      u32(STORAGE_ATTRIBUTES),
      NOTHING,
      ...[ALGORITHM.aes, 128, ALGORITHM.cfb, ALGORITHM.null, 3, ALGORITHM.null].map(u16),
      NOTHING,
      NOTHING,
    ]);
    const password = Buffer.concat([u32(0x4000_0009), NOTHING, u8(0), NOTHING]);
    const answer = await this.#ask(TAG.sessions, COMMAND.createPrimary, [
      u32(HANDLE.owner),
      u32(password.length),
      password,
      sized(NOTHING, NOTHING),
      sized(template),
      NOTHING,
      u32(0),
    ]);
    const handle = answer.u32();
    answer.u32();
    const area = Buffer.from(answer.sized());
    const at = new Answer(area.subarray(template.length - 2 * NOTHING.length));
    const [x, y] = [at.sized(), at.sized()].map((n) => Buffer.concat([Buffer.alloc(Math.max(0, 32 - n.length)), n]));
    if (x === undefined || y === undefined) throw fail(SEAL_TPM_REFUSED, "the TPM's storage key has no point");
    return { handle, name: nameOf(area), point: { x, y } };
  }

  /** Begins a session with a secret that only the storage key's TPM learns. */
  session(key: StorageKey, type: "hmac" | "policy"): Promise<Session> {
    const { point, secret } = secretFor(key.point);
    return this.#start(SESSION[type], key.handle, Buffer.concat([sized(point.x), sized(point.y)]), secret);
  }

  /** Binds a session to the PCRs as they are now. */
  async policyPcr(session: number, pcrs: readonly number[]): Promise<void> {
    await this.#ask(TAG.plain, COMMAND.policyPcr, [u32(session), NOTHING, pcrSelection(pcrs)]);
  }

  /** Answers the digest of a policy on the PCRs as they are now. */
  async pcrPolicy(pcrs: readonly number[]): Promise<Buffer> {
    const trial = await this.#start(SESSION.trial, HANDLE.null, Buffer.alloc(0), Buffer.alloc(0));
    try {
      await this.policyPcr(trial.handle, pcrs);
      return Buffer.from((await this.#ask(TAG.plain, COMMAND.policyGetDigest, [u32(trial.handle)])).sized());
    } finally {
      await this.flush(trial.handle);
    }
  }

  /** Reads PCRs of the SHA-256 bank, one by one: a TPM answers at most eight at once. */
  async pcrValues(pcrs: readonly number[]): Promise<Map<number, string>> {
    const values = new Map<number, string>();
    for (const pcr of pcrs) {
      const answer = await this.#ask(TAG.plain, COMMAND.pcrRead, [pcrSelection([pcr])]);
      answer.take(4 + pcrSelection([pcr]).length);
      if (answer.u32() !== 1) throw fail(SEAL_TPM_REFUSED, `the TPM has no PCR ${pcr} of SHA-256`);
      values.set(pcr, answer.sized().toString("hex"));
    }
    return values;
  }

  /** Seals up to 128 bytes under the storage key and a policy; they pass to the TPM encrypted. */
  async seal(key: StorageKey, session: Session, secret: Uint8Array, policy: Buffer): Promise<SealedObject> {
    const template = [u16(ALGORITHM.keyedHash), u16(ALGORITHM.sha256), u32(SEALED_ATTRIBUTES), sized(policy)];
    const answer = await this.#authorized({
      command: COMMAND.create,
      handle: { number: key.handle, name: key.name },
      session,
      attributes: DECRYPT,
      first: Buffer.concat([NOTHING, sized(secret)]),
      rest: Buffer.concat([sized(...template, u16(ALGORITHM.null), NOTHING), NOTHING, u32(0)]),
    });
    return { privatePart: Buffer.from(answer.sized()), publicPart: Buffer.from(answer.sized()) };
  }

  /** Opens what was sealed: the policy session must be bound already. It comes back encrypted. */
  async unseal(key: StorageKey, session: Session, policy: Session, sealed: SealedObject): Promise<Buffer> {
    const loaded = await this.#authorized({
      command: COMMAND.load,
      handle: { number: key.handle, name: key.name },
      session,
      attributes: 0,
      first: undefined,
      rest: Buffer.concat([sized(sealed.privatePart), sized(sealed.publicPart)]),
    });
    const handle = loaded.u32();
    try {
      const answer = await this.#authorized({
        command: COMMAND.unseal,
        handle: { number: handle, name: nameOf(sealed.publicPart) },
        session: policy,
        attributes: ENCRYPT,
        first: undefined,
        rest: Buffer.alloc(0),
      });
      return answer.sized();
    } finally {
      await this.flush(handle);
    }
  }

  async flush(handle: number): Promise<void> {
    await this.#ask(TAG.plain, COMMAND.flushContext, [u32(handle)]);
  }

  async close(): Promise<void> {
    await this.#transport.close();
  }

  async #start(type: number, tpmKey: number, encryptedSalt: Buffer, secret: Buffer): Promise<Session> {
    const nonce = randomBytes(NONCE_BYTES);
    const answer = await this.#ask(TAG.plain, COMMAND.startAuthSession, [
      u32(tpmKey),
      u32(HANDLE.null),
      sized(nonce),
      sized(encryptedSalt),
      u8(type),
      ...[ALGORITHM.aes, 128, ALGORITHM.cfb, ALGORITHM.sha256].map(u16),
    ]);
    const session = new Session(answer.u32(), secret, answer.sized(), nonce);
    secret.fill(0);
    return session;
  }

  /** Runs a command with one handle under a session; answers its parameters, the handle first if it makes one. */
  async #authorized(o: Authorized): Promise<Answer> {
    const { session, command } = o;
    const nonce = randomBytes(NONCE_BYTES);
    const attributes = CONTINUE | o.attributes;
    const first = o.first === undefined ? [] : [sized(session.encrypt(o.first, nonce))];
    const parameters = Buffer.concat([...first, o.rest]);
    const cpHash = sha256(u32(command), o.handle.name, parameters);
    const mac = session.mac(cpHash, nonce, attributes);
    const auth = Buffer.concat([u32(session.handle), sized(nonce), u8(attributes), sized(mac)]);
    const answer = await this.#ask(TAG.sessions, command, [u32(o.handle.number), u32(auth.length), auth, parameters]);
    const made = command === COMMAND.load ? [Buffer.from(answer.take(4))] : [];
    const body = Buffer.from(answer.take(answer.u32()));
    const [nonceTpm, back, macTpm] = [answer.sized(), answer.u8(), answer.sized()];
    const rpHash = sha256(u32(0), u32(command), body);
    if (!session.accept({ rpHash, nonceTpm, nonceCaller: nonce, attributes: back, mac: macTpm }))
      throw fail(SEAL_TPM_REFUSED, "an answer of the TPM's was altered on its way");
    if ((o.attributes & ENCRYPT) === 0) return new Answer(Buffer.concat([...made, body]));
    const secret = session.decrypt(new Answer(body).sized(), nonce);
    const opened = new Answer(sized(secret));
    secret.fill(0);
    return opened;
  }

  async #ask(tag: number, command: number, parts: readonly Uint8Array[]): Promise<Answer> {
    const body = Buffer.concat(parts);
    const message = Buffer.concat([u16(tag), u32(HEADER_BYTES + body.length), u32(command), body]);
    for (let tries = 1; ; tries++) {
      const answer = new Answer(await this.#transport.send(message));
      answer.take(6);
      const code = answer.u32();
      if (code === 0) return answer;
      if (!AGAIN.includes(code) || tries > AGAIN_MAX) throw new TpmError(command, code);
      await pause(AGAIN_MS);
    }
  }
}

/** The name of an object: the hash's number and the hash of its public part. */
const nameOf = (publicPart: Uint8Array): Buffer => Buffer.concat([u16(ALGORITHM.sha256), sha256(publicPart)]);
