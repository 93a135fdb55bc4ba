// The `aws` target: hosts are EC2 instances. What is to be there is synthesised (synth.ts) and made by Terraform (terraform.ts) once the
// guard has read its plan; what hosts need beside it (secrets, artifacts, the inventory) is kept by the SDK in the same account.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { HostPlan, Restore, StackPlan } from "../../cloud-init/plan.ts";
import { type UserData, userDataOf } from "../../cloud-init/user-data.ts";
import { loadRecipe } from "../../images/recipe.ts";
import { Cancelled, sleep } from "../../lib/cancel.ts";
import { RefusedError } from "../../lib/diagnostics.ts";
import { sha256, short } from "../../lib/digest.ts";
import type { Project } from "../../lib/paths.ts";
import { during, type Progress } from "../../lib/progress.ts";
import { publicSshKey, type SecretStore, secretsOf } from "../secrets.ts";
import { activationLimit, type Connection, type HostInput, type Machine, type Target, type TargetEvent } from "../target.ts";
import { rootDevice } from "./ami/ami.ts";
import { type Aws, awsOf } from "./api.ts";
import { upload } from "./artifacts.ts";
import { bucketOf, ensureBucket, hasBucket } from "./bucket.ts";
import { connectTo, untilUp } from "./connection.ts";
import { foreseenAddress, proveNames } from "./dns.ts";
import { guard, say, type Verdict } from "./guard.ts";
import { amiOf, NoAmi } from "./images.ts";
import { allowTermination, elasticOf, type Instance, instancesOf, lookSeconds, power } from "./instances.ts";
import { type HostRecord, type Inventory, readInventory, stacksIn, writeInventory } from "./inventory.ts";
import { lockStack } from "./lock.ts";
import { removeObject } from "./object.ts";
import { awsDisks, fence } from "./recovery.ts";
import { untilRefreshed } from "./refresh.ts";
import { consoleOf, reportOf } from "./report.ts";
import { parameterStore, secretsManager } from "./secrets.ts";
import type { AwsSettings } from "./settings.ts";
import { type AwsImage, type AwsStack, addresses, type Extent, keyToBe, names, shapeOf, wayTo } from "./shape.ts";
import { type Terraform, terraformAt } from "./terraform.ts";

export interface AwsChoices {
  /** Hosts to make anew although they hold data. */
  replace?: string[];
  /** `host/volume`: data volumes that may go. */
  deleteVolumes?: string[];
  /** Seconds from its launch within which an instance must have begun to report. @default 600 */
  bootSeconds?: number;
}

/** What is wanted of one host: a plan alone where nothing is launched. */
interface Wanted {
  plan: HostPlan;
  userData: UserData;
  agent: boolean;
  restore?: Restore | undefined;
  snapshots?: Record<string, string> | undefined;
}

const agentPackage = "amazon-ssm-agent";

