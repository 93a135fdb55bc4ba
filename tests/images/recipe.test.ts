import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { loadRecipe, parseRecipe, recipeNames } from "../../images/recipe.ts";
import type { Declared } from "../../images/recipe-schema.ts";
import { projectAt, toolFolder } from "../../lib/paths.ts";
import { suite } from "../suite.ts";
import { smallRecipe, temporaryProject } from "./fixtures.ts";

const test = suite("recipe");

/** `line:column code message | hint` of everything that is wrong. */
const wrong = (text: string): string[] =>
  parseRecipe("images/small.yaml", "small", text).diagnostics.map(
    (d) => `${d.range.start.line}:${d.range.start.column} ${d.code} ${d.message}${d.hint ? ` | ${d.hint}` : ""}`,
  );
const change = (from: string, to: string): string[] => {
  assert.ok(smallRecipe.includes(from), from);
  return wrong(smallRecipe.replace(from, to));
};

test("Ingot's own recipes are right, and one ground is like the other", () => {
  const own = projectAt(toolFolder);
  for (const name of recipeNames(own)) assert.is(loadRecipe(own, name).image, name);
  const grounds = ["debian-12", "debian-13", "ubuntu-22.04", "ubuntu-24.04"].map((name) => loadRecipe(own, name));
  for (const { users, groups, locales } of grounds)
    assert.equal({ users, groups, locales }, { users: grounds[0]?.users, groups: grounds[0]?.groups, locales: grounds[0]?.locales });
});

test("the distribution's own archives are there, with updates and security, for the architecture", () => {
  const archives = (text: string) =>
    Object.entries(parseRecipe("images/small.yaml", "small", text).recipe?.archives ?? {}).map(
      ([name, a]) => `${name} ${a.mirror} ${a.suites.join(" ")} | ${a.components.join(" ")}`,
    );
  const head = "image: small\ndistro: debian\nrelease: trixie\narchitecture: amd64\n";
  assert.equal(archives(head), [
    "main http://deb.debian.org/debian trixie trixie-updates | main",
    "security http://security.debian.org/debian-security trixie-security | main",
  ]);
  assert.equal(
    archives(`${head}archives: { main: { mirror: http://deb.debian.org/debian, suites: [trixie], components: [main, contrib] } }\n`),
    [
      "main http://deb.debian.org/debian trixie | main contrib",
      "security http://security.debian.org/debian-security trixie-security | main",
    ],
  );
  const ubuntu = head.replace("debian", "ubuntu").replace("trixie", "jammy");
  assert.equal(archives(ubuntu), [
    "main http://archive.ubuntu.com/ubuntu jammy jammy-updates | main universe",
    "security http://security.ubuntu.com/ubuntu jammy-security | main universe",
  ]);
  assert.equal(archives(ubuntu.replace("amd64", "arm64")), [
    "main http://ports.ubuntu.com/ubuntu-ports jammy jammy-updates | main universe",
    "security http://ports.ubuntu.com/ubuntu-ports jammy-security | main universe",
  ]);
});

/** A recipe on top of the small one. */
const extended = (text: string) => {
  const { declared, recipe: base } = parseRecipe("images/small.yaml", "small", smallRecipe);
  if (!declared || !base) throw new Error("the small recipe is wrong");
  const { recipe, diagnostics } = parseRecipe("images/more.yaml", "more", text, {
    base: (name) => (name === "small" ? declared : { wrong: `there is no recipe \`${name}\``, hint: "did you mean small?" }),
  });
  return { base, recipe, wrong: diagnostics.map((d) => `${d.range.start.line} ${d.code} ${d.message}${d.hint ? ` | ${d.hint}` : ""}`) };
};

test("a recipe that extends another has all of it, and more", () => {
  const { base, recipe } = extended(
    "image: more\nextends: small\npackages: [nginx]\ndisabled: [nginx.service]\nusers:\n  keeper: { uid: 650, home: /var/lib/keeper }\nfiles:\n  /etc/motd: { content: other }\n",
  );
  assert.equal(recipe, {
    ...base,
    image: "more",
    packages: ["nginx", ...base.packages],
    disabled: ["nginx.service", ...base.disabled],
    users: { ...base.users, keeper: { uid: 650, home: "/var/lib/keeper", shell: "/usr/sbin/nologin", groups: [], description: "" } },
    files: { ...base.files, "/etc/motd": { content: "other", mode: "0644", early: false } },
  });
  assert.equal(extended("image: more\nextends: small\n").recipe, { ...base, image: "more" });
});

test("a recipe that extends another may be for another architecture, and its capabilities are that architecture's", () => {
  const { recipe } = extended("image: more\nextends: small\narchitecture: arm64\ncapabilities: { kernel: true }\n");
  assert.is(recipe?.architecture, "arm64");
  assert.equal(recipe?.packages, ["sudo", "linux-image-cloud-arm64"]);
});

