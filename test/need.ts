/** What a test needs of the machine beside node: absent, the test is skipped and says so; in CI it fails. */
import { accessSync, constants, existsSync } from "node:fs";
import path from "node:path";

interface Need {
  /** Commands that must be there, all of them. */
  readonly commands?: readonly string[];
  /** Files that must be there, all of them: what a package brings that is no command. */
  readonly files?: readonly string[];
  /** The Debian package that brings them, for the message and for `.ci/run`. */
  readonly debian?: string;
  readonly root?: true;
}

export const NEEDS = {
  mosquitto: { commands: ["mosquitto"], debian: "mosquitto" },
  etcd: { commands: ["etcd"], debian: "etcd-server" },
  nats: { commands: ["nats-server"], debian: "nats-server" },
  /** Captures loopback: needs the right to, as well. */
  tcpdump: { commands: ["tcpdump"], debian: "tcpdump", root: true },
  /** Network namespaces and links that can be cut. */
  netns: { commands: ["ip", "nft"], debian: "iproute2 nftables", root: true },
  /** Runs programs of the other machine. */
  qemu: { commands: ["qemu-aarch64", "qemu-x86_64"], debian: "qemu-user" },
  /** A gRPC server that is not ours. */
  grpc: {
    // Debian's own: another Python on the PATH has not its modules.
    files: [
      "/usr/bin/python3",
      "/usr/lib/python3/dist-packages/grpc",
      "/usr/lib/python3/dist-packages/google/protobuf",
    ],
    debian: "python3-grpcio python3-protobuf",
  },
  /** A TPM 2.0 in software, and the tools that measure into it. */
  swtpm: { commands: ["swtpm", "tpm2_pcrextend"], debian: "swtpm tpm2-tools" },
  /** A PKCS#11 token in software. */
  softhsm: { commands: ["softhsm2-util"], files: ["/usr/lib/softhsm/libsofthsm2.so"], debian: "softhsm2" },
  systemd: { commands: ["systemd-analyze"], debian: "systemd" },
  /** Images built and run without a Docker engine. */
  podman: {
    commands: ["podman", "buildah", "runc"],
    debian: "podman buildah runc iptables netavark aardvark-dns uidmap",
    root: true,
  },
  /** A file system in a file, on a loop device. */
  loop: { commands: ["mkfs.ext4"], files: ["/dev/loop-control"], debian: "e2fsprogs", root: true },
  root: { root: true },
} as const satisfies { [name: string]: Need };

export type NeedName = keyof typeof NEEDS;

// sbin is not on every user's PATH, and that is where Debian puts daemons and network tools.
const WHERE = [...(process.env["PATH"] ?? "").split(path.delimiter), "/usr/local/sbin", "/usr/sbin", "/sbin"].filter(
  Boolean,
);

/** Finds a command's file. */
export function findCommand(command: string): string | undefined {
  for (const folder of WHERE) {
    const file = path.join(folder, command);
    try {
      accessSync(file, constants.X_OK);
      return file;
    } catch {
      continue; // not here: look on
    }
  }
  return undefined;
}

/** Tells what of `need` is missing, in words; undefined if nothing is. */
export function missing(need: Need, uid = process.getuid?.()): string | undefined {
  const commands = (need.commands ?? []).filter((command) => findCommand(command) === undefined);
  const absent = [...commands, ...(need.files ?? []).filter((file) => !existsSync(file))];
  if (absent.length > 0) return `needs ${absent.join(" and ")} (Debian: apt-get install ${need.debian})`;
  return need.root && uid !== 0 ? "needs to be run as root" : undefined;
}

/**
 * For a test's `skip`: false if the machine has what it needs, else the reason. Where CI=true there is nothing to skip and
 * it throws: `test("...", { skip: need("mosquitto") }, ...)`.
 */
export const need = (...names: readonly NeedName[]): string | false => skipFor(...names.map((name) => NEEDS[name]));

/** As `need`, for a need that has no name here. */
export function skipFor(...needs: readonly Need[]): string | false {
  const reasons = needs.map((each) => missing(each)).filter((reason) => reason !== undefined);
  if (reasons.length === 0) return false;
  const reason = reasons.join("; ");
  if (process.env["CI"] === "true") throw new Error(`this test ${reason}, and CI=true allows no skipping`);
  return reason;
}