export async function awsTarget(project: Project, progress: Progress, settings: AwsSettings, choices: AwsChoices = {}): Promise<Target> {
  const { replace = [], deleteVolumes = [], bootSeconds = 600 } = choices;
  const aws = await awsOf(settings.region);
  const store = settings.secrets === "secrets-manager" ? secretsManager(aws) : parameterStore(aws);
  let known: Promise<string> | undefined;
  const bucketName = () => (known ??= bucketOf(aws, settings.bucket));
  /** The stack whose lock this run has for longer than one call. */
  let holding: string | undefined;
  const locked = async (stack: string, what: string) => lockStack(aws, await bucketName(), stack, what, progress.say);

  const apply = async (
    shape: AwsStack,
    extent: Extent,
    inventory: Inventory | undefined,
    { target, replaced = replace }: { target?: string[]; replaced?: string[] } = {},
  ): Promise<Verdict> => {
    const folder = join(project.state, "aws", shape.stack);
    const { terraform, verdict } = await planned(
      shape,
      extent,
      folder,
      { bucket: await bucketName(), inventory, choices: { ...choices, replace: replaced }, target },
      progress,
    );
    if (!target && extent === "all") progress.say(say(verdict));
    refuse(verdict);
    const ending = verdict.changes.filter(
      (c) => c.address.startsWith("aws_instance.") && (c.action === "replace" || c.action === "delete"),
    );
    if (ending.length) await allowTermination(aws, shape.stack, [...replaced, ...ending.flatMap((c) => c.host ?? [])]);
    await during(progress, `terraform apply of ${shape.stack}`, () => terraform.apply());
    return verdict;
  };

  const connect = (machine: Machine): Connection =>
    connectTo(machine, {
      store,
      region: aws.region,
      about: async () => {
        const inventory = await readInventory(aws, await bucketName(), machine.stack);
        const shape = inventory?.shape.hosts.find((h) => h.host === machine.host);
        const distro = inventory?.hosts.find((h) => h.host === machine.host)?.distro ?? "debian";
        return { distro, way: shape ? wayTo(shape) : "ssh" };
      },
      console: () => consoleOf(aws, machine.instance),
    });
  const find = async (stack?: string): Promise<Machine[]> => {
    const bucket = await bucketName();
    const stacks = stack === undefined ? await stacksIn(aws, bucket) : [stack];
    const found = await Promise.all(
      stacks.map(async (name) => {
        const inventory = await readInventory(aws, bucket, name);
        if (!inventory?.hosts.length) return [];
        const instances = await instancesOf(aws, name);
        return Promise.all(
          inventory.hosts.flatMap((record) => {
            const own = instances.filter((i) => i.host === record.host);
            // Of a fleet each machine is one; a host whose instance is gone is said to be stopped.
            const shown = isFleet(inventory, record.host) ? own : [own.find((i) => i.id === record.instance) ?? own[0]];
            return shown.map((instance) => machineOf(aws, bucket, name, record, instance));
          }),
        );
      }),
    );
    return found.flat();
  };

  /** @param replaced hosts that are made anew */
  async function* launch(stack: StackPlan, hosts: HostInput[], replaced: string[]): AsyncGenerator<TargetEvent> {
    const bucket = await bucketName();
    await ensureBucket(aws, bucket);
    const held = await locked(stack.stack, "up");
    try {
      const before = await readInventory(aws, bucket, stack.stack);
      const shape = await resolve(aws, store, stack, hosts.map(wanted), "make");
      await uploads(aws, bucket, hosts, progress);
      const verdict = await apply(shape, "all", before, { replaced });
      for (const { host, fate } of verdict.hosts)
        if (fate === "changed" && shape.hosts.some((h) => h.host === host && h.count !== undefined))
          await untilRefreshed(aws, stack.stack, host, progress);
      const instances = await instancesOf(aws, stack.stack);
      await writeInventory(aws, bucket, inventoryOf(shape, hosts, instances, before));
      yield* watch(aws, bucket, hosts, instances, before, bootSeconds);
    } finally {
      await held.release();
    }
  }

  const target: Target = {
    name: "aws",
    secrets: store,
    spills: true,

    async *up(stack, hosts) {
      try {
        yield* launch(stack, hosts, replace);
      } catch (error) {
        if (error instanceof Cancelled)
          progress.say(`what was made of ${stack.stack} stays: \`ingot up ${stack.stack} --on aws\` goes on, \`ingot down\` ends it`);
        throw error;
      }
    },

    one: {
      alone: true,
      async end(stack, host) {
        const inventory = await readInventory(aws, await bucketName(), stack);
        if (inventory && isFleet(inventory, host))
          throw new RefusedError(
            `${stack}/${host} is a fleet, whose machines hold no data`,
            `\`ingot up ${stack} --on aws\` makes them anew`,
          );
        const held = await locked(stack, "rebuild");
        try {
          await fence(aws, stack, host, progress);
        } finally {
          await held.release();
        }
      },
      async *launch(stack, hosts, host) {
        yield* launch(stack, hosts, [host]);
        // Its next activations restore nothing: what a plan says is what is there.
        await target.refresh(
          stack,
          hosts.map(({ restore: _, snapshots: __, ...input }) => input),
        );
      },
    },
    disks: awsDisks(aws, progress, async (stack, host, volume) => {
      const inventory = await readInventory(aws, await bucketName(), stack);
      if (!inventory) return;
      const folder = join(project.state, "aws", stack);
      const terraform = await initialised(inventory.shape, "all", folder, { bucket: await bucketName(), release: [] }, progress);
      await terraform.forget([addresses.volume(host, volume), addresses.attachment(host, volume)]);
    }),

    found: {
      foreseen: async (plan) =>
        foreseenAddress(plan, plan.aws.address === "elastic" ? await elasticOf(aws, plan.stack, plan.host) : undefined),
      prove: (plan, machine) => proveNames(plan, machine.address, progress.say),
    },

    /** Instances that may serve already are nobody's to take away by a Ctrl-C. */
    async abandon(stack) {
      progress.say(`${stack} stays as it is on EC2`);
    },

    async down(stack) {
      const bucket = await bucketName();
      const held = await locked(stack, "down");
      try {
        const inventory = await readInventory(aws, bucket, stack);
        if (!inventory) return;
        const hosts = inventory.shape.hosts.map((h) => ({
          ...h,
          volumes: h.volumes.filter((v) => !deleteVolumes.includes(`${h.host}/${v.name}`)),
        }));
        const shape = { ...inventory.shape, hosts };
        const kept = hosts.some((h) => h.volumes.length);
        await during(progress, `unlock ${stack}`, () => allowTermination(aws, stack));
        await apply(shape, kept ? "data" : "nothing", { ...inventory, hosts: [] });
        if (kept) await writeInventory(aws, bucket, { ...inventory, shape, hosts: [] });
        else await removeObject(aws, bucket, names.inventory(stack));
      } finally {
        await held.release();
      }
    },

    async stop(stack) {
      const inventory = await readInventory(aws, await bucketName(), stack);
      const fleet = inventory?.hosts.find((h) => isFleet(inventory, h.host));
      if (fleet)
        throw new RefusedError(
          `${stack}/${fleet.host} is a fleet: its Auto Scaling group would put new machines in the place of stopped ones`,
          `\`ingot down ${stack} --on aws\` ends it; data volumes and secrets stay`,
        );
      const held = await locked(stack, "stop");
      try {
        await power(aws, await instancesOf(aws, stack), "stop", progress);
      } finally {
        await held.release();
      }
    },

    async start(stack) {
      const held = await locked(stack, "start");
      try {
        const off = (await instancesOf(aws, stack)).filter((i) => i.state !== "running");
        await power(aws, off, "start", progress);
        // EC2 has taken their addresses back, but Elastic ones. The names are moved by a launch: only that knows what else the stack is to be now.
        for (const { host, address, dns } of (await readInventory(aws, await bucketName(), stack))?.shape.hosts ?? [])
          if (dns && address === "dynamic" && off.some((i) => i.host === host))
            progress.say(
              `${stack}/${host} has another address than before it was off: \`ingot up ${stack} --on aws\` moves ${dns.names.join(", ")} to it`,
            );
        // EC2 says "running" as soon as the machine has power.
        const machines = await find(stack);
        await during(progress, `boot of ${stack}`, () => Promise.all(machines.map((m) => untilUp(connect(m), m, bootSeconds))));
      } finally {
        await held.release();
      }
    },

    find,
    connect,

    /**
     * The role of a host names what it may read, so a new release or secret is Terraform's matter: the permissions, and nothing else but the
     * size of its volumes, which grow while they are in use.
     */
    async hold(stack, what) {
      const held = await locked(stack, what);
      holding = stack;
      return {
        release: async () => {
          holding = undefined;
          await held.release();
        },
      };
    },

    async refresh(stack, hosts) {
      const bucket = await bucketName();
      const held = holding === stack.stack ? undefined : await locked(stack.stack, "apply");
      try {
        const inventory = await readInventory(aws, bucket, stack.stack);
        const shape = await resolve(aws, store, stack, hosts.map(wanted), "make", inventory);
        await uploads(aws, bucket, hosts, progress);
        await apply(shape, "all", inventory, {
          target: shape.hosts.flatMap((h) => [...addresses.permissions(h.host), ...h.volumes.map((v) => addresses.volume(h.host, v.name))]),
        });
        if (inventory) {
          const become = new Map(shape.hosts.map((h) => [h.host, { generation: h.generation, userData: sha256(h.userData) }]));
          await writeInventory(aws, bucket, {
            ...inventory,
            hosts: inventory.hosts.map((h) => ({ ...h, ...become.get(h.host) })),
          });
        }
      } finally {
        await held?.release();
      }
    },

    beyondApply(plan, machine, image) {
      if (plan.count !== undefined)
        throw new RefusedError(
          `${plan.stack}/${plan.host} is a fleet: what is applied to its machines would not be on those that come after them`,
          `\`ingot up ${plan.stack} --on aws\` makes them anew, one after the other`,
        );
      const lacking = plan.volumes.filter((v) => !machine.volumes.includes(v.name));
      if (lacking.length)
        throw new RefusedError(
          `${plan.stack}/${plan.host} has no volume ${lacking.map((v) => v.name).join(", ")} yet`,
          `\`ingot up ${plan.stack} --on aws\` makes and attaches it`,
        );
      if (machine.imageDigest === image) return [];
      return [
        `${plan.host} runs the image ${short(machine.imageDigest)}, not the recipe's: \`ingot up ${plan.stack} --on aws --replace ${plan.host}\``,
      ];
    },
  };
  return target;
}

