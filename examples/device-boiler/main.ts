/** A device service in a few lines: a boiler whose temperature follows its setpoint. */
import { defineDevice, deviceOf, profileOf, Type, field } from "@holdfast/edge/device";

const SERVICE = "device-boiler";
const profile = profileOf("Boiler", {
  Temperature: { type: "Float64", units: "°C" },
  Setpoint: { type: "Float64", units: "°C", readWrite: "RW", minimum: 5, maximum: 90 },
});

export const main = defineDevice({
  name: SERVICE,
  config: Type.Object({
    every: field(Type.String(), { description: "How often it is read (EdgeX duration).", default: "1s" }),
  }),
  driver({ config }) {
    let [temperature, setpoint] = [20, 60];
    return {
      profiles: [profile],
      devices: [deviceOf({ name: "boiler-1", service: SERVICE, profile: "Boiler", every: config.every })],
      async read(_device, resources) {
        temperature += (setpoint - temperature) / 10;
        return resources.map(({ name }) => (name === "Temperature" ? temperature : setpoint));
      },
      async write(_device, values) {
        setpoint = Number(values[0].value);
      },
    };
  },
});
