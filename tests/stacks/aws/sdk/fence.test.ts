// Fencing an old machine on EC2, against moto: in which states it is waited for, what is told to EC2 in each, and by whose clock its keys are refused.
// moto's machines are off at once; the states on the way are put into its answers here, with the filter that EC2 holds them to.
import {
  DescribeInstancesCommand,
  type Filter,
  type InstanceStateName,
  type Reservation,
  RunInstancesCommand,
  StopInstancesCommand,
  TerminateInstancesCommand,
} from "@aws-sdk/client-ec2";
import {
  AddRoleToInstanceProfileCommand,
  CreateInstanceProfileCommand,
  CreateRoleCommand,
  GetRolePolicyCommand,
  ListRolePoliciesCommand,
} from "@aws-sdk/client-iam";
import * as assert from "uvu/assert";
import { RefusedError } from "../../../../lib/diagnostics.ts";
import { silent } from "../../../../lib/progress.ts";
import { type Aws, awsOf } from "../../../../stacks/aws/api.ts";
import { fence } from "../../../../stacks/aws/recovery.ts";
import { assumedBy } from "../../../../stacks/aws/role.ts";
import { type Moto, motoAmis, startMoto } from "../../../moto.ts";
import { suite } from "../../../suite.ts";

const test = suite("fence on ec2");
const one = motoAmis() ? test : test.skip;
let moto: Moto;

test.before(async () => {
  process.env.INGOT_LOOK_SECONDS = "0.05";
  if (motoAmis()) moto = await startMoto(motoAmis());
});
test.after(() => moto?.stop());
test.after.each(() => {
  delete process.env.INGOT_OFF_SECONDS;
});

interface Account {
  aws: Aws;
  instance: string;
  /** What EC2 says of the machine at each look at it, the last for as long as it is asked; none: what moto says. */
  states: InstanceStateName[];
  /** Calls, and the state that the machine was said to have when each was made. */
  told: string[];
}

/** A machine of kept/db, with a role. */
async function account(): Promise<Account> {
  await moto.reset();
  const aws = await awsOf(undefined);
  const [ec2, iam] = [await aws.ec2(), await aws.iam()];
  const [RoleName, InstanceProfileName] = ["db", "db"];
  await iam.send(new CreateRoleCommand({ RoleName, AssumeRolePolicyDocument: assumedBy("ec2.amazonaws.com") }));
  await iam.send(new CreateInstanceProfileCommand({ InstanceProfileName }));
  await iam.send(new AddRoleToInstanceProfileCommand({ InstanceProfileName, RoleName }));
  const { Instances = [] } = await ec2.send(
    new RunInstancesCommand({
      ImageId: "ami-12345678",
      MinCount: 1,
      MaxCount: 1,
      IamInstanceProfile: { Name: InstanceProfileName },
      TagSpecifications: [
        {
          ResourceType: "instance",
          Tags: Object.entries({ "ingot:stack": "kept", "ingot:host": "db" }).map(([Key, Value]) => ({ Key, Value })),
        },
      ],
    }),
  );
  const it: Account = { aws, instance: Instances[0]?.InstanceId ?? "", states: [], told: [] };
  let said = "";
  ec2.middlewareStack.add(
    (next, { commandName = "" }) =>
      async (args) => {
        if (commandName !== "DescribeInstancesCommand") {
          it.told.push(`${commandName} while ${said}`);
          return next(args);
        }
        const input = args.input as { Filters?: Filter[] };
        const wanted = input.Filters?.find((f) => f.Name === "instance-state-name")?.Values;
        const all = await next({ ...args, input: { ...input, Filters: input.Filters?.filter((f) => f.Name !== "instance-state-name") } });
        const reservations = (all.output as { Reservations?: Reservation[] }).Reservations ?? [];
        const [state = reservations[0]?.Instances?.[0]?.State?.Name ?? ""] = it.states.length > 1 ? it.states.splice(0, 1) : it.states;
        said = state;
        for (const i of reservations.flatMap((r) => r.Instances ?? [])) i.State = { Name: state as InstanceStateName };
        if (wanted && !wanted.includes(state)) reservations.length = 0;
        return all;
      },
    { step: "initialize" },
  );
  return it;
}