const wanted = ({ plan, userData, image, restore, snapshots }: HostInput): Wanted => ({
  plan,
  userData,
  agent: agentPackage in image.manifest.packages,
  restore,
  snapshots,
});

/** A plan of Terraform's that nobody has applied, in words. Nothing is baked, uploaded or made for it. */
export async function foresee(
  project: Project,
  progress: Progress,
  settings: AwsSettings,
  plan: StackPlan,
  agents: string[],
  choices: AwsChoices,
): Promise<Verdict> {
  const aws = await awsOf(settings.region);
  const store = settings.secrets === "secrets-manager" ? secretsManager(aws) : parameterStore(aws);
  const bucket = await bucketOf(aws, settings.bucket);
  const hosts = plan.hosts.map((host) => ({ plan: host, userData: userDataOf(host, "spills"), agent: agents.includes(host.host) }));
  const inventory = await readInventory(aws, bucket, plan.stack);
  let missing: NoAmi | undefined;
  const resolved = await resolve(aws, store, plan, hosts, "look", undefined, (host, error) => {
    missing ??= error;
    const { architecture } = loadRecipe(project, host.image.name);
    const { name: recipe, digest = "" } = host.image;
    return { id: "", recipe, digest, architecture: architecture === "arm64" ? "arm64" : "x86_64", rootDevice };
  });
  // Before the first launch there is no bucket, and so no state in it.
  const shape: AwsStack = inventory || (await hasBucket(aws, bucket)) ? resolved : { ...resolved, state: "local" };
  const folder = join(project.state, "aws", `${plan.stack}.plan`);
  if (missing) {
    // CDKTF can make both, AMI and stack (main.ts); Terraform alone has nothing to plan an instance of.
    const { synthesise } = await import("./synth.ts");
    synthesise(shape, "all", folder, { bucket });
    throw new NoAmi(missing.message, `${missing.hint}\n\`cdktf deploy image ${plan.stack}\` makes the AMI and then the stack`);
  }
  return (await planned(shape, "all", folder, { bucket, inventory, choices }, progress)).verdict;
}