test("what a capability brings is not listed again", () =>
  assert.equal(wrong(`${smallRecipe.replace("[sudo]", "[sudo, nginx]")}capabilities: { nginx: true }\n`), [
    "8:18 ING1703 `nginx` comes with the capability `nginx` | remove it here",
  ]));

test("a day of the past is asked only of archives that somebody keeps it of", () =>
  assert.equal(wrong(`${smallRecipe.replace("deb.debian.org", "ftp.example.org")}snapshot: 2026-11-01\n`), [
    "6:19 ING1709 nobody keeps the past of http://ftp.example.org/debian, and `snapshot:` asks for it | take http://deb.debian.org/debian or http://security.debian.org/debian-security: a mirror of this computer's is used by itself where there is no `snapshot:`",
  ]));

test("an archive's key is a public one beside the recipe", () => {
  const { project, remove } = temporaryProject();
  const keyed = `${smallRecipe.replace("packages:", "  vendor: { mirror: http://apt.example.org/debian, suites: [stable], components: [main], key: vendor.asc }\npackages:")}`;
  const said = () =>
    parseRecipe("images/small.yaml", "small", keyed, { folder: project.images }).diagnostics.map((d) => `${d.code} ${d.message}`);
  try {
    assert.equal(said(), ["ING1708 there is no file `vendor.asc` beside the recipe"]);
    writeFileSync(join(project.images, "vendor.asc"), "-----BEGIN PGP PRIVATE KEY BLOCK-----\n");
    assert.equal(said(), ["ING1708 vendor.asc holds a private key"]);
    writeFileSync(join(project.images, "vendor.asc"), "binary");
    assert.equal(said(), ["ING1708 vendor.asc is no public key in ASCII armor"]);
    writeFileSync(join(project.images, "vendor.asc"), "-----BEGIN PGP PUBLIC KEY BLOCK-----\n");
    assert.equal(said(), []);
  } finally {
    remove();
  }
});

test("a recipe's script is there, says what runs it, and uses its variables; those of what it extends are run before", () => {
  const { project, remove } = temporaryProject();
  const parse = (text: string, base?: Declared) =>
    parseRecipe("images/small.yaml", "small", text, { folder: project.images, ...(base && { base: () => base }) });
  const said = (text: string) =>
    parse(text).diagnostics.map(
      (d) => `${d.range.start.line}:${d.range.start.column} ${d.code} ${d.message}${d.hint ? ` | ${d.hint}` : ""}`,
    );
  mkdirSync(join(project.images, "provision"));
  writeFileSync(join(project.images, "provision/motd.sh"), '#!/bin/sh\necho "$GREETING" >/etc/motd\n');
  writeFileSync(join(project.images, "provision/other.sh"), "echo\n");
  try {
    assert.equal(
      said(
        `${smallRecipe}provision:\n  - { script: mtd.sh }\n  - { script: other.sh }\n  - { script: motd.sh, variables: { GREETNG: hello } }\n`,
      ),
      [
        "13:15 ING1710 there is no script images/provision/mtd.sh | did you mean `motd.sh`?",
        "14:15 ING1710 images/provision/other.sh does not say what runs it | begin it with `#!/bin/sh`",
        "15:46 ING1711 images/provision/motd.sh makes no use of `GREETNG` | remove it here, or use it there",
      ],
    );
    const { declared, recipe } = parse(`${smallRecipe}provision: [{ script: motd.sh, variables: { GREETING: 3 } }]\n`);
    assert.equal(
      recipe?.provision.map((s) => s.variables),
      [{ GREETING: "3" }],
    );
    const on = parse("image: small\nextends: other\nprovision: [{ script: motd.sh, variables: { GREETING: again } }]\n", declared);
    assert.equal(
      on.recipe?.provision.map((s) => s.variables.GREETING),
      ["3", "again"],
    );
  } finally {
    remove();
  }
});

test("a unit that is to be started is no longer off, and is not in both lists", () => {
  const { recipe } = parseRecipe("images/small.yaml", "small", `${smallRecipe}capabilities: { nginx: true }\nenabled: [nginx.service]\n`);
  assert.equal(recipe?.disabled, ["apt-daily.timer"]);
  assert.equal(wrong(`${smallRecipe}enabled: [apt-daily.timer]\n`), [
    "12:11 ING1703 `apt-daily.timer` is to be started at boot, and is in `disabled:` | take it out of one of them",
  ]);
});

test("what a recipe cannot extend is said where it stands", () => {
  assert.equal(extended("image: more\nextends: smal\n").wrong, ["2 ING1706 there is no recipe `smal` | did you mean small?"]);
  assert.equal(extended("image: more\nextends: [small]\n").wrong, ["2 ING1706 `extends:` takes the name of a recipe"]);
  assert.equal(extended("image: more\nextends: small\nrelease: trixie\npackages: [nginx, sudo]\n").wrong, [
    "3 ING1706 small is for bookworm, and this is for trixie | leave `release:` out",
    "4 ING1703 `sudo` is in small already | remove it here",
  ]);
  assert.match(extended("image: more\nextends: small\npackage: [nginx]\n").wrong.join(), /3 ING1101 unknown key `package`/);
});

