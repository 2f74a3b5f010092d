/** From a sealed key ring to the first record that it opens: what the TPM adds to a start. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { openJournal } from "../../src/kernel/journal/journal.ts";
import { startTpm } from "../../src/kernel/seal/fixture.ts";
import { openKeyRing } from "../../src/kernel/seal/keyring.ts";
import { deriveKey } from "../../src/kernel/seal/store-keys.ts";
import { tpmProvider } from "../../src/kernel/seal/tpm/provider.ts";
import { missing, NEEDS } from "../../test/need.ts";
import { info, type Row, rowOf } from "../table.ts";

const ROUNDS = 25;
const REACH_MS = 50;
const NAME = "TPM (swtpm): ring opened to first record read, median";

export async function measureUnseal(): Promise<Row[]> {
  const reason = missing(NEEDS.swtpm);
  if (reason !== undefined) return [{ name: NAME, value: null, unit: "ms", reach: REACH_MS, met: null, reason }];
  const directory = mkdtempSync(path.join(tmpdir(), "bench-unseal-"));
  const tpm = await startTpm(path.join(directory, "tpm"));
  try {
    const ringAt = { directory: path.join(directory, "node"), provider: tpmProvider({ path: tpm.path }) };
    const first = async (): Promise<number> => {
      const ring = await openKeyRing(ringAt);
      const key = deriveKey(await ring.dataKey("bus"), "bus", "journal");
      const journal = await openJournal({ directory: path.join(directory, "journal"), key });
      if (journal.last === 0) await journal.append(1, "first", Buffer.from("a record"));
      const { records } = await journal.read(0, { recordsMax: 1 });
      const endMs = performance.now();
      if (records.length !== 1) throw new Error("there is no record");
      await journal.close();
      return endMs;
    };
    await first();
    const times: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const startMs = performance.now();
      times.push((await first()) - startMs);
    }
    times.sort((a, b) => a - b);
    return [
      rowOf(NAME, times[ROUNDS >> 1] ?? Number.NaN, "ms", REACH_MS),
      info("  the slowest of them", times.at(-1) ?? Number.NaN, "ms"),
    ];
  } finally {
    await tpm.stop();
    rmSync(directory, { recursive: true });
  }
}
