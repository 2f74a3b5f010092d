/** What identity signs of the audit trail, and others check. */

/** A line of the trail: its number, and its SHA-256 in hex. */
export interface Place {
  readonly n: number;
  readonly hash: string;
}

/** Writes the statement that a signature of a place is over (ECDSA P-256 with SHA-256). */
export const statementOf = (node: string, { n, hash }: Place): string =>
  `holdfast audit checkpoint\n${node}\n${n}\n${hash}\n`;
