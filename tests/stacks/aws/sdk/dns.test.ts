// Where the names of a host on EC2 lead: what a rebuild says of it before, and what the name servers of its zone answer afterwards, asked by Node's own client
// of DNS over UDP on loopback.
import * as assert from "uvu/assert";
import type { HostPlan } from "../../../../cloud-init/plan.ts";
import { answersOf, type Dns, foreseenAddress, proveNames } from "../../../../stacks/aws/dns.ts";
import { type Records, serveDns } from "../../../dns.ts";
import { suite } from "../../../suite.ts";
import { planOfText } from "../synth/fixtures.ts";

const test = suite("names on ec2");
const zone = "example.org";
const name = "db.example.org";

const hostOf = (aws: string, more: "" | `    address: ${string}` = ""): HostPlan => {
  const [host] = planOfText(
    `stack: kept\n${more && "network: 10.1.1.0/24\n"}hosts:\n  db:\n    image: debian-12\n    hostname: db\n    domain: example.org\n    aws: { ${aws} }\n${more}\n`,
  ).hosts;
  if (!host) throw new Error("no host");
  return host;
};

/** Two name servers, at addresses of their own, and a resolver that knows them. @param first, second what they answer to the name */
async function servers(first: Records, second: Records = first): Promise<{ dns: Dns; stop(): void }> {
  const resolver = await serveDns("127.0.0.1", 0, (asked, type) => {
    if (asked === zone) return type === "NS" ? ["ns-2.test", "ns-1.test"] : [];
    const server = ["ns-1.test", "ns-2.test"].indexOf(asked);
    return server < 0 ? ["192.0.2.99"] : [`127.0.0.${server + 2}`];
  });
  const one = await serveDns("127.0.0.2", resolver.port, first);
  const two = await serveDns("127.0.0.3", resolver.port, second);
  return {
    dns: { resolver: "127.0.0.1", port: resolver.port, patience: 1000 },
    stop: () => {
      for (const server of [resolver, one, two]) server.stop();
    },
  };
}
const always =
  (...addresses: string[]): Records =>
  () =>
    addresses;
const nobody = (words: string): never => {
  throw new Error(words);
};

async function provenWith(records: [Records, Records?], aws = `dns: { zone: ${zone} }`, seconds = 0.2) {
  const { dns, stop } = await servers(...records);
  try {
    return await proveNames(hostOf(aws), "192.0.2.2", nobody, { dns, seconds });
  } finally {
    stop();
  }
}

test.before(() => {
  process.env.INGOT_LOOK_SECONDS = "0.05";
});

test("a name that leads to the machine, at every name server of its zone", async () => {
  assert.equal(await provenWith([always("192.0.2.2")]), [
    {
      id: `dns/${name}`,
      host: "db",
      resource: "dns",
      seen: "stranger",
      check: "dns",
      ok: true,
      message: "192.0.2.2, say the 2 name servers of example.org",
    },
  ]);
  const two = await provenWith([always("192.0.2.2")], `dns: { zone: ${zone}, names: [a.example.org, "*.example.org"] }`);
  assert.equal(
    two.map((r) => [r.id, r.ok]),
    [
      ["dns/a.example.org", true],
      ["dns/*.example.org", true],
    ],
  );
  assert.equal(await provenWith([always("192.0.2.2")], "type: t3.small"), []);
});

test("the old address, at one of them, beside the new one, or in its place, and no name at all, are said and wrong", async () => {
  const said = async (first: Records, second?: Records) => {
    const [result] = await provenWith([first, second]);
    assert.is(result?.ok, false);
    return result?.message;
  };
  assert.is(await said(always("192.0.2.2"), always("192.0.2.1")), "it is to be 192.0.2.2: ns-2.test says 192.0.2.1");
  assert.is(
    await said(always("192.0.2.2", "192.0.2.1")),
    "it is to be 192.0.2.2: ns-1.test says 192.0.2.1 and 192.0.2.2, ns-2.test says 192.0.2.1 and 192.0.2.2",
  );
  assert.is(
    await said(() => undefined, always()),
    "it is to be 192.0.2.2: ns-1.test says that there is no such name, ns-2.test says that there is no such name",
  );
});