/** Terraform's plan of a stack, and what the guard says of it. */
async function planned(
  shape: AwsStack,
  extent: Extent,
  folder: string,
  about: { bucket: string; inventory?: Inventory; choices: AwsChoices; target?: string[] },
  progress: Progress,
): Promise<{ terraform: Terraform; verdict: Verdict }> {
  const { replace = [], deleteVolumes = [] } = about.choices;
  const { synthesise } = await import("./synth.ts");
  // With `prevent_destroy` Terraform would give up before it says what it would do: here the guard decides, and says it in words. What is
  // left in the folder afterwards is for whoever runs Terraform by hand.
  const all = [...shape.hosts, ...(about.inventory?.shape.hosts ?? [])].flatMap((h) => h.volumes.map((v) => `${h.host}/${v.name}`));
  const terraform = await initialised(shape, extent, folder, { bucket: about.bucket, release: all }, progress);
  const again = replace.flatMap((host) => replacedBy(shape, host));
  const plan = await during(progress, `terraform plan of ${shape.stack}`, () => terraform.plan({ replace: again, target: about.target }));
  synthesise(shape, extent, folder, { release: deleteVolumes, bucket: about.bucket });
  return { terraform, verdict: guard(plan, { stack: shape, inventory: about.inventory, replace, deleteVolumes }) };
}

/** Terraform at a stack that has been synthesised. @param about volumes that may be deleted: "host/volume" */
async function initialised(
  shape: AwsStack,
  extent: Extent,
  folder: string,
  { bucket, release }: { bucket: string; release: string[] },
  progress: Progress,
): Promise<Terraform> {
  const { synthesise } = await import("./synth.ts");
  mkdirSync(folder, { recursive: true });
  synthesise(shape, extent, folder, { release, bucket });
  const own = join(folder, "..", shape.stack);
  const stateFile = own === folder ? undefined : join(own, "terraform.tfstate");
  const terraform = terraformAt(folder, { bucket, state: shape.state, stateFile, region: shape.region }, progress);
  await during(progress, "terraform init", () => terraform.init());
  return terraform;
}

