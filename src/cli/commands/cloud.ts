/** `holdfast cloud`: runs a cloud for nodes elsewhere, and asks the one that runs here. */
import { readOptions } from "../../node/options.ts";
import { explain } from "../../node/process.ts";
import { COMMON_HELP } from "../arguments.ts";
import type { Command } from "../command.ts";
import { becomeNode } from "./start.ts";

const help = `Usage: holdfast cloud [--config FILE] [--state DIR]
       holdfast cloud code [--for TIME]
       holdfast cloud edges
       holdfast cloud readings EDGE DEVICE [--resource NAME] [--limit N]
                               [--corrected]
       holdfast cloud gaps EDGE [--limit N]
       holdfast cloud backfill EDGE --from TIME [--to TIME]
                               [--device NAME]... [--resource NAME]...
       holdfast cloud backfills EDGE [--limit N] [--cancel ID]
       holdfast cloud audit EDGE

Alone, it runs a cloud: the other end of the uplink, which keeps what nodes
send, each batch once. It listens on all addresses, port 8444; the config's
node.cloud.host and node.cloud.port choose others. Ctrl-C stops it.

The others ask the cloud that runs on this machine, beside a node or alone, by
its state directory:

  code             make a code to enroll one node with, once; printed alone on
                   standard output
      --for TIME   how long it is good: 10m, 1h, 7d (default 1h, at most 7d)
  edges            list the enrolled nodes: what they have sent, how long it
                   took from their outbox to here, and how far their clocks
                   are off
  readings         show the newest readings of a device of a node (default 20)
      --corrected  with origins as this machine's clock would have told them
  gaps             list what of a node never reached a destination, and why
  backfill         ask a node for a range in full, of which its pipelines sent a
                   part; it comes at low priority, each reading once
      --from TIME  2026-11-24T08:00:00Z, or how long ago: 2h, 7d
      --to TIME    the same (default now)
      --device     of these devices only, as the cloud knows them
      --resource   of these resources only
  backfills        list what a node was asked for, and how far it is
      --cancel ID  ask for no more of one
  audit            tell which events of a node are kept: once each, in order,
                   without gaps? (exit status 1 where not)
${COMMON_HELP}

With --json: {"code", "expiresAtMs"}; {"edges": [...]}; {"totalCount",
"readings": [...]}; {"totalCount", "gaps": [...]}; {"id"}; {"backfills":
[...]}; {"edge", "publishers": [...]}.

Examples:
  holdfast cloud --state /srv/holdfast-cloud
  CODE=$(holdfast cloud code --for 10m --state /srv/holdfast-cloud)
  holdfast cloud edges
  holdfast cloud backfill pump-7 --from 2h --device compressor`;

export const command: Command = {
  name: "cloud",
  summary: "Run a cloud for nodes, or ask the one here.",
  help,
  async run(args) {
    const [name = "", ...rest] = args;
    if (name === "" || name.startsWith("-")) {
      try {
        readOptions(args);
        return await becomeNode("cloud", args);
      } catch (error) {
        // As the process that it would have become: systemd is told by the status not to try again.
        return explain(error);
      }
    }
    const { askCloud } = await import("../cloud.ts");
    return askCloud(name, rest);
  },
};