test("a change that is on its way is waited for", async () => {
  let asked = 0;
  const [result] = await provenWith([always("192.0.2.2"), () => (++asked < 4 ? ["192.0.2.1"] : ["192.0.2.2"])], undefined, 10);
  // A question may have been asked twice.
  assert.is(result?.ok, true);
  assert.ok(asked >= 4, String(asked));
});

test("one name server that is silent is left out; with none the resolver is asked, which may answer what is no more", async () => {
  const silent: Records = () => Promise.reject(new Error("silent"));
  const { dns, stop } = await servers(always("192.0.2.2"), silent);
  const half = await answersOf(name, zone, dns).finally(stop);
  assert.equal(half, { by: "a name server of example.org", each: [{ server: "ns-1.test", addresses: ["192.0.2.2"] }] });
  const none = await servers(silent);
  assert.equal(await answersOf(name, zone, none.dns).finally(none.stop), {
    by: "this computer's resolver",
    each: [{ server: "this computer's resolver", addresses: ["192.0.2.99"] }],
  });
});

test("where nobody can be asked there is no result, and it is said what is not proven", async () => {
  const { dns, stop } = await servers(always("192.0.2.2"));
  stop();
  const said: string[] = [];
  assert.equal(await proveNames(hostOf(`dns: { zone: ${zone} }`), "192.0.2.2", (words) => said.push(words), { dns }), []);
  assert.equal(said, [
    "db.example.org is to be 192.0.2.2, and nothing here proves it: this computer finds no name server of example.org (ECONNREFUSED)",
  ]);
  const { port, stop: end } = await serveDns("127.0.0.1", 0, () => undefined);
  assert.equal(await answersOf(name, zone, { resolver: "127.0.0.1", port, patience: 1000 }).finally(end), {
    unasked: "this computer finds no name server of example.org (ENOTFOUND)",
  });
});

test("what becomes of the address is said before: an Elastic IP, a name, neither, an address of its own", async () => {
  const { dns, stop } = await servers(always("192.0.2.1"));
  const said = (aws: string, elastic?: string, more?: "    address: 10.1.1.10") => foreseenAddress(hostOf(aws, more), elastic, dns);
  try {
    assert.is(await said("type: t3.small", "198.51.100.7"), "address: the Elastic IP 198.51.100.7 goes to the new machine");
    assert.is(
      await said(`dns: { zone: ${zone} }`, "198.51.100.7"),
      "address: the Elastic IP 198.51.100.7 goes to the new machine; db.example.org is that",
    );
    assert.is(await said("type: t3.small"), "address: an Elastic IP is made");
    assert.is(
      await said(`address: dynamic, dns: { zone: ${zone} }`),
      "address: another public one: db.example.org (192.0.2.1 now) is moved to it as the machine is launched; " +
        "who has asked before may hold the old one for 60 s, and EC2 may have given that to somebody else",
    );
    assert.is(
      await said("address: dynamic"),
      "address: another public one, which no name leads to: `ingot status kept --on aws` says it afterwards (`aws: { dns: … }` gives it a name)",
    );
    assert.is(
      await said(`address: private, dns: { zone: ${zone} }`),
      "address: another private one: db.example.org (192.0.2.1 now) is moved to it as the machine is launched; who has asked before may hold the old one for 60 s",
    );
    assert.is(await said("address: private", undefined, "    address: 10.1.1.10"), "address: 10.1.1.10, as before");
  } finally {
    stop();
  }
  assert.is(
    await said(`address: dynamic, dns: { zone: ${zone} }`),
    "address: another public one: db.example.org is moved to it as the machine is launched; " +
      "who has asked before may hold the old one for 60 s, and EC2 may have given that to somebody else",
  );
});

test.run();
