// Where hosts run, behind one interface. A target is one file below stacks/; commands never ask which one they have.
import type { HostPlan, Limits, Restore, StackPlan } from "../cloud-init/plan.ts";
import type { UserData } from "../cloud-init/user-data.ts";
import type { Image } from "../images/image.ts";
import type { SecretStore } from "./secrets.ts";
import type { CheckResult } from "./verify.ts";

/** What `up` needs for one host: its plan, the image it boots, the user-data bytes, the secrets as files. */
export interface HostInput {
  plan: HostPlan;
  image: Image;
  userData: UserData;
  /** Values by name; a target hands them to the machine by its own safe way, never in user-data or argv. */
  secrets: Record<string, string>;
  /** It takes a lost machine's place. */
  restore?: Restore;
  /** It stands beside its production: folders of this computer, with what nobody can write to, that it sees as well (nspawn.ts), by the volumes
   * of production that they are. */
  repositories?: Record<string, string>;
  /** Of volumes that are lost and in no backup: what they are made from (Disks.snapshot), by name. */
  snapshots?: Record<string, string>;
}

export interface Machine {
  stack: string;
  host: string;
  /** Instance id as cloud-init sees it; a new one for each launch. */
  instance: string;
  state: "starting" | "running" | "failed" | "stopped";
  imageDigest: string;
  generation: string;
  address: string;
  /** Port on the machine → address and port on this computer's loopback ("127.0.0.1:8443"). */
  forwards: Record<number, string>;
  /** Names of the data volumes that it was launched with. */
  volumes: string[];
  /** What it was launched to use at most; on EC2 the instance's type says it. */
  limits?: Limits;
  began: string;
}

export type StepOutcome = "changed" | "unchanged" | "failed" | "timeout" | "not-run";
/** One line of the host's report, as its activator writes it. */
export interface StepEvent {
  step: string;
  outcome: StepOutcome;
  seconds: number;
  /** The end of the step's log, when it failed. */
  log?: string;
}
/** The last line of the report: the whole activation. */
export interface ActivationEvent {
  generation: string;
  outcome: "done" | "failed";
  seconds: number;
  /** Configuration files and units of the generation that were written, and that were removed because they are declared no more. */
  written: number;
  removed: number;
  /** Why the generation was refused before any step ran. */
  error?: string;
}

export type TargetEvent =
  | { event: "machine"; host: string; text: string }
  | { event: "step"; host: string; step: StepEvent }
  | { event: "activated"; host: string; activation: ActivationEvent }
  /** The machine died, or is up and will never activate anything: why, and the end of what it wrote on its console. */
  | { event: "lost"; host: string; reason: string; console: string };

export interface ExecOptions {
  input?: string;
  /** Standard streams are the caller's own; when they are a terminal, the program gets one of the machine's. */
  interactive?: true;
  /** Ended after so many seconds, with exit code 124. */
  timeoutSeconds?: number;
}
export interface ExecResult {
  code: number;
  stdout: string;
  stderr: string;
}

export interface Connection {
  /** Runs a program on the machine as root, by argument list: nothing is parsed by a shell. */
  exec(argv: string[], options?: ExecOptions): Promise<ExecResult>;
  /** Copies a file or folder of this computer onto the machine. */
  copy(from: string, to: string): Promise<void>;
  /** Copies a file or folder of the machine into a folder of this computer. */
  fetch(from: string, folder: string): Promise<void>;
  /** What the machine wrote on its console, from its start. */
  console(): Promise<string>;
  reboot(): Promise<void>;
  /** Runs a program of this computer where it sees the machine as `operator` (the stack's network) does. */
  beside(argv: string[], options?: ExecOptions): Promise<ExecResult>;
  /** Steps of the running or last activation, as they end; ends with its `activated`. */
  follow(): AsyncIterable<TargetEvent>;
}

/** One machine of a stack ended and launched anew while the others run on. */
export interface OneHost {
  /** Also where it is the stack's only one. */
  readonly alone: boolean;
  /** Ends the host's machine. Volumes stay. */
  end(stack: string, host: string): Promise<void>;
  /** Launches a host, whose machine has been ended, at its address.
   * @param hosts all of the stack
   * @param forwards where its old machine answered on this computer: the new one answers there, too */
  launch(stack: StackPlan, hosts: HostInput[], host: string, forwards: Machine["forwards"]): AsyncIterable<TargetEvent>;
}

/** `elsewhere`: the zone that it is in, which is not its host's; `broken` there: why it cannot be read. */
export type Health = "healthy" | "missing" | { broken: string } | { elsewhere: string; broken?: string };