test("what a recipe does not say has a default", () => {
  const { recipe } = parseRecipe("images/small.yaml", "small", smallRecipe);
  assert.equal(recipe?.leave_out, ["man", "info", "lintian", "docs", "translations"]);
  assert.equal(recipe?.datasources, ["NoCloud", "Ec2", "None"]);
  assert.equal(recipe?.users, {});
  assert.is(recipe?.files["/etc/motd"]?.mode, "0644");
});

test("an unknown key is shown where it stands, with the nearest that exists", () =>
  assert.equal(change("packages:", "package:"), ["8:1 ING1101 unknown key `package` | did you mean `packages`?"]));

test("a wrong type is shown at the value", () =>
  assert.equal(change("packages: [sudo]", "packages: sudo"), [
    "8:11 ING1103 packages must be a list (of the name of a Debian package), not the text `sudo` | a list of one is written [sudo]",
  ]));

test("a missing key is said with what belongs into it", () => {
  const [first = ""] = change("release: bookworm\n", "");
  assert.match(first, /^1:1 ING1102 the file lacks the key `release` \| add `release:`/);
});

test("a wrong value in a list is shown at its place in the list", () =>
  assert.equal(change("[sudo]", "[sudo, Nginx]"), ["8:18 ING1104 packages[1] must be the name of a Debian package, not the text `Nginx`"]));

test("what packages have that can be left out is said where something else stands; another recipe's list is in its place", () => {
  assert.equal(wrong(`${smallRecipe}leave_out: [doc]\n`), [
    "12:13 ING1104 leave_out[0] must be one of `man`, `info`, `lintian`, `docs`, `translations`, not the text `doc` | did you mean `docs`?",
  ]);
  assert.equal(wrong(`${smallRecipe}leave_out: [docs, man, docs]\n`), ["12:24 ING1703 `docs` is listed twice | remove one of them"]);
  assert.equal(extended("image: more\nextends: small\nleave_out: [docs]\n").recipe?.leave_out, ["docs"]);
  assert.equal(extended("image: more\nextends: small\nleave_out: []\n").recipe?.leave_out, []);
});

test("what a disk is like is said in whole GiB, adds to what the other recipe says, and its ESP has room for what boots", () => {
  const wrongs = (disk: string) => wrong(`${smallRecipe}disk: { ${disk} }\n`);
  assert.equal(wrongs("size: 900MB"), ["12:15 ING1104 disk.size must be a size such as `8GiB`, not the text `900MB`"]);
  assert.equal(wrongs("esp: 16MiB"), [
    "12:14 ING1712 16MiB is too little: what boots by UEFI needs 32MiB | write `esp: 64MiB`, or leave it out",
  ]);
  assert.equal(wrongs("swap: 1GiB"), ["12:9 ING1101 unknown key `swap` in disk | known here: size, esp"]);
  const sized = parseRecipe("images/small.yaml", "small", `${smallRecipe}disk: { esp: 128MiB }\n`).declared;
  const on = parseRecipe("images/small.yaml", "small", "image: small\nextends: other\ndisk: { size: 8GiB }\n", {
    base: () => sized ?? { wrong: "" },
  });
  assert.equal(on.recipe?.disk, { size: "8GiB", esp: "128MiB" });
});

test("a package listed twice is shown with the first one", () =>
  assert.equal(change("[sudo]", "[sudo, acl, sudo]"), ["8:23 ING1703 `sudo` is listed twice | remove one of them"]));

test("an unknown release comes with the nearest one", () =>
  assert.equal(change("release: bookworm", "release: bookwrm"), [
    "3:10 ING1702 debian has no release `bookwrm` that Ingot knows | did you mean `bookworm`?",
  ]));

test("a file and its image have the same name", () =>
  assert.equal(change("image: small", "image: tiny"), [
    "1:8 ING1701 the image is called `tiny`, its file small.yaml | give both the same name",
  ]));

test("two owners of one number are an error, shown with the first one", () =>
  assert.equal(wrong(`${smallRecipe}users: { a: { uid: 600, home: /a } }\ngroups: { b: 600 }\n`), [
    "13:14 ING1704 600 is the number of `a` already | every user and group has a number of its own",
  ]));

test("a mirror with a password in it is refused", () => {
  const [first = ""] = change("http://deb.debian.org/debian", "https://me:secret@deb.debian.org/debian");
  assert.match(first, /ING1104 archives\.main\.mirror must be an http or https address without a password/);
});

test("everything wrong is said in one run", () => assert.is(wrong("image: small\ndistro: ubuntoo\npackges: []\n").length, 4));

test.run();
