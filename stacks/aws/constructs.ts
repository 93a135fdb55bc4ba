// What other people's CDKTF apps import, as "@ingot-host/ingot/constructs": a whole stack by declare(), or its parts. They bring `cdktf`,
// `constructs` and `@cdktf/provider-aws` themselves.
export * from "../image.ts";
export { Fleet, type FleetProps } from "./fleet.ts";
export { Host, type HostProps } from "./host.ts";
export { Network, type NetworkProps } from "./network.ts";
export type { AwsHost, AwsNetwork, AwsStack, AwsVolume, Extent } from "./shape.ts";
export { declare, finish } from "./synth.ts";