/** @throws RefusedError with all that the guard refuses */
function refuse(verdict: Verdict): void {
  if (verdict.refused.length)
    throw new RefusedError(verdict.refused.map((r) => r.words).join("\n"), [...new Set(verdict.refused.map((r) => r.unless))].join("\n"));
}

/**
 * What of the account the plan stands on: which AMI, which key. `look` makes nothing.
 * @param without what stands for an AMI that is still to be made. @default NoAmi is thrown
 */
async function resolve(
  aws: Aws,
  store: SecretStore,
  stack: StackPlan,
  hosts: Wanted[],
  how: "make" | "look",
  running?: Inventory,
  without?: (host: HostPlan, error: NoAmi) => AwsImage,
): Promise<AwsStack> {
  const images: Record<string, AwsImage> = {};
  await Promise.all(
    hosts.map(async ({ plan }) => {
      // A running host stays on its image, whether there is another by now or not.
      const record = running?.shape.hosts.find((h) => h.host === plan.host);
      try {
        images[plan.host] = record?.image ?? (await amiOf(aws, plan.aws.image, plan.image));
      } catch (error) {
        if (!(error instanceof NoAmi && without)) throw error;
        images[plan.host] = without(plan, error);
      }
    }),
  );
  const secret = { name: names.operatorKey, generate: "ssh-ed25519", resource: "operator" } as const;
  const key =
    how === "make"
      ? (await secretsOf(store, { stack: stack.stack, secrets: [secret] }))[names.operatorKey]
      : await store.get(stack.stack, names.operatorKey);
  return shapeOf(stack, {
    region: aws.region,
    images,
    userData: Object.fromEntries(hosts.map((h) => [h.plan.host, h.userData.bytes])),
    operatorKey: key === undefined ? keyToBe : await publicSshKey(key),
    agent: Object.fromEntries(hosts.map((h) => [h.plan.host, h.agent])),
    spilled: Object.fromEntries(hosts.map((h) => [h.plan.host, h.userData.spilled.map((f) => f.sha256)])),
    restores: Object.fromEntries(hosts.flatMap((h) => (h.restore ? [[h.plan.host, h.restore]] : []))),
    snapshots: Object.fromEntries(hosts.map((h) => [h.plan.host, h.snapshots ?? {}])),
  });
}

async function uploads(aws: Aws, bucket: string, hosts: HostInput[], progress: Progress): Promise<void> {
  const files = hosts.flatMap(({ plan, userData }) => [
    ...plan.artifacts.map((a) => ({ key: `${names.artifacts}${a.sha256}`, from: { path: a.path }, sha256: a.sha256, what: a.resource })),
    ...userData.spilled.map((f) => ({ key: `${names.files}${f.sha256}`, from: { bytes: f.bytes }, sha256: f.sha256, what: f.resource })),
  ]);
  for (const { key, from, sha256: hash, what } of new Map(files.map((f) => [f.key, f])).values())
    await during(progress, `upload of ${what}`, () => upload(aws, bucket, key, from, hash));
}

/** Addresses for `-replace`: the instance, or what a fleet's machines are made from. */
function replacedBy(shape: AwsStack, host: string): string[] {
  const found = shape.hosts.find((h) => h.host === host);
  if (!found) throw new RefusedError(`${shape.stack} has no host \`${host}\``, `there are: ${shape.hosts.map((h) => h.host).join(", ")}`);
  return [found.count === undefined ? addresses.instance(host) : addresses.fleet(host)];
}

function inventoryOf(shape: AwsStack, hosts: HostInput[], instances: Instance[], before: Inventory | undefined): Inventory {
  return {
    stack: shape.stack,
    region: shape.region,
    shape,
    hosts: shape.hosts.map((h): HostRecord => {
      const input = hosts.find((i) => i.plan.host === h.host);
      const [instance] = instances.filter((i) => i.host === h.host);
      const was = before?.hosts.find((r) => r.host === h.host);
      if (was && was.instance === instance?.id) return { ...was, volumes: volumesOf(h.volumes) };
      return {
        host: h.host,
        instance: instance?.id ?? "",
        imageDigest: h.image.digest,
        distro: input?.image.manifest.distro ?? "",
        ami: h.image.id,
        generation: h.generation,
        userData: sha256(h.userData),
        volumes: volumesOf(h.volumes),
        launched: instance?.began ?? "",
      };
    }),
  };
}

