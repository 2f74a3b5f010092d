/** The rules of commands: which device service does it, whether it may be done, and what can be commanded at all. */
import type { Call } from "../../kernel/call.ts";
import type { Device, DeviceProfile } from "../../kernel/edgex.ts";
import { Failure, fail } from "../../kernel/error.ts";
import type { DeviceServiceApi } from "../../devices/sdk/api.ts";
import { COMMAND_DEVICE_UNKNOWN, COMMAND_LOCKED, type CoreCommand, type DeviceCoreCommand } from "./api.ts";

/** What core-command knows of metadata: cached, so that a warm command makes no lookup. */
export interface Metadata {
  device(name: string, call: Call): Promise<Device>;
  profile(name: string, call: Call): Promise<DeviceProfile>;
  devices(offset: number, limit: number, call: Call): Promise<{ totalCount: number; devices: Device[] }>;
}

interface Needs {
  readonly metadata: Metadata;
  /** The client of a device service by its name. */
  deviceService(name: string, call: Call): Promise<DeviceServiceApi>;
  /** Put before the path of every command that is listed. */
  readonly publicUrl: string;
}

/** Makes core-command. */
export function makeCoreCommand({ metadata, deviceService, publicUrl }: Needs): CoreCommand {
  const deviceNamed = async (name: string, call: Call): Promise<Device> => {
    try {
      return await metadata.device(name, call);
    } catch (error) {
      if (error instanceof Failure && error.kind === "not-found")
        throw fail(COMMAND_DEVICE_UNKNOWN, `device '${name}' does not exist`, { cause: error });
      throw error;
    }
  };
  const serviceOf = async (name: string, call: Call): Promise<DeviceServiceApi> => {
    const device = await deviceNamed(name, call);
    if (device.adminState === "LOCKED") throw fail(COMMAND_LOCKED, `device '${name}' is locked (adminState LOCKED)`);
    if (device.operatingState === "DOWN") throw fail(COMMAND_LOCKED, `device '${name}' is down (operatingState DOWN)`);
    return deviceService(device.serviceName, call);
  };
  const commandsOf = async (device: Device, call: Call): Promise<DeviceCoreCommand> => {
    const profile = device.profileName ? await metadata.profile(device.profileName, call) : undefined;
    return {
      deviceName: device.name,
      profileName: device.profileName ?? "",
      coreCommands: profile ? listCommands(device.name, profile, publicUrl) : [],
    };
  };
  return {
    read: async ({ name, command, ...flags }, call) =>
      (await serviceOf(name, call)).read({ deviceName: name, command, ...flags }, call),
    write: async ({ name, command, body }, call) => {
      await (await serviceOf(name, call)).write({ deviceName: name, command, body }, call);
      return {};
    },
    commandsOfDevice: async ({ name }, call) => ({
      deviceCoreCommand: await commandsOf(await deviceNamed(name, call), call),
    }),
    async allCommands({ offset, limit }, call) {
      const { totalCount, devices } = await metadata.devices(offset, limit, call);
      return { totalCount, deviceCoreCommands: await Promise.all(devices.map((device) => commandsOf(device, call))) };
    },
  };
}

/** Lists a profile's commands, then the resources that no command of that name covers; hidden ones are left out (EdgeX). */
export function listCommands(
  deviceName: string,
  profile: DeviceProfile,
  publicUrl: string,
): DeviceCoreCommand["coreCommands"] {
  const resources = new Map((profile.deviceResources ?? []).map((r) => [r.name, r]));
  const parameter = (name: string) => ({
    resourceName: name,
    valueType: resources.get(name)?.properties.valueType ?? "",
  });
  const entry = (name: string, readWrite: string, names: string[]) => ({
    name,
    ...(readWrite.includes("R") ? { get: true } : {}),
    ...(readWrite.includes("W") ? { set: true } : {}),
    path: `/api/v3/device/name/${encodeURIComponent(deviceName)}/${encodeURIComponent(name)}`,
    url: publicUrl,
    parameters: names.map(parameter),
  });
  const commands = (profile.deviceCommands ?? []).filter((c) => !c.isHidden);
  const taken = new Set((profile.deviceCommands ?? []).map((c) => c.name));
  return [
    ...commands.map((c) =>
      entry(
        c.name,
        c.readWrite,
        c.resourceOperations.map((o) => o.deviceResource),
      ),
    ),
    ...(profile.deviceResources ?? [])
      .filter((r) => !r.isHidden && !taken.has(r.name))
      .map((r) => entry(r.name, r.properties.readWrite, [r.name])),
  ];
}
