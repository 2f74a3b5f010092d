/** The rules of commands: which device service does it, whether it may be done, and what can be commanded at all. */
import type { Call } from "../../kernel/call.ts";
import type { Device, DeviceProfile, DeviceService } from "../../kernel/edgex.ts";
import { Failure, fail } from "../../kernel/error.ts";
import type { DeviceServiceApi } from "../../devices/sdk/api.ts";
import { COMMAND_DEVICE_UNKNOWN, COMMAND_LOCKED, type CoreCommand, type DeviceCoreCommand } from "./api.ts";

/** What core-command knows of metadata: cached, so that a warm command makes no lookup. */
export interface Metadata {
  device(name: string, call: Call): Promise<Device>;
  profile(name: string, call: Call): Promise<DeviceProfile>;
  service(name: string, call: Call): Promise<DeviceService>;
  devices(offset: number, limit: number, call: Call): Promise<{ totalCount: number; devices: Device[] }>;
}

interface Needs {
  readonly metadata: Metadata;
  /** The client of a device service. */
  clientOf(this: void, service: DeviceService): DeviceServiceApi;
  /** Put before the path of every command that is listed. */
  readonly publicUrl: string;
}

/** Makes core-command. */
export function makeCoreCommand({ metadata, clientOf, publicUrl }: Needs): CoreCommand {
  const deviceNamed = async (name: string, call: Call): Promise<Device> =>
    known(metadata.device(name, call), (cause) => {
      throw fail(COMMAND_DEVICE_UNKNOWN, `device '${name}' does not exist`, { cause });
    });
  const serviceOf = async (name: string, call: Call): Promise<DeviceServiceApi> => {
    const device = await deviceNamed(name, call);
    if (device.adminState === "LOCKED") throw fail(COMMAND_LOCKED, `device '${name}' is locked (adminState LOCKED)`);
    if (device.operatingState === "DOWN") throw fail(COMMAND_LOCKED, `device '${name}' is down (operatingState DOWN)`);
    const service = await metadata.service(device.serviceName, call);
    if (service.adminState === "LOCKED")
      throw fail(COMMAND_LOCKED, `device service '${service.name}' of device '${name}' is locked (adminState LOCKED)`);
    return clientOf(service);
  };
  const commandsOf = async (device: Device, call: Call): Promise<DeviceCoreCommand> => {
    const { name, profileName = "" } = device;
    const profile = profileName ? await known(metadata.profile(profileName, call), () => undefined) : undefined;
    return { deviceName: name, profileName, coreCommands: profile ? listCommands(name, profile, publicUrl) : [] };
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

/** What metadata knows; `otherwise` where it does not. */
async function known<T, U>(answer: Promise<T>, otherwise: (cause: Failure) => U): Promise<T | U> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof Failure && error.kind === "not-found") return otherwise(error);
    throw error;
  }
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