const volumesOf = (volumes: { name: string }[]): Record<string, string> => Object.fromEntries(volumes.map((v) => [v.name, ""]));

const isFleet = ({ shape }: Inventory, host: string): boolean => shape.hosts.some((h) => h.host === host && h.count !== undefined);

async function machineOf(aws: Aws, bucket: string, stack: string, record: HostRecord, instance: Instance | undefined): Promise<Machine> {
  const report = instance && (await reportOf(aws, bucket, stack, record.host, instance.id).read()).findLast((e) => e.event === "activated");
  const outcome = report?.event === "activated" ? report.activation.outcome : undefined;
  const state = (): Machine["state"] => {
    if (!instance || instance.state === "stopped" || instance.state === "stopping") return "stopped";
    return outcome === undefined ? "starting" : outcome === "done" ? "running" : "failed";
  };
  return {
    stack,
    host: record.host,
    instance: instance?.id ?? record.instance,
    state: state(),
    imageDigest: record.imageDigest,
    generation: record.generation,
    address: instance?.address ?? "",
    forwards: {},
    volumes: Object.keys(record.volumes),
    began: instance?.began ?? record.launched,
  };
}

/** Events of every host until each of its instances has said how its first boot ended. One that stood before says it again, from its report. */
async function* watch(
  aws: Aws,
  bucket: string,
  hosts: HostInput[],
  instances: Instance[],
  before: Inventory | undefined,
  bootSeconds: number,
): AsyncGenerator<TargetEvent> {
  const began = performance.now();
  const waiting = new Set<{ input: HostInput; instance: Instance; report: ReturnType<typeof reportOf>; begun: boolean; looked: number }>();
  for (const input of hosts) {
    const { stack, host } = input.plan;
    const own = instances.filter((i) => i.host === host);
    if (!own.length) yield { event: "lost", host, reason: "EC2 has no instance of it", console: "" };
    for (const instance of own) {
      const was = before?.hosts.find((h) => h.host === host);
      // Of a fleet the record has one machine, and the time of its launch.
      const stood = was && (was.instance === instance.id || (input.plan.count !== undefined && instance.began <= was.launched));
      yield { event: "machine", host, text: `${instance.id} ${stood ? "stays" : "launched"} at ${instance.address}` };
      waiting.add({ input, instance, report: reportOf(aws, bucket, stack, host, instance.id), begun: false, looked: 0 });
    }
  }
  // Of a fleet each machine reports: the host has activated once the last of them has, and has failed with the first that fails.
  const open = (host: string) => [...waiting].filter((w) => w.input.plan.host === host).length;
  const failed = new Set<string>();
  while (waiting.size) {
    for (const one of waiting) {
      const { host } = one.input.plan;
      const first = [...waiting].find((w) => w.input.plan.host === host) === one;
      for (const event of await one.report.read()) {
        one.begun = true;
        if (event.event === "step" && first) yield event;
        if (event.event !== "activated") continue;
        waiting.delete(one);
        const bad = event.activation.outcome === "failed";
        if (failed.has(host)) continue;
        if (bad) failed.add(host);
        if (bad || open(host) === 0) yield event;
      }
      if (!waiting.has(one)) continue;
      const reason = await lostBy(aws, one, (performance.now() - began) / 1000, bootSeconds);
      if (reason === undefined) continue;
      waiting.delete(one);
      if (!failed.has(host)) yield { event: "lost", host, reason, console: await consoleOf(aws, one.instance.id) };
      failed.add(host);
    }
    if (waiting.size) await sleep(lookSeconds());
  }
}

/** Why an instance will never report the end of its first boot; undefined while it may. `now`: seconds since its launch. */
async function lostBy(
  aws: Aws,
  one: { input: HostInput; instance: Instance; begun: boolean; looked: number },
  now: number,
  bootSeconds: number,
): Promise<string | undefined> {
  if (!one.begun && now > bootSeconds) return `nothing was reported within ${bootSeconds} s`;
  if (now > bootSeconds + activationLimit(one.input.plan)) return `it is not done after ${Math.round(now)} s`;
  if (now < one.looked + 10) return undefined;
  one.looked = now;
  const there = (await instancesOf(aws, one.input.plan.stack)).find((i) => i.id === one.instance.id);
  if (!there) return `the instance ${one.instance.id} was terminated before it was what it is to become`;
  return there.state === "stopped" ? `the instance ${one.instance.id} was stopped before it was what it is to become` : undefined;
}
