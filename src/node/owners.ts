/** Whose the places are that services with a uid of their own come to. */
import { chmodSync, chownSync, lstatSync, mkdirSync, readdirSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { type ErrorCode, fail } from "../kernel/error.ts";
import type { Identity } from "./confine/uids.ts";

/** Makes sure that other users can get to a place: each service has a uid of its own. Fails with the given code. */
export function requireWay(path: string, refusal: ErrorCode, what: string): void {
  for (let at = dirname(path); ; at = dirname(at)) {
    if ((statSync(at).mode & OTHERS_ENTER) === 0)
      throw fail(refusal, `${what} ${path} cannot be reached by services with an own uid: run 'chmod o+x ${at}'`);
    if (at === dirname(at)) return;
  }
}
const OTHERS_ENTER = 0o001;

/** Makes a service's directory, its owner's alone; what was another's (a start with --compact, another uid base) becomes his. */
export function makeOwn(directory: string, owner: Identity | undefined): void {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  chmodSync(directory, 0o700);
  if (owner && lstatSync(directory).uid !== owner.uid) give(directory, owner);
}

function give(path: string, owner: Identity): void {
  // Not through links: nothing of ours makes one, and a stranger's could point anywhere.
  const at = lstatSync(path);
  if (at.isSymbolicLink()) return;
  if (at.isDirectory()) for (const name of readdirSync(path)) give(join(path, name), owner);
  chownSync(path, owner.uid, owner.gid);
}
