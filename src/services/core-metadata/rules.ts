/** What must hold of a device profile and of a device before it is kept. */
import type { Device, DeviceProfile, DeviceService } from "../../kernel/edgex.ts";
import { fail } from "../../kernel/error.ts";
import { METADATA_INVALID } from "./codes.ts";

/** Throws METADATA_INVALID that names what is wrong: a name twice, a command of an unknown resource, or one it may not do. */
export function checkProfile(profile: DeviceProfile): void {
  const resources = new Map((profile.deviceResources ?? []).map((r) => [r.name, r]));
  if (resources.size < (profile.deviceResources ?? []).length) throw wrong(profile, "names a resource twice");
  const commands = new Set<string>();
  for (const command of profile.deviceCommands ?? []) {
    if (commands.has(command.name)) throw wrong(profile, `names command '${command.name}' twice`);
    commands.add(command.name);
    for (const operation of command.resourceOperations) {
      const resource = resources.get(operation.deviceResource);
      if (!resource)
        throw wrong(
          profile,
          `has command '${command.name}' of resource '${operation.deviceResource}', which it does not have`,
        );
      for (const way of ["R", "W"]) {
        if (command.readWrite.includes(way) && !resource.properties.readWrite.includes(way)) {
          throw wrong(
            profile,
            `has command '${command.name}' (${command.readWrite}) of resource '${resource.name}', which is ${resource.properties.readWrite}`,
          );
        }
      }
    }
  }
}

const wrong = (profile: DeviceProfile, what: string) =>
  fail(METADATA_INVALID, `device profile '${profile.name}' ${what}`);

/** Throws METADATA_INVALID where a device's AutoEvents do not fit its profile. */
export function checkAutoEvents(device: Device, profile: DeviceProfile | undefined): void {
  for (const auto of device.autoEvents ?? []) {
    if (!profile) throw fail(METADATA_INVALID, `device '${device.name}' has an AutoEvent but no profile`);
    const sources = [...(profile.deviceResources ?? []), ...(profile.deviceCommands ?? [])];
    if (!sources.some((s) => s.name === auto.sourceName)) {
      throw fail(
        METADATA_INVALID,
        `device '${device.name}': its AutoEvent's source '${auto.sourceName}' is not in profile '${profile.name}'`,
      );
    }
    if (!/^(\d+(\.\d+)?(ns|us|\u00b5s|ms|s|m|h))+$/.test(auto.interval)) {
      throw fail(
        METADATA_INVALID,
        `device '${device.name}': AutoEvent interval '${auto.interval}' is not a duration such as 500ms, 10s or 1h30m`,
      );
    }
  }
}

/** Throws METADATA_INVALID where nobody could call a device service: commands go to its base address. */
export function checkService({ name, baseAddress }: DeviceService): void {
  const protocol = URL.parse(baseAddress)?.protocol;
  if (protocol !== "http:" && protocol !== "https:")
    throw fail(
      METADATA_INVALID,
      `device service '${name}': its base address '${baseAddress.slice(0, 200)}' is no URL such as http://127.0.0.1:59900`,
    );
}