/** The policy of the fence in the machine's role. */
async function policy({ aws }: Account): Promise<string | undefined> {
  const iam = await aws.iam();
  const { PolicyNames = [] } = await iam.send(new ListRolePoliciesCommand({ RoleName: "db" }));
  if (!PolicyNames.length) return undefined;
  const { PolicyDocument = "" } = await iam.send(new GetRolePolicyCommand({ RoleName: "db", PolicyName: "ingot-fenced" }));
  return decodeURIComponent(PolicyDocument);
}

const fenced = ({ aws }: Account) => fence(aws, "kept", "db", silent);
async function refused(work: Promise<void>): Promise<string> {
  const error = await work.then(
    () => undefined,
    (e: unknown) => e,
  );
  assert.instance(error, RefusedError, String(error));
  return `${(error as RefusedError).message}\n${(error as RefusedError).hint}`;
}

one("one that runs is stopped, after its rights are withdrawn", async () => {
  const it = await account();
  await fenced(it);
  assert.equal(it.told, ["StopInstancesCommand while running"]);
  const { Reservations } = await (await it.aws.ec2()).send(new DescribeInstancesCommand({ InstanceIds: [it.instance] }));
  assert.is(Reservations?.[0]?.Instances?.[0]?.State?.Name, "stopped");
  assert.match(
    (await policy(it)) ?? "",
    /"Effect":"Deny","Action":\["\*"\],"Resource":\["\*"\].*"DateLessThan":\{"aws:TokenIssueTime":"20/,
  );
});

one("one that is being terminated may write until it is: its rights are withdrawn, and it is waited for", async () => {
  const it = await account();
  it.states = ["shutting-down", "shutting-down", "shutting-down", "terminated"];
  await fenced(it);
  assert.equal(it.states, ["terminated"]);
  assert.equal(it.told, []);
  assert.match((await policy(it)) ?? "", /"Sid":"Fenced"/);
});

one("one that gets no further is not called off, and the machine to end is named", async () => {
  const it = await account();
  process.env.INGOT_OFF_SECONDS = "1";
  it.states = ["shutting-down"];
  assert.match(
    await refused(fenced(it)),
    new RegExp(`kept/db is not proven to be off: after 1 s EC2 says shutting-down\n.*terminate ${it.instance} and do the same again`),
  );
});

one("one that is only being launched is stopped once it can be; one that EC2 cannot stop is forced", async () => {
  const it = await account();
  it.states = ["pending", "pending", "running", "stopping", "stopping", "stopped"];
  await fenced(it);
  assert.equal(it.told, ["StopInstancesCommand while running"]);
  const stopping = await account();
  stopping.states = ["stopping", "stopping", "stopped"];
  await fenced(stopping);
  assert.equal(stopping.told, ["StopInstancesCommand while stopping"]);
});

one("one that is off is told nothing, and has no rights either: somebody might start it", async () => {
  const it = await account();
  const ec2 = await it.aws.ec2();
  await ec2.send(new StopInstancesCommand({ InstanceIds: [it.instance] }));
  it.told = [];
  await fenced(it);
  assert.equal(it.told, []);
  assert.match((await policy(it)) ?? "", /"Sid":"Fenced"/);
});

one("none, or one that has been terminated, is nobody's to fence", async () => {
  const it = await account();
  await (await it.aws.ec2()).send(new TerminateInstancesCommand({ InstanceIds: [it.instance] }));
  await fenced(it);
  assert.is(await policy(it), undefined);
});

one("keys are refused by AWS's clock, not by this computer's", async () => {
  const it = await account();
  (await it.aws.sts()).middlewareStack.add(
    (next) => async (args) => {
      const answer = await next(args);
      (answer.response as { headers: Record<string, string> }).headers.date = "Mon, 02 Mar 2026 11:22:33 GMT";
      return answer;
    },
    // Further from the caller than what reads it.
    { step: "deserialize", priority: "low" },
  );
  await fenced(it);
  assert.match((await policy(it)) ?? "", /"aws:TokenIssueTime":"2026-03-02T11:22:33\.000Z"/);
});

test.run();