/** A whole picture of a volume, from which another can be made. */
export interface Picture {
  id: string;
  /** ISO 8601. */
  taken: string;
}

/** A host's data volumes, while no machine uses them. */
export interface Disks {
  health(host: HostPlan, volume: string): Promise<Health>;
  /** Where disks are in zones: health may be asked while machines use them, too. */
  readonly zones?: {
    /** @throws RefusedError where this host of the stack cannot go into another zone */
    mayMove(stack: StackPlan, host: HostPlan): void;
  };
  /** For people, who are to bring it back. */
  where(host: HostPlan, volume: string): string;
  /** What its file system holds, as it lies there; undefined: this target cannot read it. */
  readonly files?: {
    /** undefined: there is none. */
    read(host: HostPlan, volume: string, path: string): Promise<string | undefined>;
    /** Names in a folder; none where there is none. */
    list(host: HostPlan, volume: string, path: string): Promise<string[]>;
    /** When a file was written, seconds since 1970. */
    written(host: HostPlan, volume: string, path: string): Promise<number | undefined>;
  };
  /** Puts one where nobody takes it for the host's; nothing is deleted. @returns what it is called from now on; undefined when there is none */
  setAside(host: HostPlan, volume: string, when: string): Promise<string | undefined>;
  /** The last whole picture of it that was taken beside the backups. */
  snapshot?(host: HostPlan, volume: string): Promise<Picture | undefined>;
  /** One that is taken of it now, for one rebuild; what an earlier run of the same rebuild has begun is gone on with.
   * @param rebuild what only that one is called @returns `cannot`: why there is none */
  copy?(host: HostPlan, volume: string, rebuild: string): Promise<Picture | { cannot: string }>;
}

/** How others find a host, where its machine's address is not its own. */
export interface Found {
  /** What would become of it if the machine were made anew, in words. */
  foreseen(host: HostPlan): Promise<string>;
  /** Whether its names in DNS lead to the machine and nowhere else; says of which nobody here can be asked. */
  prove(host: HostPlan, machine: Machine): Promise<CheckResult[]>;
}

export interface Hold {
  release(): void | Promise<void>;
}

/** A way from this computer into a stack's network. */
export interface Way {
  /** A socket of the file system: who connects to it is at the address there. */
  socket: string;
  close(): Promise<void>;
}

export interface Target {
  readonly name: "container" | "vm" | "aws";
  /** Where this target keeps secrets, outside every host. */
  readonly secrets: SecretStore;
  /** What user-data has no room for can be fetched from elsewhere. */
  readonly spills: boolean;
  /** Launches every host of the plan; ends when each has activated its generation, or failed to, or died. Where a stack that is up can
   * be changed by a launch (EC2), machines that need not be new stay and give the end of their own report.
   * @throws RefusedError where it is up already, or where something with data would go */
  up(stack: StackPlan, hosts: HostInput[]): AsyncIterable<TargetEvent>;
  /** The user stopped a launch while it was verified. */
  abandon(stack: string): Promise<void>;
  /** Ends the machines of a stack. Volumes stay. */
  down(stack: string): Promise<void>;
  /** undefined: it can only end and launch a stack's machines together. */
  readonly one?: OneHost;
  readonly disks: Disks;
  readonly found?: Found;
  /** Powers machines off, and on again as they were. */
  stop(stack: string): Promise<void>;
  start(stack: string): Promise<void>;
  /** Machines that are there, running or not; of one stack or of all. */
  find(stack?: string): Promise<Machine[]>;
  connect(machine: Machine): Connection;
  /** To where the machines of a stack get, and this computer does not; undefined: the stack has no network now. @param place "10.1.9.254:9000" */
  wayInto?(stack: string, place: string): Promise<Way | undefined>;
  /** One change of a stack's machines at a time: waits for whoever is at it, a launch or another apply, and says so. `refresh` is for its holder. */
  hold(stack: string, what: string): Promise<Hold>;
  /** Makes new secrets and artifacts visible to running machines before `apply`. */
  refresh(stack: StackPlan, hosts: HostInput[]): Promise<void>;
  /** What `apply` cannot bring to a running machine, in words; `image`: digest of the recipe's image.
   * @throws RefusedError when it had better not begin */
  beyondApply(plan: HostPlan, machine: Machine, image: string | undefined): string[];
}

/** Seconds that an activation may take: every step's own limit, one after the other, and a minute for all the rest. */
export const activationLimit = (plan: HostPlan): number => 60 + plan.generation.steps.reduce((sum, step) => sum + step.timeoutSeconds, 0);
