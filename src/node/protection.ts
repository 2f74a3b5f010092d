/** What protects the node, in honest words: for the start page and `holdfast status`. */
import { type ConfinementFacts, whatIsMissing } from "./confine/facts.ts";
import type { Missing } from "./confine/steps.ts";

export interface ProtectionOptions {
  readonly facts: ConfinementFacts;
  readonly missing: readonly Missing[];
  readonly keyProvider: { readonly name: string; readonly promise: string };
  readonly ownUids: boolean;
  readonly openEdgex: boolean;
}

/** Says what holds. */
export function whatHolds({ facts, ownUids, keyProvider }: ProtectionOptions): string[] {
  const abi = facts.landlockAbi.value;
  return [
    "every socket: TLS 1.3, both sides with certificates of this node's own authority",
    `every service: ${[ownUids ? "own uid" : undefined, "no privileges, no exec", facts.seccomp.value ? "system call filter" : undefined, abi > 0 ? "only its own files" : undefined, facts.landlockPorts.value ? "only its ports" : undefined].filter(Boolean).join(", ")}`,
    `everything on the disk: encrypted; the ${keyProvider.name} ${keyProvider.promise}`,
  ];
}

/** Says what does not hold, and what that costs. */
export function whatDoesNot({ facts, missing, openEdgex, keyProvider }: ProtectionOptions): string[] {
  const known = whatIsMissing(facts);
  // A start's report and the machine's facts tell the same of Landlock and of uids; the facts' words are for people.
  const more = missing
    .filter(({ what }) => !/landlock|own uid|seccomp/.test(what))
    .map(({ what, costs }) => `${what}: ${costs}`);
  return [
    ...(openEdgex
      ? ["--open-edgex: programs on this machine may use EdgeX's ports without TLS and without a token"]
      : []),
    ...known.filter((line) => !(keyProvider.name !== "key-file" && line.startsWith("no TPM"))),
    ...more,
  ];
}
