// What the model must know of the project around a stack: its recipes and images, and the releases of its applications.

import { imageDigests } from "../images/digest.ts";
import { readLock } from "../images/lock.ts";
import { loadRecipe, recipeNames } from "../images/recipe.ts";
import type { Recipe } from "../images/recipe-schema.ts";
import { imageAt, imageLike } from "../images/store.ts";
import type { Project } from "../lib/paths.ts";
import type { ImageOffer } from "./kind.ts";
import type { Surroundings } from "./model.ts";
import { releaseAt, releaseId } from "./release.ts";
import { application } from "./resources/application.ts";

/** Users and groups of every Debian system, with fixed numbers. Source: base-passwd's passwd.master and group.master. */
const baseUsers = [
  "root",
  "daemon",
  "bin",
  "sys",
  "sync",
  "games",
  "man",
  "lp",
  "mail",
  "news",
  "uucp",
  "proxy",
  "www-data",
  "backup",
  "list",
  "irc",
  "nobody",
];
const baseGroups = [
  "adm",
  "tty",
  "disk",
  "dialout",
  "cdrom",
  "sudo",
  "audio",
  "video",
  "plugdev",
  "staff",
  "users",
  "nogroup",
  "shadow",
  "utmp",
  "src",
];

/** @param pinned recipe name → digest of the image that a running machine has, whatever the recipe says by now */
export function surroundingsOf(project: Project, pinned: Record<string, string> = {}): Surroundings {
  const offers = new Map<string, ImageOffer>();
  const releases = new Map<string, string>();
  return {
    ...(project.chosen && { chosen: project.chosen }),
    images: () => recipeNames(project),
    image(name) {
      if (!recipeNames(project).includes(name)) return undefined;
      const known = offers.get(name) ?? offerOf(project, loadRecipe(project, name), pinned[name]);
      offers.set(name, known);
      return known;
    },
    release(host, name) {
      const app = host.get(application, name);
      if (!app) throw new Error(`no application ${name}`);
      // Every file of its sources is read for it, and many ask.
      const key = `${host.name}/${name}`;
      const id = releases.get(key) ?? releaseId(host, app);
      releases.set(key, id);
      const asked = project.chosen?.commits?.[name]?.asked;
      return { ...releaseAt(project, id), ...(asked !== undefined && { asked }) };
    },
  };
}

/** From the manifest once the image is baked; until then from recipe and lock, which say less. */
function offerOf(project: Project, recipe: Recipe, pinned: string | undefined): ImageOffer {
  const name = recipe.image;
  const now = imageDigests(project, recipe);
  const digest = pinned ?? now?.digest;
  const image = digest === undefined ? undefined : (imageAt(project, digest) ?? (now && imageLike(project, now.base)));
  const manifest = image?.manifest;
  const packages =
    manifest?.packages ??
    Object.fromEntries(readLock(project, name)?.packages.map((p) => [p.name, p.version]) ?? recipe.packages.map((p) => [p, ""]));
  const postgresql = Object.keys(packages)
    .map((p) => /^postgresql-(\d+)$/.exec(p)?.[1])
    .find((v) => v !== undefined);
  return {
    name,
    digest,
    base: manifest?.base ?? now?.base,
    packages,
    users: new Set(manifest ? Object.keys(manifest.users) : [...baseUsers, ...Object.keys(recipe.users)]),
    groups: new Set(
      manifest ? Object.keys(manifest.groups) : [...baseUsers, ...baseGroups, ...Object.keys(recipe.users), ...Object.keys(recipe.groups)],
    ),
    numbers: new Map<number, string>(
      manifest
        ? [
            ...Object.entries(manifest.users).map(([n, u]) => [u.uid, n] as const),
            ...Object.entries(manifest.groups).map(([n, g]) => [g.gid, n] as const),
          ]
        : [
            ...Object.entries(recipe.users).map(([n, u]) => [u.uid, n] as const),
            ...Object.entries(recipe.groups).map(([n, gid]) => [gid, n] as const),
          ],
    ),
    locales: recipe.locales,
    units: manifest && new Set(Object.keys(manifest.units)),
    binaries: manifest && new Set(manifest.binaries),
    postgresql,
  };
}
