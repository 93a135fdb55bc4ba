import * as assert from "uvu/assert";
import { chooseMirrors, parseIndexTargets, parseMadison, parseUris } from "../../images/archive.ts";
import { suite } from "../suite.ts";
import { recipeOf, smallRecipe } from "./fixtures.ts";

const test = suite("archive");
const recipe = recipeOf(smallRecipe);

// As apt-get indextargets says it, for one-line and deb822 sources alike.
const targets = `http://mirror.example.net/debian/ bookworm main Debian
http://mirror.example.net/debian/ bookworm-updates main Debian
http://mirror.example.net/security/ bookworm-security main Debian
https://download.example.com/linux/debian/ bookworm stable Docker
`;

test("this computer's mirror of the same suite is taken, without the slash at its end", () =>
  assert.equal(chooseMirrors(recipe, parseIndexTargets(targets)), {
    main: "http://mirror.example.net/debian",
    security: "http://mirror.example.net/security",
  }));

test("an archive that this computer does not know comes from the recipe's address", () =>
  assert.equal(chooseMirrors(recipe, parseIndexTargets("http://mirror.example.net/debian/ bookworm main Debian\n")), {
    main: "http://mirror.example.net/debian",
    security: "http://security.debian.org/debian-security",
  }));

test("another vendor's archive of the same suite is no mirror", () =>
  assert.is(
    chooseMirrors(recipe, parseIndexTargets("http://other.example.com/x/ bookworm main Other\n")).main,
    "http://deb.debian.org/debian",
  ));

test("a computer with another release uses the recipe's addresses", () =>
  assert.equal(chooseMirrors(recipe, parseIndexTargets("http://mirror.example.net/debian/ trixie main Debian\n")), {
    main: "http://deb.debian.org/debian",
    security: "http://security.debian.org/debian-security",
  }));

test("a mirror whose lists were not fetched yet says no origin, and counts", () =>
  assert.is(
    chooseMirrors(recipe, parseIndexTargets("http://mirror.example.net/debian/ bookworm main $(ORIGIN)\n")).main,
    "http://mirror.example.net/debian",
  ));

test("a line of --print-uris gives address, size and sha256; anything else is passed by", () =>
  assert.equal(
    parseUris(
      `'http://m/pool/main/a/acl/acl_2.3.1-3%2bb1_amd64.deb' acl_2.3.1-3+b1_amd64.deb 61244 SHA256:${"ab".repeat(32)}\nReading package lists...\n`,
    ),
    [{ address: "http://m/pool/main/a/acl/acl_2.3.1-3%2bb1_amd64.deb", name: "acl", size: 61244, sha256: "ab".repeat(32) }],
  ));

test("what apt-cache madison says is where each version is", () =>
  assert.equal(
    parseMadison(
      " tool | 1:1.0-1 | http://m/ubuntu noble-security/universe amd64 Packages\n tool |    1:0.9 | http://m/old buster/updates/main amd64 Packages\n tool | 1 | http://m/ubuntu noble/main Sources\n",
    ),
    [
      { name: "tool", version: "1:1.0-1", root: "http://m/ubuntu", suite: "noble-security" },
      { name: "tool", version: "1:0.9", root: "http://m/old", suite: "buster/updates" },
    ],
  ));

test("somebody else's archive is no mirror of this computer's, whatever its suites are called", () => {
  const others = recipeOf(smallRecipe);
  const keyed = { mirror: "https://apt.example.org/debian", suites: ["bookworm"], components: ["main"], key: "a key" };
  assert.is(chooseMirrors({ ...others, archives: { vendor: keyed } }, parseIndexTargets(targets)).vendor, "https://apt.example.org/debian");
});

test("a day of the past is not asked of this computer's mirror", () =>
  assert.equal(chooseMirrors({ ...recipe, snapshot: "2026-11-01" }, parseIndexTargets(targets)), {
    main: "http://snapshot.debian.org/archive/debian/20261101T000000Z",
    security: "http://snapshot.debian.org/archive/debian-security/20261101T000000Z",
  }));

test.run();
