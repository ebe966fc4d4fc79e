// Puts plugins into OpenClaw's own package at build time, so that no start has to install them.
//   node install-plugins.mjs APP [NAME…]      APP: OpenClaw's package; NAME: a channel or plugin id, or an npm spec
//
// OpenClaw takes what lies in dist/extensions/ID for a part of itself: no consent to give, no record in the state
// folder, nothing to download (2026.9.6). Two things it expects of such a plugin, both measured on 2026.9.6:
//   - its dependencies are outside of dist, or every relative import in them is taken for an ES module;
//   - `openclaw` is found among them, as in the folders that OpenClaw's own installer makes.
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";

const [app, ...names] = process.argv.slice(2);
const readJson = (file) => JSON.parse(fs.readFileSync(file, "utf8"));
const { version } = readJson(path.join(app, "package.json"));
const catalogFile = path.join(app, "dist/channel-catalog.json");
const catalog = fs.existsSync(catalogFile) ? readJson(catalogFile).entries : [];

function npm(folder, ...words) {
  try {
    return execFileSync("npm", [...words, "--no-audit", "--no-fund", "--loglevel=error"], {
      cwd: folder,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "inherit"],
    });
  } catch {
    // npm said why.
    console.error(`failed to install a plugin: npm ${words.join(" ")}`);
    process.exit(1);
  }
}

// OpenClaw's own plugins come in OpenClaw's version; others in the one its catalog names.
function specOf(name) {
  if (/^@.+\/|.@/.test(name)) return name;
  const entry = catalog.find(({ openclaw }) => openclaw?.channel?.id === name);
  const spec = entry?.openclaw.install?.npmSpec ?? `@openclaw/${name}`;
  return /.@/.test(spec) ? spec : `${spec}@${version}`;
}

for (const name of names) {
  const shipped = ["dist/extensions", "extensions"].some((folder) => fs.existsSync(path.join(app, folder, name)));
  if (shipped) {
    console.log(`${name}: part of OpenClaw ${version}`);
    continue;
  }
  const spec = specOf(name);
  const work = fs.mkdtempSync(path.join(app, ".plugin-"));
  const [{ filename }] = JSON.parse(npm(work, "pack", spec, "--json"));
  execFileSync("tar", ["-xzf", filename], { cwd: work });
  const from = path.join(work, "package");
  const { id } = readJson(path.join(from, "openclaw.plugin.json"));
  if (!/^[a-z0-9][a-z0-9-]*$/.test(id)) throw new Error(`${spec} calls itself ${JSON.stringify(id)}`);
  // The flags of OpenClaw's own installer. The plugin's bundled dependencies stay as they came.
  npm(from, "install", "--omit=dev", "--omit=peer", "--legacy-peer-deps", "--ignore-scripts", "--no-package-lock");

  const dependencies = path.join(app, "plugins", id, "node_modules");
  fs.mkdirSync(path.join(from, "node_modules"), { recursive: true });
  fs.mkdirSync(path.dirname(dependencies), { recursive: true });
  fs.renameSync(path.join(from, "node_modules"), dependencies);
  fs.rmSync(path.join(dependencies, "openclaw"), { recursive: true, force: true });
  fs.symlinkSync("../../..", path.join(dependencies, "openclaw"));

  const plugin = path.join(app, "dist/extensions", id);
  fs.renameSync(from, plugin);
  fs.symlinkSync(path.relative(plugin, dependencies), path.join(plugin, "node_modules"));
  fs.rmSync(work, { recursive: true });
  console.log(`${name}: ${spec} as ${id}`);
}
