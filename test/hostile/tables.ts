/** The tables of attempts, by name. */
import type { Attempt } from "./attempt.ts";
import { files } from "./files.ts";
import { asSomebodyElse, onTheBus, onTheLine } from "./house.attempts.ts";
import { processes } from "./processes.ts";
import { programs } from "./programs.ts";
import { lastOfAll, resources } from "./resources.ts";
import { sockets } from "./sockets.ts";

export const TABLES: Readonly<Record<string, readonly Attempt[]>> = {
  files,
  processes,
  programs,
  sockets,
  asSomebodyElse,
  onTheBus,
  onTheLine,
  resources,
  lastOfAll,
};
